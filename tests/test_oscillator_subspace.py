"""Oscillators of one frequency: the subspace of their loadings."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import unitary_group

from driftwave.inference.oscillator_subspace import equal_groups, groups_of, principal_angles


def _loadings(seed: int, count: int = 3, electrodes: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, electrodes)) + 1j * rng.normal(size=(count, electrodes))


def test_mixing_phases_and_amplitudes_leave_the_subspace():
    loading = _loadings(0)
    mixed = np.diag([1, 5j, -0.2]) @ unitary_group.rvs(3, random_state=1) @ loading
    np.testing.assert_allclose(principal_angles(loading, mixed), 0, atol=1e-5)
    # The single patterns have changed altogether.
    assert principal_angles(loading[0], mixed[0])[0] > 20


def test_a_planted_rotation_out_of_the_subspace_is_found():
    basis = np.linalg.qr(_loadings(0, 4).T)[0].T
    turned = basis[:2].copy()
    turned[0] = np.cos(np.radians(25)) * basis[0] + 1j * np.sin(np.radians(25)) * basis[2]
    turned[1] = np.cos(np.radians(4)) * basis[1] - np.sin(np.radians(4)) * basis[3]
    mixed = unitary_group.rvs(2, random_state=0) @ turned
    np.testing.assert_allclose(principal_angles(basis[:2], mixed), [25, 4], atol=1e-6)
    # A complex multiple is the same pattern; its conjugate travels the other way.
    assert principal_angles(basis[0], 1j * basis[0])[0] == pytest.approx(0, abs=1e-5)
    wave = np.exp(-2j * np.pi * np.arange(20) / 10)
    assert principal_angles(wave, wave.conj())[0] == pytest.approx(90)


def test_subspaces_of_different_size():
    basis = np.linalg.qr(_loadings(0, 4).T)[0].T
    np.testing.assert_allclose(principal_angles(basis[1], basis[:3]), [0], atol=1e-5)
    np.testing.assert_allclose(principal_angles(basis[3], basis[:3]), [90])


def test_loadings_that_span_nothing_are_refused():
    loading = _loadings(0)
    with pytest.raises(ValueError, match="20 and of 19 electrodes"):
        principal_angles(loading, loading[:, 1:])
    with pytest.raises(ValueError, match="independent"):
        principal_angles(loading, np.stack([loading[0], 2j * loading[0]]))
    with pytest.raises(ValueError, match="finite"):
        principal_angles(loading, np.full((1, 20), np.nan))


def test_groups_are_oscillators_within_their_errors():
    frequency = np.array([6.0, 10.00, 10.05, 20.0, 10.12, 20.1])
    damping = np.array([0.98, 0.98, 0.98, 0.98, 0.981, 0.95])
    label = equal_groups(frequency, np.full(6, 0.04), damping, np.full(6, 0.002))
    # 10.00 and 10.12 are linked by 10.05; 20.0 and 20.1 differ in damping.
    assert label.tolist() == [0, 1, 1, 2, 1, 3]
    assert equal_groups(frequency, np.full(6, 0.001), damping, np.full(6, 1.0)).tolist() == [
        *range(6)
    ]


def test_two_oscillators_share_a_group_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    together = []
    for _ in range(1000):
        frequency = 10 + rng.normal(0, [0.1, 0.2])
        damping = 0.97 + rng.normal(0, [0.003, 0.001])
        label = equal_groups(frequency, np.array([0.1, 0.2]), damping, np.array([0.003, 0.001]))
        together.append(label[0] == label[1])
    assert np.mean(together) == pytest.approx(0.95, abs=0.025)


def test_unknown_errors_leave_each_oscillator_by_itself():
    frequency = np.array([10.0, 10.0])
    assert equal_groups(frequency, np.array([0.1, np.nan]), frequency, frequency).tolist() == [0, 1]
    latents = xr.Dataset({"frequency": ("oscillator", frequency)})
    assert groups_of(latents).tolist() == [0, 1]
    known = latents.assign(
        frequency_sd=("oscillator", [0.1, 0.1]),
        damping=("oscillator", [0.98, 0.98]),
        damping_sd=("oscillator", [0.01, 0.01]),
    )
    assert groups_of(known).tolist() == [0, 0]
