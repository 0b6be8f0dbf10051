"""Planes, sources and rotations fitted to single frames and cycles, against planted fields."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.frame_fits.circular_correlation import (
    adjusted,
    circular_circular,
    circular_linear,
    radial_fit,
)
from driftwave.frame_fits.circular_plane import plane_fitter
from driftwave.frame_fits.cycle_events import find_runs
from driftwave.frame_fits.cycles import centre_fits, cycle_patterns
from driftwave.frame_fits.event_null import event_p
from driftwave.frame_fits.plane_events import estimate
from driftwave.frame_fits.stream import Piece
from driftwave.phase.electrodes import place
from driftwave.phase.filters import analytic
from driftwave.wave_events.spans import Span
from driftwave.waves import plane_fit, rotation, source_points
from waves_cases import PITCH, grid, noise, phase_of, recording_of

RATE = 250.0
BAND = (5.0, 40.0)


def turn(angle):
    """Angle in degrees, in [-180, 180)."""
    return (np.asarray(angle) + 180) % 360 - 180


def piece_of(signal, valid=None):
    signal = signal.astype(np.complex64)
    valid = np.ones(signal.shape[1], bool) if valid is None else valid
    return Piece(signal, 0, valid, RATE)


def noisy(kind, position, *, seed, snr=2.0, seconds=1.0, length=0.6, **wave):
    """Analytic signal of a 12 Hz wave in correlated 1/f noise; SNR is RMS over RMS in the band."""
    rng = np.random.default_rng(seed)
    margin = 2.0
    time = np.arange(int((seconds + 2 * margin) * RATE)) / RATE
    background = noise(rng, position, len(time), RATE, length=length, shared=0.9)
    scale = analytic(background, rate=RATE, band=BAND, before=0, after=0).real.std()
    phase = phase_of(kind, position, frequency=12, **wave)
    field = np.cos(2 * np.pi * 12 * time + phase[:, None] + rng.uniform(0, 6)) * snr * np.sqrt(2)
    signal = analytic(background / scale + field, rate=RATE, band=BAND, before=0, after=0)
    return signal[:, int(margin * RATE) : int((margin + seconds) * RATE)]


@pytest.mark.parametrize("missing", [0, 10])
def test_noise_free_planes_are_exact(missing):
    position = grid(corners=not missing, missing=missing)
    fit = plane_fitter(place(position))
    for speed in (100, 200, 400, 800):
        directions = np.arange(8) * 45.0
        phase = [
            phase_of("planar", position, frequency=12, speed=speed, direction=one)
            for one in directions
        ]
        k, resultant = fit(np.exp(1j * np.array(phase)).T)
        assert np.abs(turn(np.degrees(np.arctan2(k[:, 1], k[:, 0])) - directions)).max() < 0.5
        np.testing.assert_allclose(2 * np.pi * 12 / np.hypot(*k.T), speed, rtol=0.01)
        assert resultant.min() > 0.9999


def test_refinement_finds_the_highest_peak_of_a_brute_force_search():
    position = grid(6, 6)
    rng = np.random.default_rng(0)
    unit = np.exp(1j * rng.uniform(0, 2 * np.pi, (len(position), 40)))
    fit = plane_fitter(place(position))
    axis = np.linspace(-fit.largest, fit.largest, 161)
    every = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    every = every[np.hypot(*every.T) <= fit.largest]
    brute = np.abs(np.exp(1j * every @ position.T) @ unit).max(axis=0) / len(position)
    _, resultant = fit(unit)
    assert (resultant > brute - 0.03).all()
    assert (resultant >= brute - 2e-3).mean() > 0.85


def test_the_grid_alone_is_not_enough():
    position = grid(corners=False)
    rng = np.random.default_rng(1)
    fit = plane_fitter(place(position))
    direction = rng.uniform(-180, 180, 200)
    phase = [phase_of("planar", position, frequency=12, speed=70, direction=d) for d in direction]
    unit = np.exp(1j * np.array(phase)).T
    errors = []
    for refine in (False, True):
        k, _ = fit(unit, refine=refine)
        errors.append(np.median(np.abs(turn(np.degrees(np.arctan2(k[:, 1], k[:, 0])) - direction))))
    assert errors[0] > 3
    assert errors[1] < 0.1


def test_on_a_probe_only_the_component_along_it_is_found():
    along = np.array([np.cos(0.5), np.sin(0.5)])
    position = np.arange(32)[:, None] * 0.1 * along
    fit = plane_fitter(place(position))
    true = np.linspace(-25, 25, 21)
    k, _ = fit(np.exp(-1j * (position @ along)[:, None] * true))
    np.testing.assert_allclose(k @ along, true, atol=0.01)
    np.testing.assert_allclose(k @ [-along[1], along[0]], 0, atol=1e-9)


@pytest.mark.parametrize(("share", "flagged"), [(0.3, False), (0.9, True)])
def test_wavenumbers_near_the_spatial_nyquist_are_flagged(share, flagged):
    position = grid(corners=False)
    electrodes = place(position)
    k = share * np.pi / PITCH
    signal = np.exp(1j * (2 * np.pi * 12 / RATE * np.arange(50) - k * position[:, :1]))
    found = plane_fit.FitFrames(plane_fitter(electrodes), electrodes, 1, True)(piece_of(signal))
    assert (found["aliased"] == flagged).all()
    np.testing.assert_allclose(found["frequency"], 12, atol=0.01)
    assert found["rho"].min() > 0.999


def recovered(count, seed, length):
    """Direction errors (degree), speed ratios and coverage of the direction's interval."""
    position = grid(corners=False)
    electrodes = place(position)
    fit = plane_fit.FitFrames(plane_fitter(electrodes), electrodes, 2, True)
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(count):
        direction, speed = rng.uniform(-180, 180), float(rng.choice([100, 200, 400]))
        signal = noisy("planar", position, seed=[seed, epoch], length=length,
                       direction=direction, speed=speed)  # fmt: skip
        found = fit(piece_of(signal))
        span = Span(0, len(found["resultant"]), 0.0)
        row = estimate(found, span, rate=RATE / 2, draws=100, rng=generator(epoch, "test"))
        error = float(turn(row["direction"] - direction))
        low, high = (row[name] - row["direction"] for name in ("direction_low", "direction_high"))
        rows.append((abs(error), row["speed"] / speed, low <= -error <= high))
    return np.array(rows).T


