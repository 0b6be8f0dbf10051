"""Delay planes: group velocity, its null, and the recorded seizure."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest

from driftwave.config import load_layout
from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.phase.electrodes import place
from driftwave.phase.frames import open_field
from driftwave.wave_events.delays import (
    Spectra,
    electrode_delays,
    fit_delay_plane,
    follows_a_line,
    pair_delays,
    spectra_of,
    velocity,
    zero_lag_spectra,
)
from driftwave.waves.delay_planes import Params, analyse
from waves_cases import grid, in_band, noise, recording_of

FAST = Params(bootstrap=30, surrogates=19)
SEIZURE = -160.6
LAYOUTS = Path(__file__).resolve().parents[1] / "config" / "layouts"


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def dispersive(
    position, *, group=150.0, offset=0.25, direction=40.0, snr=2.0, rate=200.0, seconds=20.0, seed=0
):
    """Broadband plane wave (time, electrode) with k = offset + omega / group, and white noise.

    Its phase travels at omega / k, its packets at ``group`` mm/s.
    """
    rng = np.random.default_rng(seed)
    count = int(rate * seconds)
    frequency = np.fft.rfftfreq(count, 1 / rate)
    drive = rng.normal(size=(2, len(frequency)))
    spectrum = (drive[0] + 1j * drive[1]) * ((frequency > 0.5) & (frequency < 15))
    along = position @ np.array([np.cos(np.deg2rad(direction)), np.sin(np.deg2rad(direction))])
    k = offset + 2 * np.pi * frequency / group
    wave = np.fft.irfft(spectrum * np.exp(-1j * along[:, None] * k), n=count, axis=1)
    white = noise(rng, position, count, rate, exponent=0.0)
    return (snr * wave / wave.std() + white).T


def angle_between(a, b):
    return abs((a - b + 180) % 360 - 180)


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["all", "central"])
@pytest.mark.parametrize("tapers", ["multitaper", "hann"])
def test_a_dispersive_wave_has_its_group_speed(reference, tapers):
    """At 7 Hz the phase of this wave travels at 81 mm/s, its packets at 150."""
    position = grid(8, 8)
    params = Params(bootstrap=30, surrogates=0, reference=reference, tapers=tapers)
    found = analyse(recording_of(dispersive(position), position, 200.0), None, params, seed=0)
    assert found.attrs["speed_kind"] == "group"
    event = found.isel(event=0)
    assert event["class"].values == "planar"
    assert float(event["speed"]) == pytest.approx(150, rel=0.03)
    assert angle_between(float(event["direction"]), 40) < 2
    assert float(event["speed_low"]) < 150 < float(event["speed_high"])
    assert float(event["direction_low"]) < 40 < float(event["direction_high"])
    phase_speed = 2 * np.pi * 7 / (0.25 + 2 * np.pi * 7 / 150)
    assert abs(float(event["speed"]) - phase_speed) > 50


def test_a_pair_delay_needs_no_unwrapping():
    """A constant delay of 0.2 s turns the phase by 2.4 periods over the band."""
    rng = np.random.default_rng(0)
    frequency = np.arange(1.0, 14.0)
    value = rng.normal(size=(13, 1, 40)) + 1j * rng.normal(size=(13, 1, 40))
    late = np.array([0.0, 0.2, -0.13])
    spectra = value * np.exp(-2j * np.pi * frequency[:, None, None] * late[None, :, None] + 0.7j)
    delay, weight = pair_delays(spectra, frequency)
    np.testing.assert_allclose(delay, late[:, None] - late[None], atol=1e-9)
    assert (weight > 0).sum() == 6


def test_phases_that_are_a_bump_over_frequency_are_no_delay():
    """A rhythm at 12 Hz that travels in noise shared without lags, at a coherence of about .9."""
    rng = np.random.default_rng(0)
    frequency = np.arange(5.0, 41.0)
    drawn = rng.normal(size=(2, 36, 1, 40)) + 0.3 * rng.normal(size=(2, 36, 6, 40))
    value = drawn[0] + 1j * drawn[1]
    place_of = np.arange(6)[:, None]
    bump = np.exp(-0.5 * ((frequency - 12) / 2) ** 2)[:, None, None]
    for phase, linear in (
        (0.4 * place_of * bump, False),
        (0.05 * place_of * (frequency[:, None, None] - 20), True),
        (0.0 * place_of * bump, True),
    ):
        spectra = value * np.exp(-1j * phase)
        assert follows_a_line(spectra, frequency, *pair_delays(spectra, frequency)) == linear


def probe_with_a_rhythm(seed):
    """2 s of a 12 Hz wave along -y on a probe in every 5 s of broadband noise; the probe."""
    position = np.column_stack([np.zeros(32), 0.1 * np.arange(32)])
    rng = np.random.default_rng(seed)
    time = np.arange(5000) / 250.0
    lfp = noise(rng, position, 5000, 250.0, length=0.6, shared=0.5)
    phase = 2 * np.pi * 12 * (time + position[:, 1:] / 80)
    lfp += 2 * in_band(lfp, 250.0) * np.sqrt(2) * (time % 5 > 3) * np.cos(phase)
    return lfp.T, position


@pytest.mark.parametrize("seed", [1, 2])
def test_a_narrow_rhythm_has_no_group_velocity_rather_than_a_wrong_one(seed):
    """Coherent at the tapers' bandwidth only; chance pairs gave the opposite direction."""
    lfp, position = probe_with_a_rhythm(seed)
    params = Params(bootstrap=20, surrogates=0, band=(5.0, 40.0))
    found = analyse(recording_of(lfp, position, 250.0), None, params, seed=0).isel(event=0)
    assert str(found["class"].values) == "none"
    assert np.isnan(float(found["direction"]))


