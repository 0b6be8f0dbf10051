"""Interval tables of any lab: nested, invalid, lit, overlapping, beyond the end, anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest.interval_tables import innermost
from driftwave.ingest.intervals import minus
from driftwave.ingest.nwb import open_nwb, read_recording
from nwb_builder import Builder, poisson_units

STARTS = 1.0 + 2.0 * np.arange(30)


def layout(window: tuple[float, float] = (0.0, 1.0), **changes: Any) -> Any:
    trials = {"window": list(window), **changes.pop("trials", {})}
    content = {"name": "n", "description": "d", "bin_width": 0.1, "spikes": {}, "trials": trials}
    if "windows" in changes:
        del content["trials"]
    return parse_layout(content | changes)


def read(path: Path, content: Any) -> Any:
    with open_nwb(path) as file:
        return read_recording(file, content, session="s").compute()


def units(seconds: float = 62.0) -> Builder:
    observed = [np.array([[0.0, seconds]])] * 3
    return Builder().units(poisson_units(3, seconds, 20.0), obs_intervals=observed)


def presentations() -> Builder:
    """Images on in trials, trials in blocks; a block of blocks around some of them."""
    builder = units().trials(STARTS, STARTS + 1.5, correct=np.arange(30) % 3 > 0)
    on = np.sort(np.concatenate([STARTS + 0.1, STARTS + 0.8, [0.2]]))
    builder.intervals("image_presentations", on, on + 0.5, image=np.arange(61) % 5)
    return builder.intervals(
        "blocks", [0.0, 0.5, 40.0], [62.0, 30.5, 50.5], label=["session", "left", "right"]
    )


def test_presentations_take_on_the_columns_of_trials_and_blocks(tmp_path: Path) -> None:
    path = presentations().write(tmp_path / "f.nwb")
    tree = read(path, layout(
        (0.0, 0.5),
        trials={
            "table": "intervals/image_presentations", "condition": ["image", "block_label"],
            "within": [{"table": "trials"}, {"table": "intervals/blocks", "prefix": "block_"}],
            "where": "trials_correct == True and block_label != 'session'",
        },
        stimulus={"columns": ["image", "block_label"]},
    ))  # fmt: skip
    on = np.sort(np.concatenate([STARTS + 0.1, STARTS + 0.8, [0.2]]))
    number = np.arange(61)
    trial = np.floor((on - 1.0) / 2.0).astype(int)
    # Of the block of the whole session and a smaller one the smaller counts.
    block = np.where(on < 30.5, "left", np.where((on >= 40) & (on < 50.5), "right", "session"))
    kept = (on > 1) & (trial % 3 > 0) & (block != "session") & (on >= 0.5)
    np.testing.assert_allclose(tree["trials/start"], on[kept])
    np.testing.assert_array_equal(tree["trials/trials_id"], trial[kept])
    np.testing.assert_array_equal(tree["trials/image"], number[kept] % 5)
    assert tree["stimulus/block_label"].values.tolist() == block[kept].tolist()
    pairs = set(zip(number[kept] % 5, block[kept], strict=True))
    assert len(np.unique(tree["trials/condition"])) == len(pairs)
    assert tree["trials/trials_correct"].dtype == bool


def test_rows_outside_the_outer_table_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = presentations().write(tmp_path / "f.nwb")
    within = [{"table": "blocks", "where": "label == 'right'"}]
    tree = read(path, layout(trials={"within": within}))
    np.testing.assert_allclose(tree["trials/start"], STARTS[(STARTS >= 40) & (STARTS < 50.5)])
    assert tree["trials"].attrs["rows_outside_epochs"] == 25
    assert "25 rows lie in no interval of `trials.within`: left out" in capsys.readouterr().err
    with pytest.raises(InputError, match="columns \\['id'"):
        read(path, layout(trials={"within": [{"table": "blocks", "prefix": ""}]}))


def test_the_innermost_interval_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 100, 60)
    spans = np.stack([starts, starts + rng.exponential(8, 60)], axis=1)
    times = np.concatenate([rng.uniform(-5, 120, 400), starts, [np.nan]])
    for time, found in zip(times, innermost(spans, times), strict=True):
        holding = np.flatnonzero((spans[:, 0] <= time) & (time < spans[:, 1]))
        expected = holding[np.argmax(spans[holding, 0])] if len(holding) else -1
        assert found == expected


def test_what_remains_of_intervals() -> None:
    seen = np.array([[0.0, 10.0], [20.0, 30.0]])
    others = np.array([[-1.0, 1.0], [4.0, 5.0], [9.0, 22.0], [40.0, 41.0]])
    np.testing.assert_array_equal(minus(seen, others), [[1, 4], [5, 9], [22, 30]])


def invalid(builder: Builder, *spans: tuple[float, float]) -> Builder:
    for start, stop in spans:
        builder.nwb.add_invalid_time_interval(start_time=start, stop_time=stop)
    return builder


def test_trials_in_invalid_times_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second ends as a trial starts; the third holds none.
    builder = units().trials(STARTS, STARTS + 1)
    path = invalid(builder, (7.5, 11.2), (20.5, 21.0), (30.2, 30.4)).write(tmp_path / "f.nwb")
    tree = read(path, layout())
    gone = np.isin(STARTS, [7.0, 9.0, 11.0])
    np.testing.assert_allclose(tree["trials/start"], STARTS[~gone])
    assert tree["trials"].attrs["in_invalid_times"] == 3
    assert "3 rows overlap invalid_times: left out" in capsys.readouterr().err
    observed = np.array(tree["spike_times"].attrs["observed"])
    np.testing.assert_allclose(
        observed, [[0, 7.5], [11.2, 20.5], [21.0, 30.2], [30.4, 62.0]], atol=1e-9
    )
    kept = read(path, layout(invalid_times="ignore"))
    assert len(kept["trials/start"]) == 30


def test_windows_in_invalid_times_are_unused(tmp_path: Path) -> None:
    path = invalid(units(), (0.0, 1.5), (30.5, 31.5)).write(tmp_path / "f.nwb")
    tree = read(path, layout(windows={"length": 2.0, "start": 0.0}))
    start = tree["trials/start"].values
    np.testing.assert_allclose(start, 2.0 * np.arange(1, 31))
    assert (tree["trials/split"].values[(start == 30)] == "unused").all()
    assert tree["trials"].attrs["in_invalid_times"] == 2


def lit(path: Path) -> np.ndarray:
    """A light on for 0.3 s in every third trial, as a series of power and as a table."""
    builder = units().trials(STARTS, STARTS + 1)
    nwb = builder.nwb
    device = nwb.create_device("laser")
    site = nwb.create_ogen_site("site", device, "of a test", 470.0, "V1")
    on = STARTS[::3] + 0.5
    t = np.arange(0, 62, 0.01)
    power = np.zeros(len(t))
    for start in on:
        power[(t >= start - 1e-9) & (t < start + 0.3 - 1e-9)] = 5e-3
    nwb.add_stimulus(pynwb.ogen.OptogeneticSeries(name="light", data=power, site=site, rate=100.0))
    builder.intervals("pulses", on, on + 0.3, power=np.where(np.arange(10) % 2, 5.0, 0.0))
    builder.write(path)
    return np.arange(30) % 3 == 0


@pytest.mark.parametrize(
    "source",
    [
        {"series": "stimulus/presentation/light", "above": 1e-3},
        {"table": "intervals/pulses"},
    ],
)
def test_trials_with_light_are_left_out_or_marked(tmp_path: Path, source: dict) -> None:
    light = lit(tmp_path / "f.nwb")
    without = read(tmp_path / "f.nwb", layout(overlaps=[{"name": "light", **source}]))
    np.testing.assert_allclose(without["trials/start"], STARTS[~light])
    assert without["trials"].attrs["light"] == 10
    marked = read(tmp_path / "f.nwb", layout(
        overlaps=[{"name": "light", "action": "mark", **source}],
        trials={"condition": ["light"]}, stimulus={"columns": ["light"]},
    ))  # fmt: skip
    np.testing.assert_array_equal(marked["trials/light"], light)
    np.testing.assert_array_equal(marked["stimulus/light"], light)
    np.testing.assert_array_equal(marked["trials/condition"], light.astype(int))
    # The light comes 0.5 s after a trial starts: a window before it sees none.
    early = read(tmp_path / "f.nwb", layout((0.0, 0.4), overlaps=[{"name": "light", **source}]))
    assert len(early["trials/start"]) == 30
    wide = [{"name": "light", "margin": 0.2, **source}]
    assert len(read(tmp_path / "f.nwb", layout((0.0, 0.4), overlaps=wide))["trials/start"]) == 20


def test_light_by_condition_as_stimulus_of_windows(tmp_path: Path) -> None:
    lit(tmp_path / "f.nwb")
    overlaps = [{"name": "light", "action": "mark", "table": "intervals/pulses",
                 "where": "power > 0"}]  # fmt: skip
    tree = read(tmp_path / "f.nwb", layout(windows={"length": 2.0}, overlaps=overlaps))
    expected = np.isin(np.arange(31), np.arange(30)[::3][1::2])
    np.testing.assert_array_equal(tree["trials/light"], expected)


def test_overlaps_that_cannot_be_had(tmp_path: Path) -> None:
    lit(tmp_path / "f.nwb")
    for overlap, words in (
        ({"name": "light", "series": "stimulus/light"}, "no TimeSeries at"),
        ({"name": "light", "table": "intervals/laser"}, "no interval table"),
        ({"name": "id", "table": "intervals/pulses", "action": "mark"}, "the names \\['id'\\]"),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path / "f.nwb", layout(overlaps=[overlap]))


def test_trials_beyond_the_end_and_without_an_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = np.concatenate([STARTS, [61.5, 80.0, np.nan, np.inf]])
    path = units().trials(starts, starts + 1).write(tmp_path / "f.nwb")
    tree = read(path, layout())
    np.testing.assert_allclose(tree["trials/start"], STARTS)
    assert tree["trials"].attrs["rows_outside_recording"] == 2
    assert tree["trials"].attrs["rows_without_alignment_event"] == 2
    said = capsys.readouterr().err
    assert "2 rows reach beyond the recording or into a gap of it: left out" in said
    assert "2 rows have no alignment event: left out" in said


def sides(tree: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tree["trials/start"].values, tree["trials/stop"].values, tree["trials/split"].values


def shared(starts: np.ndarray, stops: np.ndarray, split: np.ndarray) -> int:
    """Pairs of trials in different splits that overlap in time."""
    overlap = (starts[:, None] < stops[None] - 1e-6) & (starts[None] < stops[:, None] - 1e-6)
    used = (split != "unused")[:, None] & (split != "unused")[None]
    return int((overlap & used & (split[:, None] != split[None])).sum()) // 2


@pytest.mark.parametrize("by", ["trial", "condition", "block"])
def test_overlapping_trials_are_on_one_side(tmp_path: Path, by: str) -> None:
    """Pairs 0.3 s apart with windows of 1 s: half of the spikes would be on both sides."""
    starts = np.sort(np.concatenate([STARTS, STARTS + 0.3]))
    kind = np.random.default_rng(0).integers(0, 6, 60)
    path = units(64.0).trials(starts, starts + 1, kind=kind).write(tmp_path / "f.nwb")
    trials = {"condition": ["kind"]} if by != "trial" else {}
    tree = read(path, layout(trials=trials, split={"by": by}))
    found = sides(tree)
    assert shared(*found) == 0
    assert tree["trials"].attrs["trials_that_overlap"] == 60
    if by == "trial":
        assert (found[2] != "unused").all()
    kept = read(path, layout(trials=trials, split={"by": by, "overlap": "keep"}))
    assert shared(*sides(kept)) > 0 or by == "block"


def test_a_chain_of_overlapping_trials_is_cut_into_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = np.random.default_rng(0).permutation(0.5 + 0.5 * np.arange(100))
    path = units(64.0).trials(starts, starts + 1).write(tmp_path / "f.nwb")
    tree = read(path, layout((0.0, 1.6)))
    starts, stops, split = sides(tree)
    assert shared(starts, stops, split) == 0
    assert "most trials overlap in one chain: split into blocks in time" in capsys.readouterr().err
    in_time = split[np.argsort(starts)]
    used = in_time[in_time != "unused"]
    assert (used[1:] != used[:-1]).sum() < 20  # few borders: blocks, not single trials
    assert min((split == s).sum() for s in ("train", "valid", "test")) >= 5


def test_a_column_splits_overlapping_trials_as_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = np.sort(np.concatenate([STARTS, STARTS + 0.3]))
    words = np.where(
        np.arange(60) % 6 == 0, "test", np.where(np.arange(60) % 6 == 3, "val", "train")
    )
    path = units(64.0).trials(starts, starts + 1, fold=words).write(tmp_path / "f.nwb")
    kept = read(path, layout(split={"column": "fold"}))
    assert [(kept["trials/split"] == s).sum().item() for s in ("train", "valid", "test")] == [
        40, 10, 10
    ]  # fmt: skip
    said = "20 trials overlap, in time, trials of a split they are not in: kept"
    assert said in capsys.readouterr().err
    parted = read(path, layout(split={"column": "fold", "overlap": "separate"}))
    assert shared(*sides(parted)) == 0
    assert (parted["trials/split"] == "test").sum() == 10


def test_abutting_trials_do_not_overlap(tmp_path: Path) -> None:
    starts = 0.1 * 3 + np.arange(40) * 1.1  # rounded apart from their stops
    path = units().trials(starts, starts + 1.1).write(tmp_path / "f.nwb")
    tree = read(path, layout((0.0, 1.1)))
    assert tree["trials"].attrs["trials_that_overlap"] == 0
    assert (tree["trials/split"] != "unused").all()


def test_two_layouts_of_one_file_are_two_recordings(tmp_path: Path) -> None:
    path = presentations().write(tmp_path / "f.nwb")
    first = read(path, layout())
    second = read(path, layout((0.0, 0.5), trials={"table": "intervals/image_presentations"}))
    assert first.attrs["source_sha256"] == second.attrs["source_sha256"]
    assert first["spikes/counts"].shape == (30, 10, 3)
    assert second["spikes/counts"].shape == (61, 5, 3)


def test_columns_with_names_of_ours(tmp_path: Path) -> None:
    path = (
        units().trials(STARTS, STARTS + 1, trial=np.arange(30) + 5, start=np.arange(30))
        .write(tmp_path / "f.nwb")
    )  # fmt: skip
    tree = read(path, layout())
    np.testing.assert_array_equal(tree["trials/trial_in_file"], np.arange(30) + 5)
    np.testing.assert_array_equal(tree["trials"]["trial"], np.arange(30))


def test_a_table_in_a_processing_module(tmp_path: Path) -> None:
    builder = units()
    table = pynwb.epoch.TimeIntervals(name="licks", description="of a test")
    for start in STARTS:
        table.add_row(start_time=start, stop_time=start + 0.1)
    builder.nwb.create_processing_module("behavior", "of a test").add(table)
    path = builder.write(tmp_path / "f.nwb")
    tree = read(path, layout(trials={"table": "processing/behavior/licks"}))
    np.testing.assert_allclose(tree["trials/start"], STARTS)
