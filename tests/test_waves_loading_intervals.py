"""Intervals of direction, speed and centre from a loading's standard errors."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftwave.latent_waves.loading_errors import noise_of, standard_errors
from driftwave.latent_waves.loading_intervals import LoadingErrors, wave_intervals
from driftwave.phase.electrodes import place
from driftwave.wave_events.patterns import patterns_of
from waves_cases import grid, phase_of

POSITION = grid(8, 8)
COUNT = len(POSITION)
PATTERNS = patterns_of(place(POSITION))
DRAWS = 200


def _correlation(length: float = 1.0, shared: float = 0.8) -> np.ndarray:
    square = ((POSITION[:, None] - POSITION[None]) ** 2).sum(-1)
    return shared * np.exp(-square / length**2 / 2) + (1 - shared) * np.eye(COUNT)


def _errors(size: float, factor: np.ndarray | None = None) -> LoadingErrors:
    whole = np.full(COUNT, size)
    factor = np.linalg.cholesky(_correlation()) if factor is None else factor
    return LoadingErrors(whole, whole, factor, 0.05)


def _interval(family, loading, errors, rng, *, frequency: float = 12.0, draws: int = 200):
    values = (np.abs(loading) * loading)[None, :, None]
    fitted = family.fit(PATTERNS.position, values)[0][0]
    return wave_intervals(
        family, fitted, PATTERNS.position, loading, frequency, errors, rng=rng, draws=draws
    )


def _coverage(kind: str) -> dict[str, float]:
    rng = np.random.default_rng(1)
    family, errors = PATTERNS[kind], _errors(0.2)
    held: dict[str, list[bool]] = {}
    for _ in range(DRAWS):
        centre, speed = rng.uniform(1.0, 1.8, 2), rng.uniform(100, 200)
        direction = rng.uniform(-180, 180)
        phase = phase_of(
            kind.split("_")[0],
            POSITION,
            frequency=12,
            speed=speed,
            direction=direction,
            centre=centre,
        )
        loading = np.exp(1j * phase) + errors.draw(1, rng)[0]
        hertz = 12 + errors.frequency * rng.normal()
        found = _interval(family, loading, errors, rng, frequency=hertz)
        truth = dict(zip(("centre_x", "centre_y"), centre - PATTERNS.centroid, strict=True))
        truth |= {"direction": direction, "speed": speed, "wavelength": speed / 12}
        for name, (low, high) in found.items():
            if name == "wavenumber":
                continue
            value = truth[name]
            wide = (high - low) % 360 if name == "direction" else high - low
            above = (value - low) % 360 if name == "direction" else value - low
            held.setdefault(name, []).append(0 <= above <= wide)
    return {name: float(np.mean(hits)) for name, hits in held.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("planar", {"direction", "speed", "wavelength"}),
        ("radial_out", {"centre_x", "centre_y", "speed", "wavelength"}),
        ("rotating_ccw", {"centre_x", "centre_y"}),
    ],
)
def test_intervals_hold_the_truth_nineteen_times_in_twenty(kind, names):
    found = _coverage(kind)
    assert set(found) == names
    for name, share in found.items():
        assert 0.90 <= share <= 0.985, name


def test_plane_intervals_agree_with_the_delta_method():
    """With equal amplitudes and independent errors k has the covariance s^2 (sum r r')^-1 / A^2."""
    rng = np.random.default_rng(0)
    loading = 5 * np.exp(1j * phase_of("planar", POSITION, frequency=12, speed=150, direction=30))
    found = _interval(PATTERNS["planar"], loading, _errors(0.25, np.eye(COUNT)), rng, draws=4000)
    size = 2 * np.pi * 12 / 150
    # A square array: the same standard error along and across k.
    error = 0.25 / 5 / np.sqrt((PATTERNS.position[:, 0] ** 2).sum())
    wide = 2 * 1.96 * error
    assert np.ptp(found["wavenumber"]) == pytest.approx(wide, rel=0.06)
    assert np.ptp(found["direction"]) == pytest.approx(np.degrees(wide / size), rel=0.06)
    relative = np.hypot(error / size, 0.05 / 12)
    assert np.ptp(found["speed"]) == pytest.approx(2 * 1.96 * relative * 150, rel=0.06)
    assert np.mean(found["direction"]) == pytest.approx(30, abs=0.1)


def test_correlated_errors_widen_a_plane_wave_s_interval():
    rng = np.random.default_rng(0)
    loading = np.exp(1j * phase_of("planar", POSITION, frequency=12, speed=150, direction=30))
    family = PATTERNS["planar"]
    alone = _interval(family, loading, _errors(0.1, np.eye(COUNT)), rng)
    together = _interval(family, loading, _errors(0.1), rng)
    assert np.ptp(together["wavenumber"]) > 1.5 * np.ptp(alone["wavenumber"])


def test_a_direction_s_interval_crosses_the_seam():
    rng = np.random.default_rng(0)
    loading = np.exp(1j * phase_of("planar", POSITION, frequency=12, speed=150, direction=180))
    low, high = _interval(PATTERNS["planar"], loading, _errors(0.2), rng)["direction"]
    assert low > 150
    assert high < -150


def test_a_synchronous_pattern_has_no_interval():
    rng = np.random.default_rng(0)
    assert _interval(PATTERNS["synchronous"], np.ones(COUNT, complex), _errors(0.1), rng) == {}


def _latents() -> xr.Dataset:
    both = ("oscillator", "electrode")
    return xr.Dataset(
        {
            "frequency_sd": ("oscillator", [0.1]),
            "loading_re_sd": (both, np.arange(1.0, COUNT + 1)[None]),
            "loading_im_sd": (both, np.full((1, COUNT), 2.0)),
            "noise_covariance": (
                ("electrode", "electrode_other"),
                3.0 * np.outer(np.arange(1, COUNT + 1), np.arange(1, COUNT + 1)) * _correlation(),
            ),
        }
    )


def test_errors_are_correlated_as_the_noise():
    index = np.arange(0, COUNT, 2)
    (errors,) = standard_errors(_latents(), index)
    np.testing.assert_allclose(errors.real, index + 1)
    expected = _correlation()[np.ix_(index, index)]
    np.testing.assert_allclose(errors.factor @ errors.factor.T, expected, atol=1e-8)
    drawn = errors.draw(20000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.real.std(axis=0), index + 1, rtol=0.05)
    np.testing.assert_allclose(drawn.imag.std(axis=0), 2, rtol=0.05)
    seen = np.corrcoef(drawn.imag.T)
    np.testing.assert_allclose(seen, expected, atol=0.05)


def test_a_covariance_of_its_own_takes_the_place_of_the_noise():
    """Errors that all electrodes share in phase with position tilt the wave, and are drawn so."""
    index, rng = np.arange(COUNT), np.random.default_rng(3)
    shared = rng.normal(size=(2 * COUNT, 2))
    covariance = (shared @ shared.T).reshape(2, COUNT, 2, COUNT)[None]
    dims = ("oscillator", "part", "electrode", "part_other", "electrode_other")
    (errors,) = standard_errors(_latents().assign(loading_covariance=(dims, covariance)), index)
    drawn = errors.draw(20_000, rng)
    flat = np.concatenate([drawn.real, drawn.imag], axis=1)
    np.testing.assert_allclose(np.cov(flat.T), shared @ shared.T, atol=0.25)


def test_latents_without_standard_errors_or_noise():
    bare = _latents().drop_vars(["loading_im_sd", "noise_covariance"])
    assert standard_errors(bare, np.arange(COUNT)) is None
    np.testing.assert_array_equal(noise_of(bare, np.arange(3)), np.eye(3))
    diagonal = bare.assign(noise_variance=("electrode", np.arange(1.0, COUNT + 1)))
    np.testing.assert_array_equal(noise_of(diagonal, np.array([1, 3])), np.diag([2.0, 4.0]))
