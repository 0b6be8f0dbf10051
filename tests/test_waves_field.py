"""The waves stage on whole recordings: events, truth, chunks, null, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.figures import wave_field, waves
from driftwave.nulls.surrogates import (
    CrossSpectrum,
    benjamini_hochberg,
    surrogate,
    zero_lag_factors,
)
from driftwave.phase.directionality import directionality_of
from driftwave.phase.electrodes import place
from driftwave.store import open_dataset, verify_store, write_tree
from driftwave.waves.phase_gradient import Params, analyse
from waves_cases import grid, noise, phase_of, recording_of

RATE = 250.0
FAST = Params(surrogates=39, bootstrap=40, delay_band=None)
# start (s), stop (s), kind, sign, direction (deg), speed (mm/s)
WAVES = [
    (3.0, 5.0, "planar", 0, 70.0, 120.0),
    (8.0, 10.0, "rotating", 1, np.nan, np.nan),
    (13.0, 15.0, "radial", 1, np.nan, 110.0),
    (18.0, 20.0, "planar", 0, -140.0, 160.0),
    (23.0, 25.0, "radial", -1, np.nan, 110.0),
    (28.0, 30.0, "rotating", -1, np.nan, np.nan),
]
CENTRE = (2.1, 1.5)


def simulated(*, waves: bool = True, seed: int = 0, seconds: float = 34.0) -> xr.DataTree:
    """Six waves (or none) in spatially correlated 1/f noise on a 10 x 10 array."""
    rng = np.random.default_rng(seed)
    position = grid(corners=False)
    time = np.arange(round(seconds * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=1.0, shared=0.9, power=1.0)
    for start, stop, kind, sign, direction, speed in WAVES if waves else []:
        phase = phase_of(
            kind,
            position,
            frequency=12,
            speed=120 if np.isnan(speed) else speed,
            direction=0 if np.isnan(direction) else direction,
            centre=CENTRE,
            sign=sign,
        )
        inside = (time >= start) & (time < stop)
        field[:, inside] += 2 * np.cos(2 * np.pi * 12 * time[inside] + phase[:, None])
    truth = None
    if waves:
        columns = np.array([(a, b, s, d, v) for a, b, _, s, d, v in WAVES]).T
        names = ("start", "stop", "sign", "direction", "speed")
        truth = xr.Dataset({f"wave_{n}": ("wave", c) for n, c in zip(names, columns, strict=True)})
        truth["wave_kind"] = ("wave", [wave[2] for wave in WAVES])
        for axis, place_of in zip("xy", CENTRE, strict=True):
            truth[f"wave_centre_{axis}"] = ("wave", np.full(len(WAVES), place_of))
    good = np.ones(len(position), bool)
    good[[7, 40]] = False
    field[7] = 1e4 * rng.normal(size=len(time))
    return recording_of(100 * field.T, position, RATE, good=good, truth=truth, start=5.0)


@pytest.fixture(scope="module")
def recording():
    tree = simulated()
    # The session clock does not start at zero; the truth is on it too.
    tree["truth"] = (
        tree["truth"]
        .to_dataset()
        .assign(wave_start=lambda d: d.wave_start + 5, wave_stop=lambda d: d.wave_stop + 5)
    )
    return tree


@pytest.fixture(scope="module")
def result(recording):
    return analyse(recording, None, FAST, seed=0)


def test_every_wave_is_found_with_its_class(result):
    assert result["match_class"].values.tolist() == result["true_class"].values.tolist()
    assert result["match_significant"].values.all()
    assert result["match_overlap"].values.min() > 0.6
    assert (result["p_recording"].values <= 0.05).all()


def test_direction_speed_and_centre_of_waves(result):
    planar = result["true_class"].values == "planar"
    assert result["match_direction_error"].values[planar].max() < 5
    speeds = result["match_speed_ratio"].values
    np.testing.assert_allclose(speeds[np.isfinite(speeds)], 1, atol=0.12)
    assert np.nanmax(result["match_centre_error"].values) < 0.4
    event = result.isel(event=result["match_event"].values[0])
    assert event["direction_low"] < 70 < event["direction_high"]
    assert event["speed_low"] < 120 < event["speed_high"]
    assert event["frequency"] == pytest.approx(12, abs=0.5)
    assert event["wavelength"] == pytest.approx(event["speed"] / event["frequency"])


def test_rotation_and_radial_evidence_is_signed(result):
    by_class = {str(c): i for i, c in enumerate(result["class"].values)}
    assert result["charge"].values[by_class["rotating_ccw"]] == 1
    assert result["charge"].values[by_class["rotating_cw"]] == -1
    assert result["rho"].values[by_class["radial_out"]] > 0.9
    assert result["rho"].values[by_class["radial_in"]] < -0.9


def test_dense_measures_follow_the_waves(result):
    inside = (result["time"] > 8.5) & (result["time"] < 9.5)
    direction = np.deg2rad(result["frame_direction"].values[inside])
    mean = np.angle(np.exp(1j * direction).mean(), deg=True)
    assert mean == pytest.approx(70, abs=10)
    assert result["frame_direction"].attrs["units"] == "degree"
    assert float(result["pgd"].values[inside].mean()) > 2 * float(result["pgd"].median())


def test_bad_electrodes_are_left_out(result):
    assert {7, 40}.isdisjoint(result["electrode"].values.tolist())


@pytest.mark.slow
def test_nothing_is_significant_without_waves():
    found = analyse(simulated(waves=False), None, FAST, seed=0)
    assert not (found["q"].values <= 0.05).any()
    assert (found["p_recording"].values > 0.05).all()


@pytest.mark.slow
def test_zero_lag_bursts_are_not_waves():
    rng = np.random.default_rng(3)
    position = grid(corners=False)
    time = np.arange(round(30 * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=2.0, shared=0.9)
    for start in range(2, 28, 4):
        inside = (time >= start) & (time < start + 2)
        gain = np.sign(position @ rng.normal(size=2) - 1) * (1 + 0.3 * rng.random(len(position)))
        field[:, inside] += 3 * gain[:, None] * np.cos(2 * np.pi * 12 * time[inside])
    found = analyse(recording_of(field.T, position, RATE), None, FAST, seed=0)
    assert not (found["q"].values <= 0.05).any()
    assert (found["p_recording"].values > 0.05).all()


@pytest.mark.slow
def test_same_seed_same_result_and_store_is_whole(recording, tmp_path):
    few = FAST.model_copy(update={"surrogates": 19, "bootstrap": 20})
    short = recording.copy()
    short["field"] = recording["field"].to_dataset().isel(time=slice(0, 2500))
    again, first, other = (analyse(short, None, few, seed=seed) for seed in (0, 0, 1))
    xr.testing.assert_identical(again, first)
    assert not np.array_equal(again["null_mean"].values, other["null_mean"].values)
    write_tree(again, tmp_path / "waves.zarr")
    assert verify_store(tmp_path / "waves.zarr") == []
    back = open_dataset(tmp_path / "waves.zarr")
    assert back["class"].values.tolist() == again["class"].values.tolist()


def test_figures_are_drawn_with_and_without_events(recording, result, tmp_path):
    drawn = waves.draw(recording, {"waves": result})
    assert len(drawn.axes) == 8
    strips = wave_field.draw(recording, {"waves": result})
    assert len(strips.axes) == 4 * 7 + 1
    empty = result.isel(event=slice(0, 0)).drop_dims("true_wave")
    write_tree(empty, tmp_path / "empty.zarr")
    back = open_dataset(tmp_path / "empty.zarr")
    assert waves.draw(None, {"waves": back}).axes
    assert wave_field.draw(recording, {"waves": back}).axes


def test_surrogates_keep_zero_lag_structure_and_drop_lags():
    rng = np.random.default_rng(0)
    position = grid(5, 5)
    frames, length = 60_000, 50
    common = rng.normal(size=(1, frames)) + 1j * rng.normal(size=(1, frames))
    phase = phase_of("planar", position, frequency=12, speed=60)
    lagged = np.exp(1j * phase)[:, None] * np.roll(common, 5, axis=1)
    field = common + lagged + 0.3 * rng.normal(size=(25, frames))
    target = CrossSpectrum.of(field.astype(np.complex64), length).mean
    drawn = surrogate(zero_lag_factors(target), frames, rng)
    found = CrossSpectrum.of(drawn, length).mean
    scale = np.trace(target.real, axis1=1, axis2=2).mean() / 25
    ratio = np.trace(found.real, axis1=1, axis2=2).mean() / 25 / scale
    np.testing.assert_allclose(found.real / ratio / scale, target.real / scale, atol=0.5)
    assert np.abs(target.imag).mean() / scale > 0.3
    assert np.abs(found.imag).mean() / ratio / scale < 0.1


def test_cauchy_schwarz_bounds_the_statistic():
    position = grid()
    measure = directionality_of(place(position))
    rng = np.random.default_rng(1)
    field = rng.normal(size=(100, 50)) + 1j * rng.normal(size=(100, 50))
    assert measure(field).statistic().max() <= 1
    phase = phase_of("planar", position, frequency=12, speed=100, direction=33)
    plane = np.exp(1j * phase)[:, None] * np.ones(10)
    np.testing.assert_allclose(measure(plane).statistic()[0], 1, atol=1e-6)


def test_benjamini_hochberg_by_hand():
    p = np.array([0.04, 0.01, 0.03, 0.5])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.16 / 3, 0.04, 0.16 / 3, 0.5])
    assert benjamini_hochberg(np.zeros(0)).shape == (0,)


@pytest.mark.slow
def test_waves_near_the_spatial_nyquist_are_flagged():
    position = grid(corners=False)
    time = np.arange(round(12 * RATE)) / RATE
    rng = np.random.default_rng(2)
    speed = 2 * np.pi * 12 / (0.9 * np.pi / 0.4)
    phase = phase_of("planar", position, frequency=12, speed=speed)
    field = np.cos(2 * np.pi * 12 * time + phase[:, None])
    field = field + 0.1 * rng.normal(size=field.shape)
    found = analyse(recording_of(field.T, position, RATE), None, FAST, seed=0)
    assert found.sizes["event"] >= 1
    assert found["aliased"].values.all()
    assert float(found["frame_aliased"].mean()) > 0.4


def _cut(recording: xr.DataTree, **changes) -> xr.DataTree:
    dataset = recording["field"].to_dataset()
    tree = recording.copy()
    tree["field"] = dataset.assign_coords({k: ("electrode", v) for k, v in changes.items()})
    return tree


@pytest.mark.parametrize("case", ["few", "missing", "twice"])
def test_unusable_electrodes_are_named(recording, case):
    dataset = recording["field"].to_dataset()
    x, y = dataset["x"].values.copy(), dataset["y"].values.copy()
    good = dataset["good"].values.copy()
    word = {"few": "3 good", "missing": "[5]", "twice": "same position"}[case]
    if case == "few":
        good[3:] = False
    elif case == "missing":
        x[5] = np.nan
    else:
        x[5], y[5] = x[6], y[6]
    with pytest.raises(InputError, match="field/") as error:
        analyse(_cut(recording, x=x, y=y, good=good), None, FAST, seed=0)
    assert word in str(error.value)


def test_band_and_length_must_suit_the_recording(recording):
    with pytest.raises(InputError, match="sampling_rate"):
        analyse(recording, None, Params(band=(5, 120)), seed=0)
    short = recording.copy()
    short["field"] = recording["field"].to_dataset().isel(time=slice(0, 200))
    with pytest.raises(InputError, match=r"0\.80 s"):
        analyse(short, None, FAST, seed=0)


def test_recording_without_field_or_positions(recording):
    with pytest.raises(InputError, match="field"):
        analyse(recording.drop_nodes("field"), None, FAST, seed=0)
    tree = recording.copy()
    tree["field"] = recording["field"].to_dataset().drop_vars("x")
    with pytest.raises(InputError, match="positions"):
        analyse(tree, None, FAST, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(("length", "shared"), [(0.6, 0.5), (2.0, 0.9), (1.0, 0.0)])
def test_false_positives_stay_at_the_nominal_level(length, shared):
    position = grid(8, 8)
    count, rejected, events = 60, np.zeros(3), 0
    params = Params(band=(8, 16), phase="narrowband", surrogates=19, delay_band=None)
    for seed in range(count):
        rng = np.random.default_rng([7, seed])
        field = noise(rng, position, round(20 * RATE), RATE, length=length, shared=shared)
        found = analyse(recording_of(field.T, position, RATE), None, params, seed=seed)
        rejected += found["p_recording"].values <= 0.05
        events += bool((found["q"].values <= 0.05).any())
    # 9 of 60 or more has probability .002 at a level of .05.
    assert rejected.max() < 9
    assert events < 9
