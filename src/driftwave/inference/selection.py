"""What models of spike counts compare candidates on: units predicted without themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from driftwave.compute import generator
from driftwave.inference.data import SpikeArrays


@dataclass(frozen=True)
class View:
    """Some units to predict and the held-in units they are predicted from.

    Attributes
    ----------
    targets : ndarray of int (target,)
        Their places among all units.
    sources : ndarray of int (source,)
        Places among the held-in units.
    """

    targets: np.ndarray
    sources: np.ndarray


def leave_units_out(held_in: np.ndarray, folds: int, seed: int, name: str) -> list[View]:
    """Random groups of held-in units, each to be predicted from the others, and the held-out ones.

    Parameters
    ----------
    held_in : ndarray of bool (unit,)
    folds : int
        Number of groups; fewer if there are fewer held-in units.
    seed : int
    name : str
        The model's, which gives it groups of its own.
    """
    visible = np.flatnonzero(held_in)
    order = generator(seed, name, "units").permutation(visible.size)
    groups = np.array_split(order, min(folds, visible.size))
    views = [View(visible[g], np.setdiff1d(np.arange(visible.size), g)) for g in groups]
    if not held_in.all():
        views.append(View(np.flatnonzero(~held_in), np.arange(visible.size)))
    return views


def some_trials(arrays: SpikeArrays, bins: int, seed: int, name: str) -> np.ndarray:
    """Training trials of about ``bins`` bins in all, at random and in order, at least two.

    Returns
    -------
    ndarray of int (trial,)
    """
    train = np.flatnonzero(arrays.train)
    wanted = max(2, bins // arrays.counts.shape[1])
    if train.size <= wanted:
        return train
    return np.sort(generator(seed, name, "trials").choice(train, wanted, replace=False))


def numbers_of_latents(arrays: SpikeArrays, options: Iterable[int]) -> list[int]:
    """The options in ascending order, brought below the number of held-in units with spikes."""
    active = int((arrays.counts[arrays.train].any((0, 1)) & arrays.held_in).sum())
    return sorted({max(1, min(count, active - 1)) for count in options})
