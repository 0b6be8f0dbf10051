"""Alignment of sessions: planted latents, floors, ceilings, nulls, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from alignment_cases import as_recording, group, planted_session, trajectory
from driftwave.alignment.compare import compare
from driftwave.alignment.halves import halve
from driftwave.alignment.heldout import (
    condition_permutations,
    equal_folds,
    fold_scores,
    held_out,
)
from driftwave.alignment.mds import embed
from driftwave.alignment.params import Params
from driftwave.alignment.sessions import read_sessions, rebin
from driftwave.errors import InputError

SAME, OTHER = ["a", "b", "c"], "other"
CHEAP = {"shuffles": 99, "costly_shuffles": 19, "splits": 1, "folds": 4, "dims": 6}


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    """Three sessions of one latent and one of another, in every cheap measure."""
    params = Params(
        measures=["cca", "procrustes", "shape", "shape_size", "shape_stochastic", "rsa", "cka"],
        **CHEAP,
    )
    return compare(group(), {}, {}, params, seed=0)


def pairs(values: xr.DataArray, *, same: bool) -> np.ndarray:
    """Entries of pairs that share the latent, or of pairs with the other session."""
    if not same:
        return values.sel(session=SAME, other=OTHER).values.ravel()
    square = values.sel(session=SAME, other=SAME).values
    return square[..., ~np.eye(3, dtype=bool)].ravel()


@pytest.mark.parametrize("score", ["cca_correlation", "procrustes_r2", "decoding_accuracy"])
def test_same_latent_aligns_between_floor_and_ceiling(found: xr.Dataset, score: str) -> None:
    part = found.sel(score=score)
    aligned, ceiling = part["aligned_score"], part["aligned_score_ceiling"]
    floor = part["aligned_score_floor"]
    # Latents of one variance order decode by that order too: the floor of decoding is high.
    near, margin = (0.95, 0.03) if score == "decoding_accuracy" else (0.7, 0.2)
    assert (pairs(aligned / ceiling, same=True) > near).all()
    assert pairs(aligned - floor, same=True).mean() > margin
    assert (pairs(part["aligned_score_p_value"], same=True) <= 0.05).all()


def test_correlation_reaches_the_ceiling(found: xr.Dataset) -> None:
    part = found.sel(score="cca_correlation")
    ratio = part["aligned_score"] / part["aligned_score_ceiling"]
    assert (pairs(ratio, same=True) > 0.95).all()
    assert (pairs(part["aligned_score_ceiling"], same=True) <= 1).all()


def test_another_latent_does_not_align(found: xr.Dataset) -> None:
    assert abs(pairs(found["aligned_score"].sel(score="cca_correlation"), same=False)).max() < 0.35
    assert pairs(found["aligned_score"].sel(score="procrustes_r2"), same=False).max() < 0.2
    assert pairs(found["aligned_score_p_value"], same=False).min() > 0.01


def test_every_distance_sees_the_other_session(found: xr.Dataset) -> None:
    for measure in found["measure"].values:
        part = found.sel(measure=measure)
        near, far = pairs(part["distance"], same=True), pairs(part["distance"], same=False)
        assert far.min() > 1.4 * near.max(), measure
        assert (pairs(part["distance_ceiling"], same=True) < near).all(), measure
        least = 0.05 if measure == "shape_stochastic" else 0.01
        assert pairs(part["p_value"], same=True).max() <= least, measure
        assert pairs(part["p_value"], same=False).min() > least, measure


def test_distances_are_symmetric_and_drawn(found: xr.Dataset) -> None:
    for matrix in found["distance"].values:
        np.testing.assert_allclose(matrix, matrix.T)
        assert (np.diagonal(matrix) == 0).all()
    for measure in found["measure"].values:
        places = found["mds"].sel(measure=measure)
        centre = places.sel(session=SAME).mean("session")
        spread = np.linalg.norm(places.sel(session=SAME) - centre, axis=-1).max()
        assert np.linalg.norm(places.sel(session=OTHER) - centre) > 2 * spread
        assert float(found["stress"].sel(measure=measure)) < 0.2


def test_result_states_what_was_compared(found: xr.Dataset) -> None:
    assert (found["shared_conditions"].values[~np.eye(4, dtype=bool)] == 8).all()
    assert (found["dims"] == [30, 45, 60, 45]).all()
    assert all("units" in v.attrs for v in found.data_vars.values() if v.dtype.kind in "iuf")
    assert found["null_distance"].sizes["shuffle"] == 99


@pytest.mark.slow
def test_seed_decides_everything() -> None:
    sessions = {k: v for k, v in group(trials=4, bins=20).items() if k in ("a", "b")}
    params = Params(measures=["shape", "shape_stochastic"], **{**CHEAP, "dims": 3, "shuffles": 19})
    first, second = (compare(sessions, {}, {}, params, seed=4) for _ in range(2))
    xr.testing.assert_identical(first, second)


def test_held_out_correlation_of_noise_is_nothing() -> None:
    """Unrelated random courses: fitted correlations are high, held-out ones are not."""
    rng = np.random.default_rng(0)
    fold = equal_folds(8, 3, 8, rng)
    permutations = condition_permutations(fold, 49, rng)
    p_values, correlations = [], []
    for _ in range(20):
        a, b = (fold_scores(rng.normal(size=(8, 12, 20)), fold, 6, remove=False) for _ in range(2))
        found = held_out(a, b, fold, permutations).correlation.mean(axis=1)
        correlations.append(found[0])
        p_values.append((1 + (found[1:] >= found[0]).sum()) / 50)
    assert abs(np.mean(correlations)) < 0.04
    assert 0.25 < np.mean(p_values) < 0.75


def test_training_correlations_are_those_of_scikit_learn() -> None:
    """Trained and scored on the same conditions, correlations are the canonical ones."""
    from sklearn.cross_decomposition import CCA

    rng = np.random.default_rng(1)
    a = rng.normal(size=(150, 4))
    b = a @ rng.normal(size=(4, 4)) + rng.normal(size=(150, 4))
    u, v = CCA(4, scale=False, max_iter=5000, tol=1e-12).fit_transform(a, b)
    expected = [np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(4)]
    # Two conditions, the held-out one a copy of the training one.
    fold = np.array([0, -1])
    scores = [fold_scores(np.stack([x, x]), fold, 4, remove=False) for x in (a, b)]
    found = held_out(*scores, fold, np.array([[0, 1]]))
    np.testing.assert_allclose(found.correlation[0], expected, atol=1e-6)


def test_rotated_copies_align_perfectly() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(6, 20, 5))
    b = 3.0 * a @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 7.0
    fold = equal_folds(6, 3, 6, rng)
    scores = [fold_scores(x, fold, 5, remove=False) for x in (a, b)]
    found = held_out(*scores, fold, np.arange(6)[None])
    np.testing.assert_allclose(found.correlation, 1)
    np.testing.assert_allclose([found.r2[0], found.r2_back[0]], 1)


@pytest.mark.parametrize("conditions", [3, 5, 8, 11, 17])
def test_folds_are_equal_and_permutations_keep_them(conditions: int) -> None:
    rng = np.random.default_rng(3)
    fold = equal_folds(conditions, 3, min(conditions, 8), rng)
    sizes = np.bincount(fold[fold >= 0])
    assert len(set(sizes)) == 1
    assert (fold < 0).sum() < 3
    rows = condition_permutations(fold, 20, rng)
    assert (np.sort(rows, axis=1) == np.arange(conditions)).all()
    assert (rows[0] == np.arange(conditions)).all()
    for row in rows:
        for k in range(len(sizes)):
            assert len(set(fold[row[fold == k]])) == 1


def test_halves_divide_conditions_and_are_shared_by_sessions() -> None:
    sessions = group(trials=6, bins=10)
    read = read_sessions(sessions, {}, Params())
    first, second = halve(read[0], 2, 5), halve(read[1], 2, 5)
    assert (first.half == second.half).all()
    for k in range(8):
        assert (first.half[:, first.position == k].sum(axis=1) == 3).all()


def test_rebinning_keeps_means() -> None:
    values = np.random.default_rng(0).normal(size=(3, 12, 2))
    wide = rebin(values, 0.0, 0.01, np.arange(5) * 0.03)
    np.testing.assert_allclose(wide, values.reshape(3, 4, 3, 2).mean(axis=2))
    halfway = rebin(values, 0.0, 0.01, np.array([0.005, 0.015]))
    np.testing.assert_allclose(halfway[:, 0], values[:, :2].mean(axis=1))
    assert rebin(values, 0.0, 0.01, np.arange(2, 8) * 0.01) is not values
    np.testing.assert_allclose(rebin(values, 0.0, 0.01, np.arange(2, 8) * 0.01), values[:, 2:7])


def test_sessions_of_other_bins_and_lengths() -> None:
    fine = trajectory(6, 60, seed=1, width=0.01)
    sessions = {
        "fine": planted_session(fine, name="fine", units=60, seed=1, width=0.01, rate=40),
        "coarse": planted_session(
            fine.reshape(6, 30, 2, -1).mean(axis=2)[:, :25],
            name="coarse",
            units=60,
            seed=2,
            rate=40,
        ),
    }
    result = compare(sessions, {}, {}, Params(measures=["cca", "shape_size"], **CHEAP), seed=0)
    assert result.attrs["bin_width"] == 0.02
    assert result.attrs["time_stop"] == pytest.approx(0.5)
    assert float(result["aligned_score"].sel(score="cca_correlation")[0, 1]) > 0.8


def test_missing_conditions_are_left_out_pair_by_pair() -> None:
    latent = trajectory(6, 20, seed=1)
    kept = {"all": None, "four": [0, 1, 2, 3], "two": [4, 5]}
    sessions = {
        name: planted_session(latent, name=name, units=40, seed=k, conditions=conditions, trials=8)
        for k, (name, conditions) in enumerate(kept.items())
    }
    result = compare(sessions, {}, {}, Params(measures=["shape"], **CHEAP), seed=0)
    assert list(result["condition"].values[result["shared"].sel(session="all", other="four")]) == [
        "0", "1", "2", "3",
    ]  # fmt: skip
    for a, b in (("all", "two"), ("four", "two")):
        assert np.isnan(result["distance"].sel(session=a, other=b)).all()
        assert "shared conditions" in str(result["reason"].sel(session=a, other=b).values)
    assert np.isfinite(result["distance"].sel(session="all", other="four")).all()
    assert np.isnan(result["mds"].sel(session="two")).all()
    assert np.isfinite(result["mds"].sel(session=["all", "four"])).all()


def test_conditions_with_few_trials_are_left_out() -> None:
    latent = trajectory(5, 20, seed=1)
    full = planted_session(latent, name="full", units=30, seed=1)
    spikes = full["spikes"].to_dataset()
    condition = full["trials"]["condition"].values
    some = np.flatnonzero((condition != 0) | (np.arange(len(condition)) < 15))
    thin = as_recording(spikes["counts"].values[some], condition[some], name="thin")
    result = compare(
        {"full": full, "thin": thin}, {}, {}, Params(measures=["cka"], **CHEAP), seed=0
    )
    assert not bool(result["kept"].sel(session="thin", condition="0"))
    assert int(result["shared_conditions"][0, 1]) == 4


def test_constant_units_are_left_out() -> None:
    sessions = {k: v for k, v in group(bins=20, trials=6).items() if k in ("a", "b")}
    counts = sessions["a"]["spikes"].to_dataset()["counts"]
    counts.values[..., :4] = 0
    sessions["a"]["spikes"]["counts"] = counts
    result = compare(sessions, {}, {}, Params(measures=["rsa"], **CHEAP), seed=0)
    assert int(result["dims_left_out"].sel(session="a")) == 4
    assert np.isfinite(result["distance"]).all()


def broken(fault: str) -> tuple[dict[str, xr.DataTree], dict[str, xr.Dataset]]:
    sessions = {k: v for k, v in group(bins=10, trials=4).items() if k in ("a", "b")}
    first = sessions["a"]["spikes"].to_dataset()
    shape = first["counts"].shape
    latents: dict[str, xr.Dataset] = {}
    if fault == "one session":
        del sessions["b"]
    elif fault == "constant":
        sessions["a"]["spikes"]["counts"] = xr.full_like(first["counts"], 3)
    elif fault == "NaN":
        values = first["counts"].astype(float)
        values.values[3, 2, 1] = np.nan
        sessions["a"]["spikes"]["counts"] = values
    elif fault == "one trial":
        condition = np.repeat(np.arange(8), 1)
        sessions["a"] = as_recording(first["counts"].values[:8], condition, name="a")
    elif fault == "time":
        later = first.assign_coords(time=first["time"] + 9.0)
        sessions["a"]["spikes"] = xr.DataTree(later)
    elif fault == "latents of one":
        dims = ("trial", "time", "latent")
        latents["a"] = xr.Dataset(
            {"latent": (dims, np.ones((*shape[:2], 2)))}, {"trial": first["trial"].values}
        )
    return sessions, latents


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("one session", "at least two"),
        ("constant", "dims that vary"),
        ("NaN", "not finite"),
        ("one trial", "0 shared conditions"),
        ("time", "time that all sessions share"),
        ("latents of one", "none at all"),
    ],
)
def test_bad_input_is_named(fault: str, message: str) -> None:
    sessions, latents = broken(fault)
    with pytest.raises(InputError, match=message):
        compare(sessions, latents, {}, Params(measures=["shape"], **CHEAP), seed=0)


def test_latents_are_compared_instead_of_counts() -> None:
    course = trajectory(6, 20, seed=1)
    sessions, latents = {}, {}
    for k, name in enumerate(("a", "b")):
        rng = np.random.default_rng(k)
        sessions[name] = planted_session(course, name=name, units=20, seed=k, trials=6)
        condition = sessions[name]["trials"]["condition"].values
        turned = course[condition] @ rng.normal(size=(4, 5)) + rng.normal(0, 0.1, (36, 20, 5))
        dims = ("trial", "time", "latent")
        latents[name] = xr.Dataset({"latent": (dims, turned)}, {"trial": np.arange(36)})
    result = compare(sessions, latents, {}, Params(measures=["cca"], **CHEAP), seed=0)
    assert result.attrs["features"] == "latents"
    assert float(result["aligned_score"].sel(score="cca_correlation")[0, 1]) > 0.95


def test_three_conditions_are_too_few_to_decode() -> None:
    latent = trajectory(3, 20, seed=1)
    sessions = {n: planted_session(latent, name=n, units=20, seed=k) for k, n in enumerate("ab")}
    result = compare(sessions, {}, {}, Params(measures=["cca"], **CHEAP), seed=0)
    assert np.isnan(result["aligned_score"].sel(score="decoding_accuracy")).all()
    reasons = json.loads(result.attrs["measures_not_taken"])
    assert "4 are needed" in reasons["a, b"]["decoding_accuracy"]


def test_picture_of_points_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    places, stress = embed(distance, 0)
    again = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.testing.assert_allclose(again, distance, atol=1e-3)
    assert stress < 1e-3
    bent = np.array([[0, 1, 1], [1, 0, 3], [1, 3, 0.0]])  # no triangle has such sides
    places, stress = embed(bent, 0)
    assert np.isfinite(places).all()
    assert stress == pytest.approx(np.sqrt(1 / 3 / 11), rel=0.01)
    flat, much = embed(1 - np.eye(6), 0)
    assert much > 0.1
    assert np.isfinite(flat).all()


@pytest.mark.slow
def test_figure_shows_every_measure_and_pair(found: xr.Dataset) -> None:
    from driftwave.figures.alignment import draw

    figure = draw(None, {"group": found})
    titles = [axes.get_ylabel() for axes in figure.axes] + [a.get_xlabel() for a in figure.axes]
    assert sum("MDS, stress" in title for title in titles) == found.sizes["measure"]
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4]
    drawn = {tuple(np.round(line.get_ydata(), 6)) for line in lines}
    assert len(drawn) == 6
    aligned = found["aligned_score"].sel(score="cca_correlation", session="a", other="b")
    assert any(y[2] == pytest.approx(float(aligned), abs=1e-6) for y in drawn)


def test_figure_without_the_result() -> None:
    from driftwave.figures.alignment import draw

    with pytest.raises(InputError, match="group"):
        draw(None, {})
