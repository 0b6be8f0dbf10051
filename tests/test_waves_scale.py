"""The waves stage in stretches: chunks, threads, gaps, dense fields on disk, many electrodes."""

from __future__ import annotations

import multiprocessing
import pickle
import resource

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy import signal as scipy_signal

from driftwave.errors import InputError
from driftwave.phase.electrodes import place
from driftwave.phase.frames import open_field
from driftwave.phase.missing import Missing, find_missing, gap_samples
from driftwave.phase.passes import FIELDS, read_frames, stretch_frames
from driftwave.phase.sites import sites_of
from driftwave.phase.spool import Spool
from driftwave.store import open_dataset, verify_store, write_tree
from driftwave.wave_events.arrays import per_array
from driftwave.wave_events.spans import SpanFinder
from driftwave.waves.phase_gradient import Params, analyse
from waves_cases import grid, noise, phase_of, recording_of

RATE = 250.0
BAND = (5.0, 40.0)
FAST = Params(surrogates=19, bootstrap=20, delay_band=None)
# A steady wave lies above a low threshold throughout.
LOW = FAST.model_copy(update={"threshold": 0.05})


def travelling(
    seconds: float = 20.0, seed: int = 0, side: int = 6, size: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """A plane wave of 12 Hz towards 40 degrees in noise: lfp (time, electrode), positions."""
    rng = np.random.default_rng(seed)
    position = grid(side, side)
    time = np.arange(round(seconds * RATE)) / RATE
    field = noise(rng, position, len(time), RATE, length=1.0, shared=0.9, power=1.0)
    phase = phase_of("planar", position, frequency=12, direction=40, speed=120)
    field = field + size * np.cos(2 * np.pi * 12 * time + phase[:, None])
    return 100 * field.T, position


def reader_of(lfp: np.ndarray, position: np.ndarray, **options):
    tree = recording_of(lfp, position, RATE)
    dataset = tree["field"].to_dataset()
    return open_field(tree, dataset, band=BAND, frame_rate=None, **options)


@pytest.fixture(scope="module")
def reader():
    return reader_of(*travelling(side=8, size=0.2))


@pytest.fixture(scope="module")
def whole(reader):
    return read_frames(reader, chunk=1000, generalized=True, fields=FIELDS)[0]


@pytest.mark.parametrize("chunk", [1.5, 4.0, 7.3])
def test_chunked_equals_unchunked(reader, whole, chunk):
    parts, _ = read_frames(reader, chunk=chunk, generalized=True, fields=FIELDS)
    inside = slice(3, -3)
    turn = np.exp(1j * whole.fields["phase"][:]) - np.exp(1j * parts.fields["phase"][:])
    assert np.abs(turn).max() < 1e-6
    one, other = (frames.reader.kept.signal[:] for frames in (whole, parts))
    assert np.abs(one - other).max() < 1e-6 * np.abs(one).max()
    for name in ("gradient_x", "gradient_y", "divergence", "curl"):
        one, other = (frames.fields[name][inside] for frames in (whole, parts))
        assert np.nanmax(np.abs(one - other)) < 1e-6 * np.nanmax(np.abs(one))
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
    charge = [frames.fields["charge"][inside] for frames in (whole, parts)]
    np.testing.assert_array_equal(*charge)
    assert np.abs(charge[0]).max() == 1
    for name, values in whole.dense.items():
        scale = np.abs(values).max()
        found = parts.dense[name]
        np.testing.assert_allclose(found[inside], values[inside], atol=1e-6 * scale, err_msg=name)
    np.testing.assert_allclose(parts.fluxes.power, whole.fluxes.power, rtol=1e-6)


def test_any_stretch_equals_the_whole(reader):
    signal = reader.signal(0, reader.frames)
    part = reader.signal(1234, 1500)
    assert part.dtype == np.complex64
    assert np.abs(signal[:, 1234:1500] - part).max() < 1e-6 * np.abs(signal).max()
    _, phase, _ = reader.stretch(0, reader.frames, generalized=True)
    _, other, _ = reader.stretch(1234, 1500, generalized=True)
    assert np.abs(np.exp(1j * phase[:, 1234:1500]) - np.exp(1j * other)).max() < 1e-6


def test_threads_do_not_change_a_digit(reader):
    with dask.config.set(scheduler="threads", num_workers=2):
        two, _ = read_frames(reader, chunk=3, generalized=True, fields=FIELDS)
    with dask.config.set(scheduler="synchronous"):
        one, _ = read_frames(reader, chunk=3, generalized=True, fields=FIELDS)
    for name in one.fields:
        np.testing.assert_array_equal(one.fields[name][:], two.fields[name][:])
    np.testing.assert_array_equal(one.spectrum.total, two.spectrum.total)
    np.testing.assert_array_equal(one.fluxes.flux, two.fluxes.flux)


def test_dense_fields_of_a_plane_are_its_wavevector():
    position = grid(6, 6)
    time = np.arange(round(8 * RATE)) / RATE
    phase = phase_of("planar", position, frequency=12, direction=40, speed=120)
    lfp = np.cos(2 * np.pi * 12 * time + phase[:, None]).T
    frames, _ = read_frames(reader_of(lfp, position), chunk=3, generalized=True, fields=FIELDS)
    inside = slice(500, -500)
    k = 2 * np.pi * 12 / 120
    for axis, share in (("x", np.cos(np.deg2rad(40))), ("y", np.sin(np.deg2rad(40)))):
        np.testing.assert_allclose(frames.fields[f"gradient_{axis}"][inside], -k * share, atol=1e-3)
    for name in ("divergence", "curl"):
        assert np.abs(frames.fields[name][inside]).max() < 5e-3
    assert not frames.fields["charge"][inside].any()


@pytest.mark.slow
def test_dense_fields_reach_the_store_chunk_by_chunk(tmp_path):
    lfp, position = travelling(12.0)
    found = analyse(recording_of(lfp, position, RATE), None, FAST, seed=0)
    assert isinstance(found["gradient_x"].data, da.Array)
    assert found["phase"].dims == ("time", "electrode")
    assert found["cell_charge"].dtype == np.int8
    assert found["divergence"].attrs["units"] == "rad/mm^2"
    write_tree(found, tmp_path / "waves.zarr")
    assert verify_store(tmp_path / "waves.zarr") == []
    back = open_dataset(tmp_path / "waves.zarr")
    for name in ("phase", "gradient_y", "curl", "cell_charge", "gap"):
        np.testing.assert_array_equal(back[name].values, found[name].values)
    few = FAST.model_copy(update={"fields": ("phase",)})
    assert "curl" not in analyse(recording_of(lfp, position, RATE), None, few, seed=0)


def test_spool_reads_what_was_written_and_travels_by_value():
    values = np.random.default_rng(0).normal(size=(100, 3, 2)).astype(np.float32)
    spool = Spool(values.shape, np.float32)
    spool.write(40, values[40:])
    spool.write(0, values[:40])
    np.testing.assert_array_equal(spool[10:50, 1], values[10:50, 1])
    np.testing.assert_array_equal(spool[::7], values[::7])
    np.testing.assert_array_equal(spool.array()[5:9].compute(), values[5:9])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(spool)), values)
    with pytest.raises(InputError, match="TMPDIR"):
        Spool((10**9, 10**9), np.float32)


