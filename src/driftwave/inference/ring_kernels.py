"""The rectified ring recursion and its adjoint, compiled by numba (float32 or float64).

Trials are taken one by one: a state is an array (channel, site + 2) whose first and last column
repeat the ring's other end, so that the three taps are three shifted rows. The equations are those
of :mod:`driftwave.inference.ring_dynamics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit


def _compiled(function: Callable[..., Any]) -> Any:
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"contract", "reassoc", "nsz"},
    }
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder where numba could keep the compiled code
        return njit(**options)(function)


@_compiled
def forward(start, drive, kernel, bias, states):
    """Fill ``states`` (trial, bin, channel, site) with h_t = relu(w (*) h_{t-1} + b + drive_t)."""
    trials, bins, channels, sites = drive.shape
    ring = np.empty((channels, sites + 2), drive.dtype)
    total = np.empty(sites, drive.dtype)
    for trial in range(trials):
        for c in range(channels):
            for s in range(sites):
                ring[c, s + 1] = start[trial, c, s]
        for t in range(bins):
            for c in range(channels):
                ring[c, 0] = ring[c, sites]
                ring[c, sites + 1] = ring[c, 1]
            for c in range(channels):
                for s in range(sites):
                    total[s] = drive[trial, t, c, s] + bias[c]
                for other in range(channels):
                    left, mid, right = kernel[c, other]
                    for s in range(sites):
                        total[s] += (
                            left * ring[other, s]
                            + mid * ring[other, s + 1]
                            + right * ring[other, s + 2]
                        )
                for s in range(sites):
                    # Not max(): a diverging trial must show up as NaN.
                    states[trial, t, c, s] = 0 if total[s] < 0 else total[s]
            for c in range(channels):
                for s in range(sites):
                    ring[c, s + 1] = states[trial, t, c, s]


@_compiled
def backward(start, kernel, states, given, to_start, to_drive, to_kernel):
    """Adjoint of :func:`forward`: ``given`` is the loss's gradient of the states.

    Fills the gradients of start and drive, and adds to that of the kernel, trial by trial.
    """
    trials, bins, channels, sites = states.shape
    ring = np.zeros((channels, sites + 2), states.dtype)
    before = np.empty((channels, sites + 2), states.dtype)
    total = np.empty((channels, sites), states.dtype)
    for trial in range(trials):
        for c in range(channels):
            for s in range(sites):
                total[c, s] = 0
        for step in range(bins):
            t = bins - 1 - step
            for c in range(channels):
                for s in range(sites):
                    slope = given[trial, t, c, s] + total[c, s]
                    ring[c, s + 1] = slope if states[trial, t, c, s] > 0 else 0
                    to_drive[trial, t, c, s] = ring[c, s + 1]
                ring[c, 0] = ring[c, sites]
                ring[c, sites + 1] = ring[c, 1]
                for s in range(sites):
                    before[c, s + 1] = states[trial, t - 1, c, s] if t > 0 else start[trial, c, s]
                before[c, 0] = before[c, sites]
                before[c, sites + 1] = before[c, 1]
            for other in range(channels):
                for s in range(sites):
                    total[other, s] = 0
                for c in range(channels):
                    left, mid, right = kernel[c, other]
                    for s in range(sites):
                        total[other, s] += (
                            left * ring[c, s + 2] + mid * ring[c, s + 1] + right * ring[c, s]
                        )
                    first, second, third = total[0, 0] * 0, total[0, 0] * 0, total[0, 0] * 0
                    for s in range(sites):
                        slope = ring[c, s + 1]
                        first += slope * before[other, s]
                        second += slope * before[other, s + 1]
                        third += slope * before[other, s + 2]
                    to_kernel[c, other, 0] += first
                    to_kernel[c, other, 1] += second
                    to_kernel[c, other, 2] += third
        for c in range(channels):
            for s in range(sites):
                to_start[trial, c, s] = total[c, s]