@pytest.mark.parametrize("across", [0.0, 0.005])
def test_on_a_probe_slowness_is_along_it(across):
    """Contacts that stand 5 micrometres off the line do not turn the direction."""
    rng = np.random.default_rng(2)
    axis = np.array([np.cos(1.2), np.sin(1.2)])
    position = 0.1 * np.arange(32)[:, None] * axis
    position = position + across * rng.normal(size=(32, 1)) * np.array([-axis[1], axis[0]])
    frequency = np.arange(1.0, 14.0)
    drawn = rng.normal(size=(2, 13, 1, 40)) + 0.3 * rng.normal(size=(2, 13, 32, 40))
    late = (position @ axis / -80)[:, None]
    value = (drawn[0] + 1j * drawn[1]) * np.exp(-2j * np.pi * frequency[:, None, None] * late)
    spectra = Spectra(value, frequency, np.zeros((13, 1, 13, 1)))
    plane = fit_delay_plane(place(position), spectra, draws=10, rng=rng)
    assert plane is not None
    assert plane.linear
    row = velocity(plane)
    assert angle_between(row["direction"], np.degrees(1.2) - 180) < 0.3
    assert row["speed"] == pytest.approx(80, rel=0.05)


def test_delays_of_a_chain_of_coherent_neighbours_add_up():
    """Means over each electrode's own partners would give delays of half a step."""
    late = 0.01 * np.arange(8)
    near = np.abs(np.subtract.outer(np.arange(8), np.arange(8))) == 1
    found = electrode_delays((late[:, None] - late[None]) * near, near.astype(float))
    np.testing.assert_allclose(found, late - late.mean(), atol=1e-12)
    near[3, 4] = near[4, 3] = near[6, 7] = near[7, 6] = False
    found = electrode_delays((late[:, None] - late[None]) * near, near.astype(float))
    np.testing.assert_allclose(found[:4], late[:4] - late[:4].mean(), atol=1e-12)
    assert np.isnan(found[4:]).all()


@pytest.mark.slow
def test_windows_follow_a_wave_that_turns():
    position = grid(6, 6)
    halves = [dispersive(position, direction=d, seed=n) for n, d in enumerate((0.0, 120.0))]
    recording = recording_of(np.concatenate(halves), position, 200.0, start=5.0)
    params = Params(bootstrap=20, surrogates=19, window=10.0)
    found = analyse(recording, None, params, seed=0)
    assert found.sizes["event"] == 4
    np.testing.assert_allclose(found["start"], [5, 15, 25, 35], atol=0.01)
    for direction, true in zip(found["direction"].values, (0, 0, 120, 120), strict=True):
        assert angle_between(direction, true) < 5
    assert (found["q"].values <= 0.05).all()
    assert found.attrs["null"] == "zero-lag surrogates"


