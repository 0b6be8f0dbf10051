"""The field: units, positions, bad channels, decimation, and how much is read at once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest import field as field_module
from driftwave.ingest.field import field_source, low_pass
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.recording import open_recording
from driftwave.store import write_tree
from nwb_builder import Builder, grid

RATE = 500.0


def layout(**options: Any) -> Any:
    content = {"name": "array", "description": "a test"}
    return parse_layout(content | {"field": {"series": "acquisition/lfp"} | options})


def noise(samples: int, electrodes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 50, (samples, electrodes))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """4 x 4 electrodes, 20 s of int16 with gain per channel and an offset."""
    data = noise(10_000, 16).astype(np.int16)
    path = (
        Builder()
        .electrodes(grid(4, 4), ok=[True] * 15 + [False])
        .field(
            data,
            rate=RATE,
            starting_time=3.0,
            conversion=2e-7,
            channel_conversion=list(np.linspace(1, 2, 16)),
            offset=1e-4,
        )
        .write(tmp_path_factory.mktemp("field") / "plain.nwb")
    )
    return path, data


def test_microvolts_positions_and_bad_channels(plain: tuple[Path, np.ndarray]) -> None:
    path, data = plain
    with open_nwb(path) as file:
        tree = read_recording(file, layout(good="ok", bad_electrodes=[3], chunk=2.0), session="s")
        found = tree["field"].to_dataset()
        assert found["lfp"].chunks[0] == (1000,) * 10
        assert found["lfp"].dtype == np.float32
        expected = (data * np.linspace(1, 2, 16) * 2e-7 + 1e-4) * 1e6
        np.testing.assert_allclose(found["lfp"].values, expected, rtol=1e-5, atol=1e-3)
    assert found["lfp"].attrs["units"] == "microvolt"
    np.testing.assert_allclose(found["x"].values, grid(4, 4)[:, 0] / 1000)
    np.testing.assert_allclose(found["y"].values, grid(4, 4)[:, 1] / 1000)
    assert found["x"].attrs["units"] == "mm"
    assert np.flatnonzero(~found["good"].values).tolist() == [3, 15]
    assert found["time"].values[0] == 3.0
    np.testing.assert_allclose(np.diff(found["time"].values), 1 / RATE)
    assert found.attrs["sampling_rate"] == RATE
    assert set(found["group"].values) == {"grid"}


def test_start_and_stop(plain: tuple[Path, np.ndarray]) -> None:
    path, data = plain
    with open_nwb(path) as file:
        found = read_recording(file, layout(start=4.0, stop=6.0), session="s")["field"]
        assert found["time"].values[0] == 4.0
        assert found["lfp"].shape == (1000, 16)
        first = (data[500, 0] * 2e-7 + 1e-4) * 1e6
        assert found["lfp"].values[0, 0] == pytest.approx(first, rel=1e-5)
        with pytest.raises(InputError, match="at least 2 samples"):
            read_recording(file, layout(start=100.0), session="s")


@pytest.mark.parametrize("chunk", [0.7, 3.0, 100.0])
def test_chunks_do_not_show_after_decimation(plain: tuple[Path, np.ndarray], chunk: float) -> None:
    path, data = plain
    with open_nwb(path) as file:
        found = read_recording(file, layout(rate=100.0, chunk=chunk), session="s")["field"]
        values = found["lfp"].values
        assert found.attrs["sampling_rate"] == 100.0
        scaled = (data * np.linspace(1, 2, 16) * 2e-7 + 1e-4) * 1e6
    taps = low_pass(5)
    half = len(taps) // 2
    whole = signal.convolve(scaled, taps[:, None], mode="same")[::5]
    edge = half // 5 + 1
    np.testing.assert_allclose(values[edge:-edge], whole[edge:-edge], atol=1e-5 * 500)
    # Fixed chunks against one chunk, edges included.
    with open_nwb(path) as file:
        one = field_source(file, layout(rate=100.0).field)[:]
    np.testing.assert_allclose(values, one, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 5, 12])
def test_low_pass_keeps_the_band_and_stops_the_rest(factor: int) -> None:
    taps = low_pass(factor)
    np.testing.assert_allclose(taps, taps[::-1])
    frequency, response = signal.freqz(taps, worN=4096, fs=factor)  # in units of the rate kept
    gain = np.abs(response)
    assert np.abs(gain[frequency < 0.4] - 1).max() < 2e-3
    assert gain[frequency > 0.5].max() < 2e-3


def test_tone_keeps_its_phase_and_alias_vanishes(tmp_path: Path) -> None:
    t = np.arange(20_000) / 1000
    slow, fast = np.sin(2 * np.pi * 12 * t), np.sin(2 * np.pi * 188 * t)  # aliases to 12 at 100 Hz
    data = np.stack([slow, fast], axis=1) * 1e-4
    path = Builder().electrodes(grid(1, 2)).field(data, rate=1000.0).write(tmp_path / "t.nwb")
    with open_nwb(path) as file:
        found = read_recording(file, layout(rate=100.0, chunk=5), session="s")["field"]
        values, time = found["lfp"].values[50:-50], found["time"].values[50:-50]
    np.testing.assert_allclose(values[:, 0], 100 * np.sin(2 * np.pi * 12 * time), atol=0.3)
    assert np.abs(values[:, 1]).max() < 0.3


def test_broken_and_flat_channels_are_marked(tmp_path: Path) -> None:
    data = noise(3000, 6).astype(np.float32) * 1e-6
    data[1234, 2] = np.nan
    data[:, 4] = 7e-6
    path = Builder().electrodes(grid(2, 3)).field(data, rate=RATE).write(tmp_path / "bad.nwb")
    with open_nwb(path) as file:
        found = read_recording(file, layout(), session="s")["field"]
    assert np.flatnonzero(~found["good"].values).tolist() == [2, 4]
    assert found.attrs["electrodes_not_finite"] == [2]
    assert found.attrs["electrodes_flat"] == [4]


def test_a_layout_may_bear_missing_stretches(tmp_path: Path) -> None:
    data = noise(3000, 6).astype(np.float32) * 1e-6
    data[1000:1200, 2] = np.nan
    data[500:2500, 3] = np.nan
    path = Builder().electrodes(grid(2, 3)).field(data, rate=RATE).write(tmp_path / "gaps.nwb")
    with open_nwb(path) as file:
        found = read_recording(file, layout(max_missing=0.1), session="s")["field"]
        assert np.flatnonzero(~found["good"].values).tolist() == [3]
        assert np.isnan(found["lfp"].values[:, 2]).sum() == 200


def test_never_the_whole_signal_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, electrodes = 400_000, 32
    monkeypatch.setattr(field_module, "_READ_BYTES", 2_000_000)
    data = np.zeros((samples, electrodes), np.int16)
    data[:] = np.random.default_rng(0).integers(-99, 99, (1, electrodes))
    data[::7] += 3
    path = (
        Builder().electrodes(grid(4, 8)).field(data, rate=1000.0, conversion=1e-6)
        .write(tmp_path / "long.nwb")
    )  # fmt: skip
    del data
    largest = 0
    original = field_module.FieldSource.stored

    def watched(self: Any, start: int, stop: int) -> np.ndarray:
        nonlocal largest
        largest = max(largest, stop - start)
        return original(self, start, stop)

    monkeypatch.setattr(field_module.FieldSource, "stored", watched)
    with open_nwb(path) as file:
        tracemalloc.start()
        tree = read_recording(file, layout(rate=250.0, chunk=10.0), session="s")
        write_tree(tree, tmp_path / "long.zarr")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    whole = samples * electrodes * 4
    assert largest * electrodes * 4 < 2_500_000
    assert peak < whole / 3
    field = open_recording(tmp_path / "long.zarr")["field"]
    assert field["lfp"].shape == (100_000, electrodes)


def test_gap_in_the_clock_is_refused_unless_left_out(tmp_path: Path) -> None:
    stamps = 10 + np.arange(4000) / RATE
    stamps[2500:] += 0.5
    path = (
        Builder().electrodes(grid(2, 2)).field(noise(4000, 4) * 1e-6, timestamps=stamps)
        .write(tmp_path / "gap.nwb")
    )  # fmt: skip
    with open_nwb(path) as file:
        with pytest.raises(InputError, match=r"a step of 0\.502 s at 14\.998 s"):
            read_recording(file, layout(), session="s")
        found = read_recording(file, layout(stop=15.0), session="s")["field"]
        assert found["lfp"].shape == (2500, 4)
        assert found.attrs["sampling_rate"] == pytest.approx(RATE)
        later = read_recording(file, layout(start=15.2), session="s")["field"]
        assert later["lfp"].shape == (1500, 4)
        assert later["time"].values[0] == pytest.approx(15.5)


def test_electrode_by_time_is_refused(tmp_path: Path) -> None:
    path = (
        Builder().electrodes(grid(2, 3)).field(noise(6, 900) * 1e-6, rate=RATE)
        .write(tmp_path / "turned.nwb")
    )  # fmt: skip
    with open_nwb(path) as file, pytest.raises(InputError, match="transposed"):
        read_recording(file, layout(), session="s")
