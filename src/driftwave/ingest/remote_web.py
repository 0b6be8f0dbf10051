"""Bytes of one file from an http(s) server: in ranges or whole, with bounded patience."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from driftwave import __version__
from driftwave.address import Address, has_secret
from driftwave.errors import InputError

BLOCK = 1 << 20  # bytes; what is read at a time and kept
_PIECE = 1 << 16
_GONE = (requests.codes.not_found, requests.codes.gone)
_CLOSED = (requests.codes.unauthorized, requests.codes.forbidden)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_WEB_PAGE = (b"<!doctype", b"<html", b"<?xml")
_EXPECTED = "an NWB 2 file (HDF5)"
T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes
    ----------
    attempts : int
        Tries in a row that bring nothing before a fault is reported.
    pause : float
        Seconds before the second try; doubled before each further one.
    connect, silence : float
        Seconds to wait for a connection, and for the next byte of an answer.
    slowest : float
        Bytes per second below which an answer counts as stuck.
    longest_pause : float
        Seconds, the most that a server's Retry-After is heeded.
    """

    attempts: int = 4
    pause: float = 0.5
    connect: float = 10.0
    silence: float = 30.0
    slowest: float = 10_000.0
    longest_pause: float = 30.0


PATIENCE = Patience()


@dataclass(frozen=True)
class Content:
    """What a server says of a file.

    Attributes
    ----------
    size : int or None
        Bytes.
    etag, modified : str
        Its validators; empty where the server gives none.
    ranges : bool
        Whether parts can be asked for.
    head : bytes
        The first bytes; with ``ranges`` the whole first block.
    """

    size: int | None
    etag: str
    modified: str
    ranges: bool
    head: bytes


class _Passing(Exception):
    """An answer that another try may better."""

    def __init__(self, words: str, pause: float = 0.0) -> None:
        super().__init__(words)
        self.pause = pause