def _with_gaps(lfp: np.ndarray) -> np.ndarray:
    broken = lfp.copy()
    broken[2000:2100] = np.nan  # all electrodes, 8.0 to 8.4 s
    broken[3500:3510, 3] = np.nan  # one electrode, 14.0 s
    broken[:, 7] = np.nan
    return broken


def test_gaps_are_masked_and_the_rest_is_as_without_them():
    lfp, position = travelling()
    clean, broken = reader_of(lfp, position), reader_of(_with_gaps(lfp), position)
    assert broken.dropped == ("7",)
    assert len(broken.electrodes) == 35
    gaps = broken.gaps
    assert gaps[2000:2100].all()
    assert gaps[3500:3510].all()
    # The filter rings for about half a second.
    assert gaps[1950]
    assert not gaps[1500]
    assert 0.05 < gaps.mean() < 0.25
    one, other = (r.signal(0, r.frames) for r in (clean, broken))
    one = np.delete(one, 7, axis=0)
    wrong = np.abs(one - other).max(axis=0) / np.abs(one).std()
    assert wrong[2000:2100].max() > 0.3
    assert wrong[~gaps].max() < 0.05
    frames, _ = read_frames(broken, chunk=3, generalized=True, fields=FIELDS)
    for values in (frames.dense["pgd"], frames.fields["phase"][:], frames.fields["curl"][:]):
        np.testing.assert_array_equal(np.isnan(values).reshape(len(gaps), -1).all(axis=1), gaps)
    assert not frames.fields["charge"][:][gaps].any()
    assert not frames.fluxes.power[broken.detection_gaps].any()
    assert np.isfinite(frames.fluxes.smooth(25).statistic()).all()
    assert np.isfinite(frames.spectrum.total).all()


