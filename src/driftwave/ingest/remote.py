"""Open a recording that lies on the web or on DANDI: in ranges, or by a whole copy."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fsspec.caching import BlockCache

from driftwave.address import Address, check_address, is_dandi, shown
from driftwave.errors import InputError
from driftwave.ingest.remote_cache import cache_folder, fetched, kept
from driftwave.ingest.remote_web import BLOCK, Content, Web

Access = Literal["auto", "ranges", "whole"]
NOT_COMPUTED = "not computed: read in ranges"
_BLOCKS = 64  # of 1 MiB kept in memory
_LARGE = 4 * BLOCK  # bytes; longer reads go past the blocks, in one request


class RangeReader(io.RawIOBase):
    """A remote file as h5py reads it: the ranges that are asked for, and no more.

    Small reads go through :class:`fsspec.caching.BlockCache`, at most 64 MiB of memory. After a
    fault every further read fails with it: data of two states of a file are never mixed.

    Attributes
    ----------
    fault : InputError or None
        Why the file can no longer be read. HDF5 turns exceptions of its driver into others of its
        own, so whoever opened the file looks here.
    fetched : int
        Bytes asked of the server so far.
    size : int
        Bytes of the whole file.
    """

    def __init__(self, web: Web, content: Content) -> None:
        assert content.size is not None  # a server that serves ranges tells the size
        self.fault: InputError | None = None
        self.fetched = len(content.head)
        self._web, self._content, self.size = web, content, content.size
        self._blocks = BlockCache(BLOCK, self._fetch, content.size, maxblocks=_BLOCKS)
        self._at = 0

    def _fetch(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        if stop <= len(self._content.head):
            return self._content.head[start:stop]
        if self.fault is None:
            try:
                self.fetched += stop - start
                return self._web.read(start, stop, self._content)
            except InputError as error:
                self.fault = error
        raise OSError(str(self.fault))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` from the present position on."""
        stop = min(self._at + len(buffer), self.size)
        if self.fault is not None:
            raise OSError(str(self.fault))
        large = stop - self._at > _LARGE
        take = self._fetch if large else self._blocks._fetch
        data = take(self._at, stop) if stop > self._at else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """Present position."""
        return self._at

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it has positions: yes."""
        return True


@dataclass(frozen=True)
class Remote:
    """A remote file that can be read.

    Attributes
    ----------
    name : Address
    file : Path or RangeReader
        The whole copy, or the file in ranges.
    sha256 : str
        Of the bytes, hexadecimal; or why it is not known.
    facts : mapping of str to str or int
        What the server said, for the store's attributes.
    """

    name: Address
    file: Path | RangeReader
    sha256: str
    facts: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def reader(self) -> RangeReader | None:
        """The reader of ranges, if it is read so."""
        return self.file if isinstance(self.file, RangeReader) else None


@dataclass(frozen=True)
class Place:
    """Where a remote file's bytes are, and what is known of them beforehand.

    Attributes
    ----------
    url : str
    sha256 : str or None
        Checksum that its archive states.
    facts : mapping of str to str
    """

    url: str
    sha256: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def open_remote(
    text: str,
    sha256: str | None = None,
    *,
    access: Access = "auto",
    cache: str | Path | None = None,
) -> Iterator[Remote]:
    """Open a file at an http(s) address or on DANDI.

    With a checksum, the session table's or DANDI's, the whole file is fetched into the cache and
    checked; without one it is read in ranges. A server that serves no ranges has the file fetched
    whole as well.

    Parameters
    ----------
    text : str
        ``http://...``, ``https://...`` or ``dandi:DANDISET[@VERSION]/PATH``.
    sha256 : str, optional
        Checksum the file must have, hexadecimal.
    access : {'auto', 'ranges', 'whole'}
        ``ranges`` does without DANDI's checksum; ``whole`` fetches the file in any case.
    cache : path, optional
        See :func:`driftwave.ingest.remote_cache.cache_folder`.

    Raises
    ------
    InputError
        Any fault of the address, the network, the server, the content or the cache.
    """
    check_address(text)
    name, wanted = Address(shown(text)), sha256.strip().lower() if sha256 else None
    if wanted and access == "ranges":
        raise InputError(
            file=name,
            field="sha256",
            found="a checksum of a file that is read in ranges",
            expected="a whole file, since a checksum is of all its bytes",
            fix="Leave `remote` at auto, or remove the checksum",
        )
    folder = cache_folder(cache)
    copy = kept(folder, wanted) if wanted else None
    if copy is not None:  # no network is needed
        yield _whole(name, copy, str(wanted), {})
        return
    place = _place(text, name, wanted)
    web = Web(place.url, name)
    with web.session:
        yield _opened(web, place, wanted, access, folder)


def _place(text: str, name: Address, sha256: str | None) -> Place:
    if not is_dandi(text):
        return Place(text)
    from driftwave.ingest.remote_dandi import find_asset

    place = find_asset(text, name)
    if sha256 and place.sha256 and sha256 != place.sha256:
        raise InputError(
            file=name,
            field="sha256",
            found=f"{sha256} in the session table",
            expected=f"{place.sha256}, as DANDI states",
            fix="Mend the checksum, or name the version of the dandiset it belongs to",
        )
    return place


def _opened(web: Web, place: Place, sha256: str | None, access: Access, folder: Path) -> Remote:
    stated = sha256 or place.sha256
    whole = access == "whole" or bool(stated and access == "auto")
    # What a stated checksum does not tell already; a copy in the cache gives the same attributes.
    known = {} if sha256 else place.facts
    copy = kept(folder, stated) if stated and whole else None
    if copy is not None:
        return _whole(web.name, copy, str(stated), known)
    content = web.probe()
    said: dict[str, str | int] = {
        **known,
        "source_url": shown(place.url),
        "source_etag": content.etag or "not stated",
        "source_last_modified": content.modified or "not stated",
    }
    if content.ranges and not whole:
        reader = RangeReader(web, content)
        said |= {"source_read": "in ranges", "source_bytes": reader.size}
        if place.sha256:
            said["source_sha256_stated"] = f"{place.sha256} (not checked)"
        return Remote(web.name, reader, NOT_COMPUTED, said)
    path, digest = fetched(
        web, content, folder, stated, "sha256" if sha256 else "sha256 that DANDI states"
    )
    return _whole(web.name, path, digest, known if stated else said)


def _whole(name: Address, path: Path, sha256: str, facts: Mapping[str, str | int]) -> Remote:
    read: dict[str, str | int] = {"source_read": "whole", "source_bytes": path.stat().st_size}
    return Remote(name, path, sha256, {**facts, **read})
