"""Plane fits, classes, centres and charges against fields of known pattern."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.phase.electrodes import place
from driftwave.phase.filters import analytic
from driftwave.wave_events.events import plane_interval, snapshots
from driftwave.wave_events.patterns import (
    charge,
    circular_linear,
    classify,
    patterns_of,
    radial_phase,
    rotating_phase,
)
from driftwave.wave_events.plane import fit_plane, plane_phase
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


def _noisy_planes(count: int, seed: int, length: float):
    """Epochs of 1 s of a plane in spatially correlated 1/f noise at SNR 2 (RMS over RMS)."""
    rng = np.random.default_rng(seed)
    position = grid(corners=False)
    time = np.arange(int(5 * RATE)) / RATE
    inside = slice(int(2 * RATE), int(3 * RATE))
    for _ in range(count):
        direction, speed = rng.uniform(-180, 180), float(rng.choice([100, 200, 400]))
        phase = phase_of("planar", position, frequency=12, speed=speed, direction=direction)
        background = noise(rng, position, len(time), RATE, length=length, shared=0.9)
        wave = np.cos(2 * np.pi * 12 * time + phase[:, None] + rng.uniform(0, 6))
        band = (5.0, 40.0)
        scale = analytic(background, rate=RATE, band=band, before=0, after=0).real.std()
        samples = background / scale + 2 * np.sqrt(2) * wave
        found = analytic(samples, rate=RATE, band=band, before=0, after=0)[:, inside]
        yield position, found, direction, speed


def _recovery(count: int, length: float) -> tuple[float, float, float]:
    """Median error (deg), median speed ratio and coverage of the direction's interval."""
    electrodes = place(grid(corners=False))
    errors, ratios, covered = [], [], []
    rng = np.random.default_rng(4)
    for position, field, direction, speed in _noisy_planes(count, 5, length):
        values, parts = snapshots(field, RATE, 12.0)
        k, _ = fit_plane(position, values, largest=electrodes.nyquist)
        error = np.rad2deg(np.arctan2(k[0, 1], k[0, 0])) - direction
        error = (error + 180) % 360 - 180
        turn, _ = plane_interval(k[0], position - position.mean(0), parts, rng, 100)
        low, high = np.rad2deg(turn)
        errors.append(abs(error))
        ratios.append(2 * np.pi * 12 / np.hypot(*k[0]) / speed)
        covered.append(low <= -error <= high)
    return float(np.median(errors)), float(np.median(ratios)), float(np.mean(covered))


def test_planes_in_correlated_noise_are_unbiased_and_covered():
    error, ratio, coverage = _recovery(50, length=0.6)
    assert error < 2.5
    assert ratio == pytest.approx(1, abs=0.05)
    assert coverage > 0.84


@pytest.mark.slow
@pytest.mark.parametrize(("length", "bound"), [(0.6, 2.0), (2.0, 3.5)])
def test_planes_in_correlated_noise_at_full_size(length, bound):
    error, ratio, coverage = _recovery(300, length=length)
    assert error < bound
    assert ratio == pytest.approx(1, abs=0.05)
    assert coverage > 0.9