def test_gaps_do_not_depend_on_chunks():
    broken = reader_of(_with_gaps(travelling()[0]), travelling()[1])
    signal = broken.signal(0, broken.frames)
    part = broken.signal(2030, 2060)
    assert np.abs(signal[:, 2030:2060] - part).max() < 1e-6 * np.abs(signal).max()


@pytest.mark.slow
def test_no_event_lies_in_or_across_a_gap():
    lfp, position = travelling(24.0)
    whole = analyse(recording_of(lfp, position, RATE), None, LOW, seed=0)
    assert float((whole["stop"] - whole["start"]).sum()) > 20
    found = analyse(recording_of(_with_gaps(lfp), position, RATE), None, LOW, seed=0)
    time, gap = found["time"].values, found["gap"].values
    assert gap.any()
    for start, stop in zip(found["start"].values, found["stop"].values, strict=True):
        assert not gap[(time >= start) & (time < stop)].any()
    planar = found["class"].values == "planar"
    assert planar.sum() >= 2
    error = (found["direction"].values[planar] - 40 + 180) % 360 - 180
    assert np.abs(error).max() < 5
    assert found.attrs["electrodes_dropped"] == ["7"]
    assert found.attrs["gap_share"] == pytest.approx(gap.mean())
    np.testing.assert_array_equal(np.isnan(found["frame_direction"].values), gap)
    assert 0 < found["gap_share"].max() < 1
    assert (found["channels_used"] == 35).all()
    np.testing.assert_allclose(found["extent"], 5 * 0.4 * np.sqrt(2), rtol=2e-3)


def test_surrogates_have_the_recordings_gaps():
    finder = SpanFinder(window=5, shortest=3, longest_gap=4, longest=100)
    statistic = np.ones((1, 40))
    gaps = np.zeros(40, bool)
    gaps[20:22] = True
    spans = finder(statistic, np.array([0.5]), statistic[0])
    assert [(s.start, s.stop) for s in spans] == [(0, 40)]
    cut = SpanFinder(5, 3, 4, 100, gaps)(statistic, np.array([0.5]), statistic[0])
    assert [(s.start, s.stop) for s in cut] == [(0, 20), (22, 40)]


def test_missing_samples_by_hand():
    lfp = np.arange(40.0).reshape(20, 2)
    lfp[:3, 0] = lfp[8:12, 0] = lfp[18:, 1] = np.nan
    lfp[10, 1] = np.inf
    table = xr.DataArray(lfp, dims=("time", "electrode"))
    for chunks in (20, 3):
        found = find_missing(table.chunk(time=chunks), np.array([0, 1]))
        assert found.electrode.tolist() == [0, 0, 1, 1]
        assert found.start.tolist() == [0, 8, 10, 18]
        assert found.stop.tolist() == [3, 12, 11, 20]
    assert found.cover().tolist() == [[0, 3], [8, 12], [18, 20]]
    whole = np.nan_to_num(lfp.T.copy(), nan=-1.0)
    part = whole[:, 9:].copy()
    found.fill(whole, 0)
    found.fill(part, 9)
    np.testing.assert_allclose(whole[0, 3:18], np.arange(6.0, 36.0, 2))
    np.testing.assert_allclose(whole[0, :3], 6)
    np.testing.assert_allclose(whole[1, :18], np.arange(1.0, 36.0, 2))
    np.testing.assert_allclose(whole[1, 18:], 35)
    np.testing.assert_array_equal(part, whole[:, 9:])
    # Sample 10 is missing on both and counts against neither.
    np.testing.assert_allclose(found.shares(2, 20), [6 / 19, 2 / 19])
    assert gap_samples(found.cover(), 20, 2).tolist() == [[0, 14], [16, 20]]
    assert gap_samples(found.cover(), 20, 3).tolist() == [[0, 20]]
    assert gap_samples(Missing.none().cover(), 20, 3).shape == (0, 2)


