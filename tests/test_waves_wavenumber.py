"""The wavenumber-frequency spectrum: planes, opposite planes, standing waves, aliases, noise."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.errors import InputError
from driftwave.phase.electrodes import place
from driftwave.wavenumber.cross_spectra import CrossSpectra, places_of
from driftwave.wavenumber.travelling import (
    _wishart,
    beam_power,
    beams_of,
    null_deviation,
    wavenumber_axes,
)
from driftwave.waves.wavenumber_frequency import Params, analyse
from waves_cases import PITCH, grid, noise, phase_of, recording_of

RATE = 125.0
FAST = Params(surrogates=19, bootstrap=40)


def narrowband(rng, frequency: float, count: int) -> np.ndarray:
    """Complex Gaussian noise about a frequency, unit mean square."""
    away = (np.fft.fftfreq(count, 1 / RATE) - frequency) / 0.7
    drawn = np.fft.ifft(np.exp(-0.5 * away**2) * (rng.normal(size=(2, count)).T @ [1, 1j]))
    return drawn / np.sqrt(np.mean(np.abs(drawn) ** 2))


def planes(waves, *, seed=0, seconds=60.0, position=None, standing=False):
    """Planes (Hz, mm/s, degree, amplitude) in noise correlated over 1 mm, unit variance."""
    rng = np.random.default_rng(seed)
    position = grid(8, 8, corners=False) if position is None else position
    count = round(seconds * RATE)
    field = noise(rng, position, count, RATE, length=1.0, shared=0.9, power=1.0)
    for frequency, speed, direction, amplitude in waves:
        map_of = phase_of("planar", position, frequency=frequency, speed=speed, direction=direction)
        course = np.sqrt(2) * amplitude * narrowband(rng, frequency, count)
        if standing:
            field += np.sqrt(2) * np.cos(map_of)[:, None] * course.real
        else:
            field += (np.exp(1j * map_of)[:, None] * course).real
    return recording_of(100 * field.T, position, RATE)


def turned(one, other) -> float:
    return abs((float(one) - other + 180) % 360 - 180)


@pytest.mark.slow
def test_a_plane_is_found_with_direction_speed_and_interval():
    found = analyse(planes([(12, 150, 40, 0.5)], seed=1), None, FAST, seed=0)
    assert found["class"].values.tolist() == ["planar"]
    event = found.isel(event=0)
    assert turned(event["direction"], 40) < 4
    assert float(event["speed"]) == pytest.approx(150, rel=0.1)
    assert float(event["speed_low"]) < float(event["speed"]) < float(event["speed_high"])
    assert float(event["frequency"]) == pytest.approx(12, abs=1)
    assert float(event["wavelength"]) == pytest.approx(12.5, rel=0.15)
    assert float(event["p"]) <= 0.05
    assert float(event["asymmetry"]) > 0.2
    assert not bool(event["aliased"])
    near = found.sel(frequency_bin=12.0)
    angle = np.degrees(np.arctan2(near["dispersion_y"], near["dispersion_x"]))
    assert turned(angle, 40) < 20


@pytest.mark.slow
def test_two_planes_at_different_frequencies_are_resolved():
    """Case W2."""
    recording = planes([(10, 150, 40, 0.5), (22, 250, -120, 0.5)], seed=3)
    found = analyse(recording, None, FAST, seed=0)
    assert found["class"].values.tolist() == ["planar", "planar"]
    for i, (frequency, speed, direction) in enumerate([(10, 150, 40), (22, 250, -120)]):
        assert abs(float(found["frequency"][i]) - frequency) <= 1
        assert turned(found["direction"][i], direction) < 4
        assert float(found["speed"][i]) == pytest.approx(speed, rel=0.15)


@pytest.mark.slow
def test_two_planes_at_one_frequency_are_resolved():
    recording = planes([(12, 40, 40, 0.5), (12, 40, 130, 0.5)], seed=5)
    found = analyse(recording, None, FAST, seed=0).sortby("direction")
    assert found["class"].values.tolist() == ["planar", "planar"]
    np.testing.assert_allclose(found["direction"], [40, 130], atol=2)
    np.testing.assert_allclose(found["speed"], 40, rtol=0.06)


def test_the_weaker_of_two_opposite_planes_is_listed_by_its_power():
    recording = planes([(12, 40, 40, 0.6), (12, 40, -140, 0.3)], seed=4)
    found = analyse(recording, None, FAST, seed=0)
    assert found["class"].values.tolist() == ["planar", "planar"]
    tested = np.isfinite(found["p"].values)
    assert tested.sum() == 1
    assert turned(found["direction"].values[tested][0], 40) < 2
    assert turned(found["direction"].values[~tested][0], -140) < 2
    # Powers 4 : 1.
    assert found["asymmetry"].values[tested][0] == pytest.approx(0.6, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("speed", [40.0, 100.0])
def test_a_standing_wave_is_flagged_and_does_not_travel(speed):
    """Case W1."""
    recording = planes([(12, speed, 30, 0.6)], seed=6, standing=True)
    found = analyse(recording, None, FAST, seed=0)
    assert found["class"].values.tolist() == ["standing"]
    assert abs(float(found["asymmetry"][0])) < 0.1
    assert float(found["cosine_share"][0]) > 0.9
    assert float(found["p_channel_shuffle"][0]) <= 0.05
    assert np.isnan(found["p"][0])
    assert float(found["wavelength"][0]) == pytest.approx(speed / 12, rel=0.1)


@pytest.mark.slow
def test_a_wavenumber_near_the_nyquist_is_flagged():
    """Case A1."""
    speed = 2 * np.pi * 12 / (0.95 * np.pi / PITCH)
    found = analyse(planes([(12, speed, 0, 0.6)], seed=8), None, FAST, seed=0)
    assert bool(found["aliased"].all())
    assert found.sizes["event"] >= 1


@pytest.mark.slow
def test_the_nyquist_limit_is_along_a_turned_grid_s_own_axes():
    """At 30 degrees, .8 of Nyquist along the columns; its aliases lie within |k_x|, |k_y|."""
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    position = grid(8, 8, corners=False) @ turn
    for share, direction, flagged in ((0.8, 30.0, False), (0.95, 120.0, True)):
        speed = 2 * np.pi * 12 / (share * np.pi / PITCH)
        recording = planes([(12, speed, direction, 0.6)], seed=8, position=position)
        found = analyse(recording, None, FAST, seed=0)
        assert (found["aliased"].values == flagged).all()
        assert found.sizes["event"] >= 1
        if not flagged:
            assert found["class"].values.tolist() == ["planar"]
            assert turned(found["direction"][0], direction) < 2
            assert float(found["wavenumber"][0]) == pytest.approx(share * np.pi / PITCH, rel=0.02)


def test_an_irregular_layout_serves_too():
    rng = np.random.default_rng(1)
    position = rng.uniform(0, 4, (40, 2))
    recording = planes([(12, 100, -70, 0.7)], seed=2, position=position)
    found = analyse(recording, None, FAST, seed=0)
    assert found["class"].values.tolist() == ["planar"]
    assert turned(found["direction"][0], -70) < 5


def test_noise_has_no_wave():
    found = analyse(planes([], seed=9), None, FAST, seed=0)
    assert found.sizes["event"] == 0
    assert found["null_score"].sizes["surrogate"] == 19


@pytest.mark.slow
def test_gaps_are_left_out_and_too_short_a_recording_is_refused():
    recording = planes([(12, 150, 40, 0.5)], seed=1)
    broken = recording.copy(deep=True)
    broken["field/lfp"].values[1500:1600] = np.nan
    whole, found = (analyse(r, None, FAST, seed=0) for r in (recording, broken))
    assert found.attrs["segments"] == whole.attrs["segments"] - 1
    assert np.isfinite(found["spectrum"]).all()
    assert turned(found["direction"][0], 40) < 4
    with pytest.raises(InputError, match="segments"):
        analyse(planes([], seconds=10.0), None, FAST, seed=0)


def spectra_of(mean: np.ndarray, freedom: float) -> CrossSpectra:
    count = len(mean)
    empty = np.zeros((1, 1, count * (count - 1) // 2), np.float32)
    return CrossSpectra(
        np.array([12.0]),
        mean[None].astype(complex),
        empty,
        np.ones(1, int),
        np.array([freedom]),
        1.0,
    )


def test_beam_power_of_a_plane_peaks_at_its_wavenumber_and_equals_the_sum():
    position = grid(8, 6)
    axes = wavenumber_axes(position, np.full(2, np.pi / PITCH))
    k = np.array([axes[0][-6], axes[1][7]])
    wave = np.exp(-1j * position @ k)
    power = beam_power(np.outer(wave, wave.conj())[None], position, axes)[0]
    at = np.unravel_index(power.argmax(), power.shape)
    np.testing.assert_allclose([axes[0][at[0]], axes[1][at[1]]], k)
    assert power.max() == pytest.approx(1, rel=1e-4)
    other = np.exp(-1j * position @ np.array([axes[0][3], axes[1][4]]))
    assert power[3, 4] == pytest.approx(abs(other.conj() @ wave) ** 2 / len(wave) ** 2, abs=1e-5)


@pytest.mark.parametrize("freedom", [9, 60])
def test_the_null_deviation_is_that_of_zero_lag_surrogates(freedom):
    rng = np.random.default_rng(0)
    position = grid(5, 4)
    real = np.exp(-((position[:, None] - position[None]) ** 2).sum(-1)) + 0.3 * np.eye(20)
    beams = beams_of(position, wavenumber_axes(position, np.full(2, np.pi / PITCH)))
    expected = null_deviation(spectra_of(real, freedom), beams)[0]
    factor = np.linalg.cholesky(real).astype(np.float32)
    upper = np.triu_indices(20, 1)
    drawn = np.array([beams.sines @ _wishart(factor, freedom, rng)[upper] for _ in range(3000)])
    assert np.median(np.abs(drawn.std(axis=0) / expected - 1)) < 0.03
    assert np.abs(drawn.mean(axis=0) / expected).max() < 0.1


def test_a_large_array_is_averaged_over_squares():
    position = grid(64, 64)
    places = places_of(place(position))
    assert len(places.position) <= 144
    np.testing.assert_allclose(places.mixing.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(places.mixing @ position, places.position, atol=1e-4)
    assert places.electrodes.nyquist < np.pi / PITCH / 4


@pytest.mark.slow
def test_false_positives_keep_the_level():
    params = Params(surrogates=39, bootstrap=20)
    rejected = [
        analyse(planes([], seed=100 + seed, seconds=30.0), None, params, seed=seed).sizes["event"]
        > 0
        for seed in range(20)
    ]
    assert sum(rejected) <= 4


@pytest.mark.slow
def test_results_repeat():
    recording = planes([(12, 150, 40, 0.5)], seed=1, seconds=24.0)
    one, other = (analyse(recording, None, FAST, seed=4) for _ in range(2))
    assert one.identical(other)
