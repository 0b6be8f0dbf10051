"""Discrete decoders against scikit-learn, closed forms, planted classes and chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm, poisson
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

from conftest import ROOT, make_recording
from driftwave import registry
from driftwave.compute import dask_threads
from driftwave.errors import InputError
from driftwave.readouts.blocks import exchange_groups, exchangeable, label_shuffles, trial_blocks
from driftwave.readouts.classes import condition_classes, usable_classes
from driftwave.readouts.classification import (
    accuracy,
    accuracy_of,
    balanced_accuracy,
    confusion,
    cross_classify,
    doubled_accuracy,
    implied_accuracy,
    mean_angular_error,
    split_half,
)
from driftwave.readouts.classifiers import (
    Estimator,
    NearestNeighbours,
    PoissonBayes,
    ShrinkageLDA,
    ledoit_wolf,
    logistic_regression,
)
from driftwave.readouts.folds import Plan, grouped_folds, make_plan
from driftwave.readouts.heldout import widened
from driftwave.readouts.null import p_value

DECODERS = ("lda", "knn", "poisson_bayes", "logistic", "svm")
FAST = {"shuffles": 39, "halves": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask_threads(1):
        yield


def planted(
    *, trials: int = 96, classes: int = 4, gain: float = 0.5, seed: int = 0, period: float = 360.0
) -> xr.DataTree:
    """A recording whose units are tuned to a direction of the stimulus."""
    tree = make_recording(trials=trials, units=15, held_out=3, seed=seed)
    rng = np.random.default_rng(seed)
    direction = rng.permutation(np.arange(trials) % classes) * 360.0 / classes
    preferred = rng.uniform(0, 2 * np.pi, 15)
    rate = 20 * np.exp(gain * np.cos(np.deg2rad(direction)[:, None] - preferred))
    counts = rng.poisson(rate[:, None] * 0.02, tree["spikes/counts"].shape)
    tree["spikes/counts"].values[:] = counts
    column = xr.DataArray(direction, dims="trial", attrs={"period": period, "units": "degree"})
    tree["stimulus"] = xr.DataTree(xr.Dataset({"direction": column}))
    tree["trials/condition"].values[:] = (direction * classes / 360).astype(int)
    return tree


def some_plan(classes: np.ndarray, folds: int = 4, test: int = 0, seed: int = 0) -> Plan:
    rng = np.random.default_rng(seed)
    fold = grouped_folds(classes, folds, rng)
    held_back = np.arange(len(classes)) >= len(classes) - test
    fold[held_back] = -1
    return make_plan(fold, ~held_back, held_back, 0)


def gaussian(
    rng: np.random.Generator, trials: int, classes: int, dims: int, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    label = rng.permutation(np.arange(trials) % classes)
    centres = rng.normal(size=(classes, dims)) * distance
    return centres[label] + rng.normal(size=(trials, dims)), label


@pytest.mark.parametrize("shrinkage", [0.05, 0.6])
def test_lda_is_scikit_learns(shrinkage: float) -> None:
    rng = np.random.default_rng(0)
    x, label = gaussian(rng, 60, 3, 7, 0.6)
    held = rng.normal(size=(200, 7))
    # scikit-learn standardises each feature before it shrinks: with equal scales it is the same
    x, held = x / x.std(0), held
    oracle = LinearDiscriminantAnalysis("eigen", shrinkage=None)
    oracle.covariance_estimator = _Fixed(x, label, shrinkage)
    oracle.fit(x, label)
    ours = ShrinkageLDA(shrinkage)
    np.testing.assert_array_equal(
        ours.predict(x, label[None], held, 3, ours.values)[0, 0], oracle.predict(held)
    )
    scores = ours.discriminants(x, label[None], held, 3, shrinkage)[0]
    log_posterior = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    np.testing.assert_allclose(log_posterior, oracle.predict_log_proba(held), atol=1e-6)


class _Fixed:
    """A covariance estimator that gives every class the pooled, shrunk covariance."""

    def __init__(self, x: np.ndarray, label: np.ndarray, shrinkage: float) -> None:
        residual = x - np.array([x[label == k].mean(0) for k in range(3)])[label]
        pooled = residual.T @ residual / len(x)
        identity = np.eye(x.shape[1]) * np.trace(pooled) / x.shape[1]
        self.covariance_ = (1 - shrinkage) * pooled + shrinkage * identity

    def fit(self, x: np.ndarray) -> _Fixed:
        assert x.shape[1] == len(self.covariance_)
        return self


@pytest.mark.parametrize("dims", [5, 80])
def test_shrinkage_is_ledoit_and_wolfs(dims: int) -> None:
    rng = np.random.default_rng(1)
    residual = rng.normal(size=(40, dims)) * rng.uniform(0.2, 3, dims)
    expected = sklearn_ledoit_wolf(residual, assume_centered=True)[1]
    covariance = residual.T @ residual / 40
    found = ledoit_wolf(residual[None], covariance[None], dims)[0]
    assert found == pytest.approx(expected, rel=1e-9)
    # and in the span of the trials, where there are more units than trials
    _, _, axes = np.linalg.svd(residual, full_matrices=False)
    inside = residual @ axes.T
    found = ledoit_wolf(inside[None], (inside.T @ inside / 40)[None], dims)[0]
    assert found == pytest.approx(expected, rel=1e-6)


def test_lda_with_more_units_than_trials_is_the_direct_solution() -> None:
    rng = np.random.default_rng(2)
    x, label = gaussian(rng, 24, 3, 60, 0.5)
    held = rng.normal(size=(30, 60))
    mean = np.array([x[label == k].mean(0) for k in range(3)])
    residual = x - mean[label]
    pooled = residual.T @ residual / 24
    a = sklearn_ledoit_wolf(residual, assume_centered=True)[1]
    shrunk = (1 - a) * pooled + a * np.trace(pooled) / 60 * np.eye(60)
    weights = np.linalg.solve(shrunk, mean.T)
    expected = held @ weights - 0.5 * (mean * weights.T).sum(1) + np.log(np.bincount(label) / 24)
    found = ShrinkageLDA().discriminants(x, label[None], held, 3)[0]
    np.testing.assert_allclose(
        found - found[:, :1], expected - expected[:, :1], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "classifier", [ShrinkageLDA(), NearestNeighbours((7, 3, 1)), PoissonBayes((2.0, 0.3))]
)
def test_all_labellings_together_are_each_by_itself(classifier) -> None:
    rng = np.random.default_rng(3)
    x = rng.poisson(3.0, (40, 6)).astype(float)
    held = rng.poisson(3.0, (15, 6)).astype(float)
    labels = np.array([rng.permutation(np.arange(40) % 4) for _ in range(5)])
    together = classifier.predict(x, labels, held, 4, classifier.values)
    assert together.shape == (len(classifier.values), 5, 15)
    for k, value in enumerate(classifier.values):
        for row, label in enumerate(labels):
            one = classifier.predict(x, label[None], held, 4, [value])[0, 0]
            np.testing.assert_array_equal(together[k, row], one)


def test_lda_reaches_the_accuracy_of_the_closed_form() -> None:
    rng = np.random.default_rng(4)
    label = np.arange(4000) % 2
    x = rng.normal(size=(4000, 5))
    x[:, 0] += 1.6 * label
    told = ShrinkageLDA().predict(x[:2000], label[None, :2000], x[2000:], 2, [np.nan])[0, 0]
    assert (told == label[2000:]).mean() == pytest.approx(norm.cdf(0.8), abs=0.025)


def test_nearest_neighbours_are_scikit_learns() -> None:
    rng = np.random.default_rng(5)
    x, label = gaussian(rng, 80, 2, 4, 0.7)
    held = rng.normal(size=(60, 4))
    found = NearestNeighbours((5, 3, 1)).predict(x, label[None], held, 2, (5, 3, 1))
    for k, told in zip((5, 3, 1), found[:, 0], strict=True):
        oracle = KNeighborsClassifier(k).fit(x, label)
        np.testing.assert_array_equal(told, oracle.predict(held))


def test_a_tie_of_neighbours_goes_to_the_nearer() -> None:
    x = np.array([[0.0], [1.0], [10.0], [11.0]])
    labels = np.array([[1, 0, 0, 1]])
    held = np.array([[0.1], [0.9]])
    found = NearestNeighbours((2,)).predict(x, labels, held, 2, (2,))
    np.testing.assert_array_equal(found[0, 0], [1, 0])


def test_poisson_bayes_is_the_posterior_of_scipys_poisson() -> None:
    rng = np.random.default_rng(6)
    label = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
    x = rng.poisson(4.0, (10, 5)).astype(float)
    x[:, 4] = 0  # a silent unit says nothing
    held = rng.poisson(4.0, (20, 5)).astype(float)
    weight = 0.7
    log_posterior = np.zeros((20, 3))
    for k in range(3):
        member = x[label == k]
        rate = (member.sum(0) + weight * x.mean(0)) / (len(member) + weight)
        log_posterior[:, k] = poisson.logpmf(held[:, :4], rate[:4]).sum(1)
        log_posterior[:, k] += np.log(len(member) / 10)
    found = PoissonBayes((weight,)).predict(x, label[None], held, 3, (weight,))[0, 0]
    np.testing.assert_array_equal(found, log_posterior.argmax(1))


def test_nested_choice_is_that_of_explicit_loops() -> None:
    rng = np.random.default_rng(7)
    x, label = gaussian(rng, 60, 3, 3, 0.5)
    given = np.array([label, rng.permutation(label)])
    classifier = NearestNeighbours((15, 5, 1))
    plan = some_plan(label, folds=4, test=12)
    ours = cross_classify(x, given, plan, classifier, 3)

    def scaled(train: np.ndarray) -> np.ndarray:
        return (x - x[train].mean(0)) / np.sqrt(x[train].var(0).mean())

    def right(train: np.ndarray, held: np.ndarray, row: np.ndarray) -> np.ndarray:
        z = scaled(train)
        told = classifier.predict(z[train], row[None, train], z[held], 3, classifier.values)
        return (told[:, 0] == row[held]).sum(1)

    folds = [plan.trials(held) for held in plan.held]
    for row in range(2):
        total = np.zeros(3)
        for f, held in enumerate(folds):
            train = plan.trials(plan.train[f])
            inner = sum(
                right(np.setdiff1d(train, folds[g]), folds[g], given[row])
                for g in range(4)
                if g != f
            )
            value = classifier.values[int(np.argmax(inner))]
            z = scaled(train)
            told = classifier.predict(z[train], given[row : row + 1, train], z[held], 3, [value])
            np.testing.assert_array_equal(ours.held[row, held], told[0, 0])
            if row == 0:
                assert ours.value[f] == value
            total += right(train, held, given[row])
        if row == 0:
            assert ours.value[-1] == classifier.values[int(np.argmax(total))]


@pytest.mark.parametrize("name", DECODERS)
def test_planted_directions_are_told(name: str) -> None:
    module = registry.load("decoding", name)
    found = module.analyse(planted(), None, module.Params(**FAST), seed=0)
    one = found.sel(features_from="counts", stimulus="direction")
    assert one["accuracy_cv"] > 0.8
    assert one["accuracy_test"] > 0.75
    assert one["p_value_accuracy"] == pytest.approx(1 / 40)
    assert one["p_value_balanced_accuracy_test"] == pytest.approx(1 / 40)
    assert one["chance"] == pytest.approx(0.25, abs=0.06)
    assert found["null_mean_angular_error"].mean() == pytest.approx(90, abs=8)
    assert found["mean_angular_error_cv"].max() < 25
    held = one["decoded_class"].values
    told = held >= 0
    expected = confusion_matrix(one["given_class"].values[told], held[told])
    np.testing.assert_array_equal(one["confusion"].values, expected)
    assert registry.plugin("decoding", name).constants["DECODES"] == "discrete"


@pytest.mark.parametrize("name", DECODERS)
def test_rates_of_a_model_are_decoded(name: str) -> None:
    module = registry.load("decoding", name)
    tree = planted(gain=0.8)
    spikes = tree["spikes"].to_dataset()
    mean = spikes["counts"].mean("time") / 0.02
    rate = (mean + 0 * spikes["counts"]).transpose("trial", "time", "unit")
    latents = xr.Dataset({"rate": rate}, attrs={"model": "toy"})
    found = module.analyse(tree, latents, module.Params(**FAST), seed=0)
    assert found["features_from"].values.tolist() == ["rates"]
    assert found["accuracy_cv"].item() > 0.8


def test_conditions_are_told_where_there_is_no_stimulus() -> None:
    tree = planted()
    del tree["stimulus"]
    lda = registry.load("decoding", "lda")
    found = lda.analyse(tree, None, lda.Params(**FAST), seed=0)
    assert found["stimulus"].values.tolist() == ["condition"]
    assert (found["accuracy_cv"] > 0.8).all()


@pytest.mark.parametrize("name", ["lda", "knn"])
def test_test_trials_change_nothing_in_the_folds(name: str) -> None:
    module = registry.load("decoding", name)
    tree = planted()
    before = module.analyse(tree, None, module.Params(**FAST), seed=0)
    test = tree["trials/split"].values == "test"
    tree["spikes/counts"].values[test] = 7
    after = module.analyse(tree, None, module.Params(**FAST), seed=0)
    xr.testing.assert_equal(before["accuracy_fold"], after["accuracy_fold"])
    xr.testing.assert_equal(before["hyper_parameter"], after["hyper_parameter"])
    assert (after["accuracy_test"] < before["accuracy_test"]).all()


def test_circular_error_of_classes() -> None:
    angle = np.deg2rad([0.0, 90.0, 180.0, 270.0])
    given, told = np.array([[0, 1, 2, 3]]), np.array([[0, 3, 2, 0]])
    assert mean_angular_error(told, given, angle)[0] == pytest.approx((0 + 180 + 0 + 90) / 4)


def test_balanced_accuracy_and_confusion_are_scikit_learns() -> None:
    rng = np.random.default_rng(8)
    given = rng.choice(3, 200, p=[0.8, 0.15, 0.05])
    told = rng.choice(3, 200)
    expected = balanced_accuracy_score(given, told)
    assert balanced_accuracy(told[None], given[None], 3)[0] == pytest.approx(expected)
    np.testing.assert_array_equal(confusion(told, given, 3), confusion_matrix(given, told))


def test_unbalanced_classes_without_signal_are_at_balanced_chance() -> None:
    tree = planted(trials=120, gain=0.0)
    rng = np.random.default_rng(9)
    tree["stimulus/direction"].values[:] = np.where(rng.random(120) < 0.8, 0.0, 90.0)
    tree["trials/condition"].values[:] = 0
    lda = registry.load("decoding", "lda")
    found = lda.analyse(tree, None, lda.Params(**FAST), seed=0)
    one = found.sel(features_from="counts", stimulus="direction")
    assert one["accuracy_cv"] > 0.65  # the larger class, always
    assert one["balanced_accuracy_cv"] < 0.62
    assert one["largest_class"] == pytest.approx(0.8, abs=0.08)
    assert one["p_value_balanced_accuracy"] > 0.05


def test_labels_move_within_their_block_only() -> None:
    block = np.repeat([0, 1, -1, 2], [10, 20, 5, 7])
    rng = np.random.default_rng(0)
    rows = label_shuffles(block, 50, contiguous=False, gap=0, rng=rng)
    np.testing.assert_array_equal(rows[0], np.arange(42))
    assert (block[rows] == block).all()
    assert (np.sort(rows, axis=1) == np.arange(42)).all()
    assert (rows[1:, block >= 0] != np.flatnonzero(block >= 0)).mean() > 0.8
    shifts = label_shuffles(block, 5, contiguous=True, gap=1, rng=rng)
    used = np.flatnonzero(block >= 0)
    for row in shifts:
        start = np.flatnonzero(used == row[used[0]])[0]
        np.testing.assert_array_equal(row[used], np.roll(used, -start))


def test_blocks_are_stretches_of_time_or_a_column() -> None:
    tree = make_recording(trials=60)
    tree["spikes/trial_start"].values[:] = tree["spikes/trial_start"].values[::-1].copy()
    there = np.ones(60, bool)
    there[:4] = False
    block = trial_blocks(tree, there, 6)
    assert (block[:4] == -1).all()
    sizes = np.bincount(block[4:])
    assert sizes.tolist() == [56]
    block = trial_blocks(tree, there, 6, length=20)
    assert np.bincount(block[4:]).tolist() == [19, 19, 18]
    assert (np.diff(block[4:]) <= 0).all()  # trials run backwards in time
    by_column = trial_blocks(tree, there, 6, column="condition")
    np.testing.assert_array_equal(by_column[4:], tree["trials/condition"].values[4:])
    with pytest.raises(InputError, match="block_column: found 'nowhere'"):
        trial_blocks(tree, there, 6, column="nowhere")


def test_shuffles_keep_each_folds_share_of_every_class() -> None:
    """Or shuffled labels would be at a disadvantage: their folds would not be stratified."""
    rng = np.random.default_rng(13)
    label = rng.permutation(np.arange(48) % 4)
    plan = some_plan(label, folds=4, test=8)
    block = np.repeat([0, 1], 24)
    group = exchange_groups(block, plan, refitted=True)
    given = label[label_shuffles(group, 20, contiguous=False, gap=0, rng=rng)]
    for held in [*plan.held, plan.test]:
        trials = plan.trials(held)
        for row in given:
            assert np.bincount(row[trials], minlength=4).tolist() == (
                np.bincount(label[trials], minlength=4).tolist()
            )


def test_slow_drift_alone_is_not_taken_for_a_code() -> None:
    """Early and late trials differ, and classes are unevenly spread over the session."""
    rng = np.random.default_rng(10)
    trials = 200
    time = np.arange(trials) / trials
    label = (rng.random(trials) < 0.1 + 0.8 * time).astype(int)
    x = time[:, None] * 3 + rng.normal(size=(trials, 4))
    plan = some_plan(np.zeros(trials), folds=5)
    freely = np.zeros(trials, int)
    blocks = np.repeat(np.arange(10), 20)
    p = {}
    for name, block in (("free", freely), ("blocks", blocks)):
        rows = label_shuffles(block, 199, contiguous=False, gap=0, rng=rng)
        given = label[rows]
        told = cross_classify(x, given, plan, ShrinkageLDA(), 2)
        right = (told.held == given).mean(1)
        p[name] = p_value(right[:1], right[None, 1:])[0]
    assert p["free"] == pytest.approx(1 / 200)
    assert p["blocks"] > 0.05


def test_where_each_block_shows_one_class_there_is_nothing_to_exchange() -> None:
    classes, block = np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2], 20)
    assert exchangeable(classes, block) == 0
    assert exchangeable(np.arange(60) % 3, block) == 1
    tree = planted(trials=120, gain=1.0)
    tree["stimulus/direction"].values[:] = np.repeat([0.0, 90.0, 180.0, 270.0], 30)
    tree["trials/condition"].values[:] = np.repeat(np.arange(4), 30)
    lda = registry.load("decoding", "lda")
    found = lda.analyse(tree, None, lda.Params(block_length=10, **FAST), seed=0)
    assert found["p_value_accuracy"].min() > 0.5
    assert found["exchangeable"].item() < 0.35


@pytest.mark.slow
@pytest.mark.parametrize("refit", [True, False])
def test_false_positives_are_as_rare_as_stated(refit: bool) -> None:
    """LDA refitted to each shuffle; logistic regression (ridge's too) against its predictions."""
    classifier = ShrinkageLDA() if refit else Estimator(logistic_regression, (0.5,))
    values = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        label = rng.permutation(np.arange(40) % 2)
        x = rng.normal(size=(40, 5))
        plan = some_plan(label, folds=4, seed=seed)
        groups = exchange_groups(np.zeros(40, int), plan, refitted=refit)
        given = label[label_shuffles(groups, 39, contiguous=False, gap=0, rng=rng)]
        told = cross_classify(x, given if refit else given[:1], plan, classifier, 2)
        folds = [
            accuracy(told.held[:, some], given[:, some]) for some in map(plan.trials, plan.held)
        ]
        right = np.mean(folds if refit else [widened(fold) for fold in folds], axis=0)
        values.append(p_value(right[:1], right[None, 1:])[0])
    for level in (0.05, 0.25, 0.5):
        margin = 3 * np.sqrt(level * (1 - level) / 120)
        assert np.mean(np.array(values) <= level) <= level + margin


@pytest.mark.slow
def test_labels_exchanged_across_stratified_folds_reject_too_often() -> None:
    """Chance labels leave folds unbalanced, the true ones do not: p is then too small."""
    values: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        label = rng.permutation(np.arange(64) % 8)
        x = rng.normal(size=(64, 6))
        plan = some_plan(label, folds=4, seed=seed)
        for kept, found in values.items():
            groups = exchange_groups(np.zeros(64, int), plan, refitted=kept)
            given = label[label_shuffles(groups, 39, contiguous=False, gap=0, rng=rng)]
            told = cross_classify(x, given, plan, ShrinkageLDA(), 8)
            right = (told.held == given).mean(1)
            found.append(float(p_value(right[:1], right[None, 1:])[0]))
    shares = {kept: np.mean(np.array(found) <= 0.1) for kept, found in values.items()}
    assert shares[False] > 0.16
    assert shares[True] <= 0.1 + 3 * np.sqrt(0.09 / 150)


@pytest.mark.parametrize("classes", [2, 16])
def test_implied_accuracy_inverts_the_agreement_of_independent_decoders(classes: int) -> None:
    rng = np.random.default_rng(11)
    true = rng.integers(classes, size=200_000)
    halves = []
    for _ in range(2):
        wrong = (true + rng.integers(1, classes, size=true.size)) % classes
        halves.append(np.where(rng.random(true.size) < 0.8, true, wrong))
    agreement = np.array((halves[0] == halves[1]).mean())
    assert implied_accuracy(agreement, classes) == pytest.approx(0.8, abs=0.01)
    assert implied_accuracy(np.array(1.0), classes) == pytest.approx(1)
    assert implied_accuracy(np.array(0.0), classes) == pytest.approx(1 / classes)


def test_accuracy_of_a_separation_is_the_choice_among_gaussians() -> None:
    assert accuracy_of(0.0, 16) == pytest.approx(1 / 16)
    assert accuracy_of(1.3, 2) == pytest.approx(norm.cdf(1.3 / np.sqrt(2)))
    half = float(accuracy_of(1.5, 8))
    assert doubled_accuracy(half, 8) == pytest.approx(float(accuracy_of(1.5 * np.sqrt(2), 8)))
    assert doubled_accuracy(1.0, 8) == 1
    assert doubled_accuracy(0.01, 8) == 1 / 8


def test_ceiling_from_halves_is_what_the_whole_population_reaches() -> None:
    """Independent units of equal information: the whole can be told from its halves."""
    rng = np.random.default_rng(12)
    trials, classes, dims = 4000, 4, 40
    label = np.arange(trials) % classes
    centres = rng.normal(size=(classes, dims))
    # equal separation of all classes: orthogonal patterns
    centres = np.linalg.qr(centres.T)[0].T * 2.2
    x = centres[label] + rng.normal(size=(trials, dims))
    plan = some_plan(label, folds=4)
    classifier = ShrinkageLDA()
    told = cross_classify(x, label[None], plan, classifier, classes)
    halves = split_half(x, label, plan, classifier, told, classes, draws=4, rng=rng)
    ceiling = doubled_accuracy(float(implied_accuracy(halves.agreement.mean(), classes)), classes)
    assert (told.held[0] == label).mean() == pytest.approx(ceiling, abs=0.03)
    assert halves.half_accuracy.mean() < ceiling - 0.05


def test_one_trial_per_condition_is_one_sentence() -> None:
    tree = planted()
    del tree["stimulus"]
    tree["trials/condition"].values[:] = np.arange(96)
    lda = registry.load("decoding", "lda")
    with pytest.raises(InputError, match="fewer than two classes of 2 trials"):
        lda.analyse(tree, None, lda.Params(**FAST), seed=0)


def test_rare_classes_and_missing_values_are_left_out_and_said() -> None:
    tree = planted()
    values = tree["stimulus/direction"].values
    train = np.flatnonzero(tree["trials/split"].values == "train")
    values[train[0]] = 45.0  # shown once
    values[train[1:3]] = np.nan
    lda = registry.load("decoding", "lda")
    found = lda.analyse(tree, None, lda.Params(**FAST), seed=0)
    assert found.sizes["true_class"] == 4
    assert found["class_name"].values[0].tolist() == ["0", "90", "180", "270"]
    assert found["trials_used"].item() == 93
    assert (
        "1 classes with fewer than 2 trials in train and valid left out (45)" in found.attrs["note"]
    )
    assert (found["decoded_class"].isel(trial=train[:3]) == -1).all()


def test_trials_with_features_that_are_not_finite_are_left_out_and_said() -> None:
    tree = planted()
    finite = np.ones(96, bool)
    finite[np.flatnonzero(tree["trials/split"].values == "train")[:2]] = False
    columns = usable_classes(tree, condition_classes(tree), finite)
    assert (columns["direction"].label[~finite] == -1).all()
    assert (
        columns["direction"].note
        == "direction: 2 trials with features that are not finite left out"
    )


@pytest.mark.parametrize("name", DECODERS)
def test_constant_units_do_no_harm(name: str) -> None:
    module = registry.load("decoding", name)
    tree = planted()
    tree["spikes/counts"].values[:, :, :3] = 0
    tree["spikes/counts"].values[:, :, 3] = 2
    found = module.analyse(tree, None, module.Params(**FAST), seed=0)
    assert (found["accuracy_cv"] > 0.5).all()
    tree["spikes/counts"].values[:] = 1
    flat = module.analyse(tree, None, module.Params(**FAST), seed=0)
    assert (flat["p_value_accuracy"] > 0.05).all()


def test_a_column_that_does_not_qualify_is_one_sentence() -> None:
    lda = registry.load("decoding", "lda")
    with pytest.raises(InputError, match=r"params.columns: found \['contrast'\]"):
        lda.analyse(planted(), None, lda.Params(columns=("contrast",)), seed=0)


def test_a_model_without_rates_has_no_poisson_decoder() -> None:
    tree = planted()
    coords = {k: tree["spikes"].to_dataset()[k] for k in ("trial", "time")}
    latents = xr.Dataset({"latent": (("trial", "time", "latent"), np.zeros((96, 30, 2)))}, coords)
    module = registry.load("decoding", "poisson_bayes")
    with pytest.raises(InputError, match="expected a model's rates"):
        module.analyse(tree, latents, module.Params(**FAST), seed=0)


@pytest.mark.recording
def test_sixteen_directions_of_v1_as_published(recordings: Path) -> None:
    """Logistic regression of all units gave .944 (.937 to .960) on five stratified folds."""
    from driftwave.config import load_layout
    from driftwave.ingest.file import open_nwb
    from driftwave.ingest.nwb import read_recording

    layout = load_layout("v1_gratings", ROOT / "config" / "layouts")
    with open_nwb(recordings / "v1_gratings.nwb") as file:
        tree = read_recording(file, layout, session="v1_gratings").load()
    logistic = registry.load("decoding", "logistic")
    params = logistic.Params(units="all", validate_on="all", halves=1)
    found = logistic.analyse(tree, None, params, seed=0)
    one = found.sel(features_from="counts", stimulus="direction")
    assert one["accuracy_cv"] == pytest.approx(0.944, abs=0.03)
    assert one["p_value_accuracy"] == pytest.approx(1 / 1001)
    assert one["mean_angular_error_cv"] < 15
