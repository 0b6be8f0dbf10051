"""Predictions of the test stretch: which samples, which electrodes, and what a fit may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import xarray as xr

from conftest import make_field_recording
from driftwave.inference.field import field_source
from driftwave.inference.field_prediction import (
    electrode_folds,
    field_positions,
    fill_hidden,
    read_stretch,
    split_samples,
    test_predictions,
)


def grid(side: int) -> np.ndarray:
    return 0.4 * np.array([(i, j) for j in range(side) for i in range(side)], float)


@dataclass
class ZeroLag:
    """The exact conditional Gaussian of one covariance, and persistence; it keeps what it saw."""

    covariance: np.ndarray
    seen: list[np.ndarray] = field(default_factory=list)

    def fill(self, data: np.ndarray) -> np.ndarray:
        self.seen.append(data)
        there = np.isfinite(data).all(0)
        weights = np.linalg.solve(self.covariance[np.ix_(there, there)], self.covariance[there])
        return data[:, there] @ weights

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        found = np.full((len(steps), *data.shape), np.nan)
        for place, step in enumerate(steps):
            found[place, step:] = data[:-step]
        return found


def white(covariance: np.ndarray, samples: int, seed: int = 0) -> xr.DataTree:
    """A recording of white noise of this covariance at 100 Hz."""
    recording = make_field_recording(seconds=samples / 100, rate=100.0, side=3)
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(samples, len(covariance))) @ np.linalg.cholesky(covariance).T
    recording["field/lfp"][:] = noise
    return recording


def correlated() -> np.ndarray:
    place = grid(3)
    distance = np.linalg.norm(place[:, None] - place, axis=-1)
    return np.exp(-distance / 0.8) + 0.1 * np.eye(9)


def test_the_field_is_split_in_70_15_15() -> None:
    assert split_samples(1000) == (700, 850)


def test_every_fold_has_its_share_and_no_two_neighbours() -> None:
    place = grid(10)
    fold = electrode_folds(place, 100, 5, seed=0)
    np.testing.assert_array_equal(np.bincount(fold), 20)
    distance = np.linalg.norm(place[:, None] - place, axis=-1)
    neighbours = (distance > 0) & (distance < 0.5)
    together = (neighbours & (fold[:, None] == fold)).sum() / neighbours.sum()
    at_random = electrode_folds(None, 100, 5, seed=0)
    apart = (neighbours & (at_random[:, None] == at_random)).sum() / neighbours.sum()
    assert together < 0.08
    assert apart > 0.12


def test_folds_depend_on_the_seed_only() -> None:
    first, again = (electrode_folds(grid(4), 16, 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != electrode_folds(grid(4), 16, 5, seed=4)).any()
    assert len(np.unique(electrode_folds(None, 3, 5, seed=0))) == 3


def test_positions_need_two_finite_axes() -> None:
    source = field_source(make_field_recording(seconds=1.0), 250.0, "test", passband=10.0)
    places = field_positions(source)
    assert places is not None
    np.testing.assert_allclose(places[:, :2], grid(4))
    broken = make_field_recording(seconds=1.0)
    broken["field"] = (
        broken["field"]
        .to_dataset()
        .assign_coords(x=("electrode", np.full(16, np.nan)), z=("electrode", np.full(16, np.nan)))
    )
    assert field_positions(field_source(broken, 250.0, "test", passband=10.0)) is None


@pytest.mark.parametrize(("start", "stop"), [(0, 50), (371, 940), (900, 1000)])
def test_a_stretch_is_that_of_the_whole_decimated_field(start: int, stop: int) -> None:
    recording = make_field_recording(seconds=10.0, rate=400.0)
    source = field_source(recording, 100.0, "test", passband=20.0)
    assert source.factor == 4
    whole = np.concatenate(list(source.blocks()))
    np.testing.assert_allclose(read_stretch(source, start, stop), whole[start:stop], atol=1e-4)


def test_a_hidden_electrode_is_never_seen() -> None:
    covariance = correlated()
    recording = white(covariance, 1000)
    data = recording["field/lfp"].values
    fold = electrode_folds(grid(3), 9, 4, seed=0)
    fit = ZeroLag(covariance)
    filled = fill_hidden(fit, data, fold)
    assert len(fit.seen) == 4
    for group, seen in enumerate(fit.seen):
        np.testing.assert_array_equal(np.isnan(seen).all(0), fold == group)
        np.testing.assert_array_equal(seen[:, fold != group], data[:, fold != group])
    other = data.copy()
    other[:, 0] += 100.0
    moved = fill_hidden(ZeroLag(covariance), other, fold)
    np.testing.assert_array_equal(moved[:, fold == fold[0]], filled[:, fold == fold[0]])


def test_error_of_the_exact_conditional_is_the_conditional_variance() -> None:
    covariance = correlated()
    recording = white(covariance, 40_000)
    source = field_source(recording, 100.0, "test", passband=20.0)
    found = test_predictions(source, ZeroLag(covariance), seed=1)
    fold = found["electrode_fold"].values
    error = np.var(found["field_filled"] - found["field_recorded"], axis=0)
    for electrode in range(9):
        seen = fold != fold[electrode]
        cross = covariance[electrode, seen]
        rest = np.linalg.solve(covariance[np.ix_(seen, seen)], cross)
        expected = covariance[electrode, electrode] - cross @ rest
        assert float(error[electrode]) == pytest.approx(expected, rel=0.1)


def test_predictions_are_of_the_last_15_percent_with_labels() -> None:
    recording = make_field_recording(seconds=20.0, rate=100.0, side=3)
    recording["field"] = (
        recording["field"].to_dataset().assign_coords(good=("electrode", np.arange(9) != 4))
    )
    source = field_source(recording, 100.0, "test", passband=20.0)
    fit = ZeroLag(np.eye(8) + 0.5)
    found = test_predictions(source, fit, horizons_s=(0.001, 0.02, 0.1), run_in=2.0)
    time = recording["field/time"].values
    np.testing.assert_array_equal(found["test_time"], time[1700:])
    np.testing.assert_allclose(found["horizon"], [0.01, 0.02, 0.1])
    recorded = recording["field/lfp"].values
    good = np.arange(9) != 4
    np.testing.assert_array_equal(found["field_recorded"].values[:, good], recorded[1700:, good])
    # Persistence: the run-in lets the first sample be forecast, too.
    np.testing.assert_array_equal(
        found["field_forecast"].values[2][:, good], recorded[1690:1990, good]
    )
    for name in ("field_recorded", "field_filled", "field_forecast"):
        assert found[name].attrs["units"] == "microvolt"
        assert found[name].dtype == np.float32
        assert np.isnan(found[name].values[..., 4]).all()
        assert np.isfinite(found[name].values[..., good]).all()
    assert found["electrode_fold"].values[4] == -1
    assert fit.seen[0].shape == (500, 8)
    assert float(found["test_run_in"]) == 2.0


def test_of_a_long_test_stretch_only_the_start_is_predicted() -> None:
    recording = make_field_recording(seconds=20.0, rate=100.0, side=3)
    source = field_source(recording, 100.0, "test", passband=20.0)
    found = test_predictions(source, ZeroLag(np.eye(9)), longest=1.0)
    time = recording["field/time"].values
    np.testing.assert_array_equal(found["test_time"], time[1700:1800])
