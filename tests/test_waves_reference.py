"""The reference cases of travelling waves, through the plug-ins, each with its tolerance."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import xarray as xr

from driftwave.wave_events.noise import without_waves
from driftwave.waves import optical_flow, phase_gradient, plane_fit, rotation, singularities
from driftwave.waves import source_points as source
from waves_cases import PITCH, grid, noise, phase_of, recording_of

RATE = 250.0
ARRAY = grid(corners=False)
CENTRES = [(1.35, 1.95), (2.3, 1.1), (1.55, 2.65)]
GRADIENT = phase_gradient.Params(surrogates=19, bootstrap=40, delay_band=None, fields=())


def turned(one, other):
    """Angle (degree) between directions."""
    return np.abs((np.asarray(one) - other + 180) % 360 - 180)


def slots(
    waves: list[np.ndarray],
    *,
    position: np.ndarray = ARRAY,
    seconds: float = 1.0,
    pause: float = 1.0,
    level: float = 1e-3,
    amplitude: float = 1.0,
    length: float = 1.0,
    seed: int = 0,
    frequency: float = 12.0,
) -> tuple[xr.DataTree, np.ndarray]:
    """Waves of the given phases (electrode,), one after the other; the middle of each, s.

    In correlated 1/f noise, 90 % shared, of RMS ``level`` within 5 to 40 Hz; amplitude is an RMS.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round((len(waves) * (seconds + pause) + pause) * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=length, shared=0.9, power=2.0)
    spectrum = np.fft.rfft(field, axis=1)
    inside = np.fft.rfftfreq(len(time), 1 / RATE)
    spectrum[:, (inside < 5) | (inside > 40)] = 0
    field *= level / np.fft.irfft(spectrum, n=len(time), axis=1).std()
    begin = pause + np.arange(len(waves)) * (seconds + pause)
    for start, phase in zip(begin, waves, strict=True):
        here = (time >= start) & (time < start + seconds)
        turn = 2 * np.pi * frequency * time[here] + rng.uniform(0, 2 * np.pi)
        field[:, here] += np.sqrt(2) * amplitude * np.cos(turn + phase[:, None])
    return recording_of(100 * field.T, position, RATE), begin + seconds / 2


def planes(directions: Iterable[float], speeds: Iterable[float], position=ARRAY):
    return [
        phase_of("planar", position, frequency=12, speed=speed, direction=direction)
        for direction, speed in zip(directions, speeds, strict=True)
    ]


def events_at(found: xr.Dataset, middle: np.ndarray) -> np.ndarray:
    """Number of the longest event that covers each time; -1 where none does."""
    start, stop = found["start"].values, found["stop"].values
    covers = (start < middle[:, None]) & (middle[:, None] < stop)
    length = np.where(covers, stop - start, -np.inf)
    return (
        np.where(covers.any(axis=1), length.argmax(axis=1), -1) if len(start) else -1 + 0 * middle
    )


def every_plane() -> tuple[np.ndarray, np.ndarray]:
    """Directions and speeds of case P1."""
    direction, speed = np.meshgrid(np.arange(-180.0, 180.0, 45.0), [100.0, 200.0, 400.0, 800.0])
    return direction.ravel(), speed.ravel()


P1 = {"whole": grid(), "without 4 corners and 10": grid(corners=False, missing=10, seed=3)}


@pytest.mark.slow
@pytest.mark.parametrize("layout", P1)
def test_p1_events_of_planes_without_noise(layout):
    direction, speed = every_plane()
    position = P1[layout]
    recording, middle = slots(planes(direction, speed, position), position=position)
    found = phase_gradient.analyse(recording, None, GRADIENT, seed=0)
    at = events_at(found, middle)
    assert sorted(at) == list(range(32))
    row = found.isel(event=at)
    assert (row["class"].values == "planar").all()
    assert turned(row["direction"], direction).max() < 0.5
    np.testing.assert_allclose(row["speed"], speed, rtol=0.01)
    assert not row["aliased"].values.any()


@pytest.mark.slow
@pytest.mark.parametrize("layout", P1)
@pytest.mark.parametrize("plugin", [phase_gradient, plane_fit, optical_flow])
def test_p1_frames_of_planes_without_noise(layout, plugin):
    direction, speed = every_plane()
    some = np.arange(0, 32, 3)
    position = P1[layout]
    recording, middle = slots(planes(direction[some], speed[some], position), position=position)
    few = {"surrogates": 19, "bootstrap": 20}
    if plugin is phase_gradient:
        params, names = GRADIENT, ("frame_direction", "frame_speed")
    elif plugin is plane_fit:
        params, names = plane_fit.Params(**few), ("frame_direction", "frame_speed")
    else:
        params, names = optical_flow.Params(surrogates=0), ("flow_direction", "flow_speed")
    found = plugin.analyse(recording, None, params, seed=0)
    for at, towards, fast in zip(middle, direction[some], speed[some], strict=True):
        here = found.sel(time=slice(at - 0.2, at + 0.2))
        mean = np.exp(1j * np.deg2rad(here[names[0]].values)).mean()
        assert turned(np.angle(mean, deg=True), towards) < 0.5
        assert float(here[names[1]].median()) == pytest.approx(fast, rel=0.01)


