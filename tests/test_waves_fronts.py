"""Wave fronts: triggers, their grouping, slowness and shape, against planted waves."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest

from driftwave.config import load_layout
from driftwave.errors import InputError
from driftwave.fronts.grouping import Grouping
from driftwave.fronts.pooling import pooled_evidence
from driftwave.fronts.refit import Refit, distinct
from driftwave.fronts.shapes import Cones, permutation_p, shape_of
from driftwave.fronts.slowness import fieller, slowness
from driftwave.fronts.triggers import (
    Triggers,
    after_silence,
    crossings,
    ordered,
    phase_crossings,
    troughs,
)
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.waves.wave_fronts import Params, analyse
from waves_cases import grid, in_band, noise, phase_of, recording_of

LAYOUTS = {
    "10x10": grid(),
    "8x4": grid(8, 4),
    "1x32": np.column_stack([np.zeros(32), np.arange(32) * 0.1]),
    "ecog": grid(8, 6) * 5 + np.random.default_rng(3).normal(0, 0.5, (48, 2)),
}
LAYOUT_FOLDER = Path(__file__).resolve().parents[1] / "config" / "layouts"
FAST = Params(bootstrap=20, surrogates=8)


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def pulses(position, direction, speed, *, rate=500.0, gap=0.2, width=0.01, noise_sd=0.2, seed=0):
    """Gaussian troughs (time, electrode), one wave every ``gap`` seconds; their times (wave,)."""
    rng = np.random.default_rng(seed)
    at = gap * (1 + np.arange(len(speed)))
    time = np.arange(int((len(speed) + 1) * gap * rate)) / rate
    lfp = noise_sd * rng.normal(size=(len(time), len(position)))
    centred = position - position.mean(axis=0)
    for when, angle, v in zip(at, np.deg2rad(direction), speed, strict=True):
        arrival = when + centred @ np.array([np.cos(angle), np.sin(angle)]) / v
        near = np.abs(time - when) < gap
        lfp[near] -= np.exp(-0.5 * ((time[near, None] - arrival) / width) ** 2)
    return lfp, at


def nearest(found, at):
    """Number of the true wave that each event is closest to."""
    middle = (found["start"].values + found["stop"].values) / 2
    return np.abs(middle[:, None] - at).argmin(axis=1)


def ratios(found, direction, speed, at):
    """Found over true slowness of each event, as complex numbers."""
    true = np.exp(1j * np.deg2rad(direction)) / speed
    here = found["slowness_x"].values + 1j * found["slowness_y"].values
    return here / true[nearest(found, at)]


def test_a_trough_is_placed_between_samples():
    time = np.arange(100) / 100.0
    values = -np.cos(2 * np.pi * 4 * (time - np.array([[0.3333], [0.4071]])))
    found = troughs(values, np.array([0.5, 0.5]))
    for electrode, true in ((0, 0.3333), (1, 0.4071)):
        when = found.time[found.electrode == electrode] / 100
        assert np.abs(when - true).min() < 2e-4
    assert len(troughs(values, np.array([1.1, 1.1]))) == 0


def test_level_and_phase_crossings_are_exact_for_straight_courses():
    ramp = np.linspace(-1, 1, 21)[None]
    assert crossings(ramp, np.array([0.33])).time == pytest.approx([13.3])
    turning = np.exp(1j * (0.1 * np.arange(60) - 2.0))[None]
    found = phase_crossings(turning, 1.234, np.array([0.5]))
    assert found.time == pytest.approx([32.34])
    assert len(phase_crossings(turning, 1.234, np.array([1.5]))) == 0


def test_missing_samples_make_no_trigger():
    values = np.full((2, 20), np.nan)
    assert len(troughs(values, np.ones(2))) == len(crossings(values, np.ones(2))) == 0


def test_silence_is_kept_across_stretches():
    last = np.full(2, -np.inf)
    first = after_silence(ordered(np.array([0.0, 0.4, 0.8, 1.3]), np.zeros(4)), 1.0, last)
    np.testing.assert_allclose(first.time, [0.0, 1.3])
    later = ordered(np.array([1.5, 2.0, 2.4]), np.array([0, 1, 0]))
    np.testing.assert_allclose(after_silence(later, 1.0, last).time, [2.0, 2.4])


def test_every_wave_is_counted_once_however_the_recording_is_cut():
    """Grouping stretch by stretch gives the groups of the whole."""
    rng = np.random.default_rng(0)
    position = grid(6, 6)
    time, electrode = [], []
    for wave in range(40):
        late = position @ rng.normal(0, 0.004, 2)
        time.append(0.21 * wave + late + rng.normal(0, 1e-3, 36))
        electrode.append(np.arange(36))
    stray = rng.uniform(0, 8.4, 200), rng.integers(0, 36, 200)
    all_of_them = ordered(np.concatenate([*time, stray[0]]), np.concatenate([*electrode, stray[1]]))
    grouping = Grouping(position, 0.8, 0.02, 3, 12, 30.0)
    whole = list(grouping.stream([(all_of_them, np.inf)]))
    ends = [*np.arange(0.5, 8.4, 0.37), np.inf]
    parts, low = [], -np.inf
    for end in ends:
        inside = (all_of_them.time >= low) & (all_of_them.time < end)
        parts.append((all_of_them[inside], end))
        low = end
    cut = list(grouping.stream(parts))
    assert len(whole) == len(cut) >= 40
    for one, other in zip(
        sorted(whole, key=lambda w: w.time[0]), sorted(cut, key=lambda w: w.time[0]), strict=True
    ):
        np.testing.assert_array_equal(one.time, other.time)
        assert len(np.unique(one.electrode)) == len(one)


def test_waves_that_follow_closely_are_taken_apart():
    position = grid(8, 8)
    late = position @ np.array([0.01, 0.0])
    time = np.concatenate([late, late + 0.022])
    triggers = ordered(time, np.tile(np.arange(64), 2))
    grouping = Grouping(position, 0.8, 0.025, 3, 12, 30.0)
    assert len(np.unique(grouping.labels(triggers))) == 1
    waves = list(grouping.stream([(triggers, np.inf)]))
    assert sorted(len(wave) for wave in waves) == [64, 64]
    for wave, first in zip(sorted(waves, key=lambda w: w.time[0]), (0.0, 0.022), strict=True):
        np.testing.assert_allclose(wave.time, first + late[wave.electrode])


def test_each_of_a_hundred_and_twenty_waves_has_its_own_label():
    """Cobrawap sorts labels as text: from 11 waves on directions go to other waves."""
    position = grid(6, 6)
    rng = np.random.default_rng(1)
    direction = rng.uniform(-180, 180, 120)
    lfp, at = pulses(position, direction, np.full(120, 200.0), noise_sd=0.02)
    params = Params(bootstrap=20, null="none", threshold=2.0)
    found = analyse(recording_of(lfp, position, 500.0), None, params, seed=0)
    assert found.sizes["event"] == 120
    np.testing.assert_array_equal(nearest(found, at), np.arange(120))
    error = np.angle(ratios(found, direction, 200.0, at), deg=True)
    assert np.abs(error).max() < 3
    assert "p" not in found
    member = found["trigger_event"].values
    begin = [found["trigger_time"].values[member == event].min() for event in range(120)]
    np.testing.assert_allclose(begin, found["start"].values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slowness_is_unbiased_on_any_layout(layout):
    position = LAYOUTS[layout]
    rng = np.random.default_rng(2)
    extent = float(np.ptp(position, axis=0).max())
    found, inverse, covered = [], [], 0
    for _ in range(200):
        angle = rng.uniform(-np.pi, np.pi) if layout != "1x32" else np.pi / 2
        true = np.array([np.cos(angle), np.sin(angle)]) / 200.0
        noisy = position @ true + rng.normal(0, 0.15 * extent / 200.0, len(position))
        fit = slowness(position, noisy, draws=40, rng=rng)
        found.append(complex(*fit.vector) / complex(*true))
        row = fit.row()
        covered += row["speed_low"] <= 200 <= row["speed_high"]
        centred, late = position - position.mean(axis=0), noisy - noisy.mean()
        inverse.append(np.hypot(*(centred.T @ late / (late @ late))) / 200.0)
    mean = np.mean(found)
    assert abs(mean) == pytest.approx(1, abs=0.02)
    assert abs(np.angle(mean, deg=True)) < 1
    assert covered >= 180  # of 190 at the nominal level
    if layout == "8x4":
        assert abs(np.mean(inverse) - 1) > 0.05  # position regressed on time, as peers do


def test_one_wild_trigger_does_not_turn_a_front():
    position = grid(6, 6)
    late = position @ np.array([0.005, 0.0])
    late[0] += 0.2
    fit = slowness(position, late, draws=20, rng=np.random.default_rng(0))
    assert 1 / np.hypot(*fit.vector) == pytest.approx(200, rel=0.03)
    plain = np.linalg.lstsq(np.column_stack([position, np.ones(36)]), late, rcond=None)[0]
    assert np.hypot(*plain[:2]) > 1.5 * 0.005


@pytest.mark.parametrize(
    ("truth", "centre"),
    [("planar", None), ("radial_out", (1.3, 2.1)), ("radial_in", (1.3, 2.1)), ("none", None)],
)
def test_the_shape_that_predicts_unseen_electrodes_is_named(truth, centre):
    position, right = grid(), 0
    cones = Cones.of(position, 0.4)
    rng = np.random.default_rng(4)
    for _ in range(10):
        if centre is None:
            slope = np.zeros(2) if truth == "none" else rng.normal(0, 1, 2)
            late = position @ slope / (200 * max(np.hypot(*slope), 1e-9))
        else:
            late = np.hypot(*(position - centre).T) / (200 if truth == "radial_out" else -200)
        shape = shape_of(position, late + rng.normal(0, 1e-3, 100), np.arange(100), cones)
        right += shape.name == truth
        assert shape.heldout[truth] < 1.05 * 1e-3  # mean |error| of the noise itself is 0.8 ms
        if centre is not None:
            assert np.hypot(*(shape.centre - centre)) < 0.4
            assert abs(1 / shape.slope) == pytest.approx(200, rel=0.1)
    assert right >= 9


def test_permuted_times_are_a_null_only_for_exchangeable_electrodes():
    position = grid(6, 6)
    cones = Cones.of(position, 0.4)
    rng = np.random.default_rng(5)
    p = [
        permutation_p(position, rng.normal(size=36), np.arange(36), cones, permutations=39, rng=rng)
        for _ in range(100)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.12
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)


def test_evidence_grows_with_waves_alike_and_not_with_waves_that_turn():
    position = grid(6, 6)
    cones = Cones.of(position, 0.4)
    rng = np.random.default_rng(6)

    def train(signs):
        return [
            Triggers(0.1 * n + sign * position[:, 0] / 200 + rng.normal(0, 1e-3, 36), np.arange(36))
            for n, sign in enumerate(signs)
        ]

    alike = pooled_evidence(train(np.ones(12)), position, cones, 10.0)
    turning = pooled_evidence(train([1, -1] * 6), position, cones, 10.0)
    assert alike.min() > 9
    assert turning.max() < 1
    alone = pooled_evidence(train(np.ones(12)), position, cones, 0.05)
    assert alone.max() <= 1.01


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.slow
def test_travelling_pulses_are_found_without_bias(layout):
    """T1: mean slowness of 200 pulses within 2 % and 1 degree, through triggers and grouping."""
    position = LAYOUTS[layout]
    rng = np.random.default_rng(7)
    direction = np.full(200, 90.0) if layout == "1x32" else rng.uniform(-180, 180, 200)
    scale = {"ecog": 5.0, "1x32": 0.25}.get(layout, 1.0)
    speed = scale * np.exp(rng.uniform(*np.log((100, 400)), 200))
    lfp, at = pulses(position, direction, speed, noise_sd=0.1, seed=1)
    params = Params(bootstrap=40, threshold=2.0, null="none")
    found = analyse(recording_of(lfp, position, 500.0), None, params, seed=0)
    assert len(np.unique(nearest(found, at))) == 200
    assert found.sizes["event"] <= 204
    ratio = ratios(found, direction, speed, at)
    assert abs(np.mean(ratio)) == pytest.approx(1, abs=0.02)
    assert abs(np.angle(np.mean(ratio), deg=True)) < 1
    assert (found["class"].values == "planar").mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        {"exponent": 0.0},
        {"exponent": 1.0},
        {"length": 0.6, "shared": 0.5},
        {"length": 2.0, "shared": 0.9},
    ],
)
def test_noise_without_waves_gives_no_significant_ones(kind):
    position = grid()
    lfp = noise(np.random.default_rng(8), position, 5000, 250.0, **kind).T
    found = analyse(recording_of(lfp, position, 250.0), None, FAST, seed=0)
    assert found.sizes["event"] > 50
    # Pooled over neighbours, the p values of 20 s come in few independent clusters.
    assert (found["p"].values <= 0.05).mean() < 0.2
    assert (found["q"].values <= 0.05).mean() < 0.03


def steady(position, seconds, seed, direction=30):
    """12 Hz at 150 mm/s and twice the band's noise, 250 Hz (time, electrode)."""
    count = round(250 * seconds)
    time = np.arange(count) / 250.0
    wave = phase_of("planar", position, frequency=12, speed=150, direction=direction)
    rng = np.random.default_rng(seed)
    background = noise(rng, position, count, 250.0, length=0.6, shared=0.5)
    lfp = 2 * np.sqrt(2) * np.cos(2 * np.pi * 12 * time[:, None] + wave)
    return lfp + background.T / in_band(background, 250.0)


