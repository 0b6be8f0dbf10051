"""Assets of DANDI, found by its real client from a local server that answers as the archive."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from driftwave.errors import InputError
from driftwave.ingest.remote import NOT_COMPUTED, RangeReader, open_remote
from range_server import RangeServer, range_server

pytest_plugins = ("remote_cases",)
pytestmark = pytest.mark.usefixtures("nwb_cache")

pytest.importorskip("dandi", reason="needs the DANDI client: pip install 'driftwave[dandi]'")

ASSET = "1b2f3c4d-0000-4000-8000-0123456789ab"
ZARR = "2b2f3c4d-0000-4000-8000-0123456789ab"
PATH = "sub-Jenkins/sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb"
DATE = "2022-01-13T04:08:00Z"


class Archive:
    """What the archive's API answers of one dandiset, which has a draft and one version."""

    def __init__(self, server: RangeServer, body: bytes) -> None:
        self.server, self.body, self.digest = server, body, hashlib.sha256(body).hexdigest()
        self.published = True
        server.pages = self.answer
        blob = server.serve("/blobs/1b2", body, need="X-Amz-Signature=secret")
        server.serve(
            f"/api/assets/{ASSET}/download/", b"", redirect=f"{blob}?X-Amz-Signature=secret"
        )

    def version(self, name: str) -> dict[str, Any]:
        facts = {"name": "Maze", "asset_count": 2, "size": 9, "status": "Valid"}
        return {"version": name, "created": DATE, "modified": DATE, **facts}

    def asset(self, identifier: str = ASSET, path: str = PATH) -> dict[str, Any]:
        of = {"blob": identifier, "zarr": None}
        if identifier == ZARR:
            of = {"blob": None, "zarr": identifier}
        size = {"size": len(self.body), "created": DATE, "modified": DATE}
        return {"asset_id": identifier, "path": path, **size, **of}

    def answer(self, address: str) -> tuple[int, bytes] | None:
        parts = urlsplit(address)
        found = self.content(parts.path, parse_qs(parts.query))
        return None if found is None else (200, json.dumps(found).encode())

    def content(self, path: str, query: dict[str, list[str]]) -> Any:
        told = re.match(r"/api/dandisets/000140/(?:versions/([^/]+)/assets/(.*))?$", path)
        if told is None:
            return None
        if told[1] is None:
            latest = self.version("0.220113.0408") if self.published else None
            facts = {"contact_person": "somebody", "embargo_status": "OPEN"}
            facts |= {"most_recent_published_version": latest, "created": DATE, "modified": DATE}
            return {"identifier": "000140", "draft_version": self.version("draft"), **facts}
        if told[1] not in ("draft", "0.220113.0408"):
            return None
        known = [self.asset(), self.asset(ZARR, "sub-2/sub-2.zarr"), self.asset(path=PATH + ".md")]
        if told[2] == "":
            alike = [one for one in known if one["path"].startswith(query["path"][0])]
            return {"count": len(alike), "next": None, "previous": None, "results": alike}
        metadata = {"digest": {"dandi:sha2-256": self.digest} if self.digest else {}}
        if told[2] == f"{ASSET}/info/":
            return {**self.asset(), "metadata": metadata}
        return metadata if told[2] == f"{ASSET}/" else None


@pytest.fixture
def archive(
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Archive]:
    with range_server() as server:
        monkeypatch.setenv("DRIFTWAVE_DANDI_API", f"{server.address}/api")
        yield Archive(server, small.read_bytes())


@pytest.mark.parametrize(
    ("named", "version"),
    [
        (f"dandi:000140/{PATH}", "0.220113.0408"),
        (f"dandi:000140@0.220113.0408/{PATH}", "0.220113.0408"),
        (f"dandi:000140@draft/{PATH}", "draft"),
        (f"dandi:000140/{ASSET}", "0.220113.0408"),
    ],
)
def test_an_asset_is_fetched_and_checked(
    archive: Archive,
    nwb_cache: Path,
    named: str,
    version: str,
) -> None:
    facts = []
    for _ in range(2):  # the second from the cache
        with open_remote(named) as found:
            assert found.file == nwb_cache / "sha256" / f"{archive.digest}.nwb"
            assert found.file.read_bytes() == archive.body
            assert found.sha256 == archive.digest
            facts.append(dict(found.facts))
    assert facts[0] == facts[1]
    assert facts[0]["source_dandiset"] == f"000140@{version}"
    assert facts[0]["source_asset"] == ASSET
    assert facts[0]["source_asset_path"] == PATH
    whole = [h for path, h in archive.server.asked if path.startswith("/blobs") and not h]
    assert len(whole) == 1


