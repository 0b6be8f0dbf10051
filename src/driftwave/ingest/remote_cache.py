"""Whole copies of remote files on disk: fetched once, resumed, checked, shared by processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from driftwave.address import Address
from driftwave.contents import sha256_of
from driftwave.errors import InputError
from driftwave.ingest.remote_web import Content, Web
from driftwave.remembered import user_cache

VARIABLE = "DRIFTWAVE_CACHE"
STILL = 600.0  # s without a new byte after which another process's download is given up on
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def cache_folder(given: str | Path | None = None) -> Path:
    """Folder of whole copies.

    The configuration's ``cache`` (``given``) goes before the environment variable DRIFTWAVE_CACHE,
    and that before ``driftwave`` in the user's own cache folder (XDG_CACHE_HOME).
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    return user_cache()


def kept(folder: Path, sha256: str) -> Path | None:
    """The copy of the content with this checksum, checked; None if there is none that is whole."""
    path = _of_digest(folder, sha256)
    return path if path.is_file() and sha256_of(path) == sha256 else None


def fetched(
    web: Web, content: Content, folder: Path, sha256: str | None, field: str = "sha256"
) -> tuple[Path, str]:
    """Path and SHA-256 of a whole copy, downloaded unless it is there.

    A copy appears under its name only when it is whole. What an interrupted download left is taken
    up by the next. Of processes that want the same copy one fetches it and the others wait.

    Parameters
    ----------
    web, content
        The file and what :meth:`Web.probe` found of it.
    folder : Path
    sha256 : str, optional
        Checksum the file must have, lower-case hexadecimal. Without one a copy is used again only
        if the server's validators and size are those under which it was stored.
    field : str
        Who states the checksum, for the message when it does not fit.

    Raises
    ------
    InputError
        As :meth:`Web.save`; another checksum; a folder that cannot be written to; a full disk.
    """
    target = _of_digest(folder, sha256) if sha256 else _of_address(folder, web.name, content)
    with _told(web.name, folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, web.name) as partial:
            usable = target.is_file() and (sha256 or content.etag or content.modified)
            if usable and (digest := sha256_of(target)) == (sha256 or digest):
                return target, digest
            resumed = partial.exists() and partial.stat().st_size > 0
            digest = _downloaded(web, content, partial)
            if sha256 and digest != sha256 and resumed:  # it may have begun with other content
                partial.unlink()
                digest = _downloaded(web, content, partial)
            if sha256 and digest != sha256:
                partial.unlink()
                raise InputError(
                    file=web.name,
                    field=field,
                    found=digest,
                    expected=sha256,
                    fix="Run the job again, or mend the checksum if the file was replaced",
                )
            os.replace(partial, target)
            return target, digest


def _of_digest(folder: Path, sha256: str) -> Path:
    return folder / "sha256" / f"{sha256}.nwb"


def _of_address(folder: Path, name: Address, content: Content) -> Path:
    facts = repr((str(name), content.etag, content.modified, content.size))
    return folder / "address" / f"{hashlib.sha256(facts.encode()).hexdigest()}.nwb"


def _downloaded(web: Web, content: Content, partial: Path) -> str:
    """Complete ``partial`` and return its SHA-256."""
    with partial.open("ab") as file:
        known = content.etag or content.modified
        if not (content.ranges and known) or file.tell() > (content.size or 0):
            file.truncate(0)
            file.seek(0)
        web.save(file, content)
        file.flush()
        os.fsync(file.fileno())
    return sha256_of(partial)


@contextlib.contextmanager
def _alone(target: Path, name: Address) -> Iterator[Path]:
    """The partial file to write to, while no other process does.

    The lock is the kernel's and ends with its process. On a file system without locks each process
    writes to a file of its own.
    """
    partial = target.with_name(f"{target.name}.partial")
    with target.with_name(f"{target.name}.lock").open("a") as lock:
        try:
            _wait_for(lambda: _locked(lock.fileno()), partial, name)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            own = f"{target.name}.{socket.gethostname()}-{os.getpid()}.partial"
            partial = target.with_name(own)
        yield partial


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(ready: Callable[[], bool], partial: Path, name: Address) -> None:
    """Wait for another process as long as its download grows."""
    size, since = -1, time.monotonic()
    while not ready():
        seen = partial.stat().st_size if partial.exists() else 0
        if seen != size:
            size, since = seen, time.monotonic()
        if time.monotonic() - since > STILL:
            raise InputError(
                file=name,
                field="cache",
                found=f"another process that holds {partial} and has written nothing for "
                f"{STILL:g} s",
                expected="a download that grows",
                fix="End that process, or set another `cache`",
            )
        time.sleep(0.2)


@contextlib.contextmanager
def _told(name: Address, folder: Path) -> Iterator[None]:
    """Faults of the cache's disk in a sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise InputError(
            file=name,
            field="cache",
            found=f"{folder}, which is full" if full else f"{folder} ({error.strerror or error})",
            expected="a folder with room for the whole file",
            fix="Make room there, or set `cache` (or DRIFTWAVE_CACHE) to another folder",
        ) from error
