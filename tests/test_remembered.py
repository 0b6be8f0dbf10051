"""What is kept of source files between processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driftwave import remembered as module
from driftwave.remembered import cache_file, remembered


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A source file an hour old, and an empty cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module._store.cache_clear()
    path = tmp_path / "source.py"
    change(path, "one")
    yield path
    module._store.cache_clear()


def change(path: Path, text: str, *, ago: float = 3600.0) -> None:
    path.write_text(text)
    then = time.time() - ago
    os.utime(path, (then, then))


def in_a_new_process() -> None:
    """Write what is kept, and forget what is in memory."""
    module._store().write()
    module._store.cache_clear()


def test_a_file_is_read_once_until_it_changes(source: Path) -> None:
    read: list[str] = []

    def reader() -> str:
        read.append(source.read_text())
        return read[-1]

    for _ in range(2):
        assert remembered("text", source, reader) == "one"
        in_a_new_process()
    assert read == ["one"]
    change(source, "two", ago=60.0)  # of the same size
    assert remembered("text", source, reader) == "two"
    assert remembered("other", source, lambda: "else") == "else"


def test_a_file_that_has_just_changed_is_not_kept(source: Path) -> None:
    change(source, "new", ago=0.0)
    assert remembered("text", source, source.read_text) == "new"
    in_a_new_process()
    assert not cache_file().exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"text:source.py": 3}'])
def test_a_damaged_file_is_as_none(source: Path, damage: str) -> None:
    remembered("text", source, source.read_text)
    in_a_new_process()
    entries = json.loads(cache_file().read_text())
    assert next(iter(entries.values()))[2] == "one"
    cache_file().write_text(damage or json.dumps({key: ["x"] for key in entries}))
    module._store.cache_clear()
    assert remembered("text", source, source.read_text) == "one"


def test_a_folder_that_cannot_be_written_is_as_none(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    module._store.cache_clear()
    assert remembered("text", source, source.read_text) == "one"
    in_a_new_process()
    assert not list(tmp_path.rglob("*.partial"))


def test_what_is_gone_is_forgotten(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    change(other, "other")
    remembered("text", source, source.read_text)
    remembered("text", other, other.read_text)
    in_a_new_process()
    assert len(json.loads(cache_file().read_text())) == 2
    long_gone = cache_file().with_name("sources-0.json")
    change(long_gone, "{}", ago=200 * 24 * 3600.0)
    other.unlink()
    change(source, "again", ago=60.0)
    remembered("text", source, source.read_text)
    in_a_new_process()
    assert [entry[2] for entry in json.loads(cache_file().read_text()).values()] == ["again"]
    assert not long_gone.exists()
