"""Recordings of Poisson units with known responses, with spike times and spontaneous gaps."""

from __future__ import annotations

import numpy as np
import xarray as xr

BIN = 0.02


def tuned_recording(
    rate: np.ndarray,
    *,
    repeats: int = 8,
    gap: float = 0.6,
    baseline: float = 5.0,
    seed: int = 0,
    keep: np.ndarray | None = None,
    spike_times: bool = True,
) -> xr.DataTree:
    """Trials of all stimuli and directions in random order.

    Parameters
    ----------
    rate : ndarray (unit, stimulus, direction, time)
        Hz, in bins of 20 ms.
    keep : ndarray of bool (stimulus, direction), optional
        Cells that are shown at all.
    """
    rng = np.random.default_rng(seed)
    units, stimuli, directions, bins = rate.shape
    cells = np.arange(stimuli * directions)
    if keep is not None:
        cells = cells[keep.ravel()]
    order = np.concatenate([rng.permutation(cells) for _ in range(repeats)])
    stimulus, direction = order // directions, order % directions
    length = bins * BIN
    start = gap + np.arange(len(order)) * (length + gap)
    counts = rng.poisson(rate[:, stimulus, direction].transpose(1, 2, 0) * BIN)
    trial, bin_, unit = (
        np.repeat(index, counts.ravel()) for index in np.indices(counts.shape).reshape(3, -1)
    )
    evoked = start[trial] + (bin_ + rng.random(len(bin_))) * BIN
    rest = rng.poisson(baseline * gap, (len(order), units))
    after, of = (np.repeat(index, rest.ravel()) for index in np.indices(rest.shape).reshape(2, -1))
    quiet = start[after] + length + rng.random(len(after)) * gap
    time = np.concatenate([evoked, quiet])
    sort = np.argsort(time)
    tree = {
        "/": xr.Dataset(
            attrs={
                "session": "tuned", "source_file": "memory", "source_sha256": "",
                "layout": "tuned", "bin_width": BIN, "schema_version": 1,
            }
        ),
        "spikes": xr.Dataset(
            {
                "counts": (("trial", "time", "unit"), counts.astype(np.uint16)),
                "trial_start": ("trial", start),
            },
            coords={
                "trial": np.arange(len(order)), "time": np.arange(bins) * BIN,
                "unit": np.arange(units),
            },
            attrs={"bin_width": BIN, "forward_bins": 0, "contiguous": False},
        ),
        "units": xr.Dataset(
            {
                "held_out": ("unit", np.zeros(units, bool)),
                "rate": ("unit", counts.mean((0, 1)) / BIN),
            }
        ),
        "trials": xr.Dataset(
            {
                "split": ("trial", np.full(len(order), "train")),
                "condition": ("trial", order),
                "start": ("trial", start),
                "stop": ("trial", start + length),
            }
        ),
        "stimulus": xr.Dataset(
            {
                "kind": ("trial", np.array([f"k{s}" for s in stimulus])),
                "direction": (
                    "trial", direction * 360.0 / directions, {"units": "degree", "period": 360.0}
                ),
            }
        ),
    }  # fmt: skip
    if spike_times:
        tree["spike_times"] = xr.Dataset(
            {
                "time": ("spike", time[sort]),
                "unit": ("spike", np.concatenate([unit, of])[sort].astype(np.int32)),
            }
        )
    return xr.DataTree.from_dict(tree)


def tuned_rates(
    units: int, stimuli: int = 1, directions: int = 8, bins: int = 25, seed: int = 0
) -> np.ndarray:
    """Rates (unit, stimulus, direction, time) of units with random preferred directions, Hz."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(directions) / directions
    preferred = rng.choice(angle, (units, stimuli))
    curve = np.exp(4 * (np.cos(angle - preferred[..., None]) - 1))
    latency = rng.uniform(4, 15, units)
    course = np.exp(-0.5 * ((np.arange(bins) - latency[:, None]) / 4) ** 2)
    return 5 + 60 * curve[..., None] * course[:, None, None]
