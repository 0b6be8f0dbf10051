"""NWB files at http(s) addresses, read from a local server with good and bad habits."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml

from driftwave.address import Address
from driftwave.cli import main
from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.ingest import remote
from driftwave.ingest.inspect import contents, first_layout
from driftwave.ingest.nwb import NwbFile, open_nwb, read_recording
from driftwave.ingest.remote import RangeReader, open_remote
from driftwave.ingest.remote_web import BLOCK, Web
from driftwave.store import open_tree
from nwb_builder import TASK_LAYOUT
from range_server import RangeServer, Served, range_server

pytest_plugins = ("remote_cases",)
pytestmark = pytest.mark.usefixtures("nwb_cache")


def recording(source: str | Path, **options: Any) -> xr.DataTree:
    with open_nwb(source, **options) as file:
        return read_recording(file, parse_layout(TASK_LAYOUT), session="s").compute()


def assert_same(one: xr.DataTree, other: xr.DataTree) -> None:
    assert set(one.groups) == set(other.groups)
    for group in one.groups:
        left, right = one[group].dataset, other[group].dataset
        if group == "/":
            own = ("source_", "provenance")
            left.attrs = {k: v for k, v in left.attrs.items() if not k.startswith(own)}
            right.attrs = {k: v for k, v in right.attrs.items() if not k.startswith(own)}
        xr.testing.assert_identical(left, right)


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        recording(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(source.partition("?")[0])
    return message


def test_only_what_the_layout_needs_is_fetched(server: RangeServer, large: Path) -> None:
    size = large.stat().st_size
    url = server.serve("/data/large.nwb", large.read_bytes())
    found = recording(url)
    assert size > 25e6
    assert server.sent < 0.12 * size
    assert len(server.asked) <= 4
    assert all(header.startswith("bytes=") for _, header in server.asked)
    assert_same(found, recording(large))


def test_what_the_store_says_of_a_file_read_in_ranges(server: RangeServer, small: Path) -> None:
    url = server.serve("/small.nwb", small.read_bytes(), etag='"abc"')
    attrs = recording(url).attrs
    assert attrs["source_file"] == attrs["source_url"] == url
    assert attrs["source_sha256"] == "not computed: read in ranges"
    assert attrs["source_etag"] == '"abc"'
    assert attrs["source_bytes"] == small.stat().st_size
    assert attrs["source_read"] == "in ranges"
    assert "source_url" not in recording(small).attrs


def test_each_block_is_fetched_once_and_few_are_kept(
    server: RangeServer, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_BLOCKS", 4)
    body = large.read_bytes()
    web = Web(server.serve("/a", body), Address("a"))
    reader = RangeReader(web, web.probe())
    pieces = iter(lambda: reader.read(100_000), b"")
    assert b"".join(pieces) == body
    assert len(server.asked) == -(-len(body) // BLOCK)
    assert reader._blocks.cache_info().currsize == 4
    before = len(server.asked)
    reader.seek(3_000_000)
    assert reader.read(9_000_001) == body[3_000_000:12_000_001]
    assert len(server.asked) == before + 1  # a long read is one request
    assert reader.seek(-5, 2) == len(body) - 5
    assert reader.read() == body[-5:]


def test_requests_run_in_the_thread_that_holds_the_lock_of_h5py(
    server: RangeServer, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of garbage in a thread that serves h5py would wait for its lock for ever."""
    import threading

    threads = set()
    read = Web.read

    def watched(self: Web, *arguments: Any) -> bytes:
        threads.add(threading.get_ident())
        gc.collect()
        return read(self, *arguments)

    monkeypatch.setattr(Web, "read", watched)
    monkeypatch.setattr(remote, "BLOCK", 60_000)
    monkeypatch.setattr("driftwave.ingest.remote_web.BLOCK", 60_000)
    recording(server.serve("/small.nwb", small.read_bytes()))
    assert threads == {threading.get_ident()}