@pytest.mark.slow
def test_steady_waves_in_noise_are_significant_each_once_and_unbiased():
    """Slowness of groups as DBSCAN leaves them is 20 % too small here."""
    position = grid(8, 8)
    recording = recording_of(steady(position, 10, 9), position, 250.0)
    found = analyse(recording, None, FAST, seed=0)
    sure = found.isel(event=found["q"].values <= 0.05)
    assert found.attrs["null"] == "zero-lag surrogates"
    assert 114 <= sure.sizes["event"] <= 122  # 120 cycles
    # Noise of .37 per wave, correlated over a few: a standard error of .04 in size and 2 degrees.
    vector = (sure["slowness_x"] + 1j * sure["slowness_y"]).values.mean()
    assert np.degrees(np.angle(vector)) == pytest.approx(30, abs=5)
    assert 150 * abs(vector) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "error"), [("10x10", 0.03), ("8x4", 0.06)])
def test_slowness_in_noise_is_unbiased(layout, error):
    """360 cycles; standard errors of .010 and .02 (10x10), .018 and .03 (8x4) along and across."""
    position = LAYOUTS[layout]
    recording = recording_of(steady(position, 30, 13), position, 250.0)
    found = analyse(recording, None, Params(null="none", bootstrap=20), seed=0)
    assert found.sizes["event"] == pytest.approx(360, abs=4)
    vector = (found["slowness_x"] + 1j * found["slowness_y"]).values
    ratio = np.mean(vector) * 150 * np.exp(-1j * np.deg2rad(30))
    assert ratio.real == pytest.approx(1, abs=error)
    assert abs(ratio.imag) < error


