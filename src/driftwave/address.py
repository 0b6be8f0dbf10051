"""Where a recording lies when it is no local file: an http(s) address or an asset of DANDI.

Nothing here opens a connection, so the session table and the plan can be read without a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from driftwave.errors import InputError

HIDDEN = "..."
# Facts on a remote file in the attributes of its store, after the prefix `source_`.
REMOTE_FACTS = (
    "url",
    "bytes",
    "etag",
    "last_modified",
    "read",
    "sha256_stated",
    "dandiset",
    "asset",
    "asset_path",
)
REMOTE_MEGABYTES = 500.0  # what a remote file is reckoned at where its size is not stated
_DANDI = re.compile(
    r"^dandi:(?P<dandiset>\d{6})(?:@(?P<version>draft|\d+\.\d+\.\d+))?/(?P<place>[^?#]+)$",
    re.IGNORECASE,
)
_UUID = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_SECRET = re.compile(
    r"sig|token|secret|credential|passw|pwd|auth|key|expires|policy|session|jwt|"
    r"^x-amz-|^x-goog-|private|view_only",
    re.IGNORECASE,
)
_EXPECTED = "a path, an address http(s)://..., or dandi:DANDISET[@VERSION]/PATH"
_FIXES = {
    "s3": "Use its https address, such as https://BUCKET.s3.amazonaws.com/KEY",
    "gs": "Use its https address, such as https://storage.googleapis.com/BUCKET/KEY",
    "file": "Give the path alone",
}


class Address(str):
    """A remote file's address without secrets, fit for messages and provenance."""

    @property
    def name(self) -> str:
        """Last part of the path, as of a :class:`pathlib.Path`."""
        path = self.partition(":")[2] if self.startswith("dandi:") else urlsplit(self).path
        return PurePosixPath(unquote(path)).name or "recording"

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem


@dataclass(frozen=True)
class DandiAddress:
    """An asset of a dandiset.

    Attributes
    ----------
    dandiset : str
        Six digits.
    version : str or None
        None stands for the latest published version, or the draft where none is published.
    place : str
        Path within the dandiset, or asset id.
    """

    dandiset: str
    version: str | None
    place: str

    @property
    def is_asset_id(self) -> bool:
        """Whether ``place`` is an asset id rather than a path."""
        return bool(_UUID.match(self.place))


def is_remote(text: str | Path) -> bool:
    """Whether a text names something other than a local path."""
    return isinstance(text, str) and ("://" in text or text.lower().startswith("dandi:"))


def is_dandi(text: str) -> bool:
    """Whether a text is meant as an asset of DANDI."""
    return text.lower().startswith("dandi:")


def parse_dandi(text: str) -> DandiAddress:
    """The parts of ``dandi:DANDISET[@VERSION]/PATH-or-asset-id``.

    Raises
    ------
    InputError
        If it has another form.
    """
    check_address(text)
    match = _DANDI.match(text)
    assert match is not None  # check_address refuses the others
    version = match["version"]
    return DandiAddress(match["dandiset"], version and version.lower(), match["place"])


def shown(text: str) -> str:
    """An address without user, password and the values of secrets in its query.

    Any other text comes back as it is.
    """
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:  # not an address at all, yet it may hold a password
        return re.sub(r"//[^/@]*@", f"//{HIDDEN}@", text)
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    query = "&".join(
        f"{name}={HIDDEN}" if _SECRET.search(unquote(name)) else f"{name}{equals}{value}"
        for name, equals, value in pairs
    )
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def shown_command(arguments: Iterable[str]) -> list[str]:
    """Words of a command line, the addresses in them without secrets."""
    return [re.sub(r"[A-Za-z][\w+.-]*://\S+", lambda m: shown(m[0]), a) for a in arguments]


def has_secret(text: str) -> bool:
    """Whether an address holds a password, a signature or a token."""
    if "://" not in text:
        return False
    host = re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]
    query = text.partition("#")[0].partition("?")[2]
    names = (unquote(pair.partition("=")[0]) for pair in query.split("&") if pair)
    return "@" in host or any(_SECRET.search(name) for name in names)


def fault_of(text: str) -> tuple[str, str, str] | None:
    """What is wrong with a remote address: found, expected and fix; None if nothing is."""
    if is_dandi(text):
        if _DANDI.match(text):
            return None
        return (
            repr(text),
            "dandi:DANDISET[@VERSION]/PATH with six digits, such as "
            "dandi:000140@0.220113.0408/sub-Jenkins/NAME.nwb, or an asset id after the slash",
            "Mend the address",
        )
    scheme = text.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        fix = _FIXES.get(scheme, "Fetch the file and give its path")
        return (f"the scheme {scheme!r}", _EXPECTED, fix)
    try:
        parts = urlsplit(text)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or re.search(r"[\x00-\x20\x7f\\]", text):
        return (repr(shown(text)), "an address with a host and without blanks", "Mend the address")
    return None


def check_address(text: str) -> None:
    """Refuse an address that is neither http(s) nor an asset of DANDI.

    Raises
    ------
    InputError
        Another scheme, or an address that is not whole.
    """
    fault = fault_of(text)
    if fault:
        found, expected, fix = fault
        raise InputError(file=shown(text), field="nwb", found=found, expected=expected, fix=fix)


def table_fault(text: str) -> str | None:
    """Why an NWB file of the session table cannot be used as it is written; None if it can."""
    if not is_remote(text):
        return None
    fault = fault_of(text)
    if fault:
        found, expected, fix = fault
        return f"found {found}, expected {expected}; {fix}"
    if has_secret(text):
        return (
            "an address with a password or signature would stand in every log: put the password "
            "into ~/.netrc, or fetch the file and give its path"
        )
    return None
