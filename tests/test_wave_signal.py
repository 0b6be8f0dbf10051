"""What waves run on: field, imaging or binned spikes, always in the form of a field."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from driftwave.errors import InputError
from driftwave.phase.signal import default_width, signal_of, wave_signal
from waves_cases import grid, recording_of


def spiking(
    trains: list[Any], place: Any, *, counts: Any = None, start: float = 0.0, width: float = 0.1,
    contiguous: bool = True, observed: Any = None,
) -> xr.DataTree:  # fmt: skip
    """Units at ``place`` (unit, 2) mm with spike times (s), or counts (trial, time, unit)."""
    place, unit = np.asarray(place, float), np.arange(len(place))
    groups: dict[str, Any] = {"/": xr.Dataset(attrs={"session": "spiking"})}
    rate = np.ones(len(unit)) if counts is None else counts.mean((0, 1)) / width
    if counts is None:
        rate = np.array([float(len(t)) for t in trains])
        groups["spike_times"] = xr.Dataset(
            {
                "time": ("spike", np.concatenate(trains).astype(float)),
                "unit": ("spike", np.repeat(unit, [len(t) for t in trains])),
            },
            attrs={} if observed is None else {"observed": observed},
        )
    else:
        trials, bins = counts.shape[:2]
        groups["spikes"] = xr.Dataset(
            {
                "counts": (("trial", "time", "unit"), counts.astype(np.uint16)),
                "trial_start": ("trial", start + np.arange(trials) * bins * width),
            },
            attrs={"bin_width": width, "contiguous": contiguous},
        )
    groups["units"] = xr.Dataset(
        {"x": ("unit", place[:, 0]), "y": ("unit", place[:, 1]), "rate": ("unit", rate)},
        coords={"unit": unit},
    )
    return xr.DataTree.from_dict(groups)


def imaged(values: np.ndarray, time: np.ndarray, place: np.ndarray | None) -> xr.DataTree:
    coords: dict[str, Any] = {
        "time": time,
        "roi": np.arange(values.shape[1]),
        "good": ("roi", np.ones(values.shape[1], bool)),
    }
    if place is not None:
        coords |= {"x": ("roi", place[:, 0]), "y": ("roi", place[:, 1])}
    group = xr.Dataset({"dff": (("time", "roi"), values, {"units": "dF/F"})}, coords=coords)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "imaged"}), "imaging": group})


def test_a_field_is_taken_as_it_is() -> None:
    rng = np.random.default_rng(0)
    recording = recording_of(rng.normal(size=(50, 16)), grid(4, 4), 100.0)
    found = wave_signal(recording)
    xr.testing.assert_equal(found, recording["field"].to_dataset())
    assert found.attrs["signal"] == "field"
    assert found.attrs["sampling_rate"] == 100.0


def test_auto_takes_the_first_with_positions() -> None:
    rng = np.random.default_rng(1)
    recording = recording_of(rng.normal(size=(50, 16)), grid(4, 4), 100.0)
    spikes = spiking([np.arange(5)] * 4, grid(2, 2))
    recording["units"], recording["spike_times"] = spikes["units"], spikes["spike_times"]
    recording["spikes"] = xr.DataTree(xr.Dataset(attrs={"contiguous": False}))
    assert signal_of(recording) == "field"
    bare = recording["field"].to_dataset().drop_vars(["x", "y"])
    recording["field"] = xr.DataTree(bare)
    assert signal_of(recording) == "spikes"
    assert wave_signal(recording).attrs["signal"] == "spikes"
    assert wave_signal(recording, "field").attrs["signal"] == "field"


def test_spikes_are_counted_where_they_are() -> None:
    rng = np.random.default_rng(2)
    trains = [np.sort(rng.uniform(2.0, 12.0, n)) for n in (50, 0, 80, 30)]
    place = [[0, 0], [0.4, 0], [0.4, 0.4], [0, 0]]  # the first and the last share an electrode
    recording = spiking(trains, place, observed=[[2.0, 12.0]])
    found = wave_signal(recording, bin_width=0.25)
    assert isinstance(found["lfp"].data, da.Array)
    assert found["lfp"].attrs["units"] == "spikes/bin"
    assert found.attrs["sampling_rate"] == 4.0
    np.testing.assert_allclose(found["time"], 2.125 + 0.25 * np.arange(40))
    edges = 2.0 + 0.25 * np.arange(41)
    both = np.concatenate([trains[0], trains[3]])
    site = int(np.flatnonzero((found["x"] == 0) & (found["y"] == 0))[0])
    np.testing.assert_array_equal(found["lfp"][:, site], np.histogram(both, edges)[0])
    assert int(found["electrode"][site]) == 0
    assert int(found["units"][site]) == 2
    assert "summed" in found.attrs["sites"]
    assert float(found["lfp"].sum()) == 160
    silent = int(np.flatnonzero((found["x"] == 0.4) & (found["y"] == 0))[0])
    assert not found["good"][silent]
    assert found["good"].values.sum() == 2


def test_sites_pool_units_within_squares() -> None:
    place = np.array([[0.0, 0.0], [0.1, 0.1], [0.5, 0.0], [0.6, 0.1], [np.nan, 0.0]])
    found = wave_signal(spiking([np.arange(1.0, 9)] * 5, place), bin_width=1.0, site=0.5)
    np.testing.assert_allclose(found["x"], [0.05, 0.55])
    np.testing.assert_allclose(found["y"], [0.05, 0.05])
    assert found["electrode"].values.tolist() == [0, 2]
    assert found.attrs["units_without_position"] == 1
    assert (found["lfp"].values == 2).all()


def test_bins_that_were_not_observed_are_missing() -> None:
    trains = [np.arange(0.05, 20, 0.1)] * 4
    recording = spiking(trains, grid(2, 2), observed=[[0.0, 5.0], [8.0, 20.0]])
    found = wave_signal(recording, bin_width=0.5)["lfp"].values
    assert np.isnan(found[10:16]).all()
    assert np.isfinite(found[:10]).all()
    np.testing.assert_array_equal(found[16:], 5)


@pytest.mark.parametrize(
    ("rate", "width"), [(0.2, 0.5), (8.0, 0.01), (0.001, 1.0), (500.0, 0.001), (1.9, 0.05)]
)
def test_default_width(rate: float, width: float) -> None:
    assert default_width(rate) == width


def test_counts_of_abutting_windows_serve_too() -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(1.0, (6, 10, 4))
    recording = spiking([], grid(2, 2), counts=counts, start=3.0)
    found = wave_signal(recording)
    np.testing.assert_array_equal(found["lfp"], counts.reshape(60, 4))
    np.testing.assert_allclose(found["time"], 3.05 + 0.1 * np.arange(60))
    wide = wave_signal(recording, bin_width=0.2)
    np.testing.assert_array_equal(wide["lfp"], counts.reshape(30, 2, 4).sum(1))
    np.testing.assert_allclose(wide["time"], 3.1 + 0.2 * np.arange(30))
    with pytest.raises(InputError, match="whole multiple"):
        wave_signal(recording, bin_width=0.15)
    apart = spiking([], grid(2, 2), counts=counts, contiguous=False)
    with pytest.raises(InputError, match="counts of trials, without spike times"):
        wave_signal(apart)


def test_blocks_of_bins_agree_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from driftwave.phase import signal

    rng = np.random.default_rng(4)
    recording = spiking([np.sort(rng.uniform(0, 100, 500)) for _ in range(9)], grid(3, 3))
    whole = wave_signal(recording, bin_width=0.1)["lfp"]
    monkeypatch.setattr(signal, "_CHUNK_BYTES", 4 * 9 * 70)
    parts = wave_signal(recording, bin_width=0.1)["lfp"]
    assert parts.data.numblocks[0] > 10
    np.testing.assert_array_equal(parts, whole)


def test_imaging_on_an_even_clock_is_not_touched() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(80, 9)).astype(np.float32)
    time = 5 + np.arange(80) / 10 + rng.uniform(-0.004, 0.004, 80)
    found = wave_signal(imaged(values, time, grid(3, 3)))
    np.testing.assert_array_equal(found["lfp"], values)
    assert found.attrs["sampling_rate"] == pytest.approx(10, rel=2e-3)
    assert found.attrs["signal"] == "imaging"
    assert found["lfp"].dims == ("time", "electrode")


def test_an_uneven_clock_is_interpolated_and_gaps_are_missing() -> None:
    """A slow sine sampled unevenly, as a scanning microscope's volumes are, comes back."""
    rng = np.random.default_rng(6)
    steps = rng.uniform(0.55, 0.65, 399)
    steps[200] = 6.0
    time = np.concatenate([[0.0], np.cumsum(steps)])
    phase = np.arange(9) / 3
    values = np.sin(2 * np.pi * 0.05 * time[:, None] - phase).astype(np.float32)
    recording = imaged(values, time, grid(3, 3))
    recording["imaging"] = xr.DataTree(recording["imaging"].to_dataset().chunk(time=50))
    found = wave_signal(recording)
    assert isinstance(found["lfp"].data, da.Array)
    assert "interpolated linearly" in found.attrs["clock"]
    even = found["time"].values
    np.testing.assert_allclose(np.diff(even), np.median(steps))
    assert found.attrs["sampling_rate"] == pytest.approx(1 / np.median(steps))
    expected = np.sin(2 * np.pi * 0.05 * even[:, None] - phase)
    missing = np.isnan(found["lfp"].values).all(axis=1)
    inside = (even > time[200]) & (even < time[201])
    np.testing.assert_array_equal(missing, inside)
    assert 8 <= missing.sum() <= 11
    np.testing.assert_allclose(found["lfp"].values[~missing], expected[~missing], atol=6e-3)


