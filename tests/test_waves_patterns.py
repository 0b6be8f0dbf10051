"""Plane fits, classes, centres and charges against fields of known pattern."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.nulls.cross_spectrum import CrossSpectrum
from driftwave.phase.electrodes import place
from driftwave.phase.filters import analytic
from driftwave.wave_events.intervals import parameter_covariance, plane_spread
from driftwave.wave_events.noise import ZeroLagNoise
from driftwave.wave_events.patterns import (
    charge,
    circular_linear,
    patterns_of,
    radial_phase,
    rotating_phase,
)
from driftwave.wave_events.plane import fit_plane, plane_phase
from driftwave.wave_events.spectra import snapshots
from driftwave.wave_events.verdict import classify, prepared_for
from waves_cases import PITCH, grid, noise, phase_of

RATE = 250.0


@pytest.fixture(scope="module")
def array():
    position = grid(corners=False)
    electrodes = place(position)
    return electrodes, patterns_of(electrodes)


def _coefficients(phase: np.ndarray, snr: float, seed: int) -> np.ndarray:
    """Three snapshots of a pattern with its own phase each, in independent noise."""
    rng = np.random.default_rng(seed)
    turns = np.exp(2j * np.pi * rng.random(3))
    values = np.exp(1j * phase)[:, None] * turns
    disturbance = rng.normal(size=(2, *values.shape)) / np.sqrt(2) / snr
    return values + disturbance[0] + 1j * disturbance[1]


@pytest.mark.parametrize("theta", [plane_phase, radial_phase, rotating_phase])
def test_derivatives_of_patterns_match_finite_differences(theta):
    position = grid(4, 4)
    options = {"charge": -1} if theta is rotating_phase else {}
    size = {plane_phase: 2, radial_phase: 3, rotating_phase: 2}[theta]
    start = np.array([[0.53, 0.71, 1.3]])[:, :size]
    _, slope = theta(start, position, **options)
    for axis in range(size):
        step = np.zeros_like(start)
        step[0, axis] = 1e-6
        ahead, behind = (theta(start + s * step, position, **options)[0] for s in (1, -1))
        np.testing.assert_allclose(slope[0, axis], (ahead - behind)[0] / 2e-6, atol=1e-5)


@pytest.mark.parametrize("speed", [60, 100, 200, 400, 800])
def test_plane_fit_is_exact_off_its_grid(array, speed):
    electrodes, _ = array
    for direction in (-170, -97, 3, 41, 128):
        phase = phase_of(
            "planar", electrodes.position, frequency=12, speed=speed, direction=direction
        )
        values = np.exp(1j * phase)[:, None]
        k, resultant = fit_plane(electrodes.position, values, largest=electrodes.nyquist)
        assert np.rad2deg(np.arctan2(k[0, 1], k[0, 0])) == pytest.approx(direction, abs=1e-3)
        assert 2 * np.pi * 12 / np.hypot(*k[0]) == pytest.approx(speed, rel=1e-4)
        assert resultant[0] == pytest.approx(1)


SEVEN = [
    ("planar", 1, "planar"),
    ("radial", 1, "radial_out"),
    ("radial", -1, "radial_in"),
    ("rotating", 1, "rotating_ccw"),
    ("rotating", -1, "rotating_cw"),
]


@pytest.mark.parametrize(("kind", "sign", "name"), SEVEN)
@pytest.mark.parametrize("centre", [(1.35, 1.95), (2.3, 1.1)])
def test_every_label_and_centre(array, kind, sign, name, centre):
    electrodes, patterns = array
    phase = phase_of(
        kind,
        electrodes.position,
        frequency=12,
        speed=100,
        direction=25,
        centre=centre,
        sign=sign,
    )
    verdict = classify(patterns, _coefficients(phase, 3, seed=0))
    assert verdict.name == name
    if kind != "planar":
        assert np.hypot(*(verdict.parameters[name][:2] - centre)) < PITCH
    if kind == "radial":
        assert 2 * np.pi * 12 / abs(verdict.parameters[name][2]) == pytest.approx(100, rel=0.05)
        distance = np.hypot(*(electrodes.position - centre).T)
        assert circular_linear(phase, distance) * sign > 0.9
    if kind == "rotating":
        winding = charge(
            phase[:, None],
            electrodes.position,
            verdict.parameters[name],
            inner=1.5 * PITCH,
            outer=2.6 * PITCH,
        )
        assert winding.tolist() == [sign]


def test_synchrony_is_not_called_a_wave(array):
    electrodes, patterns = array
    values = _coefficients(np.zeros(len(electrodes)), 3, seed=1)
    assert classify(patterns, values).name == "synchronous"


@pytest.mark.slow
def test_many_waves_keep_their_own_labels(array):
    electrodes, patterns = array
    rng = np.random.default_rng(2)
    for number in range(101):
        direction = float(rng.uniform(-180, 180))
        phase = phase_of(
            "planar", electrodes.position, frequency=12, speed=150, direction=direction
        )
        verdict = classify(patterns, _coefficients(phase, 3, seed=number))
        k = verdict.parameters["planar"]
        assert verdict.name == "planar"
        error = np.rad2deg(np.arctan2(k[1], k[0])) - direction
        assert abs((error + 180) % 360 - 180) < 5


def test_noise_winds_on_plaquettes_but_has_no_steady_charge():
    position = grid()
    rng = np.random.default_rng(3)
    phase = rng.uniform(-np.pi, np.pi, (100, 400))
    winding = charge(phase, position, np.array([1.8, 1.8]), inner=0.6, outer=1.04)
    assert (winding != 0).mean() > 0.2
    assert abs(winding.mean()) < 0.3


def _planes_in_noise(count: int, seed: int, length: float):
    """One recording (electrode, time) with a plane in each second second, at SNR 2 (RMS over RMS).

    Its analytic signal, the epochs' slices, directions (degree) and speeds (mm/s).
    """
    rng = np.random.default_rng(seed)
    position, band = grid(corners=False), (5.0, 40.0)
    time = np.arange(round(2 * count * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=length, shared=0.9)
    field /= analytic(field, rate=RATE, band=band, before=0, after=0).real.std()
    epochs = [slice(int((2 * e + 0.5) * RATE), int((2 * e + 1.5) * RATE)) for e in range(count)]
    direction = rng.uniform(-180, 180, count)
    speed = rng.choice([100.0, 200.0, 400.0], count)
    for one, towards, fast in zip(epochs, direction, speed, strict=True):
        phase = phase_of("planar", position, frequency=12, speed=fast, direction=towards)
        turn = 2 * np.pi * 12 * time[one] + rng.uniform(0, 2 * np.pi)
        field[:, one] += 2 * np.sqrt(2) * np.cos(turn + phase[:, None])
    return analytic(field, rate=RATE, band=band, before=0, after=0), epochs, direction, speed


def _recovery(count: int, length: float, seed: int) -> dict[str, float]:
    """Median error (degree) and speed ratio of planes, and the coverage of their intervals."""
    electrodes = place(grid(corners=False))
    patterns = patterns_of(electrodes)
    field, epochs, direction, speed = _planes_in_noise(count, seed, length)
    spectrum = CrossSpectrum.of(field.astype(np.complex64), round(RATE))
    known = ZeroLagNoise(spectrum.mean, spectrum.segments, RATE, (5.0, 40.0))(12.0)
    rng = np.random.default_rng(seed + 1)
    rows = []
    for one, towards, fast in zip(epochs, direction, speed, strict=True):
        values, _ = snapshots(field[:, one], RATE, 12.0)
        verdict = classify(patterns, values, known, ("synchronous", "planar"))
        k = verdict.parameters["planar"]
        prepared = prepared_for(patterns, known)
        spread = parameter_covariance("planar", k, patterns.position, prepared, values, 0.1)
        turn, size = plane_spread(k, spread, rng, 1000)
        error = (np.rad2deg(np.arctan2(k[1], k[0])) - towards + 180) % 360 - 180
        true = 2 * np.pi * 12 / fast
        inside = turn[0] <= -np.deg2rad(error) <= turn[1], size[0] <= true <= size[1]
        rows.append((abs(error), true / np.hypot(*k), *inside))
    error, ratio, *inside = np.array(rows, dtype=float).T
    return {
        "error": float(np.median(error)),
        "ratio": float(np.median(ratio)),
        "direction": float(inside[0].mean()),
        "speed": float(inside[1].mean()),
    }


@pytest.mark.slow
def test_planes_in_correlated_noise_are_unbiased_and_covered():
    found = _recovery(60, length=2.0, seed=5)
    assert found["error"] < 2.2
    assert found["ratio"] == pytest.approx(1, abs=0.03)
    # 50 of 60 or fewer has probability .002 at a coverage of .95.
    assert min(found["direction"], found["speed"]) > 50 / 60


@pytest.mark.slow
@pytest.mark.parametrize("length", [0.6, 2.0])
def test_planes_in_correlated_noise_at_full_size(length):
    found = _recovery(300, length=length, seed=6)
    assert found["error"] <= 1.8
    assert found["ratio"] == pytest.approx(1, abs=0.02)
    assert 0.92 <= found["direction"] <= 0.975
    assert 0.92 <= found["speed"] <= 0.975
