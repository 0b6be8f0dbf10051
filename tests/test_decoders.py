"""Continuous decoders, their null, ceiling and table, against planted truth and chance."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.signal import lfilter
from scipy.stats import binom
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conftest import make_recording
from driftwave import registry
from driftwave.errors import InputError
from driftwave.readouts.activity import Activity, Scaling
from driftwave.readouts.ceiling import random_halves, spearman_brown
from driftwave.readouts.features import features_of, history_index
from driftwave.readouts.folds import block_folds, make_plan
from driftwave.readouts.heldout import held_scores, permuted_rows, widened
from driftwave.readouts.null import label_rows, p_value, shifted_bins
from driftwave.readouts.table import COLUMNS, decoding_table, write_decoding_table
from test_decoding import as_latents, autocorrelated, head_direction, with_behaviour

QUICK: dict[str, dict[str, Any]] = {
    "wiener": {"past": (0, 2)},
    "kalman": {"components": (4,), "lags": (0,)},
    "kernel": {"past": 0, "landmarks": 150, "widths_tried": (1.0, 2.0), "noises": (0.1, 1.0)},
    "gru": {"epochs": 25, "hidden": 12},
}


def those(*slow: str) -> list[Any]:
    """All decoders, some of them in the slow part."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in QUICK]


DECODERS, QUICKER = those("gru"), those("gru", "kernel")


def run(
    name: str, tree: xr.DataTree, latents: xr.Dataset | None = None, seed: int = 0, **params: Any
) -> xr.Dataset:
    module = registry.load("decoding", name)
    chosen = {"shuffles": 99, "halves": 2, **QUICK.get(name, {}), **params}
    return module.analyse(tree, latents, module.Params(**chosen), seed=seed)


@cache
def decoded(name: str) -> xr.Dataset:
    return run(name, make_recording(), features=("smoothed_counts",))


@pytest.mark.parametrize("name", ["ridge", *DECODERS])
def test_a_decoder_finds_the_hand_and_says_how_it_was_tested(name: str) -> None:
    found = decoded(name)
    assert (found["r2_cv"] > 0.5).all()
    assert (found["r2_test"] > 0.5).all()
    assert found["p_value"].values == pytest.approx(0.01)
    assert found["null_r2"].sizes["shuffle"] == 99
    assert found["null_r2"].mean() < 0
    refits = name == "ridge"
    assert ("fitted anew" if refits else "same held-out predictions") in found.attrs["null"]
    assert ((found["ceiling_r2"] > 0.6) & (found["ceiling_r2"] <= 1)).all()
    by_ridge = name in ("kernel", "gru")
    assert found.attrs["noise_ceiling"].endswith("ridge" if by_ridge else "this decoder")


@pytest.mark.parametrize("name", DECODERS)
def test_no_fold_knows_of_the_test_trials_or_of_hidden_bins(name: str) -> None:
    tree = make_recording()
    test = tree["trials/split"].values == "test"
    tree["behavior/value"].values[test] *= -3
    counts = tree["spikes/counts"].values.copy()
    counts[test] += 3
    counts[:, 25:] += 50
    tree["spikes/counts"].values[:] = counts
    changed = run(name, tree, features=("smoothed_counts",))
    np.testing.assert_allclose(changed["r2_fold"], decoded(name)["r2_fold"], atol=1e-9)
    assert (changed["r2_test"] < decoded(name)["r2_test"] - 0.1).all()


@pytest.mark.slow
def test_seed_decides_everything() -> None:
    again = run("kernel", make_recording(), features=("smoothed_counts",))
    xr.testing.assert_identical(again, decoded("kernel"))


@pytest.mark.slow
def test_a_network_does_not_hear_what_others_draw() -> None:
    import torch

    torch.manual_seed(5)
    again = run("gru", make_recording(), features=("smoothed_counts",))
    np.testing.assert_array_equal(again["prediction"], decoded("gru")["prediction"])


@pytest.mark.parametrize("name", QUICKER)
def test_a_heading_is_decoded_as_an_angle(name: str) -> None:
    tree, latents = head_direction(make_recording(trials=60), 0.4)
    found = run(name, tree, latents)
    assert found["target"].values.tolist() == ["heading_cos", "heading_sin"]
    assert found["angular_error_cv"].item() < 20
    assert found["p_value_angular_error"].item() == pytest.approx(0.01)
    # Below 90: one trial in about ten keeps its own label in a permutation of a small fold.
    assert 65 < found["null_angular_error"].mean().item() < 92


