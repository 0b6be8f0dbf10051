"""Learning curves of planted populations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.compute import dask_threads
from driftwave.decoding import learning_curve as curve
from driftwave.errors import InputError
from driftwave.figures import learning_curve as figure_of
from driftwave.readouts.subsampling import (
    asymptote,
    first_of,
    interleaved,
    size_reaching,
    subset_sizes,
)

FAST = {"shuffles": 40, "draws": 3, "points": 5}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask_threads(1):
        yield


def population(*, informative: int, units: int, trials: int = 80, seed: int = 0) -> xr.DataTree:
    """Four conditions told by the first units alone, each of them well."""
    tree = make_recording(trials=trials, units=units, held_out=1, seed=seed)
    rng = np.random.default_rng(seed)
    condition = rng.permutation(np.arange(trials) % 4)
    pattern = np.zeros((4, units))
    pattern[:, :informative] = rng.normal(0, 1.2, (4, informative))
    rate = 25 * np.exp(pattern[condition])
    counts = rng.poisson(rate[:, None] * 0.02, (trials, 30, units))
    spikes = tree["spikes"].to_dataset().assign(counts=(("trial", "time", "unit"), counts))
    tree["spikes"] = xr.DataTree(spikes)
    tree["trials/condition"].values[:] = condition
    del tree["behavior"]
    return tree


def test_a_redundant_population_saturates_with_few_of_its_units() -> None:
    tree = population(informative=199, units=200)
    found = curve.analyse(tree, None, curve.Params(points=8, draws=3, shuffles=20), seed=0)
    one = found.sel(kind="units").isel(features_from=0)
    assert one["full_score"] > 0.97
    assert one["half_share"] < 0.05
    assert one["score"].sel(size=199).min() == one["score"].sel(size=199).max()


def test_few_informative_units_need_nearly_all() -> None:
    tree = population(informative=2, units=24)
    found = curve.analyse(tree, None, curve.Params(draws=6, shuffles=60, points=6), seed=0)
    one = found.sel(kind="units").isel(features_from=0)
    assert one["half_share"] > 0.5
    assert one["half_size_draw"].max() > one["half_size_draw"].min()
    sizes = one["size"].values[np.isfinite(one["p_value"].values)]
    assert sizes.tolist() == subset_sizes(23, 6).tolist()
    assert one["p_value"].sel(size=23) == pytest.approx(1 / 61)
    assert one["chance"] == pytest.approx(0.25, abs=0.06)


def test_no_signal_has_no_size() -> None:
    """Of ten recordings: the score of one has a standard deviation of about .08."""
    full, p = [], []
    for seed in range(10):
        tree = population(informative=0, units=10, seed=seed)
        params = curve.Params(shuffles=40, draws=2, points=3)
        one = curve.analyse(tree, None, params, seed=0).sel(kind="units").isel(features_from=0)
        full.append(one["full_score"].item())
        p.append(one["p_value"].sel(size=9).item())
    assert np.mean(full) == pytest.approx(0.25, abs=0.08)
    assert 0.2 < np.mean(p) < 0.8


def test_more_training_trials_help() -> None:
    tree = population(informative=11, units=12, trials=160)
    counts = tree["spikes/counts"].values
    rng = np.random.default_rng(1)
    counts[:] = rng.binomial(counts, 0.03)  # few spikes
    found = curve.analyse(tree, None, curve.Params(**FAST), seed=0)
    one = found.sel(kind="trials").isel(features_from=0).dropna("size", subset=["p_value"])
    score = one["score"].mean("draw").values
    assert one["size"].values[0] == 4  # one of each class
    assert score[-1] > score[0] + 0.1


def test_behaviour_is_decoded_by_ridge() -> None:
    tree = make_recording(trials=60, units=20, held_out=2)
    params = curve.Params(penalties=(1.0, 100.0), shuffles=20, draws=2, points=4)
    found = curve.analyse(tree, None, params, seed=0)
    assert found.attrs["target"] == "hand_x"
    assert found["features_from"].values.tolist() == ["smoothed_counts"]
    one = found.sel(kind="units").isel(features_from=0).dropna("size", subset=["p_value"])
    score = one["score"].mean("draw").values
    assert score[-1] > 0.35
    assert score[-1] > score[0] + 0.2
    assert one["null_score"].max() < 0.2
    assert one["p_value"].values[-1] == pytest.approx(1 / 21)


def test_subsets_of_trials_hold_every_class_and_nest() -> None:
    strata = np.repeat([0, 1, 2], [30, 10, 20])
    order = interleaved(strata, np.random.default_rng(0))
    assert np.sort(order).tolist() == list(range(60))
    assert sorted(strata[order[:3]].tolist()) == [0, 1, 2]
    assert np.bincount(strata[order[:27]]).tolist() == [9, 9, 9]
    among = np.arange(0, 60, 2)
    small, large = first_of(order, among, 8), first_of(order, among, 20)
    assert set(small) <= set(large) <= set(among)


def test_size_that_reaches_a_share_by_hand() -> None:
    sizes = np.array([1, 2, 4, 8, 16])
    score = np.array([0.25, 0.5, 0.9, 1.0, 1.0])
    # (score - .2) / .8: .0625, .375, .875, 1; .95 lies 60 % of the way from 4 to 8, in logarithm
    assert size_reaching(sizes, score, 0.2) == pytest.approx(4 * 2**0.6)
    assert size_reaching(sizes, np.ones(5), 0.2) == 1
    assert np.isnan(size_reaching(sizes, np.full(5, 0.1), 0.2))


def test_asymptote_of_a_power_law_is_recovered() -> None:
    sizes = np.array([1, 2, 4, 8, 16, 32, 64])
    score = 0.83 - 0.6 * sizes**-0.8
    assert asymptote(sizes, score) == pytest.approx(0.83, abs=1e-3)
    assert np.isnan(asymptote(sizes, 0.1 * np.log(sizes)))  # still rising
    assert np.isnan(asymptote(sizes[:3], score[:3]))


def test_sizes_are_distinct_and_end_at_all() -> None:
    assert subset_sizes(5, 10).tolist() == [1, 2, 3, 4, 5]
    assert subset_sizes(1000, 4).tolist() == [1, 10, 100, 1000]
    assert subset_sizes(40, 3, 10).tolist() == [10, 20, 40]


def test_it_is_drawn() -> None:
    found = curve.analyse(
        population(informative=9, units=10, trials=40), None, curve.Params(**FAST), seed=0
    )
    assert all(found[name].attrs["units"] for name in found.data_vars)
    figure = figure_of.draw(None, {"decoders": found})
    assert {axes.get_xlabel() for axes in figure.axes} == {"units", "training trials of a fold"}
    with pytest.raises(InputError, match="expected learning curves"):
        figure_of.draw(None, {"decoders": xr.Dataset()})


def test_one_unit_is_one_sentence() -> None:
    tree = population(informative=1, units=2)
    with pytest.raises(InputError, match="found 1 units, expected at least two"):
        curve.analyse(tree, None, curve.Params(**FAST), seed=0)


def test_an_unknown_target_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"found \['smell'\]"):
        curve.analyse(make_recording(), None, curve.Params(target="smell", **FAST), seed=0)
