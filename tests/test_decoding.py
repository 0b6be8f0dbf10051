"""Decoders against scikit-learn, planted truth and chance."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from conftest import make_recording
from driftwave.decoding import logistic, ridge
from driftwave.errors import InputError
from driftwave.readouts.circular import angular_distance, cos_sin, median_angular_error
from driftwave.readouts.crossval import cross_validate
from driftwave.readouts.features import abutting_runs, features_of, history_index, smooth
from driftwave.readouts.folds import block_folds, grouped_folds, make_plan, near
from driftwave.readouts.null import p_value, shifted_bins, shuffled_trials
from driftwave.readouts.regression import Moments, Problem, Ridge, moments, r_squared
from driftwave.store import open_dataset, write_tree


def with_behaviour(
    tree: xr.DataTree, values: np.ndarray, kinds: list[str], names: list[str] | None = None
) -> xr.DataTree:
    """The recording with other behaviour (trial, time, feature)."""
    spikes = tree["spikes"].to_dataset()
    tree["behavior"] = xr.DataTree(
        xr.Dataset(
            {"value": (("trial", "time", "feature"), values)},
            coords={
                "trial": spikes["trial"].values,
                "time": spikes["time"].values,
                "feature": names or [f"f{i}" for i in range(len(kinds))],
                "kind": ("feature", kinds),
                "unit_of_measure": ("feature", ["m"] * len(kinds)),
            },
        )
    )
    return tree


def as_latents(tree: xr.DataTree, latent: np.ndarray, rate: np.ndarray | None = None) -> xr.Dataset:
    """What a model gives, with planted latents (trial, time, latent)."""
    coords = tree["spikes"].to_dataset().coords
    data = {"latent": (("trial", "time", "latent"), latent)}
    if rate is not None:
        data["rate"] = (("trial", "time", "unit"), rate)
    return xr.Dataset(data, coords={k: coords[k] for k in ("trial", "time")})


def plain_problem(
    features: np.ndarray, target: np.ndarray, *, lags: int = 1, shuffles: int = 0, seed: int = 0
) -> Problem:
    index, complete = history_index(np.arange(len(features)), features.shape[1], lags)
    labels = shuffled_trials(
        np.ones(len(features), bool),
        shuffles,
        contiguous=False,
        gap=0,
        rng=np.random.default_rng(seed),
    )
    return Problem(features, index, target, complete & np.isfinite(target).all(-1), labels)


def random_walks(rng: np.random.Generator, *shape: int) -> np.ndarray:
    walk = np.cumsum(rng.normal(size=shape), axis=1)
    return walk - walk.mean(axis=1, keepdims=True)


FAST = {"shuffles": 20, "classifier_shuffles": 10}


def test_ridge_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (20, 12, 4)) * [1, 10, 0.1, 1]
    features[..., 3] = 5.0  # a silent unit
    weights = rng.normal(size=(4, 2))
    target = features @ weights + rng.normal(size=(20, 12, 2)) + [7, -3]
    problem = plain_problem(features, target, lags=3)
    train, held = np.arange(14), np.arange(14, 20)
    ours = Ridge(moments(problem, train))
    test = moments(problem, held)
    penalties = np.array([0.5, 50.0])
    errors = ours.squared_errors([test], penalties)[0]
    x, y = problem.rows(train), problem.targets(train)[:, 0]
    x_held, y_held = problem.rows(held), problem.targets(held)[:, 0]
    for k, penalty in enumerate(penalties):
        oracle = make_pipeline(StandardScaler(), SklearnRidge(penalty)).fit(x, y)
        expected = oracle.predict(x_held)
        weight, intercept = ours.weights(penalty)
        np.testing.assert_allclose(x_held @ weight + intercept, expected, atol=1e-9)
        wanted = r2_score(y_held, expected, multioutput="raw_values")
        np.testing.assert_allclose(r_squared(errors[k], test), wanted, atol=1e-9)


def test_feature_that_hardly_varies_in_training_does_no_harm() -> None:
    """A unit silent in training but for a kernel's tail, and active in the test split."""
    recording = make_recording(trials=60)
    rng = np.random.default_rng(0)
    rate = np.asarray(recording["truth/rate"].values)
    test = recording["trials/split"].values == "test"
    latent = np.concatenate([np.log(rate), 1e-4 * rng.random((*rate.shape[:2], 1))], axis=-1)
    latent[test, :, -1] += rng.random((test.sum(), rate.shape[1]))
    params = ridge.Params(lags=1, shuffles=1)
    with_it = ridge.analyse(recording, as_latents(recording, latent), params, seed=0)
    without = ridge.analyse(recording, as_latents(recording, latent[..., :-1]), params, seed=0)
    assert without["r2_test"].min() > 0.9
    np.testing.assert_allclose(with_it["r2_test"], without["r2_test"], atol=1e-6)