@pytest.mark.slow
def test_planes_in_correlated_noise():
    error, ratio, covered = recovered(50, 11, 0.6)
    assert np.median(error) < 2.2
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert covered.mean() > 0.8


@pytest.mark.slow
def test_planes_in_correlated_noise_at_full_size():
    error, ratio, covered = recovered(300, 12, 0.6)
    assert np.median(error) < 2.0
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert covered.mean() > 0.85


def test_circular_circular_correlation_has_known_values():
    rng = np.random.default_rng(0)
    angle = rng.uniform(-np.pi, np.pi, (5, 60))
    np.testing.assert_allclose(circular_circular(angle + 0.7, angle), 1, atol=1e-9)
    np.testing.assert_allclose(circular_circular(1.1 - angle, angle), -1, atol=1e-9)
    others = rng.uniform(-np.pi, np.pi, (2, 400, 60))
    chance = circular_circular(others[0], others[1])
    assert abs(chance.mean()) < 0.05
    # Evenly spread angles, whose mean directions do not exist.
    even = np.arange(24) * 2 * np.pi / 24
    assert circular_circular(-even + 2.0, even) == pytest.approx(-1)


def test_circular_linear_correlation_is_mardias():
    rng = np.random.default_rng(1)
    phase, value = rng.uniform(-3, 3, 30), rng.normal(size=30)
    cos, sin = np.cos(phase), np.sin(phase)
    design = np.column_stack([np.ones(30), cos, sin])
    left = value - design @ np.linalg.lstsq(design, value, rcond=None)[0]
    # rho is the multiple correlation of the linear variable with cosine and sine.
    expected = np.sqrt(1 - left.var() / value.var())
    assert circular_linear(phase, value) == pytest.approx(expected)
    assert adjusted(np.array([0.0]), 20, 2) == 0
    assert adjusted(np.array([1.0]), 20, 2) == 1


def test_radial_fit_finds_slope_and_sign():
    rng = np.random.default_rng(2)
    distance = rng.uniform(0, 4, (6, 80))
    kappa = np.array([0.3, 1.0, 2.5, -0.3, -1.0, -2.5])
    found, resultant = radial_fit(np.exp(-1j * kappa[:, None] * distance), distance, largest=7.8)
    np.testing.assert_allclose(found, kappa, rtol=1e-3)
    np.testing.assert_allclose(resultant, 1, atol=1e-5)