def autoregression(rng: np.random.Generator, trials: int, bins: int, past: int) -> tuple:
    """Features, and a target that is their weighted past plus noise."""
    noise = rng.normal(size=(trials * bins, 3))
    kernel = np.exp(-np.arange(past + 1) / 2)
    signal = sum(w * np.roll(noise[:, 0], k) for k, w in enumerate(kernel))
    target = signal + rng.normal(0, 0.3, len(signal))
    return noise.reshape(trials, bins, 3), target.reshape(trials, bins, 1), signal, target


def test_wiener_filter_chooses_the_length_that_was_planted() -> None:
    rng = np.random.default_rng(0)
    features, target, signal, noisy = autoregression(rng, 60, 30, 5)
    tree = make_recording(trials=60, contiguous=True, forward=0)
    tree = with_behaviour(tree, target, ["continuous"])
    found = run("wiener", tree, as_latents(tree, features), past=(1, 5, 9))
    assert '"past": 5' in found["setting"].item()
    wanted = 1 - np.var(noisy - signal) / np.var(noisy)
    assert found["r2_cv"].item() == pytest.approx(wanted, abs=0.02)
    ahead = with_behaviour(tree, np.roll(features[..., 1:2], -1, axis=1), ["continuous"])
    acausal = run("wiener", ahead, as_latents(tree, features), past=(0,), future=(0, 1))
    assert '"future": 1' in acausal["setting"].item()


def test_kalman_filter_is_the_optimal_one_where_its_model_holds() -> None:
    """Against the error variance of the true model's Riccati equation (scipy)."""
    from scipy.linalg import solve_discrete_are

    rng = np.random.default_rng(1)
    trials, bins, size = 200, 30, 6
    a, q, r = 0.8, 1 - 0.8**2, 4.0
    noise = rng.normal(size=trials * bins) * np.sqrt(q)
    state = lfilter([1], [1, -a], noise)
    loading = rng.normal(size=size)
    seen = state[:, None] * loading + rng.normal(0, np.sqrt(r), (len(state), size))
    tree = make_recording(trials=trials, contiguous=True, forward=0)
    tree = with_behaviour(tree, state.reshape(trials, bins, 1), ["continuous"])
    latents = as_latents(tree, seen.reshape(trials, bins, size))
    options = {"components": (size,), "derivatives": 0}
    found = run("kalman", tree, latents, **options)
    ahead = solve_discrete_are(
        np.array([[a]]), loading[None], np.array([[q]]), r * np.eye(size)
    ).item()
    error = 1 / (1 / ahead + loading @ loading / r)
    assert found["r2_cv"].item() == pytest.approx(1 - error / state.var(), abs=0.03)
    smoothed = run("kalman", tree, latents, smoother=True, **options)
    assert smoothed["r2_cv"].item() > found["r2_cv"].item() + 0.01


def test_kernel_decoder_is_scikit_learns_gaussian_process() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    from driftwave.decoding.kernel import Kernel, Params

    rng = np.random.default_rng(2)
    features = rng.normal(size=(10, 8, 2))
    target = np.sin(2 * features[..., :1]) + rng.normal(0, 0.1, (10, 8, 1))
    activity = Activity(features, np.arange(10), np.ones((10, 8), bool))
    train, held = np.arange(8), np.arange(8, 10)
    decoder = Kernel(Params(landmarks=1000, components=2), past=0)
    setting = {"width": 0.7, "noise": 0.05}
    (fitted,) = decoder.fit(activity, train, target[train], [setting], rng)
    scaled = fitted.reading(activity, train)
    y = target[train].ravel() - fitted.centre
    amplitude = fitted.amplitude.item() ** 2
    oracle = GaussianProcessRegressor(
        amplitude * RBF(fitted.width), alpha=0.05 * amplitude, optimizer=None
    ).fit(scaled, y)
    mean, sd = oracle.predict(fitted.reading(activity, held), return_std=True)
    np.testing.assert_allclose(
        fitted.predict(activity, held).ravel(), mean + fitted.centre, atol=2e-3
    )
    np.testing.assert_allclose(
        fitted.spread(activity, held).ravel(), np.sqrt(sd**2 + 0.05 * amplitude), rtol=0.02
    )