def test_penalty_for_each_column_is_used() -> None:
    rng = np.random.default_rng(1)
    problem = plain_problem(rng.normal(size=(9, 5, 3)), rng.normal(size=(9, 5, 2)))
    train = moments(problem, np.arange(9))
    both, _ = Ridge(train).weights(np.array([1.0, 100.0]))
    for column, penalty in enumerate((1.0, 100.0)):
        np.testing.assert_allclose(both[:, column], Ridge(train).weights(penalty)[0][:, column])


def test_nested_choice_of_penalty_is_that_of_explicit_loops() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(30, 6, 8))
    target = features[..., :2] * 0.3 + rng.normal(size=(30, 6, 2))
    problem = plain_problem(features, target)
    fold = np.repeat([0, 1, 2, -1], [8, 8, 8, 6])
    fit, test = fold >= 0, fold < 0
    penalties = (1.0, 30.0, 1000.0)
    ours = cross_validate(problem, make_plan(fold, fit, test, 0), penalties)

    def errors(train: np.ndarray, held: np.ndarray) -> np.ndarray:
        x, y = problem.rows(train), problem.targets(train)[:, 0]
        found = []
        for penalty in penalties:
            model = make_pipeline(StandardScaler(), SklearnRidge(penalty)).fit(x, y)
            residual = problem.targets(held)[:, 0] - model.predict(problem.rows(held))
            found.append((residual**2).sum(0))
        return np.array(found)

    def score(train: np.ndarray, held: np.ndarray, folds: list[int]) -> np.ndarray:
        inner = sum(errors(train[fold[train] != f], train[fold[train] == f]) for f in folds)
        best = inner.argmin(axis=0)
        y = problem.targets(held)[:, 0]
        return 1 - errors(train, held)[best, [0, 1]] / ((y - y.mean(0)) ** 2).sum(0)

    for f in range(3):
        others = [g for g in range(3) if g != f]
        train = np.flatnonzero((fold != f) & (fold >= 0))
        wanted = score(train, np.flatnonzero(fold == f), others)
        np.testing.assert_allclose(ours.r2_fold[f, 0], wanted, atol=1e-9)
    wanted = score(np.flatnonzero(fit), np.flatnonzero(test), [0, 1, 2])
    np.testing.assert_allclose(ours.r2_test[0], wanted, atol=1e-9)


def test_planted_linear_readout_of_latents_is_found() -> None:
    tree = make_recording(trials=90)
    rng = np.random.default_rng(3)
    latent = tree["truth/state"].values
    signal = latent @ rng.normal(size=(4, 1))
    noise = rng.normal(0, signal.std(), signal.shape)
    tree = with_behaviour(tree, signal + noise, ["continuous"])
    found = ridge.analyse(tree, as_latents(tree, latent), ridge.Params(lags=1, **FAST), seed=0)
    assert found["features_from"].values.tolist() == ["latents"]
    assert found["r2_cv"].item() == pytest.approx(0.5, abs=0.03)
    assert found["r2_test"].item() == pytest.approx(0.5, abs=0.06)
    assert found["p_value"].item() == pytest.approx(1 / 21)


def test_test_predictions_are_those_that_were_scored() -> None:
    tree = make_recording()
    found = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    for source in found["features_from"].values:
        for target in found["target"].values:
            true = found["target_value"].sel(target=target).values
            guess = found["prediction"].sel(features_from=source, target=target).values
            there = np.isfinite(guess)
            wanted = found["r2_test"].sel(features_from=source, target=target).item()
            assert r2_score(true[there], guess[there]) == pytest.approx(wanted, abs=1e-5)


def test_forward_bins_and_held_out_units_are_never_used() -> None:
    tree = make_recording()
    before = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    counts = tree["spikes/counts"].values.copy()
    counts[:, -5:] += 50
    counts[:, :, tree["units/held_out"].values] += 50
    tree["spikes/counts"].values[:] = counts
    tree["behavior/value"].values[:, -5:] = 1e6
    after = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    xr.testing.assert_identical(before, after)
    everything = ridge.analyse(tree, None, ridge.Params(units="all", **FAST), seed=0)
    assert not np.allclose(everything["r2_cv"], before["r2_cv"])