def test_faults_that_pass_are_tried_again(server: RangeServer, large: Path) -> None:
    faults = [503, "drop", None, "break", 429, None]
    url = server.serve("/large.nwb", large.read_bytes(), faults=list(faults))
    assert_same(recording(url), recording(large))
    assert not server.files["/large.nwb"].faults


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"faults": [404]}, "no such file (HTTP 404"),
    ({"faults": [410]}, "no such file (HTTP 410"),
    ({"faults": [401]}, "no access (HTTP 401"),
    ({"faults": [403]}, "no access (HTTP 403"),
    ({"faults": [451]}, "the answer HTTP 451"),
    ({"faults": [503] * 9}, "the answer HTTP 503 Service Unavailable, 3 times"),
    ({"faults": ["drop"] * 9}, "a connection that broke off, 3 times"),
    ({"faults": ["break"] * 9}, "a connection that broke off, 3 times"),
    ({"faults": ["hang"] * 9}, "no answer from '127.0.0.1' within 0.4 s, 3 times"),
    ({"faults": ["trickle"] * 9}, "an answer slower than 100 kB/s, 3 times"),
    ({"body": b""}, "an empty"),
    ({"body": b"", "ranges": False}, "an empty file"),
    ({"body": b"  <!DOCTYPE html><html>please log in</html>"}, "a web page"),
    ({"body": b"<html>please log in</html>", "ranges": False}, "a web page"),
    ({"body": b"time,unit\n1,2\n" * 99}, "a file HDF5 cannot open"),
    ({"redirect": "/a.nwb"}, "redirects without end"),
    ({"redirect": "ftp://127.0.0.1/a.nwb"}, "not http(s)"),
    ({"redirect": "file:///etc/passwd"}, "not http(s)"),
]


@pytest.mark.parametrize(("habits", "words"), FAULTS, ids=[words for _, words in FAULTS])
def test_faults_of_a_server_are_told(
    server: RangeServer, small: Path, habits: dict[str, Any], words: str
) -> None:
    began = time.monotonic()
    url = server.serve("/a.nwb", **{"body": small.read_bytes()} | habits)
    assert words in refusal(url)
    assert time.monotonic() - began < 8