def test_what_has_no_signal_for_waves() -> None:
    rng = np.random.default_rng(7)
    values, time = rng.normal(size=(40, 9)).astype(np.float32), np.arange(40) / 10
    with pytest.raises(InputError, match=r"imaging\.positions"):
        wave_signal(imaged(values, time, None))
    backwards = time.copy()
    backwards[20] = backwards[18]
    with pytest.raises(InputError, match="ascending"):
        wave_signal(imaged(values, backwards, grid(3, 3)))
    bare = spiking([np.arange(5)] * 4, grid(2, 2))
    bare["units"] = xr.DataTree(bare["units"].to_dataset().drop_vars(["x", "y"]))
    with pytest.raises(InputError, match=r"spikes\.positions"):
        wave_signal(bare, "spikes")
    with pytest.raises(InputError, match="no position for any of 4 units"):
        wave_signal(spiking([np.arange(5)] * 4, np.full((4, 2), np.nan)), "spikes")
    with pytest.raises(InputError, match="a field, imaging or spikes with positions"):
        wave_signal(xr.DataTree(xr.Dataset(attrs={"session": "empty"})))
    with pytest.raises(InputError, match="one of auto, field"):
        wave_signal(bare, "lfp")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least two bins"):
        wave_signal(spiking([np.arange(5)] * 4, grid(2, 2)), "spikes", bin_width=4.0)
