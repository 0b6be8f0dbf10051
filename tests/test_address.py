"""Remote addresses: which are taken, and that none shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftwave.address import (
    Address,
    has_secret,
    is_remote,
    parse_dandi,
    shown,
    shown_command,
    table_fault,
)
from driftwave.config import load_sessions
from driftwave.errors import InputError

ASSET = "1b2f3c4d-0000-4000-8000-0123456789ab"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://user:hunter2@host.org/a.nwb", "https://host.org/a.nwb"),
        ("https://hunter2@host.org:8080/a.nwb", "https://host.org:8080/a.nwb"),
        ("http://h/a.nwb?versionId=3&download=1#x", "http://h/a.nwb?versionId=3&download=1"),
        (
            "https://h/a.nwb?versionId=3&X-Amz-Signature=hunter2&X-Amz-Expires=9",
            "https://h/a.nwb?versionId=3&X-Amz-Signature=...&X-Amz-Expires=...",
        ),
        ("https://h/a.nwb?acc%65ss_token=hunter2", "https://h/a.nwb?acc%65ss_token=..."),
        ("https://[::1/a.nwb?sig=1", "https://[::1/a.nwb?sig=1"),
        ("data/a.nwb?token=1", "data/a.nwb?token=1"),
        ("dandi:000140/a.nwb", "dandi:000140/a.nwb"),
    ],
)
def test_what_is_shown_of_an_address(text: str, words: str) -> None:
    assert shown(text) == words
    assert has_secret(text) == ("hunter2" in text or "sig=" in text)


def test_secrets_of_a_command_line_are_left_out() -> None:
    given = ["ingest", "https://u:hunter2@h/a.nwb?token=hunter2", "--params", '{"a": 1}']
    assert shown_command(given) == ["ingest", "https://h/a.nwb?token=...", *given[2:]]


def test_names_of_addresses() -> None:
    assert Address("https://h/b/sub%2001.nwb?versionId=3").name == "sub 01.nwb"
    assert Address("https://h/b/sub.nwb").stem == "sub"
    assert Address("dandi:000140/sub-1/sub-1_ecephys.nwb").stem == "sub-1_ecephys"
    assert Address("https://h").name == "recording"


def test_dandi_addresses() -> None:
    found = parse_dandi("DANDI:000140@0.220113.0408/sub-J/a+b.nwb")
    assert (found.dandiset, found.version, found.place) == (
        "000140",
        "0.220113.0408",
        "sub-J/a+b.nwb",
    )
    assert not found.is_asset_id
    assert parse_dandi(f"dandi:000140/{ASSET}").is_asset_id
    assert parse_dandi("dandi:000140@Draft/a.nwb").version == "draft"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://bucket/key.nwb", "https address"),
        ("gs://bucket/key.nwb", "https://storage.googleapis.com"),
        ("file:///etc/passwd", "Give the path alone"),
        ("ftp://host/a.nwb", "scheme 'ftp'"),
        ("simplecache::https://host/a.nwb", "scheme 'simplecache::https'"),
        ("github://org:repo@main/a.nwb", "scheme 'github'"),
        ("http:///a.nwb", "with a host"),
        ("https://host:99999/a.nwb", "with a host"),
        ("https://host/a b.nwb", "without blanks"),
        ("https://host\\@other/a.nwb", "without blanks"),
        ("dandi:140/a.nwb", "six digits"),
        ("dandi:000140", "six digits"),
        ("dandi:000140@latest/a.nwb", "six digits"),
        ("dandi://000140/a.nwb", "six digits"),
        ("https://user:hunter2@host/a.nwb", "~/.netrc"),
        ("https://host/a.nwb?X-Amz-Signature=hunter2", "~/.netrc"),
    ],
)
def test_addresses_that_the_session_table_refuses(tmp_path: Path, text: str, words: str) -> None:
    table = tmp_path / "sessions.tsv"
    table.write_text(f"session\tnwb\tlayout\na\t{text}\tlorenz\n")
    with pytest.raises(InputError) as caught:
        load_sessions(table)
    assert words in str(caught.value)
    assert "nwb" in caught.value.field
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["a.nwb", "/data/2020-01-01T10:00:00.nwb", "C:/data/a.nwb", "sub:1/a.nwb", "a@b.nwb"],
)
def test_local_paths_stay_paths(text: str) -> None:
    assert not is_remote(text)
    assert table_fault(text) is None


@pytest.mark.parametrize(
    "text", ["https://zenodo.org/records/1/files/a.nwb?download=1", f"dandi:000140/{ASSET}"]
)
def test_addresses_that_the_session_table_takes(text: str) -> None:
    assert is_remote(text)
    assert table_fault(text) is None