@pytest.mark.slow
def test_surrogate_coefficients_keep_power_and_lose_lags():
    position = grid(4, 4)
    recording = recording_of(dispersive(position, seconds=40.0), position, 200.0)
    reader = open_field(recording, recording["field"].dataset, band=(1.0, 13.0), frame_rate=None)
    spectra = spectra_of(reader, (1.0, 13.0))
    rng = np.random.default_rng(0)
    real = spectra.value @ spectra.value.conj().swapaxes(1, 2)
    drawn = np.zeros_like(real)
    for _ in range(40):
        one = zero_lag_spectra(spectra, rng).value
        drawn += one @ one.conj().swapaxes(1, 2) / 40
    size = np.abs(real).max()
    assert np.abs(drawn.real - real.real).max() < 0.2 * size
    assert np.abs(drawn.imag).max() < 0.2 * size < np.abs(real.imag).max()


@pytest.mark.slow
def test_what_all_electrodes_share_does_not_travel():
    position = grid(5, 5)
    rng = np.random.default_rng(3)
    shared = np.cumsum(rng.normal(size=4000))[:, None]
    lfp = shared / shared.std() + 0.1 * rng.normal(size=(4000, 25))
    found = analyse(recording_of(lfp, position, 200.0), None, FAST, seed=0).isel(event=0)
    assert float(found["p"]) > 0.05 or float(found["speed"]) > 5000


def test_incoherent_electrodes_have_no_plane():
    lfp = np.random.default_rng(0).normal(size=(8000, 16))
    found = analyse(recording_of(lfp, grid(4, 4), 200.0), None, FAST, seed=0)
    assert found["class"].values.tolist() == ["none"]
    assert np.isnan(found["direction"].values).all()
    assert found["p"].values.tolist() == [1.0]


def test_a_window_longer_than_the_recording_is_refused():
    lfp = np.random.default_rng(0).normal(size=(2000, 16))
    with pytest.raises(InputError, match="windows that fit"):
        analyse(recording_of(lfp, grid(4, 4), 200.0), None, Params(window=60.0), seed=0)


@pytest.mark.slow
def test_noise_with_smooth_maps_has_uniform_p():
    """Share of p up to .1 in zero-lag noise: 2.4 expected of 24, 99.7 % below 8."""
    position = grid(5, 5)
    rng = np.random.default_rng(4)
    params = Params(bootstrap=20, surrogates=19)
    small = 0
    for number in range(24):
        lfp = noise(rng, position, 4000, 200.0, length=2.0, shared=0.9).T
        found = analyse(recording_of(lfp, position, 200.0), None, params, seed=number)
        small += float(found["p"][0]) <= 0.1
    assert small < 8


@pytest.fixture(scope="module")
def seizure(recordings):
    with open_nwb(recordings / "utah_seizure.nwb") as file:
        return read_recording(file, load_layout("utah_seizure", LAYOUTS), session="seizure").load()


@pytest.mark.slow
@pytest.mark.recording
@pytest.mark.parametrize(
    ("options", "direction", "speed"),
    [
        ({}, SEIZURE, (137, 260)),
        ({"tapers": "hann", "reference": "central"}, -172.0, (150, 220)),
    ],
)
def test_the_seizure_travels_as_published(seizure, options, direction, speed):
    params = Params(bootstrap=40, surrogates=19, **options)
    event = analyse(seizure, None, params, seed=0).isel(event=0)
    assert event["class"].values == "planar"
    assert angle_between(float(event["direction"]), direction) < 20
    assert speed[0] < float(event["speed"]) < speed[1]
    assert float(event["r_squared"]) > 0.5
    if not options:
        assert float(event["p"]) == 0.05  # the least that 19 surrogates can give