def test_test_trials_change_no_decoder_of_the_folds() -> None:
    tree = make_recording()
    before = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    test = tree["trials/split"].values == "test"
    tree["behavior/value"].values[test] *= -3
    after = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    np.testing.assert_allclose(after["r2_fold"], before["r2_fold"], atol=1e-9)
    np.testing.assert_allclose(after["prediction"], before["prediction"], atol=1e-5)
    assert (after["r2_test"] < 0).all()


def test_grouped_folds_decode_slow_noise_at_chance_where_random_bins_do_not() -> None:
    """Random-bin folds leak: neighbours in time of every held bin are in the training set."""
    rng = np.random.default_rng(4)
    tree = make_recording(trials=40, bins=60, forward=0)
    slow = random_walks(rng, 40, 60, 15)
    tree = with_behaviour(tree, random_walks(rng, 40, 60, 1), ["continuous"])
    lasting = np.repeat(rng.normal(size=(40, 1, 15)), 60, axis=1) * 20
    features = np.concatenate([slow, lasting], axis=-1)
    target = tree["behavior/value"].values + rng.normal(0, 20, (40, 1, 1))
    tree = with_behaviour(tree, target, ["continuous"])
    latents = as_latents(tree, features)
    ours = ridge.analyse(tree, latents, ridge.Params(lags=1, **FAST), seed=0)
    leaky = cross_val_score(
        make_pipeline(StandardScaler(), SklearnRidge(1.0)),
        features.reshape(-1, 30),
        target.ravel(),
        cv=KFold(5, shuffle=True, random_state=0),
        scoring="r2",
    ).mean()
    assert leaky > 0.25
    assert ours["r2_cv"].item() < 0.05
    assert ours["p_value"].item() > 0.05


def autocorrelated(rng: np.random.Generator, trials: int, bins: int, columns: int) -> np.ndarray:
    """A stationary process that goes on from one window into the next."""
    noise = rng.normal(size=(trials * bins + 200, columns))
    return lfilter([1], [1, -0.95], noise, axis=0)[200:].reshape(trials, bins, columns)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", ["trials", "windows", "bins"])
def test_null_is_uniform_where_there_is_nothing_to_decode(shuffle: str) -> None:
    contiguous = shuffle != "trials"
    draw, trials, gap = (autocorrelated, 60, 1) if contiguous else (random_walks, 24, 0)
    values, values_test = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        features, target = draw(rng, trials, 10, 3), draw(rng, trials, 10, 1)
        index, complete = history_index(np.arange(trials), 10, 1)
        everyone = np.ones(trials, bool)
        labels = shuffled_trials(everyone, 39, contiguous=contiguous, gap=gap, rng=rng)
        if shuffle == "bins":
            labels = shifted_bins(everyone, 39, 10, gap=gap, rng=rng)
        problem = Problem(features, index, target, complete, labels)
        test = np.arange(trials) >= 0.75 * trials
        fold = np.where(test, -1, block_folds(trials, 4))
        found = cross_validate(problem, make_plan(fold, ~test, test, gap), (1.0, 100.0, 1e4))
        r2 = found.r2_fold.mean(0)[:, 0]
        values.append(p_value(r2[:1], r2[None, 1:])[0])
        values_test.append(p_value(found.r2_test[0], found.r2_test[1:].T)[0])
    for p in (np.array(values), np.array(values_test)):
        # Neighbouring shifts are alike, so that more p than 10 % lie above .9.
        for level in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)[: 5 if shuffle == "bins" else 6]:
            # three standard errors of a share of 100
            tolerance = 3 * np.sqrt(level * (1 - level) / 100)
            assert (p <= level).mean() == pytest.approx(level, abs=tolerance)


