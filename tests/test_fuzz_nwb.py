"""NWB files from elsewhere: damaged, changed on purpose or asking too much, each in a process."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzz_cases
from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest.inspect import contents, first_layout
from driftwave.ingest.nwb import open_nwb, read_recording
from driftwave.layout import Layout
from driftwave.memory import SHARE, memory_limit
from driftwave.recording import open_recording
from driftwave.store import write_tree
from nwb_builder import TASK_LAYOUT, Builder, grid, poisson_units, task_file

QUICK = settings(
    derandomize=True,
    deadline=None,
    max_examples=3,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(QUICK, max_examples=25)
SECRET = b"0123456789abcdef01234567"


def field_file() -> Builder:
    """Nine electrodes on a grid, 20 s, counts of five units and a tracked point with stamps."""
    rng = np.random.default_rng(0)
    stamps = np.arange(1000) * 0.02
    return (
        Builder()
        .electrodes(grid(3, 3))
        .field(rng.normal(size=(2000, 9)).astype("f4") * 1e-4, rate=100.0)
        .series("m", "counts", rng.poisson(1, (1000, 5)), timestamps=stamps)
        .series("m", "point", rng.normal(size=(1000, 2)), timestamps=stamps)
    )


FIELD_LAYOUT: dict[str, Any] = {
    "name": "f",
    "description": "d",
    "bin_width": 0.1,
    "field": {"series": "acquisition/lfp", "rate": 50},
    "spikes": {"source": "processing/m/counts"},
    "windows": {"length": 1.0},
    "behavior": [{"name": "c", "series": "processing/m/point", "derivative": "velocity"}],
}
FILES = {"task": (task_file, TASK_LAYOUT), "field": (field_file, FIELD_LAYOUT)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    return {name: make().write(folder / f"{name}.nwb") for name, (make, _) in FILES.items()}


def layout(**changes: Any) -> Layout:
    return parse_layout(copy.deepcopy(TASK_LAYOUT) | changes)


def ingest(path: Path, chosen: Layout) -> None:
    with open_nwb(path) as file:
        write_tree(read_recording(file, chosen, session="s"), path.with_suffix(".zarr"))


def told(path: Path, chosen: Layout) -> str:
    return fuzz_cases.outcome(lambda: ingest(path, chosen))


# Content outside the file


def external_link(h5: h5py.File, secret: Path) -> None:
    h5["processing/behavior/more"] = h5py.ExternalLink(str(secret), "/")


def hidden_in_a_column(h5: h5py.File, secret: Path) -> None:
    del h5["intervals/trials/direction"]
    h5["intervals/trials/direction"] = h5py.ExternalLink(str(secret), "/direction")


def external_storage(h5: h5py.File, secret: Path) -> None:
    kept = [(str(secret), 0, 24)]
    name = "intervals/trials/direction"
    fuzz_cases.replace(h5, name, shape=(24,), dtype="u1", external=kept)


def virtual(h5: h5py.File, secret: Path) -> None:
    name = "intervals/trials/direction"
    attributes = dict(h5[name].attrs)
    del h5[name]
    mapped = h5py.VirtualLayout(shape=(24,), dtype="f8")
    mapped[:] = h5py.VirtualSource(str(secret), "direction", shape=(24,))
    made = h5.create_virtual_dataset(name, mapped)
    for key, value in attributes.items():
        made.attrs[key] = value


OUTSIDE = [
    (external_link, "a link to another file"),
    (hidden_in_a_column, "a link to another file"),
    (external_storage, "values stored in another file"),
    (virtual, "a virtual dataset of"),
]


@pytest.mark.parametrize(("change", "words"), OUTSIDE, ids=[c.__name__ for c, _ in OUTSIDE])
def test_content_of_other_files_is_refused(
    whole: dict[str, Path], tmp_path: Path, change: Any, words: str
) -> None:
    path, secret = tmp_path / "task.nwb", tmp_path / "secret"
    if change is external_storage:
        secret.write_bytes(SECRET)
    else:
        with h5py.File(secret, "w") as h5:
            h5["direction"] = np.arange(24.0)
    shutil.copy(whole["task"], path)
    with h5py.File(path, "r+") as h5:
        change(h5, secret)
    for job in (lambda: ingest(path, layout()), lambda: contents(path)):
        with pytest.raises(InputError, match=words) as caught:
            job()
        assert "secret" in str(caught.value)
        assert "expected content of this file only" in str(caught.value)
    assert not path.with_suffix(".zarr").exists()


def test_links_that_lead_nowhere_or_in_circles_are_told(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "task.nwb"
    for target in ("/nothing", "/processing/behavior/hand/data"):
        shutil.copy(whole["task"], path)
        with h5py.File(path, "r+") as h5:
            del h5["processing/behavior/hand/data"]
            h5["processing/behavior/hand/data"] = h5py.SoftLink(target)
        assert "found" in told(path, layout())


def test_groups_nested_without_end_are_refused(whole: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copy(whole["task"], tmp_path / "task.nwb")
    with h5py.File(path, "r+") as h5:
        group = h5.create_group("scratch").id
        for _ in range(3000):
            group = h5py.h5g.create(group, b"a")
    assert "nested more than 64 deep" in told(path, layout())


# Damage


def _bytes_outcome(whole: dict[str, Path], folder: Path, seed: int) -> str:
    name = ("task", "field")[seed % 2]
    path = folder / "damaged.nwb"
    rng = np.random.default_rng(seed)
    path.write_bytes(fuzz_cases.damaged(whole[name].read_bytes(), rng))
    chosen = parse_layout(copy.deepcopy(FILES[name][1]))
    return fuzz_cases.outcome(lambda: ingest(path, chosen), isolated=True)


@QUICK
@given(seed=st.integers(0, 2**20))
def test_damaged_bytes_are_told_or_harmless(
    whole: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    _bytes_outcome(whole, tmp_path, seed)


@pytest.mark.slow
@LONG
@given(seed=st.integers(2**20, 2**24))
def test_many_damaged_bytes_are_told_or_harmless(
    whole: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    _bytes_outcome(whole, tmp_path, seed)


def _changed_outcome(whole: dict[str, Path], folder: Path, name: str, data: st.DataObject) -> None:
    path = Path(shutil.copy(whole[name], folder / "changed.nwb"))
    with h5py.File(path, "r") as h5:
        names = fuzz_cases.objects(h5)
    item = data.draw(st.sampled_from(names))
    kind = data.draw(st.sampled_from(fuzz_cases.changes(item)))
    with h5py.File(path, "r+") as h5:
        fuzz_cases.change(h5, item, kind)
    told(path, parse_layout(copy.deepcopy(FILES[name][1])))
    if data.draw(st.integers(0, 4)) == 0:
        fuzz_cases.outcome(lambda: (contents(path), first_layout(path)))


@QUICK
@given(data=st.data())
@pytest.mark.parametrize("name", FILES)
def test_changed_content_is_told_or_harmless(
    whole: dict[str, Path], tmp_path: Path, name: str, data: st.DataObject
) -> None:
    _changed_outcome(whole, tmp_path, name, data)


@pytest.mark.slow
@LONG
@given(data=st.data())
@pytest.mark.parametrize("name", FILES)
def test_much_changed_content_is_told_or_harmless(
    whole: dict[str, Path], tmp_path: Path, name: str, data: st.DataObject
) -> None:
    _changed_outcome(whole, tmp_path, name, data)


# Size


def test_a_process_is_told_what_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTWAVE_MEMORY_MB", "100")
    assert memory_limit() == 100_000_000
    monkeypatch.setenv("DRIFTWAVE_MEMORY_MB", "not a number")
    assert memory_limit() > 100_000_000
    assert SHARE == 0.5


HUGE: list[tuple[dict[str, Any], str]] = [
    ({"bin_width": 1e-6}, "counts of 24 trials of 1000000 bins and 6 units"),
    ({"bin_width": 1e-9}, "bins and 6 units, which take"),
    ({"bin_width": 1e-300}, "at most 1e+09 bins"),
    ({"trials": {"window": [0.0, 1e9]}}, "at most 1e+09 bins"),
    ({"trials": {"window": [0.0, 1e200]}}, "at most 1e+09 bins"),
    ({"trials": None, "windows": {"length": 0.05, "stop": 1e12}}, "windows of 0.05 s, which take"),
    ({"trials": None, "windows": {"length": 1e-9}, "bin_width": 1e-9}, "windows of 1e-09 s"),
]


@pytest.mark.parametrize(("changes", "words"), HUGE)
def test_a_layout_that_asks_for_too_much_is_refused_at_once(
    whole: dict[str, Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    content = {"stimulus": None, "forward": 0.0} | changes
    sentence = told(Path(shutil.copy(whole["task"], tmp_path / "t.nwb")), layout(**content))
    assert words in sentence
    assert "`bin_width`" in sentence or "`windows.length`" in sentence


def test_spike_times_that_span_an_age_ask_for_no_more_than_their_trials(tmp_path: Path) -> None:
    times = poisson_units(3, 50.0, 10.0)
    times[0] = np.append(times[0], 1e12)
    path = Builder().units(times).write(tmp_path / "age.nwb")
    windows = parse_layout(
        {"name": "w", "description": "d", "spikes": {}, "windows": {"length": 1.0}}
    )
    assert "windows of 1 s, which take" in told(path, windows)


@pytest.mark.slow
def test_a_million_trials_take_seconds(tmp_path: Path) -> None:
    """Cost grows with trials and conditions, not with their product."""
    number = 1_000_000
    path = task_file().write(tmp_path / "many.nwb")
    with h5py.File(path, "r+") as h5:
        columns = {"start_time": np.linspace(0, 50, number), "go_time": np.linspace(0, 50, number)}
        columns |= {
            "stop_time": np.linspace(1, 51, number),
            "direction": np.arange(number) % 5000.0,
        }
        for name, values in (columns | {"id": np.arange(number)}).items():
            fuzz_cases.replace(h5, f"intervals/trials/{name}", values)
    asked = layout(behavior=[], trials={"window": [0.0, 0.2], "condition": ["direction"]})
    assert told(path, asked) == "ok"
    with h5py.File(path, "r+") as h5:
        fuzz_cases.replace(h5, "intervals/trials/direction", np.arange(number) * 1.0)
    assert "1000000 combinations" in told(path, asked)


def test_a_series_that_claims_what_the_file_does_not_hold_is_refused(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(whole["field"], tmp_path / "vast.nwb"))
    with h5py.File(path, "r+") as h5:
        fuzz_cases.change(h5, "acquisition/lfp/data", "vast")
    chosen = parse_layout(copy.deepcopy(FIELD_LAYOUT))
    assert "of which the file holds 0 bytes" in told(path, chosen)


def test_a_chunk_that_unpacks_to_more_than_memory_is_refused(
    whole: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(whole["task"], tmp_path / "bomb.nwb"))
    with h5py.File(path, "r+") as h5:
        fuzz_cases.replace(
            h5, "units/spike_times", shape=h5["units/spike_times"].shape, maxshape=(None,),
            chunks=(400_000_000,), dtype="f8", compression="gzip",
        )  # fmt: skip
    assert "which take 3.2 GB, expected at most 1 GB, half of the memory" in told(path, layout())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 1e-9}, "below that of 2000 samples"),
        ({"rate": 0.06}, "below that of 2000 samples"),
    ],
)
def test_a_rate_that_leaves_no_sample_is_refused(
    whole: dict[str, Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    content = copy.deepcopy(FIELD_LAYOUT)
    content["field"] |= changes
    path = Path(shutil.copy(whole["field"], tmp_path / "f.nwb"))
    assert words in told(path, parse_layout(content))


# Names


NAMES = ["trial", "unit", "..", "<b>&", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_columns_of_any_name_are_kept_within_the_store(tmp_path: Path, name: str) -> None:
    """Names of columns become names of arrays, which are folders on the disk."""
    starts = 1.0 + 2.0 * np.arange(24)
    path = tmp_path / "named.nwb"
    builder = Builder().units(poisson_units(4, 52.0, 12.0), **{name: [1, 2, 3, 4]})
    builder.trials(starts, starts + 1, **{name: list(range(24))}).write(path)
    before = sorted(p.name for p in tmp_path.iterdir())
    asked = layout(behavior=[], stimulus=None, spikes={}, trials={"window": [0.0, 1.0]})
    sentence = told(path, asked)
    after = sorted(p.name for p in tmp_path.iterdir())
    if sentence == "ok":
        assert after == sorted([*before, "named.zarr"])
        found = open_recording(tmp_path / "named.zarr")["trials"].dataset
        columns = [str(c) for c in found.data_vars]
        assert any(np.array_equal(found[c].values, np.arange(24)) for c in columns)
    else:
        assert after == before
        assert "column" in sentence