def test_the_latest_draft_where_nothing_is_published(archive: Archive) -> None:
    archive.published = False
    with open_remote(f"dandi:000140/{PATH}") as found:
        assert found.facts["source_dandiset"] == "000140@draft"


def test_an_asset_is_read_in_ranges_when_asked_so(archive: Archive) -> None:
    with open_remote(f"dandi:000140/{PATH}", access="ranges") as found:
        assert isinstance(found.file, RangeReader)
        assert found.file.read() == archive.body
        assert found.sha256 == NOT_COMPUTED
        assert found.facts["source_sha256_stated"] == f"{archive.digest} (not checked)"
        assert str(found.facts["source_url"]).endswith(f"/api/assets/{ASSET}/download/")
        assert "secret" not in repr(found.facts)


def test_an_asset_whose_digest_is_not_computed_yet(archive: Archive) -> None:
    archive.digest = ""
    with open_remote(f"dandi:000140/{PATH}") as found:
        assert found.sha256 == NOT_COMPUTED


def test_content_other_than_the_archive_states(archive: Archive) -> None:
    archive.digest = "0" * 64
    with (
        pytest.raises(InputError, match=r"sha256 that DANDI states: found [0-9a-f]{64}"),
        open_remote(f"dandi:000140/{PATH}"),
    ):
        pass


def test_a_checksum_of_the_session_table(archive: Archive) -> None:
    named = f"dandi:000140/{PATH}"
    with (
        pytest.raises(InputError, match=r"in the session table, expected .* as DANDI states"),
        open_remote(named, "1" * 64),
    ):
        pass
    with open_remote(named, archive.digest) as found:
        first = found.facts
    asked = len(archive.server.asked)
    with open_remote(named, archive.digest) as found:
        assert found.facts == first
    assert len(archive.server.asked) == asked  # no network is needed any more


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("dandi:000140/sub-Jenkins/nothing.nwb", "No asset at path 'sub-Jenkins/nothing.nwb'"),
        ("dandi:000140/sub-Jenkins", "No asset at path"),
        (f"dandi:000140@0.1.2/{PATH}", "No such version: '0.1.2' of Dandiset 000140"),
        (f"dandi:000999/{PATH}", "No such Dandiset: 000999"),
        (f"dandi:000140/{ASSET[:-1]}c", "No such asset"),
        ("dandi:000140/sub-2/sub-2.zarr", "an asset that is a zarr"),
    ],
)
def test_what_is_not_there(capsys: pytest.CaptureFixture[str], named: str, words: str) -> None:
    with pytest.raises(InputError) as caught, open_remote(named):
        pass
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{named}: nwb: found ")
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ((503, b"busy"), "the answer HTTP 503 from http://127.0.0.1"),
        ((200, b"<html>log in</html>"), "that is none of DANDI's"),
        ((200, b'{"results": 3}'), "that is none of DANDI's"),
        ((403, b"{}"), "that is none of DANDI's"),
    ],
)
def test_an_archive_in_trouble(
    archive: Archive,
    capsys: pytest.CaptureFixture[str],
    page: tuple[int, bytes],
    words: str,
) -> None:
    archive.server.pages = lambda _: page
    with pytest.raises(InputError) as caught, open_remote(f"dandi:000140/{PATH}"):
        pass
    assert words in str(caught.value)
    assert capsys.readouterr().err == ""


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTWAVE_DANDI_API", "http://127.0.0.1:9/api")
    with (
        pytest.raises(InputError, match=r"no answer from http://127\.0\.0\.1:9/api"),
        open_remote(f"dandi:000140/{PATH}"),
    ):
        pass