def test_too_many_gaps_and_too_few_electrodes_are_errors():
    lfp, position = travelling(10.0)
    half = lfp.copy()
    half[:1300] = np.nan
    with pytest.raises(InputError, match="within gaps"):
        reader_of(half, position)
    few = lfp.copy()
    few[:1200, 3:19] = np.nan
    few[1300:, 19:] = np.nan
    with pytest.raises(InputError, match="miss samples"):
        reader_of(few, position)


def test_sites_average_neighbours_of_a_large_grid():
    sites = sites_of(place(grid(32, 32)), 64)
    assert not sites.trivial
    assert len(sites.electrodes) == 64
    assert sites.electrodes.lattice is not None
    np.testing.assert_allclose(sites.electrodes.spacing, 1.6)
    np.testing.assert_allclose(sites.electrodes.position[0], [0.6, 0.6])
    assert np.bincount(sites.member).tolist() == [16] * 64
    values = np.random.default_rng(0).normal(size=(1024, 3))
    first = sites.member == 5
    np.testing.assert_allclose(sites.mean(values)[5], values[first].mean(axis=0))
    assert sites_of(place(grid(8, 8)), 64).trivial
    scattered = np.random.default_rng(1).uniform(0, 8, (1000, 2))
    boxes = sites_of(place(scattered), 100)
    assert 60 < len(boxes.electrodes) <= 100
    assert boxes.member.min() == 0


def test_a_macro_site_keeps_waves_longer_than_two_sites():
    position = grid(32, 32)
    sites = sites_of(place(position), 64)
    for wavelength, kept in ((3.2, 0.64), (1.6, 0.0), (16.0, 0.99)):
        wave = np.exp(-2j * np.pi * position[:, :1] / wavelength)
        assert np.abs(sites.mean(wave)).mean() == pytest.approx(kept, abs=0.03)


def test_events_on_macro_sites_and_fields_at_every_electrode():
    lfp, position = travelling(12.0, side=20)
    params = FAST.model_copy(update={"sites": 32})
    found = analyse(recording_of(lfp, position, RATE), None, params, seed=0)
    assert found.attrs["detection_sites"] == 25
    assert found.attrs["detection_wavelength"] == pytest.approx(3.2)
    assert found["phase"].shape[1] == found.sizes["electrode"] == 400
    planar = found["class"].values == "planar"
    assert planar.any()
    error = (found["direction"].values[planar] - 40 + 180) % 360 - 180
    assert np.abs(error).max() < 3
    np.testing.assert_allclose(found["speed"].values[planar], 120, rtol=0.05)
    assert found["event_phase"].shape == (found.sizes["event"], 400)


def test_a_stretch_fits_its_memory():
    small, large = (reader_of(*travelling(4.0, side=side)) for side in (6, 20))
    assert stretch_frames(small, 60, 300) == 60 * RATE
    assert stretch_frames(large, 60, 20) < stretch_frames(large, 60, 40) < 60 * RATE
    assert stretch_frames(large, 60, 1) == RATE


