"""Imaging: traces of ROIs either way round, masks of each kind, movies, clocks, baselines."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from pynwb.image import ImageSeries
from pynwb.ophys import (
    Fluorescence,
    ImageSegmentation,
    OpticalChannel,
    RoiResponseSeries,
    TwoPhotonSeries,
)

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest import imaging_source as imaging_module
from driftwave.ingest.inspect import contents, first_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.phase.signal import wave_signal
from driftwave.recording import open_recording
from driftwave.store import write_tree
from nwb_builder import Builder

ROIS, FRAMES = 7, 300
TRACE = "processing/ophys/Fluorescence/trace"


def plane_of(builder: Builder, **options: Any) -> Any:
    device = builder.nwb.create_device("scope")
    channel = OpticalChannel(name="green", description="a test", emission_lambda=510.0)
    return builder.nwb.create_imaging_plane(
        name="plane", optical_channel=channel, description="a test", device=device,
        excitation_lambda=920.0, indicator="GCaMP", location="V1", imaging_rate=10.0, **options,
    )  # fmt: skip


def traced(
    path: Path, data: np.ndarray, *, mask: str = "pixel_mask", spacing: Any = None,
    rois: int = ROIS, extra: dict[str, np.ndarray] | None = None, **clock: Any,
) -> Path:  # fmt: skip
    """Traces of ROIs whose masks are L-shaped about (10 k, 20 + k)."""
    builder = Builder()
    plane = plane_of(builder, **(spacing or {}))
    segmentation = ImageSegmentation()
    table = segmentation.create_plane_segmentation("rois", imaging_plane=plane, name="cells")
    for k in range(rois):
        x, y = 10 * k, 20 + k
        spots = [(x, y, 2.0), (x + 2, y, 1.0), (x, y + 4, 1.0)]
        if mask == "pixel_mask":
            table.add_roi(pixel_mask=spots)
        elif mask == "voxel_mask":
            table.add_roi(voxel_mask=[(*s[:2], 3 * k, s[2]) for s in spots])
        else:
            image = np.zeros((90, 60))
            for a, b, weight in spots:
                image[a, b] = weight
            table.add_roi(image_mask=image)
    table.add_column("cell", "of a test", data=[1.0] * (rois - 1) + [0.0])
    module = builder.nwb.create_processing_module("ophys", "a test")
    module.add(segmentation)
    traces = Fluorescence()
    module.add(traces)
    clock = clock or {"rate": 10.0, "starting_time": 4.0}
    for name, values in {"trace": data, **(extra or {})}.items():
        region = table.create_roi_table_region("all", region=list(range(rois)))
        traces.add_roi_response_series(
            RoiResponseSeries(name=name, data=values, rois=region, unit="lumens", **clock)
        )
    return builder.write(path)


def layout(series: str = TRACE, **options: Any) -> Any:
    content = {"name": "scope", "description": "a test"}
    return parse_layout(content | {"imaging": {"series": series, "pixel_size": 0.002} | options})


def ingested(path: Path, asked: Any) -> Any:
    with open_nwb(path) as file:
        return read_recording(file, asked, session="s").compute()["imaging"].to_dataset()


def values(frames: int = FRAMES, rois: int = ROIS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 10, (frames, rois)).astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
def test_traces_either_way_round(tmp_path: Path, turned: bool) -> None:
    data = values()
    path = traced(tmp_path / "f.nwb", data.T if turned else data)
    found = ingested(path, layout(good="cell", bad_rois=[2]))
    np.testing.assert_array_equal(found["dff"], data)
    assert found["dff"].dims == ("time", "roi")
    assert found["dff"].attrs["units"] == "lumens"
    assert ("turned" in found.attrs) is turned
    np.testing.assert_allclose(found["time"], 4 + np.arange(FRAMES) / 10)
    assert found.attrs["sampling_rate"] == 10.0
    assert np.flatnonzero(~found["good"].values).tolist() == [2, 6]
    # Weights 2, 1, 1 at (x, y), (x + 2, y), (x, y + 4); pixels of 2 um.
    k = np.arange(ROIS)
    np.testing.assert_allclose(found["x"], (10 * k + 0.5) * 0.002)
    np.testing.assert_allclose(found["y"], (20 + k + 1) * 0.002)
    assert found["x"].attrs["units"] == "mm"


def test_order_is_told_by_rois_and_time_stamps(tmp_path: Path) -> None:
    """Seven ROIs and seven frames, or a shape that fits neither order."""
    data = values(8)
    path = traced(tmp_path / "a.nwb", data, timestamps=np.arange(8) / 10)
    with h5py.File(path, "a") as h5:
        facts = dict(h5[f"{TRACE}/data"].attrs)
        del h5[f"{TRACE}/data"]
        h5[f"{TRACE}/data"] = data.T
        h5[f"{TRACE}/data"].attrs.update(facts)
    np.testing.assert_array_equal(ingested(path, layout())["dff"], data)
    square = traced(tmp_path / "s.nwb", data[:7])
    found = ingested(square, layout())
    np.testing.assert_array_equal(found["dff"], data[:7])
    assert "turned" not in found.attrs
    with pytest.raises(InputError, match=r"data of shape \(5, 8\) for 7 ROIs"):
        ingested(traced(tmp_path / "b.nwb", data[:5, [0] * 8], rate=10.0), layout())


@pytest.mark.parametrize("mask", ["pixel_mask", "voxel_mask", "image_mask"])
def test_masks_of_each_kind(tmp_path: Path, mask: str) -> None:
    path = traced(tmp_path / "m.nwb", values(), mask=mask)
    found = ingested(path, layout(slice_distance=0.01))
    k = np.arange(ROIS)
    np.testing.assert_allclose(found["x"], (10 * k + 0.5) * 0.002)
    np.testing.assert_allclose(found["y"], (21 + k) * 0.002)
    assert ("z" in found) is (mask == "voxel_mask")
    if mask == "voxel_mask":
        np.testing.assert_allclose(found["z"], 3 * k * 0.01)
    if mask == "image_mask":
        turned = ingested(path, layout(order="yx"))
        np.testing.assert_allclose(turned["y"], found["x"])


def test_millimetres_need_the_size_of_a_pixel(tmp_path: Path) -> None:
    stated = {"grid_spacing": [2.0, 3.0], "grid_spacing_unit": "microns"}
    path = traced(tmp_path / "s.nwb", values(), spacing=stated)
    with pytest.raises(InputError, match=r"imaging\.pixel_size.*0\.002 x 0\.003 mm"):
        ingested(path, layout(pixel_size=None))
    found = ingested(path, layout(pixel_size="file"))
    np.testing.assert_allclose(found["x"], (10 * np.arange(ROIS) + 0.5) * 0.002)
    np.testing.assert_allclose(found["y"], (21 + np.arange(ROIS)) * 0.003)
    silent = traced(tmp_path / "n.nwb", values())
    with pytest.raises(InputError, match="no grid spacing"):
        ingested(silent, layout(pixel_size="file"))
    without = ingested(silent, layout(pixel_size=None, positions=None))
    assert "x" not in without.coords
    with pytest.raises(InputError, match=r"above 0 mm"):
        layout(pixel_size=-1.0)


def test_baseline_and_neuropil(tmp_path: Path) -> None:
    data, around = values(), values(seed=1) / 10
    data[:, 3] = np.random.default_rng(2).normal(-5, 1, FRAMES)
    data[:, 4] = 8.0
    data[17, 5] = np.nan
    path = traced(tmp_path / "b.nwb", data, extra={"pil": around})
    asked = layout(neuropil=TRACE.replace("trace", "pil"), neuropil_factor=0.5, baseline=0.2)
    found = ingested(path, asked)
    clean = data[:, 0] - 0.5 * around[:, 0]
    base = np.quantile(clean, 0.2)
    np.testing.assert_allclose(found["dff"][:, 0], (clean - base) / base, rtol=1e-4, atol=1e-5)
    assert found["dff"].attrs["units"] == "dF/F"
    assert found.attrs["rois_without_baseline"] == [3]
    assert found.attrs["rois_not_finite"] == [5]
    assert np.flatnonzero(~found["good"].values).tolist() == [3, 5]
    plain = ingested(path, layout(max_missing=0.1))
    assert plain.attrs["rois_flat"] == [4]
    assert np.flatnonzero(~plain["good"].values).tolist() == [4]


def test_uneven_stamps_are_kept_and_said(tmp_path: Path) -> None:
    stamps = np.cumsum(np.random.default_rng(3).uniform(0.55, 0.65, FRAMES))
    path = traced(tmp_path / "u.nwb", values(), timestamps=stamps)
    found = ingested(path, layout(start=20.0, stop=100.0))
    inside = (stamps >= 20) & (stamps < 100)
    np.testing.assert_allclose(found["time"], stamps[inside])
    np.testing.assert_array_equal(found["dff"], values()[inside])
    assert "uneven" in found.attrs["clock"]
    stamps[40] = stamps[39]
    broken = traced(tmp_path / "v.nwb", values(), timestamps=stamps)
    with pytest.raises(InputError, match="1 of them not after the last"):
        ingested(broken, layout())


def filmed(path: Path, data: np.ndarray, *, kind: str = "two_photon", **spacing: Any) -> Path:
    builder = Builder()
    clock = {"rate": 20.0, "starting_time": 1.0}
    if kind == "two_photon":
        film = TwoPhotonSeries(
            name="film", data=data, imaging_plane=plane_of(builder, **spacing), unit="n", **clock
        )
    else:
        film = ImageSeries(name="film", data=data, unit="n", **clock)
    builder.nwb.add_acquisition(film)
    return builder.write(path)


@pytest.mark.parametrize("kind", ["two_photon", "image"])
@pytest.mark.parametrize("order", ["xy", "yx"])
def test_pixels_of_a_movie(tmp_path: Path, kind: str, order: str) -> None:
    """8 columns, 6 rows; a pixel's value is its column + 100 times its row, plus the frame."""
    x, y = np.meshgrid(np.arange(8), np.arange(6), indexing="ij")
    frame = x + 100 * y
    data = frame + 1000 * np.arange(40)[:, None, None]
    stored = data if order == "xy" else data.transpose(0, 2, 1)
    path = filmed(tmp_path / "film.nwb", stored.astype(np.int32), kind=kind)
    asked = {"positions": "pixels", "pixel_size": 0.01, "order": order}
    found = ingested(path, layout("acquisition/film", **asked))
    assert found["dff"].shape == (40, 48)
    column, row = found["x"].values / 0.01, found["y"].values / 0.01
    np.testing.assert_allclose(found["dff"][3], column + 100 * row + 3000, rtol=1e-6)
    assert (found.attrs["rows"], found.attrs["columns"]) == (6, 8)
    binned = ingested(path, layout("acquisition/film", bin_pixels=3, **asked))
    assert binned["dff"].shape == (40, 4)
    np.testing.assert_allclose(binned["x"], np.array([1, 4, 1, 4]) * 0.01)
    np.testing.assert_allclose(binned["y"], np.array([1, 1, 4, 4]) * 0.01)
    np.testing.assert_allclose(binned["dff"][0], [101, 104, 401, 404], rtol=1e-6)


