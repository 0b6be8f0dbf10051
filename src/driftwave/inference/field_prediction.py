"""What a model of the field predicts of its last stretch: hidden electrodes and later samples.

A field is split in time: the first ``TRAIN_SHARE`` of its samples trains, the next ``VALID_SHARE``
chooses, the rest (the test stretch) is predicted once. Every model of the field offers the two
predictions of :class:`FieldPredictor`, and :func:`test_predictions` asks for them.
"""

# ruff: noqa: PT028

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.inference.field import TRAIN_SHARE, VALID_SHARE, FieldSource

HORIZONS = (0.004, 0.02, 0.05, 0.1)
LONGEST = 120.0
RUN_IN = 10.0
# Decimation extends the ends of what it is given by reflection; these samples are read and dropped.
MARGIN = 24


class FieldPredictor(Protocol):
    """A fitted model of the field, at the rate of its fit and of its good electrodes only."""

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Posterior mean of every electrode given all that is there, past and future.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt; NaN where hidden or missing.

        Returns
        -------
        ndarray (time, electrode)
            Microvolt.
        """

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """E[y_{t+h} | y_1..t] at target time t+h.

        Parameters
        ----------
        data : ndarray (time, electrode)
            Microvolt; NaN where missing.
        steps : sequence of int
            h, samples.

        Returns
        -------
        ndarray (step, time, electrode)
            Microvolt; NaN for the first h samples.
        """


def split_samples(samples: int) -> tuple[int, int]:
    """Where the validation stretch and the test stretch of a field begin, samples."""
    return round(TRAIN_SHARE * samples), round((TRAIN_SHARE + VALID_SHARE) * samples)


def read_stretch(source: FieldSource, start: int, stop: int) -> np.ndarray:
    """Samples ``start`` to ``stop`` of a field at the source's rate.

    Only the blocks that hold them are read.

    Returns
    -------
    ndarray (time, good electrode)
        Microvolt, float32.
    """
    first, last = max(0, start - MARGIN), min(source.samples, stop + MARGIN)
    raw = slice(first * source.factor, last * source.factor)
    part = replace(source, lfp=source.lfp.isel(time=raw))
    data = np.concatenate(list(part.blocks()))
    return data[start - first : stop - first]


def electrode_folds(
    positions: np.ndarray | None, electrodes: int, folds: int, seed: int
) -> np.ndarray:
    """Groups of electrodes to be hidden in turn, interleaved in space.

    Electrodes are dealt in random order, each to the group whose nearest member is furthest away,
    so that the neighbours of a hidden electrode are seen. Without positions the groups are random.

    Parameters
    ----------
    positions : ndarray (electrode, axis) or None
        mm; finite.
    electrodes : int
    folds : int
        Number of groups; fewer if there are fewer electrodes.
    seed : int

    Returns
    -------
    ndarray of int (electrode,)
    """
    folds = min(folds, electrodes)
    order = generator(seed, "electrode folds").permutation(electrodes)
    fold = np.full(electrodes, -1)
    if positions is None:
        fold[order] = np.arange(electrodes) % folds
        return fold
    places = np.asarray(positions, dtype=float)
    nearest = np.full((folds, electrodes), np.inf)
    room = np.bincount(np.arange(electrodes) % folds, minlength=folds)
    for electrode in order:
        chosen = int(np.argmax(np.where(room > 0, nearest[:, electrode], -1.0)))
        fold[electrode] = chosen
        room[chosen] -= 1
        distance = np.linalg.norm(places - places[electrode], axis=1)
        nearest[chosen] = np.minimum(nearest[chosen], distance)
    return fold


def field_positions(source: FieldSource) -> np.ndarray | None:
    """Positions (good electrode, axis) in mm; None where any is missing."""
    names = [name for name in ("x", "y", "z") if name in source.lfp.coords]
    columns = [source.lfp[name].values[source.good].astype(float) for name in names]
    finite = [column for column in columns if np.isfinite(column).all()]
    return np.stack(finite, 1) if len(finite) >= 2 else None


def fill_hidden(fit: FieldPredictor, data: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each electrode predicted from the electrodes of the other folds.

    Parameters
    ----------
    fit : FieldPredictor
    data : ndarray (time, electrode)
        Microvolt.
    fold : ndarray of int (electrode,)

    Returns
    -------
    ndarray (time, electrode)
        Microvolt, float32.
    """
    filled = np.empty(data.shape, dtype=np.float32)
    for group in np.unique(fold):
        hidden = fold == group
        seen = data.copy()
        seen[:, hidden] = np.nan
        filled[:, hidden] = fit.fill(seen)[:, hidden]
    return filled


def test_predictions(
    source: FieldSource,
    fit: FieldPredictor,
    *,
    folds: int = 5,
    horizons_s: Sequence[float] = HORIZONS,
    seed: int = 0,
    longest: float = LONGEST,
    run_in: float = RUN_IN,
) -> xr.Dataset:
    """Hidden electrodes and later samples of the test stretch, as a model predicts them.

    The test stretch is the last 15 % of the field; of a longer one its first ``longest`` seconds
    are predicted. Models also see ``run_in`` seconds before it (less where the field is shorter),
    so that their filters have settled when it begins; these are neither predicted nor scored.
    Filling sees nothing after the stretch.

    Parameters
    ----------
    source : FieldSource
    fit : FieldPredictor
    folds : int
        Groups of electrodes, each hidden in turn.
    horizons_s : sequence of float
        s; rounded to whole samples, at least one.
    seed : int
        Of the groups of electrodes; models are comparable where it is the same, whatever the seeds
        of their fits.
    longest, run_in : float
        s.

    Returns
    -------
    Dataset
        ``field_recorded``, ``field_filled`` (test_time, electrode) and ``field_forecast``
        (horizon, test_time, electrode), microvolt, NaN on bad electrodes; ``electrode_fold``
        (electrode), -1 for bad ones; ``test_rate`` (Hz) and ``test_run_in`` (s); coords
        ``test_time`` and ``horizon``, s.
    """
    start = split_samples(source.samples)[1]
    stop = min(source.samples, start + round(longest * source.rate))
    before = min(start, round(run_in * source.rate))
    data = read_stretch(source, start - before, stop)
    fold = electrode_folds(field_positions(source), data.shape[1], folds, seed)
    steps = sorted({max(1, round(horizon * source.rate)) for horizon in horizons_s})
    filled = fill_hidden(fit, data, fold)[before:]
    forecast = np.asarray(fit.forecast(data, steps), dtype=np.float32)[:, before:]
    microvolt, maps = {"units": "microvolt"}, ("test_time", "electrode")
    good = source.good
    groups = np.full(len(good), -1)
    groups[good] = fold
    return xr.Dataset(
        {
            "field_recorded": (maps, _placed(data[before:], good), microvolt),
            "field_filled": (maps, _placed(filled, good), microvolt),
            "field_forecast": (("horizon", *maps), _placed(forecast, good), microvolt),
            "electrode_fold": ("electrode", groups, {"units": "1"}),
            "test_rate": ((), source.rate, {"units": "Hz"}),
            "test_run_in": ((), before / source.rate, {"units": "s"}),
        },
        coords={
            "test_time": ("test_time", source.time()[start:stop], {"units": "s"}),
            "horizon": ("horizon", np.array(steps) / source.rate, {"units": "s"}),
        },
    )


test_predictions.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name says


def _placed(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Values (..., good electrode) at their place among all electrodes; NaN elsewhere."""
    full = np.full((*values.shape[:-1], len(good)), np.nan, dtype=np.float32)
    full[..., good] = values
    return full