@pytest.mark.slow
def test_predictive_spread_covers_what_it_says() -> None:
    rng = np.random.default_rng(3)
    tree = make_recording(trials=80)
    latent = rng.normal(size=(80, 30, 2))
    target = np.sin(2 * latent[..., :1]) + rng.normal(0, 0.3, (80, 30, 1))
    tree = with_behaviour(tree, target, ["continuous"])
    found = run("kernel", tree, as_latents(tree, latent), noises=(0.03, 0.1, 0.3, 1.0))
    score = (found["target_value"] - found["prediction"]) / found["prediction_sd"]
    within = (np.abs(score.values[np.isfinite(score)]) < 1.96).mean()
    assert within == pytest.approx(0.95, abs=0.035)
    assert found["r2_cv"].item() > 0.75
    linear = run("ridge", tree, as_latents(tree, latent), lags=1)
    assert linear["r2_cv"].item() < 0.3


@pytest.mark.slow
def test_network_decodes_what_needs_memory_and_a_product() -> None:
    rng = np.random.default_rng(4)
    tree = make_recording(trials=150, forward=0)
    sign = rng.choice([-1.0, 1.0], (150, 1))
    drive = lfilter([1], [1, -0.7], rng.normal(size=(150, 30)), axis=1)
    cue = np.zeros((150, 30))
    cue[:, :2] = sign
    tree = with_behaviour(tree, (sign * drive)[..., None], ["continuous"])
    latents = as_latents(tree, np.stack([drive, cue], axis=-1))
    found = run("gru", tree, latents, epochs=80, hidden=24, patience=20, input_noise=0.05)
    assert found["r2_cv"].item() > 0.7
    assert run("ridge", tree, latents)["r2_cv"].item() < 0.2


def test_ceiling_is_the_planted_reliability() -> None:
    """Units that are the target plus noise of variance v: R2 and ceiling are both 1 / (1 + v/N)."""
    rng = np.random.default_rng(5)
    tree = make_recording(trials=120, forward=0)
    target = rng.normal(size=(120, 30, 1))
    units, noise = 16, 16.0
    from driftwave.readouts.crossval import cross_validate
    from test_decoding import plain_problem

    features = target + rng.normal(0, np.sqrt(noise), (120, 30, units))
    plan = make_plan(block_folds(120, 4), np.ones(120, bool), np.zeros(120, bool), 0)
    halves = random_halves(units, 6, rng)
    found = cross_validate(plain_problem(features, target), plan, (1.0,), halves=halves)
    assert found.ceiling.r2.item() == pytest.approx(0.5, abs=0.03)
    assert found.ceiling.reliability.item() == pytest.approx(1 / 3, abs=0.03)
    assert found.r2_fold.mean() == pytest.approx(0.5, abs=0.03)
    del tree


def test_ceiling_needs_four_units_and_never_falls_below_nought() -> None:
    assert random_halves(3, 5, np.random.default_rng(0)) == []
    np.testing.assert_allclose(spearman_brown(np.array([0.5, -0.4, 1.0])), [2 / 3, 0, 1])
    odd = random_halves(7, 3, np.random.default_rng(0))
    assert all(len(a) == len(b) == 3 and not set(a) & set(b) for a, b in odd)
    few = run("kalman", make_recording(units=5, held_out=2), components=(2,))
    assert np.isnan(few["ceiling_r2"]).all()
    assert np.isfinite(few["r2_cv"]).all()


def test_a_models_rates_have_no_ceiling() -> None:
    """Halves of them share the noise of the counts they were inferred from."""
    tree = make_recording()
    latents = as_latents(tree, tree["truth/state"].values, tree["truth/rate"].values)
    assert np.isnan(run("kalman", tree, latents)["ceiling_r2"]).all()


def false_positives(p: list[float], level: float = 0.05) -> tuple[float, float]:
    """Share below a level, and the highest that chance reaches in 99 % of cases."""
    return float(np.mean(np.array(p) <= level)), binom.ppf(0.995, len(p), level) / len(p)