def test_a_movie_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    data = rng.integers(0, 999, (1500, 60, 50)).astype(np.int16)
    path = filmed(tmp_path / "long.nwb", data)
    expected = data.transpose(0, 2, 1).reshape(1500, 25, 2, 30, 2).mean((2, 4)).reshape(1500, -1)
    del data
    monkeypatch.setattr(imaging_module, "READ_BYTES", 1_000_000)
    with open_nwb(path) as file:
        tracemalloc.start()
        asked = layout("acquisition/film", positions="pixels", bin_pixels=2)
        write_tree(read_recording(file, asked, session="s"), tmp_path / "long.zarr")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1500 * 3000 * 4 / 2
    group = open_recording(tmp_path / "long.zarr")["imaging"]
    assert group["dff"].encoding["chunks"][0] < 150
    np.testing.assert_allclose(group["dff"].values, expected, rtol=1e-6)
    signal = wave_signal(open_recording(tmp_path / "long.zarr"))
    assert signal.attrs["signal"] == "imaging"
    assert signal.sizes["electrode"] == 750


def test_what_is_no_imaging(tmp_path: Path) -> None:
    path = traced(tmp_path / "t.nwb", values())
    with pytest.raises(InputError, match="no TimeSeries at 'processing/none'"):
        ingested(path, layout("processing/none"))
    with pytest.raises(InputError, match="pixels for a series of ROIs"):
        ingested(path, layout(positions="pixels"))
    with pytest.raises(InputError, match=r"at least 2 frames"):
        ingested(path, layout(start=500.0))
    with pytest.raises(InputError, match=r"ids \[99\]"):
        ingested(path, layout(bad_rois=[99]))
    with pytest.raises(InputError, match="no column 'x'"):
        ingested(path, layout(positions={"x": "x", "y": "y", "unit": "um"}))
    flat = traced(tmp_path / "flat.nwb", np.ones((FRAMES, ROIS)))
    with pytest.raises(InputError, match="at least one good ROI"):
        ingested(flat, layout())
    film = filmed(tmp_path / "f.nwb", np.zeros((10, 4, 4, 3), np.uint8), kind="image")
    with pytest.raises(InputError, match="without colours"):
        ingested(film, layout("acquisition/film", positions="pixels"))
    ok = filmed(tmp_path / "g.nwb", np.zeros((10, 4, 4), np.uint8), kind="image")
    with pytest.raises(InputError, match="a movie, which has no ROIs"):
        ingested(ok, layout("acquisition/film"))