@dataclass
class Web:
    """One file on a server.

    Requests run in the thread that asks for them, unlike those of fsspec's HTTP file system:
    h5py holds its lock while it reads, and a collection of garbage in another thread that meets an
    h5py object would wait for that lock for ever (h5py's manual, "Python file-like objects").

    Attributes
    ----------
    url : str
        With what secrets it may hold; shown nowhere.
    name : Address
        How messages name the file.
    """

    url: str
    name: Address
    session: requests.Session = field(default_factory=requests.Session)
    _direct: str = ""

    def __post_init__(self) -> None:
        self.session.headers["User-Agent"] = f"driftwave/{__version__}"
        self.session.headers["Accept-Encoding"] = "identity"  # ranges are of the file itself
        self.session.max_redirects = 10
        self._direct = self.url

    def probe(self) -> Content:
        """Size, validators and first bytes, by asking for the first block.

        Raises
        ------
        InputError
            No such file, no server, no answer in time, an untrusted certificate, a web page or an
            empty file in its place.
        """
        content = self._try({"Range": f"bytes=0-{BLOCK - 1}"}, self._describe)
        if content.head.lstrip()[:16].lower().startswith(_WEB_PAGE):
            raise self.fault("a web page", "Give the address of the file itself, its download link")
        if content.size == 0 or not content.head:
            raise self.fault("an empty file", "Ask the owner of the server for it")
        return content

    def read(self, start: int, stop: int, content: Content) -> bytes:
        """Bytes ``start`` to ``stop`` of the content that :meth:`probe` found.

        Raises
        ------
        InputError
            As :meth:`probe`, or other content than it found.
        """

        def take(response: requests.Response) -> bytes:
            if response.status_code == 200:
                raise self.fault(
                    "a server that no longer serves ranges", "Set `remote: whole` and run it again"
                )
            self._same(response, content)
            first, _, total = _content_range(response)
            if (first, total) != (start, content.size):
                raise self._changed(f"byte {first} of {total}", f"byte {start} of {content.size}")
            body = b"".join(_pieces(response, stop - start))
            if len(body) != stop - start:
                raise _Passing("an answer that broke off")
            return body

        return self._try({"Range": f"bytes={start}-{stop - 1}"}, take)

    def save(self, file: BinaryIO, content: Content) -> None:
        """Write what is missing of the whole content to ``file``, from its present end on.

        A broken connection is taken up where it broke where the server serves ranges.

        Raises
        ------
        InputError
            As :meth:`read`.
        """
        failures = 0
        while content.size is None or file.tell() < content.size:
            before = file.tell()
            try:
                self._append(file, content)
                return
            except _PASSING_FAULTS as error:
                failures = 1 if file.tell() - before >= BLOCK else failures + 1
                self._wait(error, failures)
                if not content.ranges:
                    _empty(file)

    def fault(self, found: str, fix: str, expected: str = _EXPECTED) -> InputError:
        """An InputError that names the file."""
        return InputError(file=self.name, field="file", found=found, expected=expected, fix=fix)

    def _describe(self, response: requests.Response) -> Content:
        etag = response.headers.get("ETag", "")
        modified = response.headers.get("Last-Modified", "")
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        first, last, total = _content_range(response)
        if response.status_code == 206 and plain and first == 0 and total is not None:
            wanted = min(BLOCK, total)
            head = b"".join(_pieces(response, wanted))
            if len(head) != wanted or last != wanted - 1:
                raise _Passing("an answer that broke off")
            if not has_secret(self.url):
                self._direct = response.url
            return Content(total, etag, modified, ranges=True, head=head)
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() and plain and response.status_code == 200 else None
        head = next(_pieces(response, _PIECE), b"")
        return Content(size, etag, modified, ranges=False, head=head)

    def _append(self, file: BinaryIO, content: Content) -> None:
        start = file.tell()

        def take(response: requests.Response) -> None:
            self._same(response, content)
            first, _, total = _content_range(response)
            if response.status_code == 200:
                _empty(file)
            elif (first, total) != (start, content.size):
                raise self._changed(f"byte {first} of {total}", f"byte {start} of {content.size}")
            for piece in _pieces(response, content.size and content.size - file.tell()):
                file.write(piece)
            if content.size is not None and file.tell() != content.size:
                raise _Passing("an answer that broke off")

        self._once({"Range": f"bytes={start}-"} if start else {}, take)

    def _same(self, response: requests.Response, content: Content) -> None:
        """Refuse an answer about other content than was found first."""
        for header, before in (("ETag", content.etag), ("Last-Modified", content.modified)):
            after = response.headers.get(header, "")
            if before and after:
                if before != after:
                    raise self._changed(f"{header} {after}", f"{header} {before}")
                return

    def _changed(self, after: str, before: str) -> InputError:
        return self.fault(
            f"content that changed while it was read ({after})",
            "Run the job again",
            f"what was there at first ({before})",
        )

    def _try(self, headers: Mapping[str, str], take: Callable[[requests.Response], T]) -> T:
        failures = 0
        while True:
            try:
                return self._once(headers, take)
            except _PASSING_FAULTS as error:
                failures += 1
                self._wait(error, failures)

    def _wait(self, error: Exception, failures: int) -> None:
        """Pause before the next try, or report the fault when there have been enough."""
        if failures >= PATIENCE.attempts:
            fix = "Check the address and the network, then run the job again"
            raise self.fault(f"{_words(error, self.url)}, {failures} times", fix) from None
        asked = error.pause if isinstance(error, _Passing) else 0.0
        time.sleep(max(asked, PATIENCE.pause * 2 ** (failures - 1)))

    def _once(self, headers: Mapping[str, str], take: Callable[[requests.Response], T]) -> T:
        wait = (PATIENCE.connect, PATIENCE.silence)
        try:
            with self.session.get(
                self._direct, headers=headers, timeout=wait, stream=True
            ) as response:
                self._check(response)
                return take(response)
        except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
            raise self.fault(
                f"a server whose certificate is not trusted ({_reason(error)})",
                "Mend the address, or name the authority's certificate in REQUESTS_CA_BUNDLE",
            ) from None
        except requests.TooManyRedirects:
            raise self.fault("redirects without end", "Mend the address") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            raise self.fault(
                "an address, or a redirect to one, that is not http(s)", "Mend the address"
            ) from None

    def _check(self, response: requests.Response) -> None:
        """Refuse an answer without content; one that may pass, or has expired, is tried again."""
        steps = [self._direct, *(step.url for step in response.history[1:]), response.url]
        if any(a.startswith("https:") and b.startswith("http:") for a, b in pairwise(steps)):
            raise self.fault("a redirect from https to http", "Use the address it leads to")
        status = response.status_code
        if status in (200, 206):
            return
        told = f"HTTP {status} {response.reason or ''}".strip()
        if status >= 400 and self._direct != self.url:  # a signed address expires
            self._direct = self.url
            raise _Passing(told)
        if status in _GONE:
            raise self.fault(f"no such file ({told})", "Mend the address")
        if status in _CLOSED:
            raise self.fault(
                f"no access ({told})", "Mend the address, or put a password into ~/.netrc"
            )
        if status == 416:
            raise self.fault(f"an empty or shorter file ({told})", "Run the job again")
        if status in _PASSING:
            asked = response.headers.get("Retry-After", "")
            pause = min(float(asked), PATIENCE.longest_pause) if asked.isdigit() else 0.0
            raise _Passing(f"the answer {told}", pause)
        raise self.fault(f"the answer {told}", "Mend the address")