@pytest.mark.slow
@pytest.mark.parametrize("contiguous", [False, True])
def test_held_out_null_keeps_its_level_for_slow_noise(contiguous: bool) -> None:
    """Nearest neighbours, which cannot be refitted a thousand times, on unrelated slow series."""
    values, values_test = [], []
    trials, bins, gap = (100, 20, 1) if contiguous else (50, 20, 0)
    draw = autocorrelated if contiguous else separate
    test = np.arange(trials) >= 0.8 * trials
    plan = make_plan(np.where(test, -1, block_folds(trials, 4)), ~test, test, gap)
    if not contiguous:
        plan = make_plan(np.where(test, -1, np.arange(trials) % 4), ~test, test, gap)
    sides = [*zip(plan.train, plan.held, strict=True), (plan.fitting, plan.test)]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        features, target = draw(rng, trials, bins, 2), draw(rng, trials, bins, 1)
        shifts = shifted_bins(np.ones(trials, bool), 99, bins, gap=gap, rng=rng)
        scores = []
        for train, held in ((plan.trials(a), plan.trials(b)) for a, b in sides):
            knn = KNeighborsRegressor(10).fit(features[train].reshape(-1, 2), target[train].ravel())
            guess = knn.predict(features[held].reshape(-1, 2)).reshape(len(held), bins, 1)
            rows = permuted_rows(held, bins, 99, rng)
            if contiguous:
                rows = shifts.rows(held, bins, slice(None))
            scores.append(held_scores(guess, target, rows, [])[0][:, 0])
        mean = widened(np.mean(scores[:4], axis=0))
        values.append(p_value(mean[:1], mean[None, 1:])[0])
        values_test.append(p_value(scores[4][:1], scores[4][None, 1:])[0])
    for p in (values, values_test):
        share, highest = false_positives(p)
        assert share <= highest
        assert 0.35 < np.mean(p) < 0.65


def separate(rng: np.random.Generator, trials: int, bins: int, columns: int) -> np.ndarray:
    """Slow series, each trial by itself."""
    walk = np.cumsum(rng.normal(size=(trials, bins, columns)), axis=1)
    return walk + rng.normal(0, 3, (trials, 1, columns))


@pytest.mark.slow
def test_random_bins_inflate_where_grouped_folds_stay_at_chance() -> None:
    """Activity and behaviour are independent and smooth: only a leak can decode one from other."""
    leaky, honest, p = {"knn": [], "ridge": []}, [], []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        tree = make_recording(trials=40, bins=30, forward=0, contiguous=True)
        features = autocorrelated(rng, 40, 30, 30)
        target = autocorrelated(rng, 40, 30, 1)
        tree = with_behaviour(tree, target, ["continuous"])
        x, y = features.reshape(-1, 30), target.ravel()
        bins = KFold(5, shuffle=True, random_state=0)
        models = {"knn": KNeighborsRegressor(5), "ridge": SklearnRidge(1.0)}
        for name, model in models.items():
            pipeline = make_pipeline(StandardScaler(), model)
            leaky[name].append(cross_val_score(pipeline, x, y, cv=bins, scoring="r2").mean())
        found = run("kernel", tree, as_latents(tree, features), folds=4, components=30)
        honest.append(found["r2_cv"].item())
        p.append(found["p_value"].item())
    assert np.mean(leaky["knn"]) > 0.5
    assert np.mean(leaky["ridge"]) > 0.1
    assert np.mean(honest) <= 0
    assert np.mean(np.array(p) <= 0.05) <= binom.ppf(0.999, len(p), 0.05) / len(p)
    assert 0.2 < np.mean(p) < 0.8


def test_shifts_are_by_bins_and_keep_their_margin() -> None:
    usable = np.ones(50, bool)
    usable[[7, 8]] = False
    shifts = shifted_bins(usable, 1000, 20, gap=2, rng=np.random.default_rng(0))
    assert len(shifts) == 48 * 20 - 2 * 3 * 20 + 1 + 1  # all there are, and the true labels
    assert shifts.shifts[0] == 0
    assert min(shifts.shifts[1:].min(), 48 * 20 - shifts.shifts[1:].max()) == 3 * 20
    rows = label_rows(shifts, np.arange(50), 20, slice(None))
    np.testing.assert_array_equal(rows[0].ravel(), np.arange(1000))
    np.testing.assert_array_equal(rows[5, 7], 7 * 20 + np.arange(20))
    assert (np.sort(rows[5].ravel()) == np.arange(1000)).all()
    apart = np.diff(rows[5][usable].ravel())
    assert (apart == 1).sum() >= 48 * 20 - 4  # in order but for the wrap and the missing windows