def test_movies_in_external_files_are_refused(tmp_path: Path) -> None:
    builder = Builder()
    builder.nwb.add_acquisition(
        ImageSeries(
            name="film", external_file=["film.avi"], format="external", unit="n",
            starting_frame=[0], timestamps=np.arange(5) / 20,
        )
    )  # fmt: skip
    path = builder.write(tmp_path / "x.nwb")
    with pytest.raises(InputError, match=r"an external file, film\.avi"):
        ingested(path, layout("acquisition/film", positions="pixels"))


def test_shared_centroids_are_refused_unless_bad(tmp_path: Path) -> None:
    path = traced(tmp_path / "d.nwb", values(), mask="voxel_mask")
    with open_nwb(path) as file:
        table = file.series(TRACE, "t").rois.table
        assert len(table) == ROIS
    same = {"x": "cell", "y": "cell", "unit": "mm"}
    with pytest.raises(InputError, match="6 ROIs that share a position"):
        ingested(path, layout(positions=same))
    assert ingested(path, layout(positions=same, bad_rois=[0, 1, 2, 3, 4]))["good"].sum() == 2


def test_first_layout_of_imaging_loads(tmp_path: Path) -> None:
    stated = {"grid_spacing": [2.0, 2.0], "grid_spacing_unit": "microns"}
    path = traced(tmp_path / "t.nwb", values().T, spacing=stated, extra={"neuropil": values().T})
    text = first_layout(path)
    assert "check that it was measured" in text
    assert "# good: cell" in text
    found = ingested(path, parse_layout(yaml.safe_load(text)))
    assert found["dff"].shape == (FRAMES, ROIS)
    film = filmed(tmp_path / "f.nwb", np.arange(160.0).reshape(10, 4, 4))
    assert "or pixels, with pixel_size" in first_layout(film)
    assert len(contents(film)) == 1
