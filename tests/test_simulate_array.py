"""The simulated array: waves exactly as planted, a twin without lags, noise as asked for."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pynwb
import pytest
from scipy.signal import butter, csd, hilbert, sosfiltfilt, welch
from scipy.special import i0, i1

from driftwave.config import load_layout, parse_params
from driftwave.errors import InputError
from driftwave.ingest.simulate import array
from driftwave.ingest.simulate._episodes import Episode, field
from driftwave.ingest.simulate._noise import (
    band_rms,
    noise_blocks,
    power_law_filter,
    root,
    spatial_covariance,
)
from test_simulate import LAYOUTS, arrays_of, assert_clean

SHORT = array.Params(duration=8.0, unit_electrodes=6)
CLEAN = array.Params(duration=12.0, snr=np.inf, bad=0, unit_electrodes=0)


def lfp(params: array.Params, seed: int = 0, **options) -> np.ndarray:
    return np.concatenate(list(array.lfp_blocks(params, seed, **options)))


def changed(params: array.Params, **values) -> array.Params:
    return array.Params.model_validate({**params.model_dump(), **values})


def wave(kind: str, **values) -> Episode:
    return Episode(start=0.0, stop=2.0, kind=kind, frequency=12.0, phase=0.4, **values)


@pytest.fixture(scope="module")
def position() -> np.ndarray:
    return array.grid(array.Params(), 0).position


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("array")
    made = {"waves": SHORT, "twin": changed(SHORT, waves=False)}
    made["noise"] = changed(SHORT, waves=False, twin_kind="noise")
    for name, params in made.items():
        array.simulate(folder / f"{name}.nwb", params, seed=1)
    return {name: folder / f"{name}.nwb" for name in made}


def test_grid_lacks_its_corners():
    sites = array.grid(array.Params(bad=3), 0)
    assert sites.position.shape == (96, 2)
    assert (~sites.good).sum() == 3
    full = {(x, y) for x in range(10) for y in range(10)}
    found = {tuple(one) for one in np.rint(sites.position / 0.4).astype(int).tolist()}
    assert full - found == {(0, 0), (0, 9), (9, 0), (9, 9)}
    np.testing.assert_allclose(sites.position.max(0), 3.6)


def test_grid_may_lack_more_electrodes():
    sites = array.grid(array.Params(missing=5), 0)
    assert len(np.unique(sites.position, axis=0)) == len(sites.position) == 91


@pytest.mark.parametrize("direction", [-135.0, -20.0, 0.0, 90.0, 160.0])
@pytest.mark.parametrize("speed", [100.0, 400.0, 800.0])
def test_planar_phase_gradient_is_exact(position, direction, speed):
    planted = wave("planar", direction=direction, speed=speed)
    unit = field([planted], position, np.array([0.7]))[0]
    unit /= np.abs(unit)
    far = np.linalg.norm(position - position[:, None], axis=-1)
    one, other = np.nonzero(np.isclose(far, 0.4))
    steps = np.angle(unit[other] * unit[one].conj())
    gradient, *_ = np.linalg.lstsq(position[other] - position[one], steps, rcond=None)
    travels = -gradient  # phase = omega t - k.r
    assert np.rad2deg(np.arctan2(*travels[::-1])) == pytest.approx(direction, abs=1e-9)
    assert 2 * np.pi * 12 / np.linalg.norm(travels) == pytest.approx(speed, rel=1e-9)


def test_planar_waves_in_the_lfp_have_the_planted_direction_and_speed():
    params = changed(CLEAN, planar=1, radial=0, rotating=0)
    voltage, position = lfp(params), array.grid(params, 0).position
    time = np.arange(len(voltage)) / params.sampling_rate
    planted = array.episodes(params, position, 0)
    assert len(planted) >= 4
    for one in planted:
        # Whole cycles within the episode, so that the negative frequency drops out.
        cycles = np.floor((one.stop - one.start - 0.4) * one.frequency)
        middle = (one.start + one.stop) / 2
        rows = np.abs(time - middle) < cycles / one.frequency / 2
        phasor = np.hanning(rows.sum()) * np.exp(-2j * np.pi * one.frequency * time[rows])
        phase = phasor @ voltage[rows]
        angle = np.deg2rad(one.direction)
        guess = -one.wavenumber() * np.array([np.cos(angle), np.sin(angle)])
        plane = phase * np.exp(-1j * (position @ guess))
        residual = np.angle(plane / plane.sum())
        design = np.column_stack([position, np.ones(len(position))])
        k = -(guess + np.linalg.lstsq(design, residual, rcond=None)[0][:2])
        turned = np.rad2deg(np.arctan2(k[1], k[0])) - one.direction
        assert (turned + 180) % 360 - 180 == pytest.approx(0, abs=0.1)
        speed = 2 * np.pi * one.frequency / np.linalg.norm(k)
        assert speed == pytest.approx(one.speed, rel=0.003)


def test_planar_crests_move_along_the_direction(position):
    planted = wave("planar", direction=30.0, speed=200.0)
    along = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    before = planted.temporal(np.array([0.8])) * planted.spatial(position)
    moved = planted.temporal(np.array([0.81])) * planted.spatial(position + 200 * 0.01 * along)
    np.testing.assert_allclose(np.angle(moved / before), 0, atol=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("centre", [(1.3, 2.1), (-1.0, 4.4)])
def test_radial_crests_move_out_or_in(position, sign, centre):
    planted = wave("radial", speed=250.0, sign=sign, centre=centre)
    distance = np.linalg.norm(position - centre, axis=1)
    phase = np.angle(planted.spatial(position) * planted.spatial(np.array([centre]))[0].conj())
    expected = -sign * 2 * np.pi * 12 / 250 * distance
    np.testing.assert_allclose(np.angle(np.exp(1j * (phase - expected))), 0, atol=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_rotating_crests_turn_with_the_sign(sign):
    planted = wave("rotating", sign=sign, centre=(1.7, 1.9))
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.array([1.7, 1.9]) + np.stack([np.cos(angle), np.sin(angle)], -1)
    unit = planted.spatial(ring)
    winding = np.angle(np.roll(unit, -1) * unit.conj()).sum() / (2 * np.pi)
    assert winding == pytest.approx(-sign)
    # A quarter cycle later the crest is a quarter turn on, counter-clockwise for sign +1.
    quarter = 1 / 12 / 4
    now, later = planted.temporal(np.array([0.9, 0.9 + quarter]))
    assert np.argmax((later * unit).real) == (np.argmax((now * unit).real) + 10 * sign) % 40


def test_lfp_without_noise_is_the_field():
    voltage, sites = lfp(CLEAN), array.grid(CLEAN, 0)
    waves = array.episodes(CLEAN, sites.position, 0)
    time = np.arange(len(voltage)) / CLEAN.sampling_rate
    whole = field(waves, sites.position, time).real
    np.testing.assert_allclose(voltage, np.sqrt(2) * 40 * whole, atol=1e-9)
    for one in waves:
        rows = (time >= one.start) & (time < one.stop)
        rms = np.sqrt(np.mean(voltage[rows] ** 2, axis=0))
        np.testing.assert_allclose(rms, 40, rtol=0.02)
        assert np.abs(one.envelope(np.array([one.start, one.stop]))).max() < 1e-9


def test_episodes_keep_the_asked_ranges_and_shares(position):
    params = array.Params(duration=400.0)
    waves = array.episodes(params, position, 0)
    lengths = np.array([one.stop - one.start for one in waves])
    pauses = np.array([b.start - a.stop for a, b in itertools.pairwise(waves)])
    assert lengths.min() >= 1
    assert lengths.max() <= 2
    assert pauses.min() >= 0.5
    assert pauses.max() <= 1.5
    kinds = [one.kind for one in waves]
    shares = np.array([kinds.count(kind) for kind in ("planar", "radial", "rotating")])
    np.testing.assert_allclose(shares / len(waves), [0.5, 0.25, 0.25], atol=1 / len(waves))
    speeds = np.array([one.speed for one in waves if one.kind != "rotating"])
    assert speeds.min() >= 100
    assert speeds.max() <= 800
    assert {one.sign for one in waves if one.kind == "radial"} == {-1, 1}
    assert {one.sign for one in waves if one.kind == "rotating"} == {-1, 1}
    inside = [
        0 <= one.centre[0] <= 3.6 and 0 <= one.centre[1] <= 3.6
        for one in waves
        if one.kind == "radial"
    ]
    assert 0.3 < np.mean(inside) < 0.7


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5, 2.0])
def test_noise_has_the_asked_spectral_exponent(exponent):
    sections = power_law_filter(exponent, 1000.0)
    rng = np.random.default_rng(0)
    noise = np.concatenate(list(noise_blocks(sections, np.eye(8), 60_000, 10_000, 1000.0, rng)))
    frequency, power = welch(noise, 1000.0, nperseg=4096, axis=0)
    rows = (frequency > 2) & (frequency < 100)
    slope, _ = np.polyfit(np.log(frequency[rows]), np.log(power[rows].mean(1)), 1)
    assert -slope == pytest.approx(exponent, abs=0.1)
    inside = (frequency >= 5) & (frequency <= 40)
    measured = np.sqrt(np.trapezoid(power[inside].mean(1), frequency[inside]))
    assert band_rms(sections, 1000.0, (5.0, 40.0)) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("kernel", ["exponential", "gaussian"])
def test_noise_has_the_asked_spatial_covariance(position, kernel):
    covariance = spatial_covariance(position, 0.8, 0.9, kernel)
    mixing = root(covariance)
    np.testing.assert_allclose(mixing @ mixing.T, covariance, atol=1e-9)
    one, other = 40, 41
    distance = np.linalg.norm(position[one] - position[other])
    fall = np.exp(-distance / 0.8) if kernel == "exponential" else np.exp(-(distance**2) / 1.28)
    assert covariance[one, other] == pytest.approx(0.9 * fall)
    np.testing.assert_allclose(np.diag(covariance), 1)
    white = power_law_filter(0.0, 1000.0)
    rng = np.random.default_rng(1)
    noise = np.concatenate(list(noise_blocks(white, mixing, 20_000, 5_000, 1000.0, rng)))
    found = np.cov(noise.T) / np.square(np.abs(white[:, :3].sum(1) / white[:, 3:].sum(1)).prod())
    np.testing.assert_allclose(found, covariance, atol=5 / np.sqrt(20_000))


def test_noise_is_stationary_from_the_first_sample():
    sections = power_law_filter(2.0, 500.0)
    rng = np.random.default_rng(2)
    first = np.array(
        [next(noise_blocks(sections, np.eye(4), 2, 6000, 500.0, rng))[0] for _ in range(100)]
    )
    late = np.concatenate(list(noise_blocks(sections, np.eye(40), 20_000, 20_000, 500.0, rng)))
    assert first.std() == pytest.approx(late.std(), rel=0.15)


def test_signal_to_noise_ratio_is_as_defined():
    params = array.Params(duration=40.0, snr=2.5, bad=0, unit_electrodes=0)
    noise = lfp(changed(params, waves=False, twin_kind="noise"))
    sections = butter(4, [5, 40], "band", fs=1000, output="sos")
    rms = np.sqrt(np.mean(sosfiltfilt(sections, noise, axis=0) ** 2))
    assert 40 / rms == pytest.approx(2.5, rel=0.07)


def test_signal_does_not_depend_on_the_block():
    params = changed(SHORT, duration=3.0)
    np.testing.assert_allclose(lfp(params, block=0.7), lfp(params, block=10.0), atol=1e-8)


def test_memory_does_not_grow_with_the_recording():
    def peak(duration: float) -> int:
        params = array.Params(duration=duration, rows=5, columns=5, unit_electrodes=0)
        tracemalloc.start()
        for _ in array.lfp_blocks(params, 0, block=5.0):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(5.0)
    short, long = peak(15.0), peak(120.0)
    assert long < 1.2 * short
    assert long < 21 * 120_000 * 8


def test_twin_has_the_same_noise():
    noise = lfp(changed(SHORT, waves=False, twin_kind="noise"))
    waves, twin = lfp(SHORT), lfp(changed(SHORT, waves=False))
    sites = array.grid(SHORT, 0)
    time = np.arange(len(noise)) / 1000
    for params, voltage in ((SHORT, waves), (changed(SHORT, waves=False), twin)):
        planted = field(array.episodes(params, sites.position, 0), sites.position, time).real
        added = (voltage - noise)[:, sites.good]
        np.testing.assert_allclose(added, np.sqrt(2) * 40 * planted[:, sites.good], atol=1e-9)


def test_twin_bursts_keep_times_and_power_and_have_no_lag(position):
    params = array.Params()
    waves = array.episodes(params, position, 0)
    bursts = array.episodes(changed(params, waves=False), position, 0)
    assert len(waves) == len(bursts)
    for one, burst in zip(waves, bursts, strict=True):
        assert (one.start, one.stop, one.frequency) == (burst.start, burst.stop, burst.frequency)
        time = np.linspace(one.start, one.stop, 400)
        travelling, standing = (field([e], position, time) for e in (one, burst))
        power = [np.mean(np.abs(values) ** 2) for values in (travelling, standing)]
        assert power[0] == pytest.approx(power[1])
        cross = standing.T @ standing.conj()
        assert np.abs(cross.imag).max() < 1e-9 * np.abs(cross).max()
        cross = travelling.T @ travelling.conj()
        assert np.abs(cross.imag).max() > 0.1 * np.abs(cross).max()


def imaginary_coherency(voltage: np.ndarray) -> float:
    """Mean absolute imaginary coherency of distant pairs at 10-14 Hz."""
    pairs = [(20, 75), (5, 90), (11, 18), (30, 66), (45, 9), (80, 87)]
    values = []
    for one, other in pairs:
        frequency, cross = csd(voltage[:, one], voltage[:, other], 1000.0, nperseg=1000)
        power = [welch(voltage[:, i], 1000.0, nperseg=1000)[1] for i in (one, other)]
        rows = (frequency >= 10) & (frequency <= 14)
        values.append(np.abs((cross / np.sqrt(power[0] * power[1])).imag[rows]).mean())
    return float(np.mean(values))


def test_twin_has_no_more_imaginary_coherency_than_noise():
    params = array.Params(
        duration=40.0, planar=1, radial=0, rotating=0, speed=(100, 200), bad=0, unit_electrodes=0
    )
    found = {
        name: imaginary_coherency(lfp(changed(params, **values)))
        for name, values in {
            "waves": {},
            "twin": {"waves": False},
            "noise": {"waves": False, "twin_kind": "noise"},
        }.items()
    }
    # Zero coherency leaves about 0.8 / sqrt(2 n) with n independent segments.
    assert found["noise"] < 0.15
    assert found["twin"] < 0.15
    assert found["waves"] > 2 * found["twin"]


def test_spikes_lock_to_the_wave_as_planted():
    params = array.Params(duration=90.0, modulation=0.0, coupling=1.2, mean_rate=15)
    sites = array.grid(params, 0)
    units = array.population(params, sites, 0)
    times, _ = array.draw_spikes(params, sites, units, 0)
    waves = array.episodes(params, sites.position, 0)
    resultants, expected = [], []
    for unit, spikes in enumerate(times):
        site = sites.position[units.electrode[unit]][None]
        local = field(waves, site, spikes)[:, 0]
        plateau = np.abs(local) > 1.02
        phase = np.angle(local[plateau]) - units.phase[unit]
        resultants.append(np.exp(1j * phase).sum())
        kappa = params.coupling * np.abs(local[plateau])
        expected.append((i1(kappa) / i0(kappa)).sum())
    number = sum(len(one) for one in times)
    assert number > 40_000
    strength = np.sum(resultants) / np.sum(expected)
    assert strength.real == pytest.approx(1, abs=0.02)
    assert strength.imag == pytest.approx(0, abs=0.02)


def test_true_rates_agree_with_spikes():
    params = array.Params(duration=60.0)
    sites = array.grid(params, 0)
    units = array.population(params, sites, 0)
    times, rate = array.draw_spikes(params, sites, units, 0)
    assert rate.shape == (3000, len(units.electrode))
    edges = np.arange(3001) * 0.02
    counts = np.stack([np.histogram(one, edges)[0] for one in times], axis=-1)
    expected = rate * 0.02
    z = (counts.sum(0) - expected.sum(0)) / np.sqrt(expected.sum(0))
    assert np.abs(z).max() < 4.5
    fano = ((counts - expected) ** 2).mean() / expected.mean()
    assert fano == pytest.approx(1, abs=0.02)
    assert rate.mean() == pytest.approx(8, rel=0.02)
    hosts, number = np.unique(units.electrode, return_counts=True)
    assert len(hosts) == 30
    assert set(number) <= {1, 2, 3}
    assert sites.good[hosts].all()


@pytest.mark.parametrize("name", ["waves", "twin", "noise"])
def test_array_files_are_valid_and_clean(files, name):
    assert_clean(files[name])


def test_array_seed_decides_the_arrays(files, tmp_path):
    for seed in (1, 2):
        array.simulate(tmp_path / f"{seed}.nwb", SHORT, seed=seed)
    first, same, other = (
        arrays_of(path) for path in (files["waves"], tmp_path / "1.nwb", tmp_path / "2.nwb")
    )
    for name, values in first.items():
        np.testing.assert_array_equal(values, same[name], err_msg=name)
    signal = "processing/ecephys/LFP/lfp/data"
    assert not np.array_equal(first[signal], other[signal])


def test_array_file_holds_signal_and_truth(files):
    sites = array.grid(SHORT, 1)
    with pynwb.NWBHDF5IO(files["waves"], "r") as io:
        file = io.read()
        series = file.processing["ecephys"]["LFP"]["lfp"]
        microvolt = series.data[:] * series.conversion * 1e6
        table = file.intervals["waves"].to_dataframe()
        electrodes = file.electrodes.to_dataframe()
    assert series.data.dtype == np.int16
    assert np.abs(microvolt - lfp(SHORT, 1)).max() <= array.RESOLUTION / 2 + 1e-9
    np.testing.assert_allclose(electrodes[["rel_x", "rel_y"]] / 1000, sites.position)
    assert electrodes["good"].tolist() == sites.good.tolist()
    flat = (microvolt.std(0) == 0) & ~sites.good
    assert flat.sum() == 1
    waves = array.episodes(SHORT, sites.position, 1)
    assert table["kind"].tolist() == [one.kind for one in waves]
    for name in ("start_time", "stop_time", "direction", "speed", "frequency", "sign"):
        planted = [getattr(one, name.removesuffix("_time")) for one in waves]
        np.testing.assert_array_equal(table[name], planted)


def test_twin_file_says_that_nothing_travels(files):
    for name, kind in (("twin", "zero_lag"), ("noise", "none")):
        with pynwb.NWBHDF5IO(files[name], "r") as io:
            table = io.read().intervals["waves"].to_dataframe()
        assert set(table["kind"]) == {kind}
        assert table[["direction", "speed", "centre_x"]].isna().all(axis=None)
        assert set(table["sign"]) == {0}


def test_array_layout_reads_the_file(files):
    from driftwave.ingest.nwb import open_nwb, read_recording

    layout = load_layout("array", LAYOUTS)
    sites = array.grid(SHORT, 1)
    with open_nwb(files["waves"]) as file:
        tree = read_recording(file, layout, session="short").compute()
    signal = tree["field/lfp"]
    assert signal.sizes == {"time": 2000, "electrode": 96}
    assert tree["field"].attrs["sampling_rate"] == 250
    assert tree["field/good"].values.tolist() == sites.good.tolist()
    np.testing.assert_allclose(tree["field/x"].values, sites.position[:, 0], atol=1e-6)
    fast, slow = (butter(4, [5, 40], "band", fs=rate, output="sos") for rate in (1000, 250))
    direct = sosfiltfilt(fast, lfp(SHORT, 1), axis=0)[::4]
    found = sosfiltfilt(slow, signal.values, axis=0)
    for site in np.flatnonzero(sites.good):
        assert np.corrcoef(direct[50:-50, site], found[50:-50, site])[0, 1] > 0.999
    waves = array.episodes(SHORT, sites.position, 1)
    assert tree["truth/wave_kind"].values.tolist() == [one.kind for one in waves]
    units = array.population(SHORT, sites, 1)
    times, rate = array.draw_spikes(SHORT, sites, units, 1)
    assert tree["spikes/counts"].values.sum() == sum(map(len, times))
    np.testing.assert_allclose(tree["truth/rate"].values.reshape(400, -1), rate, rtol=1e-5)
    assert set(tree["trials/split"].values.astype(str)) >= {"train", "valid", "test"}


def test_analytic_phase_of_the_lfp_follows_the_planted_phase():
    params = changed(CLEAN, planar=0, radial=1, rotating=1)
    voltage, position = lfp(params), array.grid(params, 0).position
    time = np.arange(len(voltage)) / params.sampling_rate
    analytic = hilbert(voltage, axis=0)
    for one in array.episodes(params, position, 0):
        rows = np.abs(time - (one.start + one.stop) / 2) < 0.2
        planted = field([one], position, time[rows])
        error = np.angle(analytic[rows] * planted.conj())
        assert np.abs(error).max() < 0.02


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"speed": [400, 100]}, "speed"),
        ({"rows": 4, "columns": 4}, "unit_electrodes"),
        ({"planar": 0, "radial": 0, "rotating": 0}, "shares"),
        ({"snr": 0}, "snr"),
        ({"twin": True}, "twin"),
    ],
)
def test_array_params_are_checked(params, named):
    with pytest.raises(InputError, match=named):
        parse_params(array, params, "array")


def test_params_survive_json():
    assert array.Params.model_validate_json(CLEAN.model_dump_json()) == CLEAN