def test_permuted_labels_are_whole_trials_of_the_fold() -> None:
    held = np.array([2, 5, 7, 11])
    rows = permuted_rows(held, 3, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(rows[0, 1], [15, 16, 17])
    assert (np.diff(rows, axis=-1) == 1).all()
    assert (np.sort(rows[..., 0], axis=1) == held * 3).all()


def test_null_of_folds_is_twice_as_variable_about_its_mean() -> None:
    scores = np.random.default_rng(0).normal(size=(50, 3))
    wider = widened(scores)
    np.testing.assert_array_equal(wider[0], scores[0])
    np.testing.assert_allclose(wider[1:].mean(0), scores[1:].mean(0))
    np.testing.assert_allclose(wider[1:].var(0), 2 * scores[1:].var(0))


def test_history_reaches_into_the_future_within_a_run() -> None:
    index, complete = history_index(np.array([0, 0, 1]), 4, 2, 1)
    np.testing.assert_array_equal(index[0, 2], [2, 1, 3])
    np.testing.assert_array_equal(index[0, 3], [3, 2, 4])
    assert complete.sum() == (8 - 2) + (4 - 2)
    assert not complete[1, 3]
    assert not complete[0, 0]


def test_smoothing_is_chosen_inside_the_folds() -> None:
    tree = make_recording()
    chosen = run("ridge", tree, features=("smoothed_counts",), smoothing=(0.0, 0.06), lags=1)
    for width, best in ((0.0, False), (0.06, True)):
        fixed = run("ridge", tree, features=("smoothed_counts",), smoothing=width, lags=1)
        assert np.allclose(fixed["r2_cv"], chosen["r2_cv"], atol=1e-9) == best
    assert all('"smoothing": 0.06' in text for text in chosen["setting"].values.ravel())
    other = run("kalman", tree, features=("smoothed_counts",), smoothing=(0.0, 0.06))
    assert all('"smoothing"' in text for text in other["setting"].values.ravel())


def test_activations_are_decoded_one_variable_at_a_time() -> None:
    tree = make_recording()
    state = tree["truth/state"].values
    coords = {"trial": tree["spikes/trial"].values}
    activations = xr.Dataset(
        {
            "h": (("trial", "time", "h_unit"), state),
            "z": (("time", "trial", "z_unit"), np.moveaxis(state[..., 2:], 1, 0)),
        },
        coords,
        attrs={"activations": "h, z", "model": "net"},
    )
    found = run("kalman", tree, activations)
    assert found["features_from"].values.tolist() == ["h", "z"]
    assert (found["r2_test"].sel(features_from="h") > 0.95).all()
    options = {"smoothing": 0, "units": "all", "rate_transform": "log", "needed_by": "test"}
    np.testing.assert_array_equal(features_of(tree, activations, **options)["z"], state[:, :25, 2:])
    with pytest.raises(InputError, match="no variable 'v'"):
        features_of(tree, activations.assign_attrs(activations="h,v"), **options)
    with pytest.raises(InputError, match="none of which this source has"):
        run("kalman", tree, activations, features=("counts",))
    broken = activations.copy(deep=True)
    broken["h"].values[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 values that are not finite"):
        run("kalman", tree, broken)


@pytest.mark.parametrize("name", QUICKER)
def test_missing_behaviour_and_silent_units_are_borne(name: str) -> None:
    tree = make_recording()
    values = tree["behavior/value"].values.copy()
    values[4, 10:15, 0] = np.nan
    values[5, :, 0] = np.nan
    tree = with_behaviour(tree, values, ["continuous"] * 2)
    tree["spikes/counts"].values[:, :, 0] = 0
    found = run(name, tree, features=("smoothed_counts",))
    assert (found["r2_cv"] > 0.4).all()
    assert np.isfinite(found["null_r2"]).all()
    assert found["bins_missing"].values.tolist() == [30, 0]


def test_silence_is_one_sentence() -> None:
    tree = make_recording()
    tree["spikes/counts"].values[:] = 0
    with pytest.raises(InputError, match="none of which varies, expected features that vary"):
        run("kalman", tree)


def test_few_trials() -> None:
    """Fewer trials than folds: each is a fold; a fold of one trial has no other labels."""
    tree = make_recording(trials=60)
    split = np.full(60, "unused", dtype="<U6")
    split[:6] = ["train", "train", "valid", "train", "test", "test"]
    tree["trials/split"].values[:] = split
    found = run("kalman", tree, features=("smoothed_counts",))
    assert np.isfinite(found["r2_fold"]).sum() == 4 * 2
    assert (found["p_value"] == 1).all()
    split[3] = "unused"
    split[2] = "unused"
    tree["trials/split"].values[:] = split
    with pytest.raises(InputError, match="found 2 trials that have it, expected enough for 3"):
        run("kalman", tree)


def test_one_trial_per_condition_is_decoded_across_conditions() -> None:
    tree = make_recording()
    tree["trials/condition"].values[:] = np.arange(60)
    assert (run("wiener", tree, features=("smoothed_counts",))["r2_cv"] > 0.5).all()


@pytest.mark.parametrize("name", QUICKER)
def test_a_stimulus_is_decoded_from_trial_means(name: str) -> None:
    tree = make_recording(trials=120)
    del tree["behavior"]
    rng = np.random.default_rng(7)
    contrast = rng.uniform(0, 1, 120)
    latent = contrast[:, None, None] * [1.0, 2.0] + rng.normal(0, 0.3, (120, 30, 2))
    tree["stimulus"] = xr.DataTree(
        xr.Dataset({"contrast": ("trial", contrast)}, coords={"trial": tree["trials"].trial})
    )
    found = run(name, tree, as_latents(tree, latent))
    assert found["per"].values.tolist() == ["trial"]
    assert found["r2_cv"].item() > 0.8
    assert found["p_value"].item() == pytest.approx(0.01)


def test_scaling_drops_what_hardly_varies() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3)) * [1, 1e-9, 2]
    scaled = Scaling.of(rows)(rows)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 0, 1])


