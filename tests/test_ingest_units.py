"""Units of any lab: order, padding, when each was observed, electrodes and probes by reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest.nwb import open_nwb, read_recording
from nwb_builder import Builder, poisson_units

SECONDS = 60.0


def windows(**spikes: Any) -> Any:
    return parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": spikes,
        "windows": {"length": 2.0, "start": 0.0, "stop": SECONDS},
    })  # fmt: skip


def read(path: Path, layout: Any) -> Any:
    with open_nwb(path) as file:
        return read_recording(file, layout, session="s").compute()


def histogram(times: list[np.ndarray], bins: int = 600) -> np.ndarray:
    edges = np.arange(bins + 1) * 0.1 - 1e-9
    return np.stack([np.histogram(own, edges)[0] for own in times], axis=1)


def test_spikes_out_of_order_are_sorted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = poisson_units(4, SECONDS, 15.0)
    shuffled = [np.random.default_rng(k).permutation(own) for k, own in enumerate(times)]
    shuffled[2] = times[2]
    observed = [np.array([[0.0, SECONDS]])] * 4
    path = Builder().units(shuffled, obs_intervals=observed).write(tmp_path / "f.nwb")
    tree = read(path, windows())
    np.testing.assert_array_equal(tree["spikes/counts"].values.reshape(600, 4), histogram(times))
    np.testing.assert_array_equal(tree["spike_times/time"], np.concatenate(times))
    assert "spike times of 3 of 4 units are not in order: sorted" in capsys.readouterr().err


def test_padding_is_left_out_and_holes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = poisson_units(3, SECONDS, 15.0)
    longest = max(map(len, times)) + 2
    padded = [np.pad(own, (0, longest - len(own)), constant_values=np.nan) for own in times]
    path = Builder().units(padded).write(tmp_path / "padded.nwb")
    tree = read(path, windows())
    np.testing.assert_array_equal(tree["spike_times/time"], np.concatenate(times))
    assert tree["spikes/counts"].values.sum() == histogram(times).sum()
    missing = 3 * longest - sum(map(len, times))
    assert f"{missing} NaN after the last spikes of units" in capsys.readouterr().err
    for fill in (np.nan, np.inf):
        broken = [own.copy() for own in times]
        broken[1][7] = fill
        path = Builder().units(broken).write(tmp_path / f"{fill}.nwb")
        with pytest.raises(InputError, match="1 times that are not finite"):
            read(path, windows())


def observed_file(path: Path) -> list[np.ndarray]:
    """Four units for 60 s; the third seen for the first 50 s, the last one for 10 s only."""
    times = poisson_units(4, SECONDS, 15.0)
    times[2], times[3] = times[2][times[2] < 50], times[3][times[3] < 10]
    observed = [np.array([[0.0, stop]]) for stop in (60.0, 60.0, 50.0, 10.0)]
    Builder().units(times, obs_intervals=observed).write(path)
    return times


def test_a_unit_that_was_not_observed_is_not_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = observed_file(tmp_path / "f.nwb")
    tree = read(tmp_path / "f.nwb", windows())
    # The last unit is seen in 5 of 30 windows and goes; then the windows without the third do.
    assert tree["units/id"].values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(tree["trials/start"], 2.0 * np.arange(25))
    assert tree["trials"].attrs["with_unobserved_units"] == 5
    assert tree["units"].attrs["units_in_file"] == 4
    # Rates are those of the time that was observed.
    whole = [((own >= 0) & (own < 50)).sum() / 50 for own in times[:3]]
    np.testing.assert_allclose(tree["units/rate"], whole)
    said = capsys.readouterr().err
    assert "1 of 4 units are left out: obs_intervals cover less than 80% of the trials" in said
    assert "5 windows overlap times in which a unit was not observed" in said


@pytest.mark.parametrize(("least", "units", "windows_used"), [(0.0, 4, 5), (0.9, 2, 30)])
def test_how_much_of_the_trials_a_unit_must_be_observed_in(
    tmp_path: Path, least: float, units: int, windows_used: int
) -> None:
    observed_file(tmp_path / "f.nwb")
    tree = read(tmp_path / "f.nwb", windows(min_observed=least))
    assert tree["spikes/counts"].sizes["unit"] == units
    assert tree["spikes/counts"].sizes["trial"] == windows_used


def test_trials_without_a_unit_are_left_out(tmp_path: Path) -> None:
    starts = np.arange(0, 60, 2.0)
    times = poisson_units(3, SECONDS, 15.0)
    observed = [np.array([[0.0, 60.0]]), np.array([[0.0, 60.0]]), np.array([[0, 20.5], [25, 60.0]])]
    path = (
        Builder().units(times, obs_intervals=observed).trials(starts, starts + 1)
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    layout = parse_layout({
        "name": "n", "description": "d", "bin_width": 0.1, "spikes": {},
        "trials": {"window": [0.0, 1.0]},
    })  # fmt: skip
    tree = read(path, layout)
    gone = (starts > 19.7) & (starts < 24.9)
    np.testing.assert_allclose(tree["trials/start"], starts[~gone])
    assert tree["trials"].attrs["with_unobserved_units"] == gone.sum() == 3


def test_units_never_observed_together_are_refused(tmp_path: Path) -> None:
    times = [
        own[own < 30] if k else own[own >= 30] for k, own in enumerate(poisson_units(2, 60, 20))
    ]
    observed = [np.array([[30.0, 60.0]]), np.array([[0.0, 30.0]])]
    path = Builder().units(times, obs_intervals=observed).write(tmp_path / "f.nwb")
    with pytest.raises(InputError, match="units observed in at most 50% of the trials"):
        read(path, windows())
    with pytest.raises(InputError, match="with_unobserved_units"):
        read(path, windows(min_observed=0.4))


def two_probes(path: Path, *, reference: bool) -> list[np.ndarray]:
    """Two probes of two electrodes in two regions, five units, one without a quality."""
    builder = Builder()
    nwb = builder.nwb
    for probe, region in (("probeA", "VISp"), ("probeB", "CA1")):
        device = nwb.create_device(f"device_{probe}")
        group = nwb.create_electrode_group(probe, "a probe", region, device)
        for depth in range(2):
            nwb.add_electrode(
                id=100 * (probe == "probeB") + depth, group=group, location=f"{region}{depth}",
                rel_x=0.0, rel_y=20.0 * depth,
            )  # fmt: skip
    nwb.add_unit_column("quality", "of a test")
    nwb.add_unit_column("snr", "of a test")
    if not reference:
        nwb.add_unit_column("peak_channel_id", "id of an electrode")
    times = poisson_units(5, SECONDS, 15.0)
    rows = [[0], [0, 1], [2], [3], [2, 3]]
    ids = [0, 1, 100, 101, 101]
    groups = list(nwb.electrode_groups.values())
    for k, own in enumerate(times):
        facts: dict[str, Any] = (
            {"electrodes": rows[k]} if reference else {"peak_channel_id": ids[k]}
        )
        nwb.add_unit(
            spike_times=own, quality=["good", "", "good", "noise", "good"][k],
            snr=[3.0, 5.0, np.nan, 4.0, 1.0][k], electrode_group=groups[int(k > 1)], **facts,
        )  # fmt: skip
    builder.write(path)
    return times


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("electrode_group == 'probeB'", [2, 3, 4]),
        ("electrode_group_name == 'probeA'", [0, 1]),
        ("electrode_group_location == 'VISp' and quality == 'good'", [0]),
        ("electrode_location == 'CA10'", [2]),
        ("quality != 'noise' and snr > 2", [0, 1]),
        ("quality == 'good' and not isna(snr)", [0, 4]),
        ("electrode_group_device == 'device_probeB' and snr < 9", [3, 4]),
    ],
)
def test_units_are_chosen_by_probe_region_and_quality(
    tmp_path: Path, where: str, kept: list[int]
) -> None:
    times = two_probes(tmp_path / "f.nwb", reference=True)
    tree = read(tmp_path / "f.nwb", windows(where=where, region="electrode_location"))
    assert tree["units/id"].values.tolist() == kept
    np.testing.assert_array_equal(
        tree["spikes/counts"].values.reshape(600, -1), histogram([times[k] for k in kept])
    )
    regions = ["VISp0", "VISp0;VISp1", "CA10", "CA11", "CA10;CA11"]
    assert tree["units/region"].values.tolist() == [regions[k] for k in kept]


def test_electrodes_by_id_where_there_is_no_reference(tmp_path: Path) -> None:
    two_probes(tmp_path / "f.nwb", reference=False)
    layout = windows(
        electrode_column="peak_channel_id", region="electrode_location", positions={"unit": "um"}
    )
    tree = read(tmp_path / "f.nwb", layout)
    assert tree["units/region"].values.tolist() == ["VISp0", "VISp1", "CA10", "CA11", "CA11"]
    np.testing.assert_allclose(tree["units/y"], [0, 0.02, 0, 0.02, 0.02])
    with pytest.raises(InputError, match="which is no electrode's id"):
        read(tmp_path / "f.nwb", windows(electrode_column="snr"))


def test_units_in_a_processing_module(tmp_path: Path) -> None:
    times = poisson_units(3, SECONDS, 15.0)
    builder = Builder().units(poisson_units(2, SECONDS, 5.0, seed=9))
    table = pynwb.misc.Units(name="kilosort", description="another sorter's")
    for own in times:
        table.add_unit(spike_times=own)
    builder.nwb.create_processing_module("ecephys", "of a test").add(table)
    path = builder.write(tmp_path / "f.nwb")
    tree = read(path, windows(source="processing/ecephys/kilosort"))
    np.testing.assert_array_equal(tree["spikes/counts"].values.reshape(600, 3), histogram(times))


def test_bins_that_are_nan_throughout_were_not_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = np.random.default_rng(0).poisson(2, (600, 3)).astype(float)
    counts[200:250] = np.nan
    path = (
        Builder().series("ecephys", "counts", counts, unit="spikes", rate=10.0, conversion=1.0)
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    tree = read(path, windows(source="processing/ecephys/counts"))
    split = tree["trials/split"].values
    assert (split[10:13] == "unused").all()
    assert tree["trials"].attrs["windows_over_gaps"] == 3
    seen = np.delete(counts.reshape(30, 20, 3), [10, 11, 12], axis=0)
    np.testing.assert_array_equal(np.delete(tree["spikes/counts"].values, [10, 11, 12], 0), seen)
    np.testing.assert_allclose(tree["units/rate"], seen.mean(axis=(0, 1)) / 0.1)
    assert "50 of 600 bins of processing/ecephys/counts are NaN" in capsys.readouterr().err


def test_counts_with_a_conversion(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(2, (600, 3)).astype(np.uint16)
    path = (
        Builder()
        .series("ecephys", "counts", counts * 4, unit="spikes", rate=10.0, conversion=0.25)
        .write(tmp_path / "f.nwb")
    )
    tree = read(path, windows(source="processing/ecephys/counts"))
    np.testing.assert_array_equal(tree["spikes/counts"].values.reshape(600, 3), counts)