def test_the_trigger_nearest_to_the_front_is_taken():
    """A stray trigger near its neighbours' times gives way to the one on the front."""
    position = grid(6, 6)
    cones = Cones.of(position, 0.4)
    true = position[:, 0] * 0.01
    stray = np.where(np.arange(36) % 3 == 0, true.mean(), true)
    every = ordered(
        np.concatenate([true, stray[::3]]), np.concatenate([np.arange(36), np.arange(0, 36, 3)])
    )
    refit = Refit(position, cones, 0.8, 0.03, 6)
    group = ordered(stray[:30], np.arange(30))
    wave = refit(group, every)
    assert len(wave) == 36  # the last row joins
    np.testing.assert_allclose(wave.time, true[wave.electrode])


def test_two_parts_of_a_wave_count_once():
    wave = Triggers(np.arange(20) / 100.0, np.arange(20))
    later = Triggers(1 + np.arange(20) / 100.0, np.arange(20))
    kept = distinct([wave[:12], wave, later, wave[9:]], np.array([12, 20, 20, 11]))
    assert kept.tolist() == [False, True, True, False]


@pytest.mark.parametrize("spread", [0.02, 0.6])
def test_an_angle_s_interval_is_fieller_s(spread):
    """Against the angles at which the component across them is within its interval."""
    covariance = spread**2 * np.array([[1.0, 0.3], [0.3, 0.5]])
    low, high = fieller(covariance)
    angle = np.linspace(-1.5, 1.5, 30001)
    across = np.stack([-np.sin(angle), np.cos(angle)])
    inside = np.sin(angle) ** 2 <= np.einsum("ia,ij,ja->a", across, covariance, across)
    np.testing.assert_allclose([angle[inside].min(), angle[inside].max()], [low, high], atol=2e-4)