def discrete_result() -> xr.Dataset:
    rng = np.random.default_rng(0)
    one = {"units": "1"}
    pair = ("features_from", "stimulus")
    return xr.Dataset(
        {
            "accuracy_fold": ((*pair, "fold"), np.full((1, 2, 5), 0.5), one),
            "accuracy_cv": (pair, [[0.5, 0.25]], one),
            "accuracy_test": (pair, [[0.4, np.nan]], one),
            "null_accuracy": ((*pair, "class_shuffle"), rng.uniform(0, 0.4, (1, 2, 200)), one),
            "p_value_accuracy": (pair, [[1 / 201, 0.3]], one),
            "p_value_accuracy_test": (pair, [[0.02, np.nan]], one),
            "ceiling_accuracy": (pair, [[0.7, 0.6]], one),
        },
        coords={"features_from": ["counts"], "stimulus": ["direction", "coin"]},
    )


def test_table_holds_every_decoder_source_and_metric() -> None:
    tree, latents = head_direction(make_recording(), 0.4)
    stores = {
        ("kalman", "recording"): decoded("kalman"),
        ("wiener", "model"): run("wiener", tree, latents),
        ("logistic", "recording"): discrete_result(),
    }
    table = decoding_table(stores)
    assert list(table.columns) == list(COLUMNS)
    assert table["metric"].tolist() == ["r2"] * 4 + ["angular_error"] + ["accuracy"] * 2
    kalman = table.iloc[0]
    store = decoded("kalman").isel(features_from=0, target=0)
    assert kalman["score_cv"] == store["r2_cv"].item()
    assert kalman["null_high"] == pytest.approx(np.quantile(store["null_r2"], 0.95))
    assert kalman["ceiling"] == store["ceiling_r2"].item()
    assert kalman["folds"] == 5
    error = table[table["metric"] == "angular_error"].iloc[0]
    assert error["score_cv"] < error["null_high"] < error["null_mean"]
    direction, coin = (table.iloc[k] for k in (5, 6))
    assert direction["q"] == pytest.approx(2 / 201)
    assert coin["q"] == pytest.approx(0.3)
    assert direction["ceiling"] == 0.7
    r2 = table[table["metric"] == "r2"]
    assert (r2["q"] >= r2["p"]).all()
    assert isinstance(table, pd.DataFrame)


def test_table_of_nothing_is_empty() -> None:
    assert decoding_table({}).empty


def test_table_is_written_with_a_page(tmp_path: Path) -> None:
    table = decoding_table({("logistic", "recording"): discrete_result()})
    write_decoding_table(table, tmp_path / "decoding.tsv")
    again = pd.read_csv(tmp_path / "decoding.tsv", sep="\t")
    assert again["target"].tolist() == ["direction", "coin"]
    page = (tmp_path / "decoding.html").read_text(encoding="utf-8")
    assert page.count('<tr class="found">') == 1
    assert "http" not in page