@pytest.mark.slow
def test_arrays_are_analysed_apart():
    lfp, position = travelling(12.0)
    other, place_of = travelling(12.0, seed=1, side=5)
    both = np.concatenate([position, place_of + np.array([30.0, 0.0])])
    tree = recording_of(np.concatenate([lfp, other[::-1]], axis=1), both, RATE)
    names = np.repeat(["A", "B"], [36, 25])
    dataset = tree["field"].to_dataset().assign_coords(group=("electrode", names))
    tree["field"] = dataset
    found = analyse(tree, None, LOW, seed=0)
    assert found.attrs["arrays"] == ["A", "B"]
    alone = recording_of(lfp, position, RATE)
    first = analyse(alone, None, LOW, seed=0)
    count = first.sizes["event"]
    assert found["array"].values.tolist()[:count] == ["A"] * count
    assert (found["array"].values[count:] == "B").all()
    np.testing.assert_array_equal(found["direction"][:count], first["direction"])
    assert found["phase"].dims == ("array", "time", "electrode")
    np.testing.assert_array_equal(found["phase"][0], first["phase"])
    assert np.isnan(found["phase"].values[1, :, 25:]).all()
    # Backwards in time the wave goes the other way.
    planar = (found["class"].values == "planar") & (found["array"].values == "B")
    error = (found["direction"].values[planar] - 220 + 180) % 360 - 180
    assert planar.any()
    assert np.abs(error).max() < 5


def test_one_array_is_left_as_it_is():
    tree = recording_of(*travelling(4.0), RATE)
    mark = xr.Dataset({"start": ("event", [1.0])}, attrs={"a": 1})
    xr.testing.assert_identical(per_array(tree["field"].to_dataset(), "s", lambda _: mark), mark)


def lazy_recording(columns: int, rows: int, rate: float, seconds: float) -> xr.DataTree:
    """A plane wave of 8 Hz and white noise on a large grid, made block by block when read."""
    position = grid(columns, rows)
    phase = phase_of("planar", position, frequency=8, direction=30, speed=100)
    block = round(2 * rate)

    def make(block_info=None) -> np.ndarray:
        (start, stop), _ = block_info[None]["array-location"]
        time = np.arange(start, stop) / rate
        wave = np.cos(2 * np.pi * 8 * time[:, None] + phase)
        rng = np.random.default_rng(start)
        return (wave + rng.normal(size=wave.shape)).astype(np.float32)

    count = round(seconds * rate)
    sizes = [block] * (count // block) + ([count % block] if count % block else [])
    lfp = da.map_blocks(make, chunks=(tuple(sizes), (len(position),)), dtype=np.float32)
    dataset = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp)},
        coords={
            "time": np.arange(count) / rate,
            "x": ("electrode", position[:, 0]),
            "y": ("electrode", position[:, 1]),
            "electrode": np.arange(len(position)),
        },
        attrs={"sampling_rate": rate},
    )
    root = xr.Dataset(attrs={"session": "large"})
    return xr.DataTree.from_dict({"/": root, "field": dataset})


def _large(pipe) -> None:
    tree = lazy_recording(64, 64, 250.0, 60.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with dask.config.set(scheduler="synchronous"):
        found = analyse(tree, None, LOW, seed=0)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    planar = found["class"].values == "planar"
    pipe.send((after - before, found["direction"].values[planar], found["gradient_x"].shape))


@pytest.mark.slow
def test_4096_electrodes_in_bounded_memory():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_large, args=(theirs,))
    process.start()
    theirs.close()
    memory, direction, shape = ours.recv()
    process.join()
    assert memory < 2000
    assert shape == (15000, 4096)
    assert len(direction) >= 1
    assert np.abs((direction - 30 + 180) % 360 - 180).max() < 3


def test_filter_in_blocks_of_channels_equals_scipys():
    lfp, position = travelling(12.0)
    reader = reader_of(lfp, position)
    sections = scipy_signal.butter(4, BAND, "bandpass", fs=RATE, output="sos")
    expected = scipy_signal.hilbert(scipy_signal.sosfiltfilt(sections, lfp.T.astype(np.float32)))
    inside = slice(1000, 2000)
    found = reader.signal(1000, 2000)
    # What is left is the end of SciPy's Hilbert transform, which decays slowly.
    assert np.abs(found - expected[:, inside]).max() < 3e-3 * np.abs(expected).max()