@pytest.mark.parametrize("contiguous", [False, True])
def test_shuffles_are_of_whole_trials(contiguous: bool) -> None:
    usable = np.ones(30, bool)
    usable[[3, 17]] = False
    rows = shuffled_trials(usable, 10, contiguous=contiguous, gap=2, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(rows[0], np.arange(30))
    assert (rows[:, [3, 17]] == [3, 17]).all()
    assert (np.sort(rows, axis=1) == np.arange(30)).all()
    trials = np.flatnonzero(usable)
    if contiguous:
        steps = (np.searchsorted(trials, rows[1:, trials]) - np.arange(28)) % 28
        assert (steps == steps[:, :1]).all()
        assert len(np.unique(steps[:, 0])) == 10
        assert steps.min() >= 3
        assert steps.max() <= 25


def test_p_value_is_never_zero_and_knows_which_side() -> None:
    null = np.arange(99.0)[None]
    assert p_value(np.array([1e3]), null)[0] == pytest.approx(0.01)
    assert p_value(np.array([98.0]), null)[0] == pytest.approx(0.02)
    assert p_value(np.array([-1.0]), null)[0] == 1
    assert p_value(np.array([-1.0]), null, smaller=True)[0] == pytest.approx(0.01)
    assert np.isnan(p_value(np.array([np.nan]), null)[0])


def head_direction(
    tree: xr.DataTree, noise: float, seed: int = 6
) -> tuple[xr.DataTree, xr.Dataset]:
    """Ring-tuned units and the heading that drives them."""
    rng = np.random.default_rng(seed)
    counts = tree["spikes/counts"]
    steps = rng.normal(0, 0.3, counts.shape[:2])
    angle = np.cumsum(steps, axis=1) + rng.uniform(0, 2 * np.pi, (counts.shape[0], 1))
    preferred = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    activity = np.cos(angle[..., None] - preferred) + rng.normal(0, noise, (*angle.shape, 8))
    wrapped = np.angle(np.exp(1j * angle))
    tree = with_behaviour(tree, wrapped[..., None], ["circular"], ["heading"])
    return tree, as_latents(tree, activity)


def test_circular_decoder_finds_a_planted_heading() -> None:
    noise = 0.4
    tree, latents = head_direction(make_recording(trials=80), noise)
    found = ridge.analyse(tree, latents, ridge.Params(lags=1, **FAST), seed=0)
    assert found["target"].values.tolist() == ["heading_cos", "heading_sin"]
    # Eight units in two components: the noise of each is noise / 2, in units of the radius.
    wanted = np.degrees(0.6745 * noise / 2)
    assert found["angular_error_cv"].item() == pytest.approx(wanted, rel=0.1)
    assert found["angular_error_test"].item() == pytest.approx(wanted, rel=0.2)
    assert found["p_value_angular_error"].item() == pytest.approx(1 / 21)
    assert found["null_angular_error"].mean().item() == pytest.approx(90, abs=8)
    assert (found["r2_test"] > 0.85).all()


def test_circular_decoder_is_at_chance_on_another_heading() -> None:
    tree, latents = head_direction(make_recording(trials=80), 0.4)
    tree, _ = head_direction(tree, 0.4, seed=106)
    found = ridge.analyse(tree, latents, ridge.Params(lags=1, **FAST), seed=0)
    assert found["angular_error_cv"].item() > 75
    assert found["p_value_angular_error"].item() > 0.05


def test_angular_distance_goes_the_short_way_round() -> None:
    assert angular_distance(np.pi - 0.1, -np.pi + 0.1) == pytest.approx(0.2)
    true = np.array([0.0, 1.0, 3.0])
    decoded = true + np.array([0.1, -0.2, 0.3])
    error = median_angular_error(3 * cos_sin(decoded), cos_sin(true))
    assert error == pytest.approx(np.degrees(0.2))


def test_history_crosses_abutting_windows_only() -> None:
    index, complete = history_index(np.array([0, 0, 1]), 4, 3)
    np.testing.assert_array_equal(index[1, 0], [4, 3, 2])
    np.testing.assert_array_equal(complete[0], [False, False, True, True])
    assert complete[1].all()
    np.testing.assert_array_equal(complete[2], complete[0])


def test_lagged_readout_across_windows_is_exact() -> None:
    """A target that is the count three bins ago is decoded without error at every used bin."""
    tree = make_recording(trials=40, bins=12, units=5, held_out=0, forward=0, contiguous=True)
    stream = tree["spikes/counts"].values.reshape(-1, 5)[:, 2].astype(float)
    late = np.concatenate([np.zeros(3), np.sqrt(stream)[:-3]]).reshape(40, 12, 1)
    tree = with_behaviour(tree, late, ["continuous"])
    params = ridge.Params(lags=4, penalties=(1e-6,), **FAST)
    found = ridge.analyse(tree, None, params, seed=0)
    assert found["r2_fold"].sel(features_from="counts").min() > 1 - 1e-9
    assert found["bins_decoded"].item() == 40 * 12 - 3
    short = ridge.analyse(tree, None, ridge.Params(lags=3, **FAST), seed=0)
    assert short["r2_cv"].sel(features_from="counts").item() < 0.5
    starts = tree["spikes/trial_start"].values.copy()
    starts[20:] += 1.0  # a break in the recording
    tree["spikes/trial_start"].values[:] = starts
    assert np.unique(abutting_runs(tree)).tolist() == [0, 1]
    broken = ridge.analyse(tree, None, params, seed=0)
    assert broken["bins_decoded"].item() == 40 * 12 - 6


def test_separate_trials_and_hidden_bins_break_the_history() -> None:
    assert len(np.unique(abutting_runs(make_recording(trials=7)))) == 7
    hidden = make_recording(trials=7, contiguous=True, forward=5)
    assert len(np.unique(abutting_runs(hidden))) == 7
    seen = make_recording(trials=7, contiguous=True, forward=0)
    assert len(np.unique(abutting_runs(seen))) == 1


def test_smoothing_keeps_a_constant_and_does_not_cross_a_break() -> None:
    values = np.concatenate([np.full((2, 6, 1), 2.0), np.full((1, 6, 1), 9.0)])
    np.testing.assert_allclose(smooth(values, np.array([0, 0, 1]), 1.5), values)
    np.testing.assert_allclose(smooth(values, np.arange(3), 1.5), values)
    impulse = np.zeros((2, 6, 1))
    impulse[0, 5] = 1
    assert smooth(impulse, np.array([0, 0]), 1.5)[1, 0, 0] > 0.1
    assert smooth(impulse, np.array([0, 1]), 1.5)[1].max() == 0


def test_block_folds_leave_a_gap() -> None:
    fold = block_folds(23, 5)
    assert (np.diff(fold) >= 0).all()
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 1
    nothing = np.zeros(23, bool)
    plan = make_plan(fold, ~nothing, nothing, gap=2)
    for k in range(5):
        held, train = plan.trials(plan.held[k]), plan.trials(plan.train[k])
        np.testing.assert_array_equal(held, np.flatnonzero(fold == k))
        assert np.abs(held[:, None] - train[None]).min() == 3
        assert len(train) == 23 - len(held) - 2 * (2 if 0 < k < 4 else 1)
    np.testing.assert_array_equal(near(fold == 0, 1), np.arange(23) == 5)


def test_grouped_folds_share_every_condition() -> None:
    condition = np.arange(60) % 6
    fold = grouped_folds(condition, 5, np.random.default_rng(0))
    for k in range(5):
        np.testing.assert_array_equal(np.bincount(condition[fold == k]), np.full(6, 2))


def test_windows_beside_the_test_split_are_left_out_of_its_decoder() -> None:
    test = np.zeros(20, bool)
    test[8:12] = True
    fold = np.where(test, -1, 0)
    fold[14:] = np.arange(6) % 2 + 1
    plan = make_plan(fold, ~test, test, gap=1)
    np.testing.assert_array_equal(plan.trials(plan.test), [8, 9, 10, 11])
    assert not {7, 12} & set(plan.trials(plan.fitting))


def test_missing_behaviour_is_left_out_and_counted() -> None:
    tree = make_recording()
    values = tree["behavior/value"].values.copy()
    values[4, 10:15, 0] = np.nan
    values[5, :, 0] = np.nan
    tree = with_behaviour(tree, values, ["continuous"] * 2)
    found = ridge.analyse(tree, None, ridge.Params(lags=6, **FAST), seed=0)
    assert found["bins_missing"].values.tolist() == [30, 0]
    assert found["bins_decoded"].values.tolist() == [60 * 20 - 25, 60 * 20]
    assert (found["r2_cv"] > 0.6).all()
    assert np.isfinite(found["null_r2"]).all()


def test_constant_feature_is_noted_and_not_decoded() -> None:
    tree = make_recording()
    values = tree["behavior/value"].values.copy()
    values[..., 1] = 3.0
    tree = with_behaviour(tree, values, ["continuous"] * 2, ["moving", "still"])
    found = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    assert found["r2_cv"].sel(target="still").isnull().all()
    assert found["p_value"].sel(target="still").isnull().all()
    assert (found["r2_cv"].sel(target="moving") > 0.5).all()
    assert "still" in found.attrs["note"]


def with_stimulus(tree: xr.DataTree, **columns: tuple) -> xr.DataTree:
    tree["stimulus"] = xr.DataTree(xr.Dataset(columns, coords={"trial": tree["trials"].trial}))
    return tree


def test_stimulus_is_decoded_from_trial_means() -> None:
    tree = make_recording(trials=120)
    del tree["behavior"]
    condition = tree["trials/condition"].values
    direction = condition * 60.0
    rng = np.random.default_rng(7)
    radians = np.radians(direction)
    tuned = np.stack([np.cos(radians), np.sin(radians), rng.normal(size=120)], -1)[:, None]
    latent = np.repeat(tuned, 30, axis=1) + rng.normal(0, 0.5, (120, 30, 3))
    tree = with_stimulus(
        tree,
        direction=("trial", direction, {"period": 360.0, "units": "degree"}),
        shape=("trial", np.where(condition < 3, "disc", "bar")),
        coin=("trial", rng.integers(0, 2, 120)),
    )
    found = ridge.analyse(tree, as_latents(tree, latent), ridge.Params(**FAST), seed=0)
    assert found["target"].values.tolist() == ["direction_cos", "direction_sin", "coin"]
    assert set(found["per"].values) == {"trial"}
    assert (found["r2_test"].sel(target=["direction_cos", "direction_sin"]) > 0.95).all()
    assert found["angular_error_test"].item() < 8
    accuracy = found["accuracy_test"].squeeze("features_from").to_series()
    assert accuracy["direction"] > 0.95
    assert accuracy["shape"] > 0.95
    chance = found["chance"].squeeze("features_from").to_series()
    assert chance["direction"] == pytest.approx(1 / 6, abs=0.06)
    assert chance["shape"] == pytest.approx(1 / 2, abs=0.1)
    p = found["p_value_accuracy"].squeeze("features_from").to_series()
    assert p["direction"] == pytest.approx(1 / 11)
    assert p["coin"] > 0.05


def test_classes_are_told_as_the_logistic_decoder_tells_them() -> None:
    tree = make_recording()
    condition = tree["trials/condition"].values
    tree = with_stimulus(tree, shape=("trial", np.where(condition < 3, "disc", "bar")))
    ours = ridge.analyse(tree, None, ridge.Params(halves=2, **FAST), seed=0)
    params = logistic.Params(inverse_penalties=(0.5,), shuffles=10, halves=2, columns=("shape",))
    theirs = logistic.analyse(tree, None, params, seed=0)
    for name in ("accuracy_fold", "null_accuracy", "p_value_balanced_accuracy", "confusion"):
        xr.testing.assert_equal(ours[name], theirs[name])
    np.testing.assert_array_equal(ours["ceiling_accuracy"], theirs["ceiling_accuracy"])
    assert ours.attrs["class_null"] == theirs.attrs["null"]
    assert (ours.attrs["shuffles_used"], ours.attrs["class_shuffles_used"]) == (20, 10)


def test_classes_that_cannot_be_told_are_noted_beside_the_behaviour() -> None:
    tree = make_recording()
    test = tree["trials/split"].values == "test"
    tree = with_stimulus(tree, shape=("trial", np.where(test, "disc", "bar")))
    found = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    assert (found["r2_cv"] > 0.5).all()
    assert "accuracy_cv" not in found
    assert "fewer than two classes of 2 trials" in found.attrs["note"]
    del tree["behavior"]
    with pytest.raises(InputError, match="fewer than two classes of 2 trials"):
        ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)