def test_a_clear_plane_in_independent_noise_is_a_plane():
    """Its own pattern, left in the noise that fits weigh, made it a source 8 degrees off."""
    position = grid()
    clock = np.arange(round(10 * RATE)) / RATE
    field = 0.3 * noise(np.random.default_rng(0), position, len(clock), RATE)
    phase = phase_of("planar", position, frequency=12, direction=60)
    field += ((clock > 3) & (clock < 7)) * np.cos(2 * np.pi * 12 * clock + phase[:, None])
    found = phase_gradient.analyse(recording_of(field.T, position, RATE), None, GRADIENT, seed=0)
    assert found["class"].values.tolist() == ["planar"]
    event = found.isel(event=0)
    assert turned(event["direction"], 60) < 1.5
    assert float(event["speed"]) == pytest.approx(200, rel=0.02)
    assert float(event["heldout_phase_error"]) < 5


@pytest.mark.parametrize("k", [0.38, 0.75, 1.5, 3.0])
@pytest.mark.parametrize("length", [None, 0.6])
def test_noise_is_cleared_of_a_wave_of_any_length(k, length):
    square = ((ARRAY[:, None] - ARRAY[None]) ** 2).sum(-1)
    known = np.eye(len(ARRAY))
    if length is not None:
        known = 0.9 * np.exp(-square / length**2 / 2) + 0.1 * known
    wave = np.exp(-1j * ARRAY @ (k * np.array([0.8, 0.6])))
    cleared = without_waves(known + 50 * np.outer(wave, wave.conj()))
    assert np.linalg.norm(cleared - known) < 0.12 * np.linalg.norm(known)
    root = np.linalg.inv(np.linalg.cholesky(known))
    assert np.linalg.eigvalsh(root @ cleared @ root.T)[0] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("length", [0.6, 2.0])
def test_p2_planes_in_correlated_noise(length):
    """300 epochs of 1 s at SNR 2, found and estimated by the plug-in alone."""
    rng = np.random.default_rng(20)
    direction = rng.uniform(-180, 180, 300)
    speed = rng.choice([100.0, 200.0], 300)
    recording, middle = slots(planes(direction, speed), level=1.0, amplitude=2.0, length=length)
    found = phase_gradient.analyse(recording, None, GRADIENT, seed=0)
    at = events_at(found, middle)
    alone = (at >= 0) & (np.bincount(at[at >= 0], minlength=found.sizes["event"])[at] == 1)
    assert alone.mean() > 0.95
    row = found.isel(event=at[alone])
    flat = row["class"].values == "planar"
    assert flat.mean() > 0.95
    assert np.median(turned(row["direction"], direction[alone])[flat]) <= 1.8
    ratio = (row["speed"].values / speed[alone])[flat]
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1, -1])
def test_r1_target_waves(sign):
    waves = [
        phase_of("radial", ARRAY, frequency=12, speed=100, centre=c, sign=sign) for c in CENTRES
    ]
    recording, middle = slots(waves, seconds=1.5)
    name = "radial_out" if sign > 0 else "radial_in"
    for plugin, params in (
        (phase_gradient, GRADIENT),
        (source, source.Params(surrogates=19)),
    ):
        found = plugin.analyse(recording, None, params, seed=0)
        row = found.isel(event=events_at(found, middle))
        assert row["class"].values.tolist() == [name] * len(CENTRES)
        away = np.hypot(*(np.stack([row["centre_x"], row["centre_y"]], 1) - CENTRES).T)
        assert away.max() <= PITCH
        assert (sign * row["rho"].values > 0.9).all()


@pytest.mark.slow
@pytest.mark.parametrize("charge", [1, -1])
def test_r2_rotations(charge):
    waves = [phase_of("rotating", ARRAY, frequency=12, centre=c, sign=charge) for c in CENTRES]
    recording, middle = slots(waves, seconds=1.5)
    name = "rotating_ccw" if charge > 0 else "rotating_cw"
    for plugin, params in (
        (phase_gradient, GRADIENT),
        (rotation, rotation.Params(surrogates=19)),
        (singularities, singularities.Params(surrogates=19)),
    ):
        found = plugin.analyse(recording, None, params, seed=0)
        row = found.isel(event=events_at(found, middle))
        assert row["class"].values.tolist() == [name] * len(CENTRES)
        assert row["charge"].values.tolist() == [charge] * len(CENTRES)
        away = np.hypot(*(np.stack([row["centre_x"], row["centre_y"]], 1) - CENTRES).T)
        assert away.max() <= PITCH


