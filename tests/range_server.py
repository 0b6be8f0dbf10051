"""A local http server with the habits, good and bad, that tests of remote files need."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """One file as the server gives it.

    Attributes
    ----------
    body : bytes
    etag : str
        Empty for none.
    ranges : bool
        Whether parts are served.
    faults : list
        What happens to the next requests instead of a right answer, one each: a status, ``drop``
        (nothing at all), ``break`` (half of the bytes promised), ``hang``, ``trickle``.
    redirect : str
        Address to which it is redirected.
    need : str
        Text that the query must hold; otherwise 403, as of an expired signature.
    hook : callable
        Called with this file before each answer.
    """

    body: bytes
    etag: str = '"1"'
    ranges: bool = True
    faults: list[Any] = field(default_factory=list)
    redirect: str = ""
    need: str = ""
    hook: Callable[[Served], None] | None = None
    kind: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class RangeServer:
    """What it serves, and what was asked of it."""

    address: str
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # path with query, range
    sent: int = 0  # bytes of bodies
    pages: Callable[[str], tuple[int, bytes] | None] | None = None  # other answers, by path

    def serve(self, path: str, body: bytes, **habits: Any) -> str:
        """Add a file; its address."""
        self.files[path] = Served(body, **habits)
        return f"{self.address}{path}"


def _range(header: str, size: int) -> tuple[int, int] | None:
    told = re.match(r"bytes=(\d+)-(\d*)$", header)
    if not told:
        return None
    return int(told[1]), min(int(told[2]) if told[2] else size - 1, size - 1)


def _handler(server: RangeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            header = self.headers.get("Range", "")
            server.asked.append((self.path, header))
            path, _, query = self.path.partition("?")
            served = server.files.get(path)
            if served is None:
                made = server.pages(self.path) if server.pages else None
                status, body = made or (404, b"no such file")
                return self._send(status, body, {"Content-Type": "application/json"})
            if served.hook:
                served.hook(served)
            if served.need and served.need not in query:
                return self._send(403, b"expired")
            if served.redirect:
                return self._send(302, b"", {"Location": served.redirect})
            self._content(served, header, served.faults.pop(0) if served.faults else None)

        do_HEAD = do_GET

        def _content(self, served: Served, header: str, fault: Any) -> None:
            if isinstance(fault, int):
                return self._send(fault, b"not this time", {"Retry-After": "0"})
            if fault == "drop":
                self.close_connection = True
                self.connection.close()
                return None
            if fault == "hang":
                time.sleep(3)
            size = len(served.body)
            wanted = _range(header, size) if served.ranges else None
            facts = {"Content-Type": served.kind, **served.headers}
            if served.etag:
                facts["ETag"] = served.etag
            if wanted is None:
                return self._send(200, served.body, facts, fault)
            first, last = wanted
            if first >= size:
                return self._send(416, b"", {"Content-Range": f"bytes */{size}"})
            facts["Content-Range"] = f"bytes {first}-{last}/{size}"
            return self._send(206, served.body[first : last + 1], facts, fault)

        def _send(
            self, status: int, body: bytes, facts: dict[str, str] | None = None, fault: Any = None
        ) -> None:
            self.send_response(status)
            for name, value in (facts or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "break":
                body = body[: len(body) // 2]
                self.close_connection = True
            try:
                if fault == "trickle":
                    for at in range(min(len(body), 40)):
                        self.wfile.write(body[at : at + 1])
                        time.sleep(0.05)
                    self.close_connection = True
                    return
                self.wfile.write(body)
                server.sent += len(body)
            except OSError:  # the client went away
                self.close_connection = True

    return Handler


@contextmanager
def range_server(tls: Any = None) -> Iterator[RangeServer]:
    """A server in a thread, on a free port of this machine; with ``tls`` an SSLContext."""
    state = RangeServer("")
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    if tls is not None:
        httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
    httpd.daemon_threads = True
    state.address = f"{'https' if tls else 'http'}://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
