"""Tensor factorisation: products against brute force, monotone errors, planted factors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import nnls

from driftwave.errors import InputError
from driftwave.tensors import steps
from driftwave.tensors.features import batch_nnls, neuron_features, principal_scores
from driftwave.tensors.hals import FLOOR, gram_of, khatri_rao
from driftwave.tensors.matching import matched_cosine
from driftwave.tensors.ntf import ntf
from driftwave.tensors.permuted import permuted_ntf
from driftwave.tensors.planted import planted_factors, response_factors
from driftwave.tensors.rank import choose_rank, nuclear_norm


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def small(seed: int = 0, noise: float = 0.1, shift: str = "per_stimulus"):
    return planted_factors(60, 3, 8, 12, 3, rng=rng(seed), noise=noise, shift=shift)


def test_gram_of_the_khatri_rao_product():
    factors = [rng(k).random((size, 3)) for k, size in enumerate((4, 5, 2))]
    product = khatri_rao(factors)
    expected = [np.kron(np.kron(*(f[:, r] for f in factors[:2])), factors[2][:, r]) for r in (0, 2)]
    np.testing.assert_allclose(product[:, [0, 2]], np.transpose(expected))
    np.testing.assert_allclose(gram_of(factors), product.T @ product)


@pytest.mark.parametrize("shape", [(20, 15), (20, 6, 15), (12, 4, 5, 9)])
def test_plain_factors_of_a_noiseless_tensor_are_found(shape):
    true = [rng(k + 5).gamma(0.5, 1, (size, 3)) for k, size in enumerate(shape)]
    tensor = khatri_rao(true).sum(axis=1).reshape(shape)
    found = ntf(tensor, 3, restarts=4, seed=0, max_iterations=400, tolerance=1e-7)
    assert found.error.min() < 0.02
    np.testing.assert_allclose(
        np.linalg.norm(found.full() - tensor) / np.linalg.norm(tensor), found.error.min(), atol=1e-6
    )
    if len(shape) > 2:  # a matrix has no unique non-negative factors
        for factor, expected in zip(found.factors, true, strict=True):
            assert matched_cosine(factor, expected) > 0.98
    assert all((factor >= 0).all() for factor in found.factors)
    assert (np.diff(found.weight) <= 0).all()


def test_plain_factors_of_a_matrix_are_as_good_as_those_of_scikit_learn():
    from sklearn.decomposition import NMF

    matrix = rng(1).gamma(1.0, 1.0, (40, 30))
    peer = NMF(4, init="random", random_state=0, max_iter=2000, tol=1e-6).fit(matrix)
    found = ntf(matrix, 4, restarts=5, seed=0, max_iterations=1000, tolerance=1e-7)
    assert found.error.min() <= 1.005 * peer.reconstruction_err_ / np.linalg.norm(matrix)


def test_products_with_rolled_maps_are_those_of_rolling():
    maps, response = rng(0).random((5, 4 * 3)), rng(1).random((4 * 3, 2))
    found = steps.shifted_products(maps, response, 4, True)
    for k in range(4):
        turned = np.roll(maps.reshape(5, 4, 3), k, axis=1).reshape(5, -1)
        np.testing.assert_allclose(found[:, k], turned @ response)
    np.testing.assert_allclose(steps.shifted_products(maps, response, 4, False)[:, 0], found[:, 0])


def test_projection_of_rolled_maps_is_that_of_rolling():
    maps, loading = rng(0).random((6, 4 * 3)), rng(1).random((6, 2))
    shifts = np.array([0, 1, 1, 3, 2, 3])
    turned = [
        np.roll(m.reshape(4, 3), k, axis=0).ravel() for m, k in zip(maps, shifts, strict=True)
    ]
    expected = np.array(turned).T @ loading
    np.testing.assert_allclose(steps.project_back(maps, loading, shifts, 4), expected)
    certain = np.eye(4)[shifts]
    np.testing.assert_allclose(steps.project_back_weighted(maps, loading, certain), expected)


@pytest.mark.parametrize("mode", ["per_stimulus", "common", "none"])
def test_no_step_without_annealing_raises_the_error(mode):
    tensor = small(2, noise=0.5).tensor
    maps = tensor.reshape(180, -1)
    state = steps.State(rng(0).random((60, 3)), rng(1).random((3, 3)), rng(2).random((96, 3)))
    total = float((maps**2).sum())
    errors = [steps.step(maps, state, tensor.shape, mode, total, 0.0)[0] for _ in range(25)]
    assert (np.diff(errors) <= 1e-12).all()
    assert errors[-1] < errors[0]


def test_factors_with_shifts_are_found_and_without_are_not():
    case = small(1)
    found = permuted_ntf(case.tensor, 3, restarts=6, annealing=60, seed=0)
    without = permuted_ntf(case.tensor, 3, shift="none", restarts=6, seed=0)
    assert matched_cosine(found.neuron, case.neuron) > 0.97
    assert matched_cosine(without.neuron, case.neuron) < 0.8
    assert not without.shift.any()
    left = np.linalg.norm(found.full() - case.tensor) / np.linalg.norm(case.tensor)
    assert left == pytest.approx(found.final_error, rel=1e-6)
    assert found.final_error <= found.error.min() + 1e-12
    assert found.error.argmin() == found.best
    again = permuted_ntf(case.tensor, 3, restarts=6, annealing=60, seed=0)
    np.testing.assert_array_equal(found.neuron, again.neuron)


def test_common_shifts_keep_how_preferred_directions_differ():
    case = small(1, noise=0.05, shift="common")
    found = permuted_ntf(case.tensor, 3, shift="common", restarts=6, annealing=60, seed=0)
    assert (found.shift == found.shift[:, :1]).all()
    assert matched_cosine(found.neuron, case.neuron) > 0.97
    # Known up to one turn of each component: neurons of one component agree on it.
    share = case.neuron / case.neuron.sum(axis=1, keepdims=True)
    for r in range(3):
        own = share[:, r] > 0.8
        turn = (found.shift[own, 0] - case.shift[own, 0]) % 8
        assert np.bincount(turn).max() >= 0.9 * own.sum()


def test_dims_may_come_in_any_order():
    case = small(3)
    dims = ("unit", "stimulus", "direction", "time")
    array = xr.DataArray(case.tensor, dims=dims)
    options = {"restarts": 1, "annealing": 10, "max_iterations": 10, "seed": 0}
    expected = permuted_ntf(case.tensor, 3, **options)
    found = permuted_ntf(array.transpose("time", "direction", "unit", "stimulus"), 3, **options)
    np.testing.assert_array_equal(found.response, expected.response)
    with pytest.raises(InputError, match="dims"):
        permuted_ntf(array.rename(time="bin"), 3, **options)


@pytest.mark.parametrize(
    ("change", "text"),
    [(np.nan, "not finite"), (-1.0, "negative"), (None, "zeros only")],
)
def test_unusable_tensors_are_refused(change, text):
    tensor = np.zeros((4, 2, 3, 5)) if change is None else small().tensor.copy()
    if change is not None:
        tensor[0, 0, 0, 0] = change
    with pytest.raises(InputError, match=text):
        permuted_ntf(tensor, 2, restarts=1, seed=0)
    with pytest.raises(InputError, match=text):
        ntf(tensor, 2, restarts=1, seed=0)
    with pytest.raises(InputError, match="per_stimulus"):
        permuted_ntf(small().tensor, 2, shift="sometimes", seed=0)


def test_the_nuclear_norm_counts_different_loadings():
    assert nuclear_norm(np.eye(6)[:, :4], np.ones(4)) == pytest.approx(2)
    assert nuclear_norm(np.ones((6, 4)), np.ones(4)) == pytest.approx(1)


def test_coefficients_are_those_of_non_negative_least_squares():
    basis, data = rng(0).random((50, 4)), rng(1).random((7, 50))
    expected = [nnls(basis, row)[0] for row in data]
    np.testing.assert_allclose(batch_nnls(basis.T @ basis, data @ basis), expected, atol=1e-8)


def test_features_bring_back_the_maps_kept_aside():
    """A map that was zero in the factorisation is turned to the components and counted."""
    case = small(4, noise=0.0)
    norm = np.sqrt((case.tensor**2).sum(axis=(2, 3)))
    maps = case.tensor / norm[..., None, None]
    factorised = np.ones(norm.shape, bool)
    factorised[::4, 1] = False
    tensor = np.where(factorised[..., None, None], maps, 0)
    factors = permuted_ntf(tensor, 3, restarts=6, annealing=60, seed=0)
    peak = case.tensor.max(axis=(2, 3))
    relative = peak / peak.max(axis=1, keepdims=True)
    found = neuron_features(maps, relative, factorised, factors)
    zeroed = neuron_features(tensor, relative, np.ones_like(factorised), factors)
    assert np.median(found.residual[::4]) < 0.35
    changed = np.abs(found.coefficient - zeroed.coefficient).sum(axis=1)
    assert (changed[::4] > 0).mean() > 0.9
    assert not np.delete(changed, np.arange(0, 60, 4)).any()


def test_components_keep_more_than_the_share_of_variance():
    values = rng(0).random((30, 6)) * [5, 3, 2, 1, 1, 1]
    scores, ratio = principal_scores(values, 0.8, 2)
    kept = scores.shape[1]
    assert ratio[:kept].sum() > 0.8 >= ratio[: kept - 1].sum()
    np.testing.assert_allclose((scores**2).sum(0), 30 * ratio[:kept] * values.var(0).sum())


def test_planted_responses_peak_at_one_and_floor_is_positive():
    assert response_factors(8, 20, 4, rng()).max(axis=(0, 1)) == pytest.approx(np.ones(4))
    assert 0 < FLOOR < 1e-9


def test_more_components_than_neurons_are_refused():
    with pytest.raises(InputError, match="rank 5 for 4 units"):
        choose_rank(small().tensor[:4], [], [2, 5], seed=0)


def test_without_halves_the_nuclear_norm_decides():
    found = choose_rank(small().tensor, [], [1, 2], restarts=1, annealing=5, seed=0)
    assert found.chosen == found.flat
    assert "nuclear norm" in found.rule


@pytest.mark.slow
def test_the_planted_rank_is_chosen():
    # Gaussian noise cut at zero would be a component of its own, alike in both halves.
    case = small(0, noise=0.0)
    scale = case.tensor.sum() / (0.4**2 * (case.tensor**2).sum())
    first, second = (rng(k).poisson(scale * case.tensor) / scale for k in (10, 11))
    found = choose_rank(
        (first + second) / 2, [(first, second)], [2, 3, 4], restarts=8, annealing=60, seed=0
    )
    assert found.chosen == 3
    assert found.stability[1].mean() > 0.9
    assert found.stability[1].mean() > found.stability[2].mean()


@pytest.mark.slow
def test_planted_factors_of_the_published_size_are_found():
    case = planted_factors(300, 6, 8, 37, 6, rng=rng(0))
    found = permuted_ntf(case.tensor, 6, restarts=8, seed=0)
    without = permuted_ntf(case.tensor, 6, shift="none", restarts=8, seed=0)
    assert matched_cosine(found.neuron, case.neuron) >= 0.93
    assert matched_cosine(without.neuron, case.neuron) <= 0.6
