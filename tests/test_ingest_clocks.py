"""Clocks and stretches that are broken: found, put right where that is safe, never mis-binned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
from pynwb.ophys import RoiResponseSeries

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from nwb_builder import Builder, grid, poisson_units

RATE = 500.0


def field(**options: Any) -> Any:
    content = {"name": "array", "description": "a test"}
    extra = {key: options.pop(key) for key in ("windows", "invalid_times") if key in options}
    return parse_layout(content | extra | {"field": {"series": "acquisition/lfp"} | options})


def read(path: Path, layout: Any) -> Any:
    with open_nwb(path) as file:
        return read_recording(file, layout, session="s").compute()


def slow_waves(t: np.ndarray, electrodes: int) -> np.ndarray:
    """Sines of 3 Hz, 100 microvolt, with a phase of their own; volt (time, electrode)."""
    return 1e-4 * np.sin(2 * np.pi * 3 * t[:, None] + np.arange(electrodes))


def test_a_clock_that_drifts_is_not_even(tmp_path: Path) -> None:
    """Steps differ by a hundredth, so none stands out, but samples end up 25 steps away."""
    steps = np.where(np.arange(10_000) < 5000, 1.005, 0.995) / RATE
    stamps = np.cumsum(steps)
    path = (
        Builder().electrodes(grid(2, 2)).field(slow_waves(stamps, 4), timestamps=stamps)
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    with pytest.raises(InputError, match=r"time stamps up to 0\.0\d+ s away from an even clock"):
        read(path, field())
    found = read(path, field(uneven="interpolate"))["field"]
    expected = 1e6 * slow_waves(found["time"].values, 4)
    np.testing.assert_allclose(found["lfp"], expected, atol=0.02)
    assert found.attrs["clock"] == "interpolated from uneven time stamps"


@pytest.mark.parametrize("rate", [None, 100.0])
def test_gaps_are_missing_after_interpolation(tmp_path: Path, rate: float | None) -> None:
    rng = np.random.default_rng(0)
    stamps = 5 + np.arange(10_000) / RATE + rng.uniform(-0.3, 0.3, 10_000) / RATE
    stamps = stamps[(stamps < 12) | (stamps > 13)]
    path = (
        Builder().electrodes(grid(2, 2)).field(slow_waves(stamps, 4), timestamps=stamps)
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    with pytest.raises(InputError, match=r"or set `field\.uneven: interpolate`"):
        read(path, field())
    with pytest.raises(InputError, match=r"or bear missing samples by `field\.max_missing`"):
        read(path, field(uneven="interpolate"))
    layout = field(uneven="interpolate", max_missing=0.2, rate=rate, chunk=3.0)
    found = read(path, layout)["field"]
    time, lfp = found["time"].values, found["lfp"].values
    # The low-pass before decimation reaches over 0.19 s.
    reach = 0.22 if rate else 0.01
    assert np.isnan(lfp[(time > 12.01) & (time < 12.99)]).all()
    whole = (time < 12 - reach) | (time > 13 + reach)
    inner = whole & (time > 5.2) & (time < 24.8)
    np.testing.assert_allclose(lfp[inner], 1e6 * slow_waves(time[inner], 4), atol=1.0)
    assert found.attrs["gaps"] == 1


def test_stamps_that_step_back_are_refused_in_fields(tmp_path: Path) -> None:
    stamps = np.arange(4000) / RATE
    stamps[2000] = stamps[1990]
    path = (
        Builder().electrodes(grid(2, 2)).field(slow_waves(stamps, 4), timestamps=stamps)
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    with pytest.raises(InputError, match="regular time stamps"):
        read(path, field())
    with pytest.raises(InputError, match="1 time stamps not after the last"):
        read(path, field(uneven="interpolate"))


def test_invalid_times_of_a_field_are_missing(tmp_path: Path) -> None:
    t = np.arange(10_000) / RATE
    builder = Builder().electrodes(grid(2, 2)).field(slow_waves(t, 4), rate=RATE)
    builder.nwb.add_invalid_time_interval(start_time=3.0, stop_time=4.0)
    path = builder.write(tmp_path / "f.nwb")
    with pytest.raises(InputError, match="1 s of it are invalid_times; or set"):
        read(path, field())
    found = read(path, field(max_missing=0.1))["field"]
    missing = (t >= 3) & (t <= 4)
    np.testing.assert_array_equal(
        np.isnan(found["lfp"]).values, missing[:, None] | np.zeros(4, bool)
    )
    assert found.attrs["invalid_seconds"] == pytest.approx(1.0)
    np.testing.assert_allclose(read(path, field(start=4.01))["field"]["lfp"][0], found["lfp"][2005])
    assert np.isfinite(read(path, field(invalid_times="ignore"))["field"]["lfp"]).all()


def two_probes(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """LFP of a container: probe A at 500 Hz, both probes together at 250 Hz, with gains."""
    builder = Builder()
    nwb = builder.nwb
    for probe in ("A", "B"):
        device = nwb.create_device(f"probe{probe}")
        group = nwb.create_electrode_group(f"probe{probe}", "a probe", "V1", device)
        for depth in range(3):
            nwb.add_electrode(group=group, location=f"L{depth}", rel_x=0.0, rel_y=40.0 * depth)
    first = np.random.default_rng(0).integers(-900, 900, (5000, 3)).astype(np.int16)
    both = np.random.default_rng(1).integers(-900, 900, (2500, 6)).astype(np.int16)
    lfp = pynwb.ecephys.LFP(name="LFP")
    nwb.create_processing_module("ecephys", "of a test").add(lfp)
    for name, data, rows, rate in (("A", first, [2, 1, 0], RATE), ("both", both, range(6), 250.0)):
        region = nwb.create_electrode_table_region(list(rows), "of a test")
        lfp.add_electrical_series(pynwb.ecephys.ElectricalSeries(
            name=name, data=data, electrodes=region, rate=rate, starting_time=2.0, offset=-3e-5,
            conversion=2e-7, channel_conversion=list(1.0 + np.arange(data.shape[1])),
        ))  # fmt: skip
    builder.write(path)
    return first, both


def test_a_series_of_a_container_with_electrodes_in_another_order(tmp_path: Path) -> None:
    first, _ = two_probes(tmp_path / "f.nwb")
    found = read(tmp_path / "f.nwb", field(series="processing/ecephys/LFP/A"))["field"]
    assert found["electrode"].values.tolist() == [2, 1, 0]
    np.testing.assert_allclose(found["y"], [0.08, 0.04, 0.0])
    gain = 1.0 + np.arange(3)
    np.testing.assert_allclose(
        found["lfp"], (first * gain * 2e-7 - 3e-5) * 1e6, rtol=1e-5, atol=1e-3
    )
    assert found.attrs["sampling_rate"] == RATE


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ("group_name == 'probeB'", [3, 4, 5]),
        ("location in ['L0', 'L2'] and group_name == 'probeA'", [0, 2]),
        ("location == 'L1'", [1, 4]),
    ],
)
def test_a_probe_of_a_series_by_expression(tmp_path: Path, where: str, columns: list[int]) -> None:
    _, both = two_probes(tmp_path / "f.nwb")
    content = field(
        series="processing/ecephys/LFP/both", where=where, region="location", positions=None
    )
    found = read(tmp_path / "f.nwb", content)["field"]
    assert found["electrode"].values.tolist() == columns
    gain = 1.0 + np.arange(6)
    expected = ((both * gain * 2e-7 - 3e-5) * 1e6)[:, columns]
    np.testing.assert_allclose(found["lfp"], expected, rtol=1e-5, atol=1e-3)
    with pytest.raises(InputError, match="matches none of 6 rows of electrodes"):
        read(
            tmp_path / "f.nwb", field(series="processing/ecephys/LFP/both", where="location == 'x'")
        )


def test_two_probes_in_one_session_table_are_two_sessions(tmp_path: Path) -> None:
    two_probes(tmp_path / "f.nwb")
    shapes = [
        read(tmp_path / "f.nwb", field(series=f"processing/ecephys/LFP/{name}"))["field/lfp"].shape
        for name in ("A", "both")
    ]
    assert shapes == [(5000, 3), (2500, 6)]


def test_a_single_electrode_without_a_second_dimension(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(0, 1e-4, 3000)
    path = Builder().electrodes(grid(1, 1)).field(data, rate=RATE).write(tmp_path / "f.nwb")
    found = read(path, field(positions=None))["field"]
    np.testing.assert_allclose(found["lfp"].values[:, 0], data * 1e6, rtol=1e-5, atol=1e-3)


def hand(**changes: Any) -> Any:
    return parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "windows": {"length": 2.0, "start": 0.0, "stop": 60.0},
        "behavior": [{"name": "hand", "series": "processing/behavior/hand"} | changes],
    })  # fmt: skip


def moving(path: Path, times: np.ndarray, values: np.ndarray | None = None) -> Path:
    data = np.sin(times) if values is None else values
    return (
        Builder().units(poisson_units(3, 60.0, 20.0), obs_intervals=[np.array([[0, 60.0]])] * 3)
        .series("behavior", "hand", data, timestamps=times).write(path)
    )  # fmt: skip


T = np.arange(0, 60, 0.01)
CENTRES = 2.0 * np.arange(30)[:, None] + 0.1 * (np.arange(20) + 0.5)


def test_pieces_in_another_order_are_sorted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = np.concatenate([T[3000:], T[:3000]])
    tree = read(moving(tmp_path / "f.nwb", times), hand())
    np.testing.assert_allclose(tree["behavior/value"][..., 0], np.sin(CENTRES), atol=2e-3)
    assert "step back 1 times: sorted" in capsys.readouterr().err


def test_repeated_and_missing_stamps_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times, values = T.copy(), np.sin(T)
    times[100], values[100] = times[99], 77.0
    times[200:205], values[200:205] = np.nan, 77.0
    tree = read(moving(tmp_path / "f.nwb", times, values), hand())
    np.testing.assert_allclose(tree["behavior/value"][..., 0], np.sin(CENTRES), atol=5e-3)
    said = capsys.readouterr().err
    assert "1 samples of processing/behavior/hand repeat a time stamp" in said
    assert "5 samples of processing/behavior/hand have no time stamp" in said


def test_a_clock_that_begins_anew_is_refused(tmp_path: Path) -> None:
    times = np.concatenate([T[:3000], T[:3000]])
    path = moving(tmp_path / "f.nwb", times)
    with pytest.raises(InputError, match=r"a clock that goes back from 29\.99 to 0 s"):
        read(path, hand())


def test_values_that_stand_for_missing_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.sin(T)
    lost = (T > 10) & (T < 14.01)
    values[lost] = -999.0
    values[(T > 30) & (T < 34.01)] = np.inf
    path = moving(tmp_path / "f.nwb", T, values)
    tree = read(path, hand(missing=[-999]))
    found = tree["behavior/value"].values[..., 0]
    gone = ((CENTRES > 10.1) & (CENTRES < 13.9)) | ((CENTRES > 30.1) & (CENTRES < 33.9))
    assert np.isnan(found[gone]).all()
    whole = np.isfinite(found)
    np.testing.assert_allclose(found[whole], np.sin(CENTRES)[whole], atol=2e-2)
    assert whole.sum() >= (~gone).sum() - 8
    assert f"{lost.sum()} values -999 of" in capsys.readouterr().err
    assert (tree["trials/split"].values[[5, 6, 15, 16]] == "unused").all()


def test_neither_rate_nor_stamps(tmp_path: Path) -> None:
    path = moving(tmp_path / "f.nwb", T)
    import h5py

    with h5py.File(path, "a") as h5:
        series = h5["processing/behavior/hand"]
        del series["timestamps"]
        series["starting_time"] = 0.0
        series["starting_time"].attrs.update({"rate": 0.0, "unit": "seconds"})
    with pytest.raises(InputError, match="a rate of 0 Hz"):
        read(path, hand())


def test_stamps_of_another_series(tmp_path: Path) -> None:
    builder = Builder().units(poisson_units(3, 60.0, 20.0))
    other = pynwb.TimeSeries(name="eye", data=np.cos(T), unit="m", timestamps=T)
    module = builder.nwb.create_processing_module("behavior", "of a test")
    module.add(other)
    module.add(pynwb.TimeSeries(name="hand", data=np.sin(T), unit="m", timestamps=other))
    tree = read(builder.write(tmp_path / "f.nwb"), hand())
    np.testing.assert_allclose(tree["behavior/value"][..., 0], np.sin(CENTRES), atol=2e-3)


def imaging(**options: Any) -> Any:
    return parse_layout({
        "name": "n", "description": "d", "bin_width": 0.2, "windows": {"length": 2.0, "start": 0.0},
        "imaging": {"series": "processing/ophys/DfOverF/dff", "positions": None} | options,
    })  # fmt: skip


def imaged(path: Path, data: np.ndarray, *, gap: bool, bad: bool) -> Path:
    """DfOverF in its container, at 10 Hz for 60 s."""
    builder = Builder()
    nwb = builder.nwb
    device = nwb.create_device("microscope")
    channel = pynwb.ophys.OpticalChannel("green", "of a test", 520.0)
    plane = nwb.create_imaging_plane(
        name="plane", optical_channel=channel, description="of a test", device=device,
        excitation_lambda=920.0, indicator="GCaMP", location="V1",
    )  # fmt: skip
    module = nwb.create_processing_module("ophys", "of a test")
    segmentation = pynwb.ophys.ImageSegmentation()
    module.add(segmentation)
    table = segmentation.create_plane_segmentation("of a test", plane, name="rois")
    rois = 1 if data.ndim == 1 else data.shape[1]
    for k in range(rois):
        table.add_roi(pixel_mask=[(k, 0, 1.0)])
    region = table.create_roi_table_region("all", region=list(range(rois)))
    stamps = np.arange(len(data)) / 10.0
    clock = {"timestamps": stamps + 7.0 * (stamps >= 30)} if gap else {"rate": 10.0}
    container = pynwb.ophys.DfOverF(name="DfOverF")
    module.add(container)
    container.add_roi_response_series(
        RoiResponseSeries(name="dff", data=data, rois=region, unit="dF/F", conversion=0.01, **clock)
    )
    if bad:
        nwb.add_invalid_time_interval(start_time=20.0, stop_time=21.95)
    return builder.write(path)


def test_windows_in_a_gap_of_imaging_are_unused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = np.random.default_rng(0).normal(size=(600, 5))
    path = imaged(tmp_path / "f.nwb", data, gap=True, bad=False)
    tree = read(path, imaging())
    np.testing.assert_allclose(tree["imaging/dff"], 0.01 * data, rtol=1e-5, atol=1e-3)
    start = tree["trials/start"].values
    gap = (start + 2 > 30.1) & (start < 37)
    assert (tree["trials/split"].values[gap] == "unused").all()
    assert tree["trials"].attrs["windows_over_gaps"] == gap.sum() == 4
    assert tree["imaging"].attrs["gaps"] == 1
    assert "1 gaps in processing/ophys/DfOverF/dff, the longest 7.1 s" in capsys.readouterr().err


def test_invalid_times_of_imaging_are_missing(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(600, 5))
    path = imaged(tmp_path / "f.nwb", data, gap=False, bad=True)
    with pytest.raises(InputError, match="5 sites with values that are not finite"):
        read(path, imaging())
    tree = read(path, imaging(max_missing=0.05))
    frames = np.isnan(tree["imaging/dff"].values).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(frames), np.arange(200, 220))
    assert tree["imaging"].attrs["frames_in_invalid_times"] == 20
    assert tree["trials/split"].values[10] == "unused"


def test_a_single_roi_without_a_second_dimension(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=600)
    path = imaged(tmp_path / "f.nwb", data, gap=False, bad=False)
    np.testing.assert_allclose(
        read(path, imaging())["imaging/dff"][:, 0], 0.01 * data, rtol=1e-5, atol=1e-3
    )