def test_a_short_recording_says_how_many_shifts_it_allowed() -> None:
    tree = make_recording(trials=40, bins=10, forward=0, contiguous=True)
    params = ridge.Params(null="held_out", features=("counts",), halves=0, penalties=(100.0,))
    found = ridge.analyse(tree, None, params, seed=0)
    assert found.attrs["shuffles_used"] == (40 - 2 * 2) * 10 + 1
    assert found["null_r2"].sizes["shuffle"] == 361
    del tree["behavior"]
    tree = with_stimulus(tree, shape=("trial", np.where(np.arange(40) % 4 < 2, "disc", "bar")))
    params = logistic.Params(inverse_penalties=(0.5,), features=("counts",), halves=0)
    told = logistic.analyse(tree, None, params, seed=0)
    assert told.attrs["shuffles_used"] == told["null_accuracy"].sizes["class_shuffle"] == 37


def test_rates_and_latents_of_a_model_are_both_decoded() -> None:
    tree = make_recording()
    latents = as_latents(tree, tree["truth/state"].values, tree["truth/rate"].values)
    features = features_of(
        tree, latents, smoothing=0, units="held_in", rate_transform="log", needed_by="decoding"
    )
    np.testing.assert_allclose(features["rates"], np.log(tree["truth/rate"].values[:, :25]))
    found = ridge.analyse(tree, latents, ridge.Params(**FAST), seed=0)
    assert found["features_from"].values.tolist() == ["rates", "latents"]
    assert (found["r2_test"] > 0.95).all()