def test_w1_a_standing_wave_is_never_a_travelling_one():
    pattern = np.cos(ARRAY @ (1.3 * np.array([0.8, 0.6])) - 1.5)
    clock = np.arange(round(16 * RATE)) / RATE
    field = noise(np.random.default_rng(4), ARRAY, len(clock), RATE, length=1.0, shared=0.9)
    inside = (clock > 5) & (clock < 9)
    field += 3 * inside * pattern[:, None] * np.cos(2 * np.pi * 12 * clock)
    found = phase_gradient.analyse(recording_of(field.T, ARRAY, RATE), None, GRADIENT, seed=0)
    over = (found["start"] < 8.5) & (found["stop"] > 5.5)
    travels = ~found["class"].isin(["standing", "none", "synchronous"]) & (found["q"] <= 0.05)
    assert not (over & travels).any()


def test_w2_two_planes_at_two_frequencies():
    clock = np.arange(round(16 * RATE)) / RATE
    field = noise(np.random.default_rng(6), ARRAY, len(clock), RATE, length=1.0, shared=0.9)
    inside = (clock > 5) & (clock < 9)
    truth = ((8.0, 30.0, 100.0), (16.0, 150.0, 150.0))
    for frequency, direction, speed in truth:
        phase = phase_of("planar", ARRAY, frequency=frequency, speed=speed, direction=direction)
        field += 2 * inside * np.cos(2 * np.pi * frequency * clock + phase[:, None])
    found = phase_gradient.analyse(recording_of(field.T, ARRAY, RATE), None, GRADIENT, seed=0)
    here = found.isel(event=(found["start"] < 7.0) & (found["stop"] > 7.0))
    assert sorted(here["component"].values) == [0, 1]
    for frequency, direction, speed in truth:
        row = here.isel(event=int(np.abs(here["frequency"].values - frequency).argmin()))
        assert float(row["frequency"]) == pytest.approx(frequency, abs=0.3)
        assert str(row["class"].values) == "planar"
        assert turned(row["direction"], direction) < 3
        assert float(row["speed"]) == pytest.approx(speed, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("plugin", [phase_gradient, plane_fit])
def test_a1_wavenumbers_near_the_nyquist_are_flagged(plugin):
    speed = 2 * np.pi * 12 / (0.93 * np.pi / PITCH)
    recording, middle = slots(planes([0.0, 90.0], [speed, speed]), seconds=2.0, level=0.1)
    params = GRADIENT if plugin is phase_gradient else plane_fit.Params(surrogates=19)
    found = plugin.analyse(recording, None, params, seed=0)
    at = events_at(found, middle)
    assert (at >= 0).all()
    assert (found["aliased"].values[at] > 0.5).all()
    clear, middle = slots(planes([0.0, 90.0], [200.0, 100.0]), seconds=2.0, level=0.1)
    found = plugin.analyse(clear, None, params, seed=0)
    assert (found["aliased"].values[events_at(found, middle)] < 0.5).all()


@pytest.mark.slow
def test_u1_ten_minutes_then_a_plane():
    """The same plane after 600 s as after 6: no whole turns gather on the way."""
    position = grid(6, 6)
    rng = np.random.default_rng(7)
    clock = np.arange(round(610 * RATE)) / RATE
    field = noise(rng, position, len(clock), RATE, length=0.6, shared=0.9)
    phase = phase_of("planar", position, frequency=12, speed=100, direction=70)
    inside = (clock > 603) & (clock < 607)
    field += 3 * inside * np.cos(2 * np.pi * 12 * clock + phase[:, None])
    params = GRADIENT.model_copy(update={"fields": ("gradient",)})
    whole = phase_gradient.analyse(recording_of(field.T, position, RATE), None, params, seed=0)
    part = recording_of(field[:, -round(12 * RATE) :].T, position, RATE, start=598.0)
    late = phase_gradient.analyse(part, None, params, seed=0)
    event = whole.isel(event=events_at(whole, np.array([605.0])))
    assert turned(event["direction"], 70).max() < 2
    assert float(event["speed"][0]) == pytest.approx(100, rel=0.03)
    middle = slice(603.5, 606.5)
    for name in ("gradient_x", "gradient_y", "frame_speed"):
        one, other = (np.asarray(d[name].sel(time=middle)) for d in (whole, late))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())


@pytest.mark.slow
def test_n1_a_dozen_waves_keep_their_rows():
    direction = np.random.default_rng(8).permutation(np.arange(12) * 30.0)
    recording, middle = slots(planes(direction, np.full(12, 100.0)), level=0.5, amplitude=1.5)
    found = phase_gradient.analyse(recording, None, GRADIENT, seed=0)
    at = events_at(found, middle)
    assert (np.diff(at) > 0).all()
    assert turned(found["direction"].values[at], direction).max() < 5