def test_a_cycles_pattern_needs_no_reference_phase():
    rng = np.random.default_rng(3)
    pattern = np.exp(-1j * np.arange(40) * 2 * np.pi / 40)
    course = np.exp(2j * np.pi * 12 / RATE * np.arange(17))
    signal = pattern[:, None] * course + 0.3 * rng.normal(size=(40, 17))
    found = cycle_patterns(signal[None])[0]
    assert np.abs(np.vdot(found, pattern)) / np.sqrt(40) > 0.98


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["radial", "rotating"])
@pytest.mark.parametrize("missing", [0, 10])
def test_centres_between_electrodes(kind, sign, missing):
    position = grid(corners=False, missing=missing)
    fit = centre_fits(place(position), kind, window=17, smoothing=2.0)
    centres = np.random.default_rng(4).uniform(0.8, 2.8, (40, 2))
    phase = [
        phase_of(kind, position, frequency=12, speed=100, centre=c, sign=sign) for c in centres
    ]
    found = fit.fit(np.exp(1j * np.array(phase)))
    error = np.hypot(found["x"] - centres[:, 0], found["y"] - centres[:, 1])
    assert np.quantile(error, 0.95) < 0.1 * PITCH
    assert (sign * found["score"] > 0.9).mean() > 0.95
    if kind == "radial":
        np.testing.assert_allclose(
            np.median(found["kappa"]), sign * 2 * np.pi * 12 / 100, rtol=0.01
        )


@pytest.mark.parametrize("kind", ["radial", "rotating"])
@pytest.mark.parametrize("sign", [1, -1])
def test_centres_in_correlated_noise(kind, sign):
    position = grid(corners=False)
    fit = centre_fits(place(position), kind, window=17, smoothing=2.0)
    centre = (2.1, 1.5)
    errors, rho = [], []
    for seed in range(6):
        signal = noisy(kind, position, seed=seed, centre=centre, sign=sign, speed=100)
        found = fit(piece_of(signal))
        middle = np.median(found["x"]), np.median(found["y"])
        errors.append(np.hypot(middle[0] - centre[0], middle[1] - centre[1]))
        rho.append(sign * np.median(found["rho"]))
    assert max(errors) < PITCH
    assert np.median(rho) > 0.9
    assert min(rho) > 0.8


def test_planar_waves_are_no_sources():
    """Though phase correlates with distance from any remote point (the customary test)."""
    position = grid(corners=False)
    fit = centre_fits(place(position), "radial", window=17, smoothing=2.0)
    signal = noisy("planar", position, seed=5, speed=100, direction=30, seconds=4.0)
    found = fit(piece_of(signal))
    assert np.median(np.abs(found["rho"])) > 0.5
    assert (np.abs(found["score"]) > 0.85).mean() < 0.3


def windows(**changed):
    base = {
        "score": np.array([0.9, 0.95, 0.9, 0.0, 0.9, -0.9, -0.9, -0.9, 0.2]),
        "x": np.zeros(9),
        "y": np.zeros(9),
        "valid": np.ones(9, bool),
    }
    return base | changed


def runs_of(measures):
    found = find_runs(measures, threshold=0.8, link=1.0, shortest=3)
    return [(run.windows.tolist(), run.sign) for run in found]


def test_runs_keep_sign_and_centre_and_end_at_gaps():
    assert runs_of(windows()) == [([0, 1, 2, 4], 1), ([5, 6, 7], -1)]
    far = np.array([0, 0, 5, 0, 0, 0, 0, 0, 0.0])
    assert runs_of(windows(x=far)) == [([5, 6, 7], -1)]
    gap = np.ones(9, bool)
    gap[3] = False
    assert runs_of(windows(valid=gap)) == [([0, 1, 2], 1), ([5, 6, 7], -1)]


def test_an_events_p_value_is_its_rank_among_surrogates_events():
    worth = event_p(np.array([5.0, 0.5]), [np.array([1.0, 2.0]), np.zeros(0), np.array([6.0])])
    np.testing.assert_allclose(worth["p"], [2 / 5, 4 / 5])
    np.testing.assert_allclose(worth["p_familywise"], [2 / 4, 3 / 4])
    none = event_p(np.zeros(0), [np.zeros(0)])
    assert none["q"].shape == (0,)


