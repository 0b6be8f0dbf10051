"""Damaged, half-written and vanished files: found, refused, or made again just the same."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from conftest import make_recording
from driftwave.atomic import atomic_path, is_abandoned, write_text
from driftwave.contents import CONTENTS, check_contents, seal
from driftwave.errors import InputError
from driftwave.inference.checkpoint import DIGEST, read_sealed, sealed, state_digest
from driftwave.inference.em_run import EmState, load_state, save_state
from driftwave.recording import open_recording
from driftwave.store import open_dataset, open_tree, verify_store, write_tree
from driftwave.verification import verify_all
from fault_cases import (
    assert_same,
    comparable,
    flip,
    make_read_only,
    partial,
    refusal_of,
    small_disk,
)
from test_training import CHECKPOINT, Task
from test_training import run as train_task


def few_trials(seed: int = 0) -> xr.DataTree:
    tree = make_recording(trials=8, bins=6, units=4, seed=seed)
    return tree.filter(lambda node: node.name != "truth")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A small recording: numbers, text, scalars, groups and attributes."""
    path = tmp_path / "recording.zarr"
    write_tree(few_trials(), path)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    with small_disk(tmp_path / "disk", 8) as folder:
        yield folder


def noise(megabytes: float, seed: int = 0) -> xr.Dataset:
    """What no compression makes smaller."""
    drawn = np.random.default_rng(seed).normal(size=(int(megabytes * 1e6) // 80, 10))
    return xr.Dataset({"rate": (("time", "unit"), drawn, {"units": "Hz"})})


def files_of(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def ballast(disk: Path, leave: int) -> Path:
    """Fill a disk up to ``leave`` bytes."""
    path = disk / "ballast"
    path.write_bytes(b"\1" * (shutil.disk_usage(disk).free - leave))
    return path


def test_a_flipped_bit_in_any_file_of_a_store_is_found(store: Path) -> None:
    whole = comparable(store)
    rng = np.random.default_rng(0)
    files = files_of(store)
    assert len(files) > 30
    harmless = set()
    for path in files:
        content = path.read_bytes()
        flip(path, int(rng.integers(8 * len(content))))
        assert verify_store(store), path
        refusal = refusal_of(lambda: comparable(store))
        if refusal is None:
            xr.testing.assert_identical(comparable(store), whole)
            harmless.add(path.name)
        else:
            assert refusal.file == str(store)
        path.write_bytes(content)
    # Metadata of groups and arrays, and their lines: the root holds all of it once more.
    assert harmless <= {"zarr.json", CONTENTS}
    assert verify_store(store) == []


def test_a_lost_file_of_a_store_is_found(store: Path) -> None:
    whole = comparable(store)
    for path in files_of(store):
        content = path.read_bytes()
        path.unlink()
        assert verify_store(store, read=False), path
        refusal = refusal_of(lambda: comparable(store))
        if refusal is None:
            assert path.name == "zarr.json"
            assert path.parent != store
            xr.testing.assert_identical(comparable(store), whole)
        else:
            assert refusal.file == str(store)
        path.write_bytes(content)


def test_a_lost_array_is_found(store: Path) -> None:
    """Without the list of contents a store that lost a folder is a smaller store."""
    shutil.rmtree(store / "spikes" / "counts")
    with pytest.raises(InputError, match="spikes/counts/c/0/0/0: found nothing"):
        open_recording(store)["spikes/counts"].load()
    assert any("spikes/counts/zarr.json: lost" in problem for problem in verify_store(store))
    shutil.rmtree(store / "spikes")
    with pytest.raises(InputError, match=r"recording\.zarr: spikes/"):
        open_recording(store)


def test_a_chunk_of_another_store_is_found(store: Path, tmp_path: Path) -> None:
    """Each is sound in itself: zstd's checksum says nothing."""
    other = tmp_path / "other.zarr"
    write_tree(few_trials(seed=1), other)
    chunk = Path("spikes", "counts", "c", "0", "0", "0")
    shutil.copy(other / chunk, store / chunk)
    with pytest.raises(InputError, match="other bytes than were written"):
        open_recording(store)["spikes/counts"].load()
    shutil.copytree(other / "trials", store / "more")
    assert any("more/split/zarr.json: not of it" in problem for problem in verify_store(store))


@pytest.mark.parametrize("kept", [0.0, 0.4, 0.999])
def test_a_truncated_store_is_refused(store: Path, kept: float) -> None:
    for path in (store / CONTENTS, store / "zarr.json", store / "spikes/counts/c/0/0/0"):
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        assert verify_store(store)
        with pytest.raises(InputError, match=r"recording\.zarr: "):
            open_recording(store).load()
        path.write_bytes(content)
    assert verify_store(store) == []


def test_a_store_that_vanishes_while_it_is_read_is_refused(store: Path) -> None:
    tree = open_recording(store)
    shutil.rmtree(store)
    with pytest.raises(InputError, match="counts/c/0/0/0: found nothing"):
        tree["spikes/counts"].load()


def test_a_reader_meets_whole_stores_while_they_are_replaced(store: Path) -> None:
    tree, done = few_trials(), threading.Event()
    expected = tree["spikes/counts"].to_numpy()

    def replace() -> None:
        for _ in range(3):
            write_tree(tree, store)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    reads = 0
    while not done.is_set():
        np.testing.assert_array_equal(open_recording(store)["spikes/counts"], expected)
        reads += 1
    writer.join()
    assert reads > 1


def test_a_flipped_bit_in_a_checkpoint_is_refused_or_harmless(tmp_path: Path) -> None:
    """torch loads a damaged weight without a word."""
    train_task(Task(), checkpoint=tmp_path, key="a")
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()

    def load(file: Path) -> dict:
        return torch.load(file, weights_only=True)

    expected = state_digest(read_sealed(path, load))
    rng, refusals, silent = np.random.default_rng(1), 0, 0
    for bit in rng.integers(8 * len(content), size=60):
        flip(path, int(bit))
        try:
            assert state_digest(read_sealed(path, load)) == expected
        except InputError as error:
            refusals += 1
            silent += "other numbers" in error.found
        path.write_bytes(content)
    assert refusals > 20
    assert silent > 5


def test_a_checkpoint_of_arrays_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "em.npz"
    rng = np.random.default_rng(2)
    state = EmState({"a": rng.normal(size=(20, 3))}, {"a": rng.normal(size=(20, 3))}, [1.0], [2.0])
    save_state(path, "key", state)
    content = path.read_bytes()
    expected, refusals = state_digest(state._asdict()), 0
    for bit in rng.integers(8 * len(content), size=150):
        flip(path, int(bit))
        refusal = refusal_of(lambda: load_state(path, "key"))
        if refusal is None:
            found = load_state(path, "key")
            assert found is not None
            assert state_digest(found._asdict()) == expected
        else:
            assert refusal.field == "checkpoint"
            refusals += 1
        path.write_bytes(content)
    assert refusals > 100


def test_a_digest_tells_values_kinds_and_shapes_apart() -> None:
    state = {"a": torch.arange(4.0), "b": [1, 2.0, None, {"c": (True,)}], "d": float("nan")}
    digest = state_digest(state)
    assert sealed(state)[DIGEST] == digest
    others = [
        state | {"a": torch.arange(4.0).reshape(2, 2)},
        state | {"a": torch.arange(4.0).double()},
        state | {"a": torch.tensor([0.0, 1.0, 2.0, np.nextafter(np.float32(3), np.float32(4))])},
        state | {"b": [1, 2.0, None, {"c": (False,)}]},
        state | {"d": 0.0},
    ]
    assert len({digest, *map(state_digest, others)}) == 6


def test_a_damaged_fit_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m" / "fit"
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        np.savez(temporary / "fit.npz", a=np.arange(50.0))
        (temporary / "provenance.json").write_text(f'{{"contents": "{CONTENTS}"}}')
        seal(temporary)
    check_contents(folder, "a fit")
    rng = np.random.default_rng(3)
    for path in files_of(folder):
        content = path.read_bytes()
        for bit in rng.integers(8 * len(content), size=20):
            flip(path, int(bit))
            with pytest.raises(InputError, match="expected a fit as written"):
                check_contents(folder, "a fit")
            path.write_bytes(content)
        path.unlink()
        with pytest.raises(InputError, match="expected a fit as written"):
            check_contents(folder, "a fit")
        path.write_bytes(content)
    assert [verdict.problems for verdict in verify_all(tmp_path)] == [()]


def test_a_full_disk_is_told_and_the_earlier_store_is_kept(disk: Path, tmp_path: Path) -> None:
    write_tree(noise(1), disk / "a.zarr")
    with pytest.raises(InputError, match=r"a\.zarr: disk: found no space left"):
        write_tree(noise(12), disk / "a.zarr")
    assert partial(disk) == []
    write_tree(noise(1), tmp_path / "a.zarr")
    assert_same(disk / "a.zarr", tmp_path / "a.zarr")
    filler = ballast(disk, leave=2_000_000)
    with pytest.raises(InputError, match="no space left"):
        write_tree(noise(4, seed=1), disk / "a.zarr")
    assert_same(disk / "a.zarr", tmp_path / "a.zarr")
    filler.unlink()
    write_tree(noise(4, seed=1), disk / "a.zarr")
    write_tree(noise(4, seed=1), tmp_path / "a.zarr")
    assert_same(disk / "a.zarr", tmp_path / "a.zarr")


def _text(path: Path) -> None:
    write_text(path, "a\tb\n" * 100_000)


def _weights(path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save({"a": torch.zeros(100_000)}, temporary)


def _arrays(path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, a=np.arange(50_000.0))


def _hdf5(path: Path) -> None:
    import h5py

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["a"] = np.arange(50_000.0)


@pytest.mark.parametrize("write", [_text, _weights, _arrays, _hdf5])
def test_a_full_disk_is_told_by_every_kind_of_file(disk: Path, write) -> None:
    write(disk / "a")
    earlier = (disk / "a").read_bytes()
    filler = ballast(disk, leave=60_000)
    with pytest.raises(InputError, match="disk: found no space left on the disk"):
        write(disk / "a")
    assert (disk / "a").read_bytes() == earlier
    assert partial(disk) == []
    filler.unlink()
    write(disk / "a")
    assert len((disk / "a").read_bytes()) == len(earlier)


def test_a_full_disk_leaves_no_half_figure(disk: Path) -> None:
    from driftwave.figures.style import new_figure, save_figure

    filler = ballast(disk, leave=8_000)
    with pytest.raises(InputError, match=r"f\.png: disk: found no space left"):
        save_figure(new_figure()[0], disk / "f")
    assert [path.name for path in disk.iterdir()] == ["ballast"]
    filler.unlink()
    save_figure(new_figure()[0], disk / "f")
    assert [verdict.problems for verdict in verify_all(disk)] == [(), ()]


def test_a_read_only_disk_is_told_and_verified(disk: Path) -> None:
    write_tree(noise(0.1), disk / "a.zarr")
    make_read_only(disk)
    for target in (disk / "a.zarr", disk / "new" / "b.zarr"):
        with pytest.raises(InputError, match="disk: found a read-only file system"):
            write_tree(noise(0.1), target)
    assert open_dataset(disk / "a.zarr")["rate"].size
    assert [verdict.problems for verdict in verify_all(disk)] == [()]


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(InputError, match="disk: found a file in the way, expected a folder"):
        write_text(tmp_path / "results" / "deep" / "a.txt", "a")
    assert (tmp_path / "results").read_text() == "a file"


def test_results_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        write_tree(noise(0.1), tmp_path / "results" / "a.zarr")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["a.zarr"]
    assert (tmp_path / "results").is_symlink()
    assert verify_store(tmp_path / "results" / "a.zarr") == []


def test_a_link_where_a_store_belongs_is_replaced_and_not_followed(tmp_path: Path) -> None:
    write_tree(noise(0.1, seed=1), tmp_path / "precious.zarr")
    (tmp_path / "a.zarr").symlink_to(tmp_path / "precious.zarr")
    write_tree(noise(0.1, seed=2), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").is_symlink()
    write_tree(noise(0.1, seed=1), tmp_path / "again.zarr")
    assert_same(tmp_path / "precious.zarr", tmp_path / "again.zarr")


def test_what_another_machine_writes_is_not_taken_for_abandoned(tmp_path: Path) -> None:
    """A process number says nothing of a process elsewhere."""
    import os
    import socket
    import subprocess

    gone = subprocess.Popen(["true"])
    gone.wait()
    name, host = ".a.zarr", socket.gethostname()
    paths = {
        f"{name}.{host}-{gone.pid}-0a1b2c3d.partial": True,
        f"{name}.{host}-{os.getpid()}-0a1b2c3d.partial": False,
        f"{name}.node-17-{gone.pid}-0a1b2c3d.partial": False,
    }
    for path, abandoned in paths.items():
        (tmp_path / path).mkdir()
        assert is_abandoned(tmp_path / path) is abandoned
    write_tree(noise(0.1), tmp_path / "a.zarr")
    left = {path.name for path in partial(tmp_path)}
    assert left == {path for path, abandoned in paths.items() if not abandoned}
    found = {str(v.result.path.name): v.problems for v in verify_all(tmp_path)}
    assert all("being written" in found[path][0] for path in left)


def test_a_store_is_opened_with_every_array_it_was_written_with(store: Path) -> None:
    tree = open_tree(store)
    expected = few_trials()
    assert {node.path for node in tree.subtree} == {node.path for node in expected.subtree}
    for node in expected.subtree:
        assert set(tree[node.path].data_vars) == set(node.data_vars)
