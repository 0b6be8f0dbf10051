"""Decoding in time: planted codes that stay, turn over or are not there."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from conftest import make_recording
from driftwave.compute import dask_threads
from driftwave.decoding import temporal
from driftwave.errors import InputError
from driftwave.figures import temporal_generalisation
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.readouts.classifiers import NearestNeighbours, ShrinkageLDA
from driftwave.readouts.clusters import onset, weigh_clusters
from driftwave.readouts.folds import grouped_folds, make_plan
from driftwave.readouts.generalisation import (
    class_weights,
    fold_sides,
    generalise,
    resampled_scores,
    told_by_mne,
)
from driftwave.readouts.time_windows import chosen_classes, trial_windows
from driftwave.store import open_dataset, write_tree

FAST = {"shuffles": 99, "samples": 200, "window": 0.1}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with dask_threads(1):
        yield


def coded(kind: str, *, trials: int = 80, seed: int = 0) -> xr.DataTree:
    """Four conditions; their pattern of rates is static, rotates half-way, begins late, or none."""
    tree = make_recording(trials=trials, bins=45, units=16, held_out=2, forward=5, seed=seed)
    rng = np.random.default_rng(seed)
    condition = rng.permutation(np.arange(trials) % 4)
    first, second = rng.normal(size=(2, 4, 16))
    pattern = np.repeat(first[condition][:, None], 45, axis=1)
    if kind == "rotating":
        pattern[:, 20:] = second[condition][:, None]
    if kind == "late":
        pattern[:, :20] = 0
    if kind == "none":
        pattern[:] = 0
    rate = 25 * np.exp(0.7 * pattern)
    tree["spikes/counts"].values[:] = rng.poisson(rate * 0.02)
    tree["trials/condition"].values[:] = condition
    del tree["behavior"]
    return tree


def halves(found: xr.Dataset) -> dict[str, np.ndarray]:
    """Scores trained in the first or second 400 ms and tested in the same or the other."""
    score = found["generalisation"].squeeze("features_from").values
    early = found["window_stop"].values <= 0.4 + 1e-9
    late = found["window_start"].values >= 0.4 - 1e-9
    return {
        "within": np.concatenate([score[np.ix_(s, s)].ravel() for s in (early, late)]),
        "across": np.concatenate(
            [score[np.ix_(early, late)].ravel(), score[np.ix_(late, early)].ravel()]
        ),
    }


def test_a_code_that_rotates_half_way_is_block_diagonal() -> None:
    found = temporal.analyse(coded("rotating"), None, temporal.Params(**FAST), seed=0)
    score = halves(found)
    assert score["within"].mean() > 0.7
    assert score["across"].mean() < 0.4
    inside = found["cluster_p_generalisation"].squeeze().values <= 0.05
    early = found["window_stop"].values <= 0.4 + 1e-9
    assert inside[np.ix_(early, early)].all()
    assert inside[np.ix_(~early, ~early)].all()
    assert inside[np.ix_(early, ~early)].mean() < 0.5


def test_a_static_code_is_a_square_and_begins_at_once() -> None:
    found = temporal.analyse(coded("static"), None, temporal.Params(**FAST), seed=0)
    score = halves(found)
    assert score["within"].mean() > 0.7
    assert score["across"].mean() == pytest.approx(score["within"].mean(), abs=0.07)
    assert (found["cluster_p_generalisation"] <= 0.05).all()
    assert found["onset"].item() == 0
    assert (found["score_time_test"] > 0.4).all()
    assert (found["p_value_time_test"] <= 0.05).mean() > 0.7


def test_a_code_that_begins_late_has_its_onset_there() -> None:
    found = temporal.analyse(coded("late"), None, temporal.Params(**FAST), seed=0)
    assert found["onset"].item() == pytest.approx(0.4, abs=1e-6)
    assert found["onset_low"].item() <= 0.4 <= found["onset_high"].item() + 1e-9
    assert found["onset_high"].item() - found["onset_low"].item() <= 0.2
    assert found["onset_found"].item() > 0.95
    early = found["window_stop"].values <= 0.4 + 1e-9
    assert (found["cluster_p_time"].values[0, early] > 0.05).all()
    assert (found["q_value_time"].values[0, ~early] <= 0.05).all()


@pytest.mark.slow
def test_where_there_is_no_code_there_is_no_cluster() -> None:
    significant = 0
    for seed in range(8):
        found = temporal.analyse(coded("none", seed=seed), None, temporal.Params(**FAST), seed=seed)
        significant += int((found["cluster_p_generalisation"] <= 0.05).any())
        assert found["score_time"].mean().item() == pytest.approx(0.25, abs=0.08)
    assert significant <= 2  # of 8 at a level of .05: three or more are a chance of .006


def test_the_null_matrix_is_what_mne_gives_for_shuffled_labels() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 4, 3))
    label = np.arange(40) % 2
    given = np.array([label, rng.permutation(label), rng.permutation(label)])
    x[label == 1, 2:, 0] += 1.5
    plan = make_plan(grouped_folds(label, 4, rng), np.ones(40, bool), np.zeros(40, bool), 0)
    for classifier in (ShrinkageLDA(), NearestNeighbours((3,))):
        sides = fold_sides(plan)
        ours = generalise(x, given, sides, classifier, 2, refit=True)
        for row in (1, 2):
            alone = generalise(x, given[[row, 0]], sides, classifier, 2, refit=True)
            np.testing.assert_allclose(ours.null[row - 1], alone.score)
        diagonal = ours.right[:, 2][np.argsort(ours.trials)].mean()
        assert diagonal == pytest.approx(ours.score[2, 2], abs=1e-12)  # balanced classes


def test_the_matrix_is_scikit_learns_at_every_pair_of_times() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 3, 4))
    label = np.arange(60) % 2
    x[label == 1, :, 1] += 1.0
    train, held = np.arange(40), np.arange(40, 60)
    told = told_by_mne(x, label, train, held, ShrinkageLDA(0.0), 2)
    assert told.shape == (20, 3, 3)
    for i in range(3):
        oracle = LinearDiscriminantAnalysis("lsqr").fit(x[train, i], label[train])
        for j in range(3):
            np.testing.assert_array_equal(told[:, i, j], oracle.predict(x[held, j]))


def test_predictions_against_permuted_labels_are_the_other_null() -> None:
    found = temporal.analyse(
        coded("static", trials=48),
        None,
        temporal.Params(classifier="logistic", shuffles=99, samples=20, window=0.2),
        seed=0,
    )
    assert "same predictions" in found.attrs["null"]
    assert (found["p_value_time"] == 0.01).all()
    # a block holds its classes as often as it does: labels exchanged in it meet a little more
    assert found["null_score_time"].mean().item() == pytest.approx(0.25, abs=0.04)


def test_class_weights_average_over_classes() -> None:
    given = np.array([[0, 0, 0, 1], [1, 1, 0, 0]])
    weights = class_weights(given, 3)
    np.testing.assert_allclose(weights[0], [1 / 6, 1 / 6, 1 / 6, 1 / 2])
    np.testing.assert_allclose(weights.sum(1), 1)


def test_bootstrap_of_trials_has_the_variance_of_a_share() -> None:
    rng = np.random.default_rng(3)
    right = rng.random((400, 1)) < 0.7
    label = np.arange(400) % 4
    samples = resampled_scores(right, label, 4, 4000, rng)
    assert samples.mean() == pytest.approx(right.mean(), abs=0.005)
    assert samples.std() == pytest.approx(np.sqrt(0.21 / 400), rel=0.1)


def test_clusters_by_hand() -> None:
    rng = np.random.default_rng(4)
    null = rng.normal(size=(499, 12))
    observed = np.zeros(12)
    observed[2:5] = 4.0
    observed[8] = 1.8  # alone, it is no heavier than what shuffles have somewhere
    tested = weigh_clusters(observed, null)
    assert tested.cluster.tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 2, 0, 0, 0]
    assert tested.cluster_p[3] == pytest.approx(1 / 500)
    assert tested.cluster_p[8] > 0.1
    assert (tested.cluster_p[tested.cluster == 0] == 1).all()
    np.testing.assert_allclose(tested.q, benjamini_hochberg(tested.p))
    starts = np.arange(12) * 0.1
    resampled = observed + rng.normal(0, 0.3, (200, 12))
    begins = onset(tested, resampled, starts)
    assert begins.at == pytest.approx(0.2)
    assert begins.low <= 0.2 <= begins.high
    nothing = onset(weigh_clusters(np.zeros(12), null), resampled, starts)
    assert np.isnan(nothing.at)


@pytest.mark.slow
def test_family_wise_error_of_clusters_is_the_level() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        draws = rng.normal(size=(100, 6, 6))
        draws = draws + np.roll(draws, 1, axis=1)  # neighbours go together
        hits += (weigh_clusters(draws[0], draws[1:]).cluster_p <= 0.05).any()
    assert hits / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_windows_and_their_counts() -> None:
    tree = make_recording(bins=30, forward=5)
    windows = trial_windows(tree, 0.1, 0.04)
    np.testing.assert_allclose(windows.start[:3], [0, 0.04, 0.08])
    np.testing.assert_allclose(windows.stop - windows.start, 0.1)
    assert windows.stop[-1] <= 0.5 + 1e-9
    counts = tree["spikes/counts"].values[:, :25].astype(float)
    got = windows.of("counts", np.sqrt(counts))[:, 1]
    np.testing.assert_allclose(got, np.sqrt(counts[:, 2:7].sum(1)))
    with pytest.raises(InputError, match="expected at least two windows in a trial"):
        trial_windows(tree, 0.5, None)


def test_behaviour_is_cut_into_quantiles_of_the_fitting_trials() -> None:
    tree = make_recording(trials=80)
    rng = np.random.default_rng(6)
    tree["behavior/value"].values[..., 0] = rng.normal(size=(80, 1))
    tree["behavior/value"].values[3, :, 0] = np.nan
    name, classes = chosen_classes(tree, "hand_x", 4)
    assert name == "hand_x"
    assert classes.label[3] == -1
    fitting = np.isin(tree["trials/split"].values, ["train", "valid"]) & (classes.label >= 0)
    sizes = np.bincount(classes.label[fitting])
    assert len(sizes) == 4
    assert np.ptp(sizes) <= 1
    found = temporal.analyse(
        tree, None, temporal.Params(target="hand_x", shuffles=19, samples=10, window=0.2), seed=0
    )
    assert found.attrs["target"] == "hand_x"
    assert found.attrs["chance"] == 0.25


def test_one_trial_per_condition_is_one_sentence() -> None:
    tree = coded("static")
    tree["trials/condition"].values[:] = np.arange(80)
    with pytest.raises(InputError, match="fewer than two classes of 2 trials"):
        temporal.analyse(tree, None, temporal.Params(**FAST), seed=0)


def test_result_is_stored_and_drawn(tmp_path) -> None:
    params = temporal.Params(shuffles=19, samples=20, window=0.1)
    found = temporal.analyse(coded("rotating", trials=40), None, params, seed=0)
    write_tree(found, tmp_path / "t.zarr")
    again = open_dataset(tmp_path / "t.zarr").load()
    figure = temporal_generalisation.draw(None, {"decoders": again})
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert {"tested at (s)", "time (s)"} <= labels
    plt.close(figure)
    with pytest.raises(InputError, match="expected a temporal generalisation matrix"):
        temporal_generalisation.draw(None, {"decoders": found[["score_time"]]})