def recording(waves=True, seed=0, seconds=16.0, gap=None):
    """A plane (2-4 s), a rotation (6-8 s) and a source (10-12 s), or none, in correlated noise."""
    rng = np.random.default_rng(seed)
    position = grid(8, 8)
    time = np.arange(round(seconds * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=0.8, shared=0.9, power=1.0)
    planted = [(2, "planar", {"direction": 70.0, "speed": 100.0})]
    planted += [(6, "rotating", {"centre": (1.5, 1.3)})]
    planted += [(10, "radial", {"centre": (1.5, 1.3), "speed": 100.0})]
    for start, kind, wave in planted if waves else []:
        inside = (time >= start) & (time < start + 2)
        phase = phase_of(kind, position, frequency=12, **wave)
        field[:, inside] += 2 * np.cos(2 * np.pi * 12 * time[inside] + phase[:, None])
    if gap is not None:
        field[:, (time >= gap[0]) & (time < gap[1])] = np.nan
    return recording_of(100 * field.T, position, RATE)


@pytest.fixture(scope="module")
def planted():
    return recording()


def covering(result, time, name):
    inside = (result["start"].values <= time) & (result["stop"].values >= time)
    inside &= result["class"].values == name
    assert inside.any()
    return result.isel(event=int(np.flatnonzero(inside)[0]))


@pytest.mark.slow
def test_plane_fit_finds_the_plane(planted):
    found = plane_fit.analyse(planted, None, plane_fit.Params(surrogates=19), seed=0)
    event = covering(found, 3.0, "planar")
    assert float(turn(event["direction"] - 70)) == pytest.approx(0, abs=6)
    assert float(event["speed"]) == pytest.approx(100, rel=0.12)
    assert float(event["frequency"]) == pytest.approx(12, rel=0.06)
    assert event["direction_low"] < event["direction"] < event["direction_high"]
    assert float(event["p"]) <= 0.05
    inside = found.sel(time=slice(2.3, 3.7))
    assert float(np.abs(turn(inside["frame_direction"] - 70)).mean()) < 15
    assert float(inside["frame_resultant"].mean()) > 0.85


@pytest.mark.slow
def test_source_points_finds_the_source(planted):
    found = source_points.analyse(planted, None, source_points.Params(surrogates=19), seed=0)
    event = covering(found, 11.0, "radial_out")
    assert float(np.hypot(event["centre_x"] - 1.5, event["centre_y"] - 1.3)) < PITCH
    assert float(event["rho"]) > 0.85
    assert float(event["p_familywise"]) <= 0.05
    assert "radial_in" not in found["class"].values


@pytest.mark.slow
def test_rotation_finds_the_rotation(planted):
    found = rotation.analyse(planted, None, rotation.Params(surrogates=19), seed=0)
    event = covering(found, 7.0, "rotating_ccw")
    assert float(event["charge"]) == 1
    assert float(np.hypot(event["centre_x"] - 1.5, event["centre_y"] - 1.3)) < PITCH
    assert float(event["p_familywise"]) <= 0.05


@pytest.mark.parametrize(
    "module",
    [
        plane_fit,
        pytest.param(source_points, marks=pytest.mark.slow),
        pytest.param(rotation, marks=pytest.mark.slow),
    ],
)
def test_noise_holds_nothing_significant(module):
    found = module.analyse(recording(waves=False), None, module.Params(surrogates=19), seed=0)
    assert not (found["q"].values <= 0.05).any()


@pytest.mark.slow
def test_gaps_hold_nothing_and_no_event_spans_them():
    whole = recording(gap=(2.9, 3.1))
    params = plane_fit.Params(surrogates=9, bootstrap=20, shortest=2.0)
    found = plane_fit.analyse(whole, None, params, seed=0)
    assert np.isnan(found["frame_resultant"].sel(time=slice(2.9, 3.1))).all()
    assert not ((found["start"] < 3.0) & (found["stop"] > 3.05)).any()
    whole = recording(gap=(6.9, 7.1))
    turned = rotation.analyse(whole, None, rotation.Params(surrogates=9), seed=0)
    inside = (turned["cycle_time"] > 6.9) & (turned["cycle_time"] < 7.1)
    assert np.isnan(turned["cycle_rho"].values[inside.values]).all()
    assert not ((turned["start"] < 7.0) & (turned["stop"] > 7.05)).any()


def test_bad_input_is_refused_in_one_sentence(planted):
    with pytest.raises(InputError, match=r"at least 2\.5 times the upper edge"):
        plane_fit.analyse(planted, None, plane_fit.Params(band=(20.0, 120.0)), seed=0)
    position = np.column_stack([np.arange(16) * 0.1, np.zeros(16)])
    lfp = np.random.default_rng(0).normal(size=(2000, 16))
    with pytest.raises(InputError, match="all good electrodes on one line"):
        rotation.analyse(recording_of(lfp, position, RATE), None, rotation.Params(), seed=0)