def test_refused_connection_and_unknown_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert "a connection refused by '127.0.0.1'" in refusal(f"http://127.0.0.1:{port}/a.nwb")
    assert "no server of the name" in refusal("http://nowhere.invalid/a.nwb")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_nobody_signed(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1"
    made += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with range_server(context) as secure, range_server() as plain:
        url = secure.serve("/a.nwb", small.read_bytes())
        assert "a server whose certificate is not trusted" in refusal(url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert recording(url).attrs["source_file"] == url
        down = plain.serve("/a.nwb", small.read_bytes())
        secure.serve("/down.nwb", b"", redirect=down)
        assert "a redirect from https to http" in refusal(f"{secure.address}/down.nwb")


def test_a_truncated_file_on_the_server(server: RangeServer, small: Path) -> None:
    body = small.read_bytes()
    url = server.serve("/a.nwb", body[: len(body) // 2])
    assert "a truncated HDF5 file" in refusal(url)


def _replaced(**changes: Any) -> Any:
    """A hook by which the file is another one from its second request on."""
    seen = []

    def hook(served: Served) -> None:
        seen.append(1)
        if len(seen) == 2:
            for name, value in changes.items():
                setattr(served, name, value(served) if callable(value) else value)

    return hook


@pytest.mark.parametrize(
    ("habits", "changes", "words"),
    [
        ({}, {"etag": '"2"'}, 'content that changed while it was read (ETag "2")'),
        ({"etag": ""}, {"body": lambda s: s.body + b"more"}, "content that changed"),
        ({}, {"ranges": False}, "a server that no longer serves ranges"),
        ({}, {"body": lambda s: s.body[:5000]}, "an empty or shorter file"),
        ({}, {"faults": lambda _: [404]}, "no such file"),
        ({}, {"faults": lambda _: ["drop"] * 9}, "a connection that broke off"),
    ],
    ids=["etag", "size", "no ranges", "shorter", "gone", "dropped"],
)
def test_faults_while_it_is_read(
    server: RangeServer,
    large: Path,
    habits: dict[str, Any],
    changes: dict[str, Any],
    words: str,
) -> None:
    url = server.serve("/a.nwb", large.read_bytes(), hook=_replaced(**changes), **habits)
    assert words in refusal(url)


def _hide_a_fault(server: RangeServer, file: NwbFile) -> None:
    del server.files["/a.nwb"]
    with contextlib.suppress(Exception):
        file.h5["acquisition/lfp/data"][400_000:400_100]


def test_a_fault_is_told_even_if_the_reader_hides_it(server: RangeServer, large: Path) -> None:
    url = server.serve("/a.nwb", large.read_bytes())
    with pytest.raises(InputError, match="no such file"), open_nwb(url) as file:
        _hide_a_fault(server, file)
    with pytest.raises(InputError, match="no such file"), open_nwb(url):
        pass


def test_an_address_that_expires_is_asked_for_again(server: RangeServer, large: Path) -> None:
    blob = server.serve("/blob", large.read_bytes(), need="signature=one")
    url = server.serve("/a.nwb", b"", redirect=f"{blob}?signature=one")

    def expire(served: Served) -> None:
        if len(server.asked) == 3:
            served.need = "signature=two"
            server.files["/a.nwb"].redirect = f"{blob}?signature=two"

    server.files["/blob"].hook = expire
    found = recording(url)
    assert_same(found, recording(large))
    paths = [path for path, _ in server.asked]
    assert paths[:4] == ["/a.nwb", "/blob?signature=one", "/blob?signature=one", "/a.nwb"]
    assert paths[4] == "/blob?signature=two"
    assert "signature" not in json.dumps(dict(found.attrs))


def test_a_server_without_ranges_has_the_file_fetched_once(
    server: RangeServer,
    small: Path,
    nwb_cache: Path,
) -> None:
    import hashlib

    url = server.serve("/small.nwb", small.read_bytes(), ranges=False)
    found = recording(url)
    assert found.attrs["source_sha256"] == hashlib.sha256(small.read_bytes()).hexdigest()
    assert found.attrs["source_read"] == "whole"
    assert len(list(nwb_cache.rglob("*.nwb"))) == 1
    before = len(server.asked)
    assert_same(found, recording(url, access="ranges"))
    assert len(server.asked) == before + 1  # the probe, which finds the validators unchanged
    server.files["/small.nwb"].etag = '"2"'
    recording(url)
    assert len(list(nwb_cache.rglob("*.nwb"))) == 2


def test_a_compressed_answer_is_no_range(server: RangeServer, small: Path) -> None:
    import gzip

    packed = gzip.compress(small.read_bytes())
    url = server.serve(
        "/a.nwb", packed, ranges=False, headers={"Content-Encoding": "gzip"}, etag=""
    )
    assert_same(recording(url), recording(small))


def test_a_checksum_needs_the_whole_file(server: RangeServer, small: Path) -> None:
    url = server.serve("/a.nwb", small.read_bytes())
    with pytest.raises(InputError, match="a checksum of a file that is read in ranges"):
        recording(url, sha256="0" * 64, access="ranges")


def test_inspect_and_first_layout(server: RangeServer, large: Path) -> None:
    url = server.serve("/d/large.nwb", large.read_bytes())
    assert contents(url).equals(contents(large))
    text = first_layout(url)
    assert "name: large\n" in text
    assert parse_layout(yaml.safe_load(text)).name == "large"
    assert server.sent < 0.3 * large.stat().st_size


def test_secrets_reach_neither_store_nor_log(
    server: RangeServer, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.serve("/a.nwb", small.read_bytes(), need="token=hunter2")
    url = server.address.replace("//", "//user:hunter2@") + "/a.nwb?token=hunter2"
    layout = tmp_path / "task.yaml"
    layout.write_text(yaml.safe_dump(TASK_LAYOUT))
    out, log = tmp_path / "a.zarr", tmp_path / "log" / "ingest.log"
    arguments = ["ingest", url, "--layout", str(layout), "--session", "a"]
    arguments += ["--out", str(out), "--log", str(log)]
    monkeypatch.setattr("sys.argv", ["driftwave", *arguments])
    main(arguments)
    assert open_tree(out).attrs["source_file"] == f"{server.address}/a.nwb?token=..."
    server.files["/a.nwb"].faults = ["drop"] * 9
    with pytest.raises(SystemExit):  # a failed job keeps them to itself as well
        main(arguments)
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.parent == log.parent for p in written)
    for path in written:
        assert b"hunter2" not in path.read_bytes(), path


def test_the_address_itself_is_checked_before_any_request() -> None:
    with pytest.raises(InputError, match="https address"), open_remote("s3://bucket/a.nwb"):
        pass