def test_nothing_in_the_recording_gives_an_empty_table():
    position = grid(5, 5)
    lfp = np.random.default_rng(0).normal(size=(1000, 25))
    params = Params(threshold=50.0, surrogates=2)
    found = analyse(recording_of(lfp, position, 250.0), None, params, seed=0)
    assert found.sizes["event"] == 0
    assert {"start", "stop", "class", "p", "q"} <= set(found)


def test_a_phase_needs_a_band():
    lfp = np.random.default_rng(0).normal(size=(1000, 25))
    recording = recording_of(lfp, grid(5, 5), 250.0)
    with pytest.raises(ValueError, match="lower one first"):
        Params(band=(40.0, 5.0))
    with pytest.raises(InputError, match="without a band"):
        analyse(recording, None, Params(band=None, trigger="phase"), seed=0)


@pytest.mark.parametrize("trigger", ["threshold", "phase"])
def test_other_triggers_find_the_same_wave(trigger):
    position = grid(6, 6)
    direction, speed = np.full(20, -50.0), np.full(20, 150.0)
    lfp, at = pulses(position, direction, speed, noise_sd=0.02)
    params = Params(bootstrap=20, null="none", trigger=trigger, threshold=1.0, target_phase=0.0)
    found = analyse(recording_of(-lfp, position, 500.0), None, params, seed=0)
    ratio = ratios(found, direction, speed, at)
    assert set(nearest(found, at)) == set(range(20))
    assert np.abs(np.angle(ratio, deg=True)).max() < 4
    assert np.abs(ratio).mean() == pytest.approx(1, abs=0.03)


@pytest.mark.slow
@pytest.mark.recording
def test_retinal_waves_spread_at_their_known_speed(recordings):
    """Glutamatergic (stage III) waves travel at 0.1 to 0.5 mm/s."""
    with open_nwb(recordings / "retinal_waves.nwb") as file:
        layout = load_layout("retinal_waves", LAYOUT_FOLDER)
        retina = read_recording(file, layout, session="retina").load()
    params = Params(
        bin_width=0.1,
        share=0.05,
        lag=1.0,
        silence=5.0,
        reach=4.0,
        neighbours=8,
        bootstrap=20,
        surrogates=19,
    )
    found = analyse(retina, None, params, seed=0)
    assert 60 < found.sizes["event"] < 200
    assert found.attrs["null"] == "electrodes shuffled in space"
    assert (found["p"].values <= 0.05).mean() > 0.5
    assert 0.1 < float(found["speed"].median()) < 0.5
    assert 0.5 < float(found["extent"].median()) < 2.7
    assert (found["class"].values == "radial_out").mean() > 0.5
    share = float((found["stop"] - found["start"]).sum()) / 1800
    assert 0.1 < share < 0.5
