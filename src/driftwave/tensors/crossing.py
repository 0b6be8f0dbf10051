"""Crossing of restarts: components that others found replace some of the best restart's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from driftwave.tensors.matching import cosines
from driftwave.tensors.steps import Run, Shift, State, settled

# Components of other restarts that are tried in each round, and rounds.
CANDIDATES = 6
ROUNDS = 6
# Iterations after which an exchange is judged, before the best of them settles.
TRIAL = 4
# Components whose neuron factors are closer than this are the same.
SAME = 0.9


def crossed(
    maps: np.ndarray,
    runs: Sequence[Run],
    shape: tuple[int, ...],
    mode: Shift,
    max_iterations: int,
    tolerance: float,
) -> Run:
    """Exchange components of the best restart for others' as long as that lowers the error.

    Restarts end in different minima, mostly by lacking one component and having another twice.
    The heaviest components of other restarts that the best one lacks are put in place of each of
    its own in turn; after a few steps the best exchange settles, and stays if the error is lower.

    Parameters
    ----------
    maps : ndarray (neuron * stimulus, direction * time)
    runs : sequence of Run
    shape : (int, int, int, int)
        Neurons, stimuli, directions, times.
    mode, max_iterations, tolerance
        As in :func:`driftwave.tensors.permuted.permuted_ntf`.
    """
    best = min(runs, key=lambda run: run.error)
    pool = [(run.state, r) for run in runs for r in range(run.state.neuron.shape[1])]
    rank = best.state.neuron.shape[1]
    for _ in range(ROUNDS):
        tried = [
            settled(maps, _exchanged(best.state, r, *other), shape, mode, TRIAL, 0.0)
            for other in _lacking(best.state, pool)
            for r in range(rank)
        ]
        if not tried:
            break
        chosen = min(tried, key=lambda run: run.error)
        run = settled(maps, chosen.state, shape, mode, max_iterations, tolerance)
        if run.error >= best.error * (1 - tolerance):
            break
        best = run
    return best


def _lacking(state: State, pool: Sequence[tuple[State, int]]) -> list[tuple[State, int]]:
    """The heaviest components of the pool that are unlike the state's and one another."""
    neurons = np.stack([other.neuron[:, r] for other, r in pool], axis=1)
    weight = np.array([np.linalg.norm(other.response[:, r]) for other, r in pool])
    free = cosines(neurons, state.neuron).max(axis=1) < SAME
    found: list[tuple[State, int]] = []
    while free.any() and len(found) < CANDIDATES:
        k = int(np.argmax(np.where(free, weight, -1.0)))
        found.append(pool[k])
        free &= cosines(neurons, neurons[:, [k]])[:, 0] < SAME
    return found


def _exchanged(state: State, place: int, other: State, r: int) -> State:
    new = state.copy()
    new.neuron[:, place] = other.neuron[:, r]
    new.stimulus[:, place] = other.stimulus[:, r]
    new.response[:, place] = other.response[:, r]
    return new