def test_result_survives_its_store(tmp_path) -> None:
    tree, latents = head_direction(make_recording(), 0.4)
    found = ridge.analyse(tree, latents, ridge.Params(**FAST), seed=0)
    write_tree(found, tmp_path / "decoding.zarr")
    again = open_dataset(tmp_path / "decoding.zarr").load()
    again.attrs.pop("provenance")
    xr.testing.assert_equal(again, found)
    assert all(found[name].attrs["units"] for name in found.data_vars)


def test_seed_decides_everything() -> None:
    tree = make_recording()
    first, second, other = (
        ridge.analyse(tree, None, ridge.Params(**FAST), seed=s) for s in (1, 1, 2)
    )
    xr.testing.assert_identical(first, second)
    assert not np.allclose(first["r2_fold"], other["r2_fold"])


def test_nothing_to_decode_is_one_sentence() -> None:
    tree = make_recording()
    del tree["behavior"]
    with pytest.raises(InputError, match=r"behavior, stimulus: found neither, expected behaviour"):
        ridge.analyse(tree, None, ridge.Params(), seed=0)


def test_only_constant_behaviour_is_one_sentence() -> None:
    tree = make_recording()
    tree = with_behaviour(tree, np.ones((60, 30, 1)), ["continuous"], ["still"])
    with pytest.raises(InputError, match=r"only constant or missing values in \['still'\]"):
        ridge.analyse(tree, None, ridge.Params(), seed=0)


