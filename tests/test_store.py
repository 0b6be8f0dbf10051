"""Stores appear whole or not at all, and damage is found."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray as xr

from conftest import make_recording
from driftwave.errors import InputError
from driftwave.recording import open_recording
from driftwave.store import (
    atomic_path,
    open_dataset,
    open_tree,
    verify_store,
    write_text,
    write_tree,
)


def example(value: float = 1.0) -> xr.Dataset:
    return xr.Dataset(
        {
            "rate": (("trial", "unit"), np.full((40, 3), value), {"units": "Hz"}),
            "region": ("unit", np.array(["V1", "PPC", "é"], dtype=object)),
            "zero": ("trial", np.zeros(40)),
            "good": ("unit", [True, False, True]),
        },
        coords={"trial": np.arange(40)},
        attrs={"session": "a", "count": np.int64(3), "nested": {"b": 1}},
    )


def chunks_of(store: Path, name: str) -> list[Path]:
    return sorted(p for p in (store / name / "c").rglob("*") if p.is_file())


def left_behind(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if "partial" in p.name]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_tree(example(), tmp_path / "a.zarr")
    back = open_dataset(tmp_path / "a.zarr")
    for name in ("rate", "zero", "good"):
        xr.testing.assert_identical(back[name].load(), example()[name])
    assert list(back["region"].values) == ["V1", "PPC", "é"]
    assert back.attrs["count"] == 3
    assert json.loads(back.attrs["nested"]) == {"b": 1}
    assert left_behind(tmp_path) == []


def test_a_recording_is_written_and_read_back(tmp_path: Path) -> None:
    recording = make_recording()
    write_tree(recording, tmp_path / "r.zarr")
    back = open_recording(tmp_path / "r.zarr")
    assert set(back.children) == set(recording.children)
    for name, node in recording.children.items():
        xr.testing.assert_equal(back[name].to_dataset().load(), node.to_dataset())
    assert verify_store(tmp_path / "r.zarr") == []


def test_what_was_read_can_be_written_again(tmp_path: Path) -> None:
    write_tree(example().chunk(trial=7), tmp_path / "a.zarr")
    write_tree(open_tree(tmp_path / "a.zarr"), tmp_path / "b.zarr")
    assert verify_store(tmp_path / "b.zarr") == []
    xr.testing.assert_equal(
        open_dataset(tmp_path / "b.zarr").load(), open_dataset(tmp_path / "a.zarr").load()
    )


def test_provenance_tells_where_a_store_came_from(tmp_path: Path) -> None:
    write_tree(example(), tmp_path / "a.zarr", facts={"seed": 7, "params": {"width": 0.1}})
    found = json.loads(open_dataset(tmp_path / "a.zarr").attrs["provenance"])
    assert found["seed"] == 7
    assert found["params"] == {"width": 0.1}
    assert found.keys() >= {"driftwave_version", "git_hash", "written"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_exception_leaves_the_earlier_one(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a"

    def write(path: Path, text: str) -> None:
        if kind == "folder":
            path.mkdir()
            path = path / "inside"
        path.write_text(text)

    def content() -> str:
        return (target if kind == "file" else target / "inside").read_text()

    with atomic_path(target) as temporary:
        write(temporary, "first")

    def fail() -> None:
        with atomic_path(target) as temporary:
            write(temporary, "second")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert content() == "first"
    assert left_behind(tmp_path) == []
    with atomic_path(target) as temporary:
        write(temporary, "third")
    assert content() == "third"
    assert left_behind(tmp_path) == []


def test_an_exception_while_computing_leaves_the_earlier_store(tmp_path: Path) -> None:
    write_tree(example(1.0), tmp_path / "a.zarr")

    def explode(block: np.ndarray, block_info: dict) -> np.ndarray:
        if block_info[0]["chunk-location"][0] == 2:
            raise ValueError("no more disk")
        return block

    lazy = dask.array.ones((40, 3), chunks=(10, 3)).map_blocks(explode, dtype=float)
    broken = example().assign(rate=(("trial", "unit"), lazy))
    with pytest.raises(ValueError, match="no more disk"):
        write_tree(broken, tmp_path / "a.zarr")
    assert float(open_dataset(tmp_path / "a.zarr")["rate"].mean()) == 1.0
    assert verify_store(tmp_path / "a.zarr") == []
    assert left_behind(tmp_path) == []


_SLOW_WRITER = """
import sys, time
import dask.array, numpy, xarray as xr
from driftwave.store import write_tree

def slow(block):
    print("writing", flush=True)
    time.sleep(30)
    return block

