"""What a decoder sees of the activity, and what it must offer to be cross-validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from driftwave.readouts.features import history_index
from driftwave.readouts.targets import Target

Setting = dict[str, Any]


@dataclass(frozen=True)
class Activity:
    """Features of all trials, and which bins are decoded; never a target.

    Attributes
    ----------
    features : ndarray (trial, time, dim)
    runs : ndarray of int (trial,)
        Trials of one run abut in time.
    mask : ndarray of bool (trial, time)
        Bins used: all targets are there, and the history is complete.
    """

    features: np.ndarray
    runs: np.ndarray
    mask: np.ndarray

    def rows(self, trials: np.ndarray, past: int = 0, future: int = 0) -> np.ndarray:
        """Features (row, lag * dim) of the used bins of some trials, with past and future bins."""
        bins = self.mask.shape[1]
        index, _ = history_index(self.runs, bins, past + 1, future)
        used = index[trials][self.mask[trials]]
        return self.features.reshape(-1, self.features.shape[-1])[used].reshape(len(used), -1)

    def sequences(self, trials: np.ndarray) -> list[np.ndarray]:
        """Positions (within ``trials``) of trials that follow one another without a break."""
        if not len(trials):
            return []
        follows = (np.diff(trials) == 1) & (np.diff(self.runs[trials]) == 0)
        return np.split(np.arange(len(trials)), np.flatnonzero(~follows) + 1)

    def of_units(self, units: np.ndarray) -> Activity:
        """The activity of some units (positions) only."""
        return replace(self, features=self.features[..., units])


@dataclass(frozen=True)
class Context:
    """What is decoded, for a decoder that must know before it sees any data.

    Attributes
    ----------
    targets : list of Target
        Decoded together.
    per : {"bin", "trial"}
    bins : int
        Bins per trial that are seen (1 per trial where ``per`` is ``trial``).
    longest : int
        Bins in the longest stretch without a break.
    bin_width : float
        s.
    """

    targets: list[Target]
    per: str
    bins: int
    longest: int
    bin_width: float

    def history(self, past: int) -> int:
        """Past bins to read: as wanted, but at most a quarter of the longest stretch."""
        return 0 if self.per == "trial" else min(past, max(1, self.longest // 4) - 1)


class Predictor(Protocol):
    """A fitted decoder."""

    def predict(self, activity: Activity, trials: np.ndarray) -> np.ndarray:
        """Decoded targets (trial, time, target) of some trials; NaN outside the bins used."""
        ...


class Decoder(Protocol):
    """A kind of decoder, as :func:`driftwave.readouts.driver.decode` cross-validates it.

    Attributes
    ----------
    past, future : int
        Most bins of activity either side that any setting reads.
    joint : bool
        One setting serves all targets; otherwise each target has the best for itself.
    costly : bool
        The noise ceiling is then a ridge regression's.
    """

    @property
    def past(self) -> int: ...
    @property
    def future(self) -> int: ...
    @property
    def joint(self) -> bool: ...
    @property
    def costly(self) -> bool: ...

    def candidates(self) -> Sequence[Setting]:
        """Hyper-parameter settings to choose from, the preferred one first among equals."""
        ...

    def fit(
        self,
        activity: Activity,
        trials: np.ndarray,
        targets: np.ndarray,
        settings: Sequence[Setting],
        rng: np.random.Generator,
    ) -> list[Predictor]:
        """Fit to some trials, whose targets (trial, time, target) are NaN outside the bins used.

        Everything that is learnt (scaling, components, weights) is learnt from these trials; the
        features of others serve only as the past or future of these bins. One predictor per
        setting.
        """
        ...


def masked(activity: Activity, trials: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Put values (row, target) of the used bins back at their places (trial, time, target)."""
    placed = np.full((len(trials), activity.mask.shape[1], values.shape[-1]), np.nan)
    placed[activity.mask[trials]] = values
    return placed


@dataclass(frozen=True)
class Scaling:
    """Centre and scale of features, from training rows; what hardly varies there is set to 0."""

    centre: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, least: float = 1e-2) -> Scaling:
        """From rows (row, dim); ``least`` is relative to the median spread of what varies."""
        spread = rows.std(axis=0)
        floor = least * np.median(spread[spread > 0]) if (spread > 0).any() else np.inf
        keep = spread > floor
        return cls(rows.mean(axis=0), np.where(keep, 1 / np.where(keep, spread, 1), 0))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.centre) * self.factor
