"""Filter, generalized phase and phase gradient against closed forms and independent versions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal
from scipy.interpolate import PchipInterpolator

from driftwave.phase.electrodes import place
from driftwave.phase.filters import analytic, design, extend, settling
from driftwave.phase.generalized_phase import generalized_phase
from driftwave.phase.gradient import (
    GridGradient,
    LocalPlanes,
    directionality,
    frequency,
    gradient_operator,
    order_parameter,
    wrap,
)
from waves_cases import PITCH, grid, phase_of

RATE = 1000.0
BAND = (5.0, 40.0)


def test_filter_equals_scipys_forward_backward_butterworth():
    rng = np.random.default_rng(0)
    samples = np.zeros((3, 12000))
    samples[:, 4000:8000] = np.cumsum(rng.normal(size=(3, 4000)), axis=1) * np.hanning(4000)
    expected = signal.hilbert(signal.sosfiltfilt(design(BAND, RATE), samples, padlen=0))
    found = analytic(samples, rate=RATE, band=BAND, before=2000, after=2000, every=4)
    np.testing.assert_allclose(found, expected[:, 2000:10000:4], atol=1e-4 * np.abs(found).max())


def test_every_nth_sample_does_not_depend_on_where_the_margin_ends():
    samples = np.random.default_rng(1).normal(size=(2, 9000))
    margin = settling(BAND, RATE)
    whole = analytic(samples, rate=RATE, band=BAND, before=0, after=0)
    part = analytic(
        samples[:, 1001:8000], rate=RATE, band=BAND, before=margin, after=margin, every=5
    )
    start = 1001 + margin
    expected = whole[:, start : 8000 - margin : 5]
    np.testing.assert_allclose(part, expected, atol=1e-6 * np.abs(whole).max())


def test_extension_continues_a_line():
    line = np.arange(10.0)[None]
    np.testing.assert_allclose(extend(line, 3, 4), np.arange(-3.0, 14.0)[None])


def _paper_port(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalized phase of one channel by loops and SciPy's pchip."""
    phase = np.angle(channel)
    count = len(phase)
    negative = np.append(np.angle(channel[1:] * channel[:-1].conj()) < 0, False)
    dropped = negative.copy()
    at = 0
    while at < count:
        if negative[at]:
            end = at
            while end + 1 < count and negative[end + 1]:
                end += 1
            dropped[at : at + 3 * (end - at) + 1] = True
            at = end
        at += 1
    kept = np.flatnonzero(~dropped)
    filled = PchipInterpolator(kept, np.unwrap(phase[kept]), extrapolate=False)(np.arange(count))
    return filled, dropped


def _intruded(intrusion: float = 1.4, burst: float = 1.5) -> np.ndarray:
    """10 Hz with a 3 Hz intrusion, an 80 Hz burst and a reversal at the end, two channels."""
    time = np.arange(0, 6, 1 / RATE)
    rng = np.random.default_rng(2)
    noise = np.cumsum(rng.normal(size=(2, len(time))), axis=1) * 0.01
    bump = np.exp(-(((time - 4) / 0.05) ** 2))
    samples = np.cos(2 * np.pi * 10 * time) + intrusion * np.cos(2 * np.pi * 3 * time) * (time > 2)
    samples = samples + burst * bump * np.cos(2 * np.pi * 80 * time) + noise
    found = signal.hilbert(samples - samples.mean(axis=1, keepdims=True))
    found[:, -40:] = found[:, -41:-40] * np.exp(-0.1j * np.arange(1, 41))
    return found


def test_generalized_phase_equals_an_independent_port():
    field = _intruded()
    phase, dropped = generalized_phase(field, forward=False)
    assert 0.05 < dropped.mean() < 0.5
    for channel in range(2):
        expected, gaps = _paper_port(field[channel])
        np.testing.assert_array_equal(dropped[channel], gaps)
        inside = np.isfinite(expected)
        np.testing.assert_allclose(
            np.exp(1j * phase[channel, inside]), np.exp(1j * expected[inside]), atol=1e-6
        )


def test_generalized_phase_is_monotone_and_keeps_other_samples():
    field = _intruded(intrusion=0.8, burst=0.6)
    phase, dropped = generalized_phase(field)
    inside = slice(100, None)
    raw, step = (wrap(np.diff(p, axis=1))[:, inside] for p in (np.angle(field), phase))
    paper = wrap(np.diff(generalized_phase(field, forward=False)[0], axis=1))[:, inside]
    assert raw.min() < -0.05
    assert np.isfinite(phase).all()
    assert step.min() > -1e-6
    assert step.sum() >= paper.sum() > raw.sum()
    np.testing.assert_allclose(phase[~dropped], np.angle(field)[~dropped], atol=1e-9)