data = dask.array.ones((4, 3), chunks=(1, 3))
data = data.map_blocks(slow, dtype=float, meta=numpy.empty((0, 0)))
write_tree(xr.Dataset({"rate": (("trial", "unit"), data)}), sys.argv[1])
"""


@pytest.mark.parametrize("earlier", [False, True])
def test_a_killed_writer_leaves_no_half_store(tmp_path: Path, earlier: bool) -> None:
    target = tmp_path / "a.zarr"
    if earlier:
        write_tree(example(5.0), target)
    writer = subprocess.Popen(
        [sys.executable, "-c", _SLOW_WRITER, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    # Two of dask's threads may print at once.
    assert writer.stdout.readline().startswith("writing")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    if earlier:
        assert float(open_dataset(target)["rate"].mean()) == 5.0
        assert verify_store(target) == []
    else:
        assert not target.exists()
    assert len(left_behind(tmp_path)) == 1
    write_tree(example(6.0), target)
    assert float(open_dataset(target)["rate"].mean()) == 6.0
    assert left_behind(tmp_path) == []  # what the killed writer had begun is gone


def _write_many(target: str, value: float, stop: float) -> None:
    while time.time() < stop:
        write_tree(example(value), target)


def test_two_writers_never_mix(tmp_path: Path) -> None:
    """An orphan job may still write while its replacement does: each store is of one of them."""
    target = tmp_path / "a.zarr"
    write_tree(example(1.0), target)
    stop = time.time() + 1.5
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_many, args=(str(target), value, stop)) for value in (1.0, 2.0)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert verify_store(target) == []
    values = np.unique(open_dataset(target)["rate"].values)
    assert values in ([1.0], [2.0])
    assert left_behind(tmp_path) == []


def _replace_many(target: str, text: str, stop: float) -> None:
    while time.time() < stop:
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / "inside").write_text(text)


def test_many_writers_of_a_folder_never_fail(tmp_path: Path) -> None:
    """Folders so small that the writers meet while they replace one another's."""
    target, stop = tmp_path / "a", time.time() + 1
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_replace_many, args=(str(target), str(k), stop)) for k in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert (target / "inside").read_text() in "0123"
    assert left_behind(tmp_path) == []


def test_a_missing_chunk_is_found(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    write_tree(example().chunk(trial=10), store)
    chunks_of(store, "rate")[1].unlink()
    for read in (False, True):
        (problem,) = verify_store(store, read=read)
        assert "rate/c/1/0: lost" in problem
    with pytest.raises(InputError, match="rate/c/1/0: found nothing"):
        open_dataset(store)["rate"].load()
    # The reason for the check: xarray reads what is missing as fill values, without a word.
    with xr.open_zarr(store) as unchecked:
        assert not (unchecked["rate"].values == 1).all()


@pytest.mark.parametrize("name", ["rate", "region"])
def test_a_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    store = tmp_path / "a.zarr"
    write_tree(example(), store)
    assert verify_store(store) == []
    chunk = chunks_of(store, name)[0]
    content = bytearray(chunk.read_bytes())
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        chunk.write_bytes(damaged)
        (problem,) = verify_store(store)
        assert f"{name}/c/0" in problem
        assert "other bytes than were written" in problem
        with pytest.raises(InputError, match=f"{name}/c/0"):
            open_dataset(store).load()
    chunk.write_bytes(content)
    assert verify_store(store) == []


def test_a_store_without_its_list_of_contents_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    write_tree(example(), store)
    (store / "contents.sha256").unlink()
    with pytest.raises(InputError, match=r"contents\.sha256: found nothing"):
        open_tree(store)
    (problem,) = verify_store(store)
    assert "contents.sha256: lost" in problem


def test_a_store_from_elsewhere_is_decompressed(tmp_path: Path) -> None:
    from zarr.codecs import ZstdCodec

    checked = {"compressors": [ZstdCodec(checksum=True)]}
    ours = xr.Dataset({"rate": ("x", np.arange(9.0))}, attrs={"provenance": "{}"})
    ours.to_zarr(tmp_path / "a.zarr", zarr_format=3, encoding={"rate": checked})
    assert verify_store(tmp_path / "a.zarr") == []
    chunk = chunks_of(tmp_path / "a.zarr", "rate")[0]
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1  # of the checksum itself
    chunk.write_bytes(content)
    (problem,) = verify_store(tmp_path / "a.zarr")
    assert "rate: unreadable chunk" in problem


def test_a_store_without_provenance_is_not_whole(tmp_path: Path) -> None:
    example().drop_vars("region").drop_attrs().to_zarr(tmp_path / "a.zarr", zarr_format=3)
    assert any("no provenance" in problem for problem in verify_store(tmp_path / "a.zarr"))


def test_what_is_not_a_store_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    assert any("not a readable" in p for p in verify_store(tmp_path / "empty.zarr"))
    with pytest.raises(InputError, match="no such folder"):
        open_tree(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="unreadable metadata"):
        open_tree(tmp_path / "empty.zarr")


def test_zeros_are_stored_as_chunks(tmp_path: Path) -> None:
    """Or a store of zeros could not be told from one that lost its chunks."""
    write_tree(example(), tmp_path / "a.zarr")
    assert chunks_of(tmp_path / "a.zarr", "zero")


def test_an_array_without_entries_is_whole(tmp_path: Path) -> None:
    write_tree(example().isel(trial=slice(0, 0)), tmp_path / "a.zarr")
    assert verify_store(tmp_path / "a.zarr") == []
    assert open_dataset(tmp_path / "a.zarr")["rate"].shape == (0, 3)


def test_scalars_strings_and_complex_survive(tmp_path: Path) -> None:
    dataset = xr.Dataset(
        {
            "scalar": 3.5,
            "phase": ("x", np.exp(1j * np.arange(3.0)), {"units": "1"}),
            "name": ("x", ["a", "bb", ""]),
        },
        coords={"x": ["p", "q", "r"]},
    )
    write_tree(dataset, tmp_path / "a.zarr")
    xr.testing.assert_equal(open_dataset(tmp_path / "a.zarr").load(), dataset)
    assert verify_store(tmp_path / "a.zarr") == []


def test_text_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.tsv", "μ\n")
    assert (tmp_path / "deep" / "a.tsv").read_bytes() == "μ\n".encode()


def test_the_parent_folder_is_made_and_a_file_is_replaced_by_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "x" / "a.zarr"
    target.parent.mkdir()
    target.write_text("a file where a store belongs")
    write_tree(example(), target)
    assert verify_store(target) == []


def test_umask_decides_who_may_read(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