_PASSING_FAULTS = (_Passing, requests.RequestException, urllib3.exceptions.HTTPError)


def _pieces(response: requests.Response, most: int | None) -> Iterator[bytes]:
    """The body, at most ``most`` bytes; an answer that trickles is given up."""
    began, got = time.monotonic(), 0
    while most is None or got < most:
        wanted = _PIECE if most is None else min(_PIECE, most - got)
        piece = response.raw.read1(wanted, decode_content=True)
        if not piece:
            return
        got += len(piece)
        if time.monotonic() - began > PATIENCE.silence + got / PATIENCE.slowest:
            raise _Passing(f"an answer slower than {PATIENCE.slowest / 1000:g} kB/s")
        yield piece


def _content_range(response: requests.Response) -> tuple[int | None, int | None, int | None]:
    """First and last byte and total of a partial answer; None where it does not say."""
    told = re.match(r"bytes (\d+)-(\d+)/(\d+)$", response.headers.get("Content-Range", ""))
    return (int(told[1]), int(told[2]), int(told[3])) if told else (None, None, None)


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what lies below it, as requests and urllib3 nest them."""
    seen: list[BaseException] = [error]
    while seen:
        one = seen.pop()
        yield one
        below = [getattr(one, "reason", None), one.__cause__, *one.args]
        seen += [part for part in below if isinstance(part, BaseException)]


def _words(error: Exception, url: str) -> str:
    """What happened, without the address that requests puts into its messages."""
    causes = list(_causes(error))
    host = urlsplit(url).hostname
    if isinstance(error, _Passing):
        return str(error)
    if any(isinstance(cause, urllib3.exceptions.NameResolutionError) for cause in causes):
        return f"no server of the name {host!r}"
    if any(getattr(cause, "errno", None) == errno.ECONNREFUSED for cause in causes):
        return f"a connection refused by {host!r}"
    silent = (requests.Timeout, urllib3.exceptions.TimeoutError)
    if any(isinstance(cause, silent) for cause in causes):
        return f"no answer from {host!r} within {PATIENCE.silence:g} s"
    return "a connection that broke off"


def _reason(error: BaseException) -> str:
    last = [str(cause) for cause in _causes(error) if type(cause).__module__ == "ssl"]
    return " ".join(last[-1].split())[:160] if last else "TLS failed"
