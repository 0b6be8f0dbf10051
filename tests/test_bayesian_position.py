"""Bayesian decoding against the closed form, planted place cells and real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy.stats import poisson

from conftest import ROOT, make_recording
from driftwave import registry
from driftwave.compute import dask_threads
from driftwave.decoding import bayesian_position as bayes
from driftwave.errors import InputError
from driftwave.figures import bayesian_position as figure_of
from driftwave.readouts.folds import block_folds, make_plan
from driftwave.readouts.location import Choices, Task, locate
from driftwave.readouts.null import Labels, p_value, shifted_bins
from driftwave.readouts.place_fields import (
    Track,
    estimates,
    posterior,
    smoothed,
    tuning_curves,
    windowed_counts,
)
from driftwave.store import open_dataset, write_tree
from test_decoders import false_positives, separate
from test_decoding import autocorrelated

FAST = {
    "shuffles": 99,
    "windows": (0.1,),
    "smoothings": (1.0,),
    "estimate": "mean",
    "bins": 20,
    "folds": 3,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask_threads(1):
        yield


def places(*, circular: bool = False, tuned: bool = True, seed: int = 0) -> xr.DataTree:
    """An animal that wanders over a track of 100 m (or turns), and units with fields on it."""
    tree = make_recording(trials=60, units=24, held_out=2, forward=0, contiguous=True)
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(0, 0.12, 1800)).reshape(60, 30)
    value = np.mod(steps, 2 * np.pi) if circular else 50 - 50 * np.cos(steps)
    where = steps if circular else np.arccos((50 - value) / 50)
    span = 2 * np.pi if circular else np.pi
    centre = np.arange(24) / 24 * span
    rate = 1 + 60 * np.exp(4 * (np.cos(where[..., None] - centre) - 1))
    if not tuned:
        rate = rng.permuted(rate.reshape(1800, 24), axis=0).reshape(rate.shape)
    tree["spikes/counts"].values[:] = rng.poisson(rate * 0.02)
    tree["behavior"] = xr.DataTree(
        xr.Dataset(
            {"value": (("trial", "time", "feature"), value[..., None])},
            coords={
                "trial": np.arange(60),
                "time": np.arange(30) * 0.02,
                "feature": ["place"],
                "kind": ("feature", ["circular" if circular else "continuous"]),
                "unit_of_measure": ("feature", ["rad" if circular else "m"]),
            },
        )
    )
    return tree


def test_tuning_curves_are_counts_over_time_spent() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 10, 500)
    counts = rng.poisson(2.0, (500, 3))
    track = Track(np.linspace(0, 12, 7), circular=False)  # the last bin is never visited
    found = tuning_curves(counts, values, track, 0.1)
    cell = np.digitize(values, track.edges) - 1
    for k in range(5):
        np.testing.assert_allclose(found.values[:, k], counts[cell == k].mean(0) / 0.1)
    np.testing.assert_array_equal(found.attrs["occupancy"], np.bincount(cell, minlength=6))
    assert np.isnan(found.values[:, 5]).all()


def test_posterior_is_that_of_scipys_poisson() -> None:
    rng = np.random.default_rng(1)
    track = Track(np.linspace(0, 8, 9), circular=False)
    rates = xr.DataArray(
        rng.uniform(1, 30, (4, 7)),
        dims=("unit", "position"),
        coords={"unit": np.arange(4), "position": track.centres[:7]},
        attrs={"occupancy": np.arange(1.0, 8.0)},
    )
    counts = rng.poisson(2.0, (50, 4))
    for uniform in (True, False):
        log = poisson.logpmf(counts[:, :, None], rates.values * 0.2).sum(1)
        log += 0 if uniform else np.log(np.arange(1, 8) / 28)
        expected = np.exp(log - log.max(1, keepdims=True))
        expected /= expected.sum(1, keepdims=True)
        found = posterior(rates, counts, 0.2, track, uniform=uniform)
        np.testing.assert_allclose(found[:, :7], expected, atol=1e-7)
        assert (found[:, 7] == 0).all()
    alone = posterior(rates, counts[:1], 0.2, track, uniform=False)
    np.testing.assert_allclose(alone[:, :7], expected[:1], atol=1e-7)


def test_places_never_visited_are_never_decoded() -> None:
    """Left to itself pynapple takes missing rates for a likelihood of one."""
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.uniform(0, 3, 300), rng.uniform(9, 10, 100)])
    counts = rng.poisson(5.0, (400, 4))
    track = Track(np.linspace(0, 10, 21), circular=False)
    curves = smoothed(tuning_curves(counts, values, track, 0.1), 0.5, track, 0.05)
    found = posterior(curves, counts, 0.1, track, uniform=True)
    assert (found[:, 10:14] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)


def test_smoothing_wraps_around_a_circle_and_keeps_flat_curves_flat() -> None:
    track = Track.over(np.zeros(0), 12, circular=True)
    occupancy = np.arange(1.0, 13.0)
    curves = xr.DataArray(
        np.vstack([np.full(12, 7.0), np.eye(12)[0] * 12]),
        dims=("unit", "position"),
        coords={"unit": [0, 1], "position": track.centres},
        attrs={"occupancy": occupancy},
    )
    found = smoothed(curves, 1.0, track, 0.01)
    np.testing.assert_allclose(found.values[0], 7.0)
    assert found.values[1, 11] > found.values[1, 3]
    assert found.values.min() == 0.01


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_windows_of_counts_stay_within_their_run(bins: int) -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(2.0, (4, 6, 2)).astype(float)
    runs = np.array([0, 0, 1, 2])
    found = windowed_counts(counts, runs, bins)
    before, after = (bins - 1) // 2, bins // 2
    for run in range(3):
        flat = counts[runs == run].reshape(-1, 2)
        for row, value in enumerate(found[runs == run].reshape(-1, 2)):
            some = flat[max(0, row - before) : row + after + 1]
            np.testing.assert_allclose(value, some.sum(0) * bins / len(some))


def test_estimates_of_a_posterior() -> None:
    line = Track(np.arange(5.0), circular=False)
    shares = np.array([[0.1, 0.2, 0.3, 0.4]])
    assert estimates(shares, line, "map")[0] == 3.5
    assert estimates(shares, line, "mean")[0] == pytest.approx(2.5)
    circle = Track.over(np.zeros(0), 4, circular=True)
    across = np.array([[0.5, 0.0, 0.0, 0.5]])  # either side of pi
    assert abs(estimates(across, circle, "mean")[0]) == pytest.approx(np.pi)


def test_planted_places_are_found_and_other_places_are_not() -> None:
    nested = bayes.Params(**(FAST | {"windows": (0.02, 0.1), "estimate": "either"}))
    found = bayes.analyse(places(), None, nested, seed=0)
    assert (found["chosen_window"] == 0.1).all()  # one bin of 20 ms holds a spike or two
    assert found["median_error_cv"].item() < 6
    assert found["median_error_test"].item() < 6
    assert found["r2_cv"].item() > 0.8
    assert found["p_value_median_error"].item() <= 0.05
    assert found["null_median_error"].median() > 20
    shares = found["posterior"].values
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    true, at = found["target_value"].values, found["prediction"].values[0]
    error = np.median(np.abs(true - at))
    assert error == pytest.approx(found["median_error_test"].item(), rel=1e-6)
    nothing = bayes.analyse(places(tuned=False), None, bayes.Params(**FAST), seed=0)
    assert nothing["p_value_median_error"].item() > 0.05


def test_null_shifts_over_the_whole_recording_and_says_how_often() -> None:
    tree = places()
    found = bayes.analyse(tree, None, bayes.Params(**(FAST | {"shuffles": 5000})), seed=0)
    used = found["null_median_error"].sizes["shuffle"]
    assert found.attrs["shuffles_used"] == used == (60 - 2 * 2) * 30 + 1
    assert "circular shifts by bins" in found.attrs["null"]
    assert registry.plugin("decoding", "bayesian_position").constants["DECODES"] == "behaviour"
    test = tree["trials/split"].values == "test"
    value, told = tree["behavior/value"].values.ravel(), found["prediction"].values[0, 0]
    shifts = [np.roll(value, shift).reshape(60, 30)[test] for shift in range(60, 1741)]
    wanted = np.sort([np.median(np.abs(told - late)) for late in shifts])
    np.testing.assert_allclose(np.sort(found["null_median_error_test"].values.ravel()), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("contiguous", [False, True])
def test_null_keeps_its_level_where_slow_units_know_nothing(contiguous: bool) -> None:
    trials, bins = (100, 20) if contiguous else (50, 20)
    draw = autocorrelated if contiguous else separate
    test = np.arange(trials) >= 0.8 * trials
    fold = block_folds(trials, 4) if contiguous else np.arange(trials) % 4
    plan = make_plan(np.where(test, -1, fold), ~test, test, int(contiguous))
    runs = np.zeros(trials, int) if contiguous else np.arange(trials)
    choices = Choices((0.5,), (1.0,), ("mean",), uniform=True, lowest_rate=0.05, shuffles=99)
    values, values_test = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        place, drive = draw(rng, trials, bins, 1)[..., 0], draw(rng, trials, bins, 6)
        counts = rng.poisson(2 * np.exp(0.6 * drive / drive.std())).astype(float)
        track = Track.over(place[~test], 20, circular=False)
        labels: Labels = shifted_bins(np.ones(trials, bool), 99, bins, gap=1, rng=rng)
        if not contiguous:
            labels = np.arange(trials)[None]
        found = locate(Task(counts, place, runs, track, 0.1, choices, labels), plan, rng)
        error = found.error_fold.mean(axis=0)
        values.append(p_value(error[:1], error[None, 1:], smaller=True)[0])
        error = found.error_test
        values_test.append(p_value(error[:1], error[None, 1:], smaller=True)[0])
    for p in (values, values_test):
        share, highest = false_positives(p)
        assert share <= highest
        assert 0.35 < np.mean(p) < 0.65


def test_planted_headings_are_found_across_the_seam() -> None:
    found = bayes.analyse(places(circular=True), None, bayes.Params(**FAST), seed=0)
    assert "median_error_cv" not in found
    assert found["angular_error_cv"].item() < 12
    assert found["angular_error_test"].item() < 12
    assert found["null_angular_error"].mean().item() == pytest.approx(90, abs=20)
    assert found["p_value_angular_error"].item() <= 0.05
    true = found["target_value"].values
    near_seam = (true < 0.3) | (true > 2 * np.pi - 0.3)
    off = np.abs(np.angle(np.exp(1j * (found["prediction"].values[0] - true))))
    assert np.degrees(np.median(off[near_seam])) < 15


def test_bins_without_a_position_train_nothing_and_are_not_scored() -> None:
    params = bayes.Params(**(FAST | {"windows": (0.02,)}))
    tree = places()
    rng = np.random.default_rng(4)
    still = rng.random((60, 30)) < 0.3
    tree["behavior/value"].values[still] = np.nan
    before = bayes.analyse(tree, None, params, seed=0)
    tree["spikes/counts"].values[still] = 9
    after = bayes.analyse(tree, None, params, seed=0)
    xr.testing.assert_allclose(before["median_error_fold"], after["median_error_fold"])
    xr.testing.assert_allclose(before["median_error_test"], after["median_error_test"])


def test_test_trials_change_nothing_in_the_folds() -> None:
    tree = places()
    test = np.flatnonzero(tree["trials/split"].values == "test")
    params = bayes.Params(**(FAST | {"windows": (0.02,)}))
    before = bayes.analyse(tree, None, params, seed=0)
    tree["behavior/value"].values[test] = 3.0
    tree["spikes/counts"].values[test] = 5
    after = bayes.analyse(tree, None, params, seed=0)
    xr.testing.assert_allclose(before["median_error_fold"], after["median_error_fold"])
    assert after["median_error_test"].item() > before["median_error_test"].item()


def test_rates_of_a_model_are_decoded_like_counts() -> None:
    tree = places()
    spikes = tree["spikes"].to_dataset()
    latents = xr.Dataset({"rate": spikes["counts"] / 0.02}, attrs={"model": "toy"})
    params = bayes.Params(units="all", **FAST)
    ours = bayes.analyse(tree, None, params, seed=0)
    theirs = bayes.analyse(tree, latents, params, seed=0)
    assert theirs["features_from"].values.tolist() == ["rates"]
    np.testing.assert_allclose(theirs["median_error_fold"], ours["median_error_fold"], rtol=1e-6)


def test_nothing_to_decode_is_one_sentence() -> None:
    tree = places()
    with pytest.raises(InputError, match="behavior/smell: found nothing"):
        bayes.analyse(tree, None, bayes.Params(behaviour=("smell",)), seed=0)
    tree["behavior/value"].values[:] = 1.0
    with pytest.raises(InputError, match="only constant or missing values"):
        bayes.analyse(tree, None, bayes.Params(), seed=0)
    tree = places()
    tree["spikes/counts"].values[:] = 0
    with pytest.raises(InputError, match="no unit that fires"):
        bayes.analyse(tree, None, bayes.Params(), seed=0)


def test_silent_units_do_no_harm() -> None:
    tree = places()
    tree["spikes/counts"].values[..., :5] = 0
    found = bayes.analyse(tree, None, bayes.Params(**FAST), seed=0)
    assert found["p_value_median_error"].item() <= 0.05


@pytest.mark.parametrize("circular", [False, True])
def test_result_is_stored_and_drawn(circular: bool, tmp_path: Path) -> None:
    params = bayes.Params(**(FAST | {"shuffles": 19, "windows": (0.06,)}))
    found = bayes.analyse(places(circular=circular), None, params, seed=0)
    assert all(found[name].attrs["units"] for name in found.data_vars)
    write_tree(found, tmp_path / "b.zarr")
    figure = figure_of.draw(None, {"decoders": open_dataset(tmp_path / "b.zarr").load()})
    assert figure.axes[0].get_ylabel() == ("place (degree)" if circular else "place (m)")
    plt.close(figure)
    with pytest.raises(InputError, match="expected a posterior over position"):
        figure_of.draw(None, {"decoders": xr.Dataset()})


def ingested(folder: Path, session: str) -> xr.DataTree:
    from driftwave.config import load_layout
    from driftwave.ingest.file import open_nwb
    from driftwave.ingest.nwb import read_recording

    layout = load_layout(session, ROOT / "config" / "layouts")
    with open_nwb(folder / f"{session}.nwb") as file:
        return read_recording(file, layout, session=session).load()


@pytest.mark.slow
@pytest.mark.recording
def test_place_on_the_track_is_found_better_than_by_published_ridge(recordings: Path) -> None:
    """Ridge regression of all 31 units had a median error of 52 of 429 pixels."""
    tree = ingested(recordings, "hippocampus_track")
    found = bayes.analyse(tree, None, bayes.Params(units="all"), seed=0)
    assert found["median_error_cv"].item() < 52
    assert found["median_error_test"].item() < 52
    assert found["p_value_median_error"].item() <= 0.01


@pytest.mark.slow
@pytest.mark.recording
def test_heading_is_found(recordings: Path) -> None:
    tree = ingested(recordings, "head_direction")
    found = bayes.analyse(tree, None, bayes.Params(units="all"), seed=0)
    assert found["angular_error_cv"].item() < 13
    assert found["p_value_angular_error"].item() <= 0.01
    assert found["p_value_angular_error_test"].item() <= 0.01
