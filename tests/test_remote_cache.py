"""Whole copies of remote files: checked, resumed, shared, and never partial."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from driftwave.errors import InputError
from driftwave.ingest import remote_cache
from driftwave.ingest.remote import open_remote
from driftwave.ingest.remote_cache import cache_folder
from driftwave.ingest.remote_web import BLOCK, Web
from range_server import RangeServer, Served, range_server

pytest_plugins = ("remote_cases",)
pytestmark = pytest.mark.usefixtures("nwb_cache")

BODY = bytes(range(256)) * (5 * BLOCK // 256)
SHA256 = hashlib.sha256(BODY).hexdigest()


def fetch(url: str, sha256: str | None = SHA256, **options: Any) -> Path:
    with open_remote(url, sha256, **options) as found:
        assert isinstance(found.file, Path)
        assert found.sha256 == hashlib.sha256(found.file.read_bytes()).hexdigest()
        return found.file


def partial_of(nwb_cache: Path) -> Path:
    return nwb_cache / "sha256" / f"{SHA256}.nwb.partial"


def test_a_checked_copy_needs_no_network_later(nwb_cache: Path) -> None:
    with range_server() as server:
        url = server.serve("/a.nwb", BODY)
        path = fetch(url, SHA256.upper())
        assert path == nwb_cache / "sha256" / f"{SHA256}.nwb"
        assert path.read_bytes() == BODY
        assert not partial_of(nwb_cache).exists()
    assert fetch(url) == path
    with open_remote(url, SHA256) as found:
        assert found.facts == {"source_read": "whole", "source_bytes": len(BODY)}


def test_facts_are_the_same_from_server_and_cache(server: RangeServer) -> None:
    url = server.serve("/a.nwb", BODY)
    facts = []
    for _ in range(2):
        with open_remote(url, SHA256) as found:
            facts.append(found.facts)
    assert facts[0] == facts[1]


def test_another_checksum_is_refused_and_not_kept(
    server: RangeServer,
    nwb_cache: Path,
) -> None:
    url = server.serve("/a.nwb", BODY[:-1] + b"x")
    with pytest.raises(InputError) as caught:
        fetch(url)
    assert caught.value.expected == SHA256
    assert caught.value.field == "sha256"
    assert [p.name for p in nwb_cache.rglob("*") if p.is_file()] == [f"{SHA256}.nwb.lock"]


def test_a_broken_download_goes_on_where_it_broke(server: RangeServer) -> None:
    url = server.serve("/a.nwb", BODY, faults=[None, "break", "drop", "break"])
    assert fetch(url).read_bytes() == BODY
    starts = [header for _, header in server.asked[1:]]
    half = len(BODY) // 2
    assert starts[0] == ""
    assert starts[1] == starts[2] == f"bytes={half}-"
    assert starts[3] == f"bytes={half + half // 2}-"


def test_a_download_that_brings_nothing_ends(server: RangeServer) -> None:
    url = server.serve("/a.nwb", BODY, faults=[None, "break", *["drop"] * 9])
    with pytest.raises(InputError, match="a connection that broke off, 3 times"):
        fetch(url)
    server.files["/a.nwb"].faults.clear()
    assert fetch(url).read_bytes() == BODY  # a later job goes on from what was left
    assert server.asked[-1][1] == f"bytes={len(BODY) // 2}-"


def test_what_a_killed_process_left_is_taken_up(
    server: RangeServer,
    nwb_cache: Path,
) -> None:
    partial = partial_of(nwb_cache)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(BODY[:777_777])
    assert fetch(server.serve("/a.nwb", BODY)).read_bytes() == BODY
    assert server.asked[-1][1] == "bytes=777777-"


@pytest.mark.parametrize("left", [b"wrong" * 9, BODY + b"more", b"x" * len(BODY)])
def test_a_damaged_partial_copy_is_begun_anew(
    server: RangeServer,
    nwb_cache: Path,
    left: bytes,
) -> None:
    partial = partial_of(nwb_cache)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(left)
    assert fetch(server.serve("/a.nwb", BODY)).read_bytes() == BODY


def test_a_damaged_copy_is_fetched_again(server: RangeServer) -> None:
    url = server.serve("/a.nwb", BODY)
    path = fetch(url)
    path.write_bytes(BODY[:-1] + b"x")
    assert fetch(url).read_bytes() == BODY


def test_content_that_changes_during_a_download(server: RangeServer) -> None:
    def replace(served: Served) -> None:
        if len(server.asked) == 3:
            served.etag = '"2"'

    url = server.serve("/a.nwb", BODY, faults=[None, "break"], hook=replace)
    with pytest.raises(InputError, match="content that changed while it was read"):
        fetch(url)


def test_without_ranges_a_broken_download_starts_over(server: RangeServer) -> None:
    url = server.serve("/a.nwb", BODY, ranges=False, faults=[None, "break", "break"])
    assert fetch(url).read_bytes() == BODY
    assert {header for _, header in server.asked[1:]} == {""}


def test_whole_without_a_checksum_is_known_by_what_the_server_says(
    server: RangeServer,
) -> None:
    url = server.serve("/a.nwb", BODY)
    first = fetch(url, None, access="whole")
    sent = server.sent
    assert fetch(url, None, access="whole") == first
    assert server.sent <= sent + BLOCK  # the probe alone
    server.serve("/a.nwb", BODY[::-1], etag='"2"')
    assert fetch(url, None, access="whole").read_bytes() == BODY[::-1]


def test_without_validators_a_copy_is_not_trusted(server: RangeServer) -> None:
    url = server.serve("/a.nwb", BODY, etag="")
    fetch(url, None, access="whole")
    server.files["/a.nwb"].body = BODY[::-1]
    assert fetch(url, None, access="whole").read_bytes() == BODY[::-1]


CHILD = """
import sys
from driftwave.ingest.remote import open_remote
with open_remote(sys.argv[1], sys.argv[2]) as found:
    print(found.sha256)
"""


def test_two_processes_fetch_one_copy(server: RangeServer) -> None:
    url = server.serve("/a.nwb", BODY)
    command = [sys.executable, "-c", CHILD, url, SHA256]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [one.communicate(timeout=60)[0].strip() for one in running] == [SHA256] * 3
    whole = [header for _, header in server.asked if header != f"bytes=0-{BLOCK - 1}"]
    assert whole == [""]


def test_a_process_that_holds_the_copy_and_writes_nothing(
    server: RangeServer,
    nwb_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fcntl

    monkeypatch.setattr(remote_cache, "STILL", 0.3)
    lock = nwb_cache / "sha256" / f"{SHA256}.nwb.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"has written nothing for 0\.3 s"):
            fetch(server.serve("/a.nwb", BODY))


def test_a_file_system_without_locks(
    server: RangeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert fetch(server.serve("/a.nwb", BODY)).read_bytes() == BODY


def test_a_cache_that_cannot_be_used(
    server: RangeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = server.serve("/a.nwb", BODY)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match=r"cache: found .*Not a directory"):
        fetch(url, cache=blocked / "cache")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Web, "save", full)
    with pytest.raises(InputError, match="which is full, expected a folder with room"):
        fetch(url)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTWAVE_CACHE", "/named/by/environment")
    assert cache_folder("/configured") == Path("/configured")
    assert cache_folder() == Path("/named/by/environment")
    monkeypatch.delenv("DRIFTWAVE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "driftwave"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/driftwave")
