"""Few-shot co-smoothing: known answers, and what it tells apart that co-smoothing does not."""

from __future__ import annotations

import time

import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.compute import blas_threads, generator
from driftwave.errors import InputError
from driftwave.scores.bits_per_spike import bits_per_spike
from driftwave.scores.few_shot import few_shot_co_bps, shots
from driftwave.scores.table import score_model


def linear_case(
    trials: int = 120, bins: int = 40, units: int = 6, dims: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth latents (trial, time, latent), rates (spikes/bin) log-linear in them, and counts."""
    rng = np.random.default_rng(seed)
    latent = np.cumsum(rng.normal(0, 0.25, (trials, bins, dims)), 1)
    rates = np.exp(latent @ rng.normal(0, 0.4, (dims, units)) - 1.5)
    return latent, rates, rng.poisson(rates).astype(float)


def halves(trials: int) -> tuple[np.ndarray, np.ndarray]:
    train = np.arange(trials) < trials // 2
    return train, ~train


def score(features: np.ndarray, counts: np.ndarray, k: int, **options: int):
    train, test = halves(len(counts))
    return few_shot_co_bps(features, counts, train, test, k, generator(0, "test"), **options)


def test_true_latents_and_all_trials_reach_the_true_rates_score() -> None:
    latent, rates, counts = linear_case()
    _, test = halves(len(counts))
    ceiling = bits_per_spike(rates[test], counts[test])
    found = score(latent, counts, k=60)
    assert len(found.each) == 1  # there is one way to take all trials
    assert np.isnan(found.spread())
    assert found.value() == pytest.approx(ceiling, abs=0.01)


def test_more_trials_are_better_and_spread_less() -> None:
    latent, _, counts = linear_case()
    found = [score(latent, counts, k=k, subsets=8) for k in (2, 8, 40)]
    assert found[0].value() < found[1].value() < found[2].value()
    assert found[0].spread() > found[2].spread()


def test_extraneous_latents_cost_where_trials_are_few() -> None:
    """The same information within many needless dynamics (the paper's point)."""
    latent, _, counts = linear_case()
    noise = linear_case(dims=40, seed=1)[0]
    burdened = np.concatenate([latent, noise], axis=2)
    few = score(latent, counts, 3).value() - score(burdened, counts, 3).value()
    many = score(latent, counts, 60).value() - score(burdened, counts, 60).value()
    assert few > 0.1
    assert many < few / 3


def test_a_linear_map_of_the_latents_without_a_change_of_scale_costs_nothing() -> None:
    latent, _, counts = linear_case()
    changed = latent * [100.0, 0.01, 1.0] + [5.0, 0.0, -1.0]
    assert score(changed, counts, 5).value() == pytest.approx(score(latent, counts, 5).value())
    constant = np.concatenate([latent, np.full((*latent.shape[:2], 4), 3.0)], axis=2)
    assert score(constant, counts, 5).value() == pytest.approx(score(latent, counts, 5).value())


def test_the_readout_is_a_penalised_glm() -> None:
    """Against scikit-learn's Poisson regression with the same penalty on standardised latents."""
    from sklearn.linear_model import PoissonRegressor

    latent, _, counts = linear_case()
    train, test = halves(len(counts))
    found = score(latent, counts, k=60).value()
    design, goal = latent[train].reshape(-1, 3), counts[train].reshape(-1, 6)
    centre, scale = design.mean(0), design.std(0)
    rates = []
    for unit in range(6):
        glm = PoissonRegressor(alpha=3 / len(design), tol=1e-10, max_iter=1000)
        glm.fit((design - centre) / scale, goal[:, unit])
        rates.append(glm.predict((latent[test].reshape(-1, 3) - centre) / scale))
    expected = bits_per_spike(np.stack(rates, 1).reshape(-1, 40, 6), counts[test])
    assert found == pytest.approx(expected, abs=1e-4)


def test_only_training_trials_are_fitted_to_and_only_test_trials_scored() -> None:
    latent, _, counts = linear_case()
    train = np.arange(len(counts)) < 50
    test = np.arange(len(counts)) >= 60
    other = counts.copy()
    other[50:60] = 99  # of neither split
    values = [
        few_shot_co_bps(latent, c, train, test, 4, generator(1, "test")).value()
        for c in (counts, other)
    ]
    assert values[0] == values[1]


def test_bins_that_are_not_scored_do_not_count() -> None:
    latent, _, counts = linear_case()
    early = np.arange(40) < 15
    masked, cut = counts.copy(), counts[:, ~early]
    masked[:, early] = np.nan
    wild = latent.copy()
    wild[:, early] = 1e3
    found = score(wild, masked, 5).value()
    assert found == pytest.approx(score(latent[:, ~early], cut, 5).value(), abs=1e-12)


def test_trials_are_at_least_two_and_at_most_all() -> None:
    assert shots(1721) == [17, 86]
    assert shots(40) == [2]
    assert shots(2) == [2]
    latent, _, counts = linear_case(trials=10)
    with pytest.raises(ValueError, match="k is 6, there are 5"):
        score(latent, counts, 6)


def latents_of(recording: xr.DataTree, latent: np.ndarray, name: str = "latent") -> xr.Dataset:
    dims = ("trial", "time", "unit")
    return xr.Dataset(
        {
            "rate": (dims, recording["truth/rate"].values, {"units": "Hz"}),
            name: (("trial", "time", name[:3]), latent),
        },
        attrs={"session": "synthetic", "model": "toy"},
    )


def test_the_table_has_a_row_per_number_of_trials() -> None:
    recording = make_recording(trials=400)
    state = recording["truth/state"].values
    table = score_model(recording, latents_of(recording, state), seed=0).set_index("metric")
    rows = table[table.index.str.startswith("few_shot_co_bps")]
    assert list(rows.index) == ["few_shot_co_bps k=3", "few_shot_co_bps k=14"]
    # The model's latents are the truth's, drawn with the same subsets.
    np.testing.assert_allclose(rows["value"], rows["ceiling"], atol=1e-6)
    assert (rows["unit"] == "bits/spike").all()
    assert (rows["null_shuffled"] < 0).all()
    assert ((rows["ci_low"] < rows["value"]) & (rows["value"] < rows["ci_high"])).all()
    assert "fitted to 3 training trials; mean of 5 random subsets" in rows["note"].iloc[0]
    again = score_model(recording, latents_of(recording, state), seed=0).set_index("metric")
    assert again.loc[rows.index, "value"].equals(rows["value"])


def test_factors_are_taken_before_latents() -> None:
    recording = make_recording(trials=200)
    state = recording["truth/state"].values
    dataset = latents_of(recording, state, "factors")
    dataset["latent"] = (("trial", "time", "lat"), np.zeros((*state.shape[:2], 1)))
    table = score_model(recording, dataset, seed=0).set_index("metric")
    assert table.loc["few_shot_co_bps k=2", "value"] > 0
    assert "read out of factors" in table.loc["few_shot_co_bps k=2", "note"]


def test_latents_that_are_not_finite_are_refused(synthetic: xr.DataTree) -> None:
    state = synthetic["truth/state"].values.copy()
    state[:, 3, 0] = np.nan
    with pytest.raises(InputError, match="latent: found 54 NaN or infinite values"):
        score_model(synthetic, latents_of(synthetic, state), seed=0)


def test_it_is_cheap() -> None:
    """300 test trials x 50 bins x 45 units from 64 latents of 1,000 training trials."""
    rng = np.random.default_rng(0)
    latent = np.cumsum(rng.normal(0, 0.2, (1300, 50, 64)), 1)
    rates = np.exp(latent @ rng.normal(0, 0.1, (64, 45)) - 1.5)
    counts = rng.poisson(np.minimum(rates, 5.0)).astype(float)
    train = np.arange(1300) < 1000
    start = time.process_time()
    with blas_threads(1):  # as the command does; spinning threads would count as well
        for k in shots(1000):
            few_shot_co_bps(latent, counts, train, ~train, k, generator(0, "test"))
    assert time.process_time() - start < 3