def test_long_gap_is_filled_at_the_channels_frequency():
    time = np.arange(0, 4, 1 / RATE)
    phase = 2 * np.pi * 10 * time
    lost = (time > 2) & (time < 2.025)
    field = np.exp(1j * np.where(lost, phase[1999] - 2 * np.pi * 10 * (time - 1.999), phase))
    found, dropped = generalized_phase(field[None])
    assert dropped.sum() > 0.07 * RATE
    np.testing.assert_allclose(np.exp(1j * found[0]), np.exp(1j * phase), atol=0.02)


def test_channel_with_nan_gives_nan_and_leaves_the_others_alone():
    field = _intruded()
    alone, _ = generalized_phase(field[:1])
    broken = np.concatenate([field[:1], np.full_like(field[:1], np.nan)])
    phase, dropped = generalized_phase(broken)
    np.testing.assert_array_equal(phase[0], alone[0])
    assert np.isnan(phase[1]).all()
    assert not dropped[1].any()


def test_ten_minutes_then_a_plane_leaves_no_whole_turns():
    position = grid()
    time = np.arange(0, 600, 0.01)
    phases = 2 * np.pi * 12 * time[None, -50:] + phase_of("planar", position, frequency=12)[:, None]
    gradient = gradient_operator(place(position))(wrap(phases))
    np.testing.assert_allclose(gradient[0].mean(), -2 * np.pi * 12 / 200, rtol=1e-6)


@pytest.mark.parametrize(("corners", "missing"), [(True, 0), (False, 10)])
@pytest.mark.parametrize("speed", [100, 200, 400, 800])
def test_planes_are_exact_in_every_direction(corners, missing, speed):
    position = grid(corners=corners, missing=missing, seed=3)
    operator = gradient_operator(place(position))
    assert isinstance(operator, GridGradient)
    for direction in range(-180, 180, 45):
        phase = phase_of("planar", position, frequency=12, speed=speed, direction=direction)
        frames = wrap(phase[:, None] + 2 * np.pi * 12 * np.arange(20) / 250)
        gradient = operator(frames)
        mean = -gradient.mean(axis=(1, 2))
        error = np.rad2deg(np.arctan2(mean[1], mean[0])) - direction
        assert abs((error + 180) % 360 - 180) < 0.5
        found = 2 * np.pi * frequency(frames, 250).mean() / np.hypot(*mean)
        assert found == pytest.approx(speed, rel=0.01)
        np.testing.assert_allclose(directionality(gradient), 1, atol=1e-6)


def test_gradient_is_right_beyond_half_the_nyquist_wavenumber():
    position = grid()
    k = 0.8 * np.pi / PITCH
    gradient = gradient_operator(place(position))(-k * position[:, :1])
    np.testing.assert_allclose(gradient[0], -k, rtol=1e-6)


def test_irregular_layout_recovers_a_plane_by_local_fits():
    position = np.random.default_rng(4).uniform(0, 4, (60, 2))
    operator = gradient_operator(place(position))
    assert isinstance(operator, LocalPlanes)
    phase = phase_of("planar", position, frequency=12, speed=150, direction=30)
    mean = -operator(wrap(phase[:, None])).mean(axis=(1, 2))
    np.testing.assert_allclose(np.rad2deg(np.arctan2(mean[1], mean[0])), 30, atol=0.5)
    np.testing.assert_allclose(2 * np.pi * 12 / np.hypot(*mean), 150, rtol=0.01)


def test_different_spacing_along_x_and_y():
    position = grid(10, 6) * [1.0, 2.5]
    electrodes = place(position)
    np.testing.assert_allclose(electrodes.spacing, [0.4, 1.0])
    phase = phase_of("planar", position, frequency=12, speed=200, direction=60)
    mean = -gradient_operator(electrodes)(wrap(phase[:, None])).mean(axis=(1, 2))
    np.testing.assert_allclose(np.rad2deg(np.arctan2(mean[1], mean[0])), 60, atol=0.01)


def test_synchrony_has_order_one_and_noise_little():
    rng = np.random.default_rng(5)
    assert order_parameter(np.full((96, 3), 1.2)) == pytest.approx(1)
    assert order_parameter(rng.uniform(-np.pi, np.pi, (96, 200))).mean() < 0.2


def test_a_recording_shorter_than_the_margin_keeps_its_length() -> None:
    samples = np.random.default_rng(0).normal(size=(3, 40))
    longer = extend(samples, 100, 70)
    assert longer.shape == (3, 210)
    np.testing.assert_array_equal(longer[:, 100:140], samples)
    np.testing.assert_allclose(longer[:, 99], 2 * samples[:, 0] - samples[:, 1])