def test_latents_of_the_field_are_refused() -> None:
    tree = make_recording()
    latents = xr.Dataset({"latent": (("time", "latent"), np.zeros((100, 4)))})
    with pytest.raises(InputError, match="a model of the field has no trials"):
        ridge.analyse(tree, latents, ridge.Params(), seed=0)


def test_latents_of_other_trials_are_refused() -> None:
    tree = make_recording()
    latents = as_latents(tree, tree["truth/state"].values).isel(trial=slice(10))
    with pytest.raises(InputError, match=r"found 10 trials, expected the recording's 60 trials"):
        ridge.analyse(tree, latents, ridge.Params(), seed=0)


def test_too_few_trials_are_one_sentence() -> None:
    tree = make_recording(trials=60)
    tree["trials/split"].values[:] = "unused"
    tree["trials/split"].values[:3] = ["train", "valid", "test"]
    with pytest.raises(InputError, match="found 2 trials that have it, expected enough for 3"):
        ridge.analyse(tree, None, ridge.Params(), seed=0)


def test_history_longer_than_a_trial_is_one_sentence() -> None:
    with pytest.raises(InputError, match="found 26 bins of history, expected at most the 25"):
        ridge.analyse(make_recording(), None, ridge.Params(lags=26), seed=0)


def test_no_test_split_leaves_its_scores_empty() -> None:
    tree = make_recording()
    split = tree["trials/split"].values
    split[split == "test"] = "unused"
    found = ridge.analyse(tree, None, ridge.Params(**FAST), seed=0)
    assert found["r2_test"].isnull().all()
    assert found["p_value_test"].isnull().all()
    assert (found["r2_cv"] > 0.5).all()


def test_moments_add_up() -> None:
    rng = np.random.default_rng(8)
    problem = plain_problem(rng.normal(size=(8, 4, 3)), rng.normal(size=(8, 4, 1)), shuffles=2)
    whole = moments(problem, np.arange(8))
    parts: Moments = moments(problem, np.arange(3)) + moments(problem, np.arange(3, 8))
    for name in ("count", "sum_x", "gram", "sum_y", "sum_yy", "cross"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name))
