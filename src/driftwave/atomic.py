"""Files and folders that appear whole or not at all, and what to say when the disk refuses."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import functools
import glob
import os
import shutil
import socket
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from driftwave.errors import InputError

# Why a rename onto something fails: a folder in the way, or a folder where a file is or vice versa.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
_AGAIN = "then run the same command again; what was there before is as it was"
# errno -> found, expected, fix
_REFUSALS = {
    errno.ENOSPC: (
        "no space left on the disk",
        "room for the output",
        f"Free some space, {_AGAIN}",
    ),
    errno.EDQUOT: ("a full disk quota", "room for the output", f"Free some space, {_AGAIN}"),
    errno.EROFS: (
        "a read-only file system",
        "a folder that can be written to",
        f"Mount it for writing or choose another folder, {_AGAIN}",
    ),
    errno.EACCES: (
        "no permission",
        "one that may be read and written",
        f"Change its permissions or choose another folder, {_AGAIN}",
    ),
    errno.EPERM: (
        "no permission",
        "one that may be read and written",
        f"Change its permissions or choose another folder, {_AGAIN}",
    ),
    errno.EEXIST: ("a file in the way", "a folder", f"Move the file away, {_AGAIN}"),
    errno.ENOTDIR: ("a file in the way", "a folder", f"Move the file away, {_AGAIN}"),
    errno.EIO: ("a disk that failed to read or write", "a sound disk", f"Mend the disk, {_AGAIN}"),
    errno.ENAMETOOLONG: ("a name too long", "a shorter name", f"Choose shorter names, {_AGAIN}"),
}
# These can only concern what is written.
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ALMOST_NOTHING = 64 * 1024


def refusal(error: OSError, file: str | Path | None = None) -> InputError | None:
    """The sentence for an error of the file system; None if it is not one a user can mend."""
    if error.errno not in _REFUSALS:
        return None
    found, expected, fix = _REFUSALS[error.errno]
    path = file or error.filename or "output"
    return InputError(file=path, field="disk", found=found, expected=expected, fix=fix)


def _refused(error: Exception, target: Path) -> InputError | None:
    """The sentence for an error in writing ``target``; None if it is about something else."""
    code = getattr(error, "errno", None)
    if code in _OF_OUTPUT or "No space left on device" in str(error) or _is_full(target):
        return refusal(OSError(code if code in _OF_OUTPUT else errno.ENOSPC, ""), target)
    name = getattr(error, "filename", None)
    if isinstance(error, OSError) and name and Path(str(name)).is_relative_to(target.parent):
        return refusal(error, target)
    return refusal(error) if isinstance(error, OSError) and name is not None else None


def _leave() -> None:
    """End the process as failed, before HDF5 tries once more to close its file and crashes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def tell_hdf5_echoes_once() -> None:
    """Say in one line what HDF5 says in a traceback for each object it closes on a full disk.

    The failed write itself is raised as any error; these come on top, through both hooks.
    """
    show, show_unraisable = sys.excepthook, sys.unraisablehook
    told: list[str] = []

    def is_echo(error: BaseException | None) -> bool:
        echo = "errno = 28, error message" in str(error)  # in HDF5's words
        if echo and not told:
            told.append(str(error))
            print("HDF5 could not write: no space left on the disk.", file=sys.stderr)
            atexit.register(_leave)
        return echo

    def excepthook(kind: Any, error: BaseException, trace: Any) -> None:
        if not is_echo(error):
            show(kind, error, trace)

    def unraisablehook(found: Any) -> None:
        if not is_echo(found.exc_value):
            show_unraisable(found)

    sys.excepthook, sys.unraisablehook = excepthook, unraisablehook


def _is_full(target: Path) -> bool:
    """Whether the disk is full; torch and HDF5 say only that writing failed."""
    try:
        return shutil.disk_usage(target.parent).free < _ALMOST_NOTHING
    except OSError:
        return False


def _temporary_beside(target: Path) -> Path:
    """A hidden path beside ``target`` that tells which process of which machine made it."""
    owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return target.with_name(f".{target.name}.{owner}.partial")


def _remove_abandoned(target: Path) -> None:
    """Remove what killed processes of this machine left beside ``target``."""
    for path in target.parent.glob(f"{glob.escape(f'.{target.name}.')}*.partial"):
        if is_abandoned(path):
            _remove(path)


def is_abandoned(partial: Path) -> bool:
    """Whether a ``.partial`` path was left by a process of this machine that is no more.

    What another machine is writing, or has left, cannot be told from here.
    """
    owner = partial.name.removesuffix(".partial").rpartition("-")[0]  # .<name>.<host>-<process>
    host, _, process = owner.rpartition("-")
    here = host.endswith(f".{socket.gethostname()}")
    return here and process.isdigit() and not is_alive(int(process))


def is_alive(process: int) -> bool:
    """Whether a process of this number runs on this machine, whoever's it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is someone else's
        return True
    return True


def _remove(path: Path) -> None:
    """Remove a file or folder, into which threads of a failed write may still be writing."""
    for _ in range(100):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.02)
    warnings.warn(f"{path} could not be removed; remove it by hand.", stacklevel=2)


@functools.lru_cache(maxsize=1)
def _renameat2() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _exchange(source: Path, target: Path) -> bool:
    """Swap two paths in one step, so that a reader never finds ``target`` missing.

    Linux can, on most local file systems; False where it cannot.
    """
    swap, here, exchange = _renameat2(), -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return swap is not None and not swap(
        here, os.fsencode(source), here, os.fsencode(target), exchange
    )


def _replace(source: Path, target: Path) -> None:
    """Rename onto ``target``; what a rename cannot replace is swapped, or moved aside.

    Another process may put its own there meanwhile; the last one stays. What was there before is
    left at ``source`` where the two could be swapped.
    """
    aside: list[Path] = []
    try:
        while True:
            try:
                os.replace(source, target)
                break
            except OSError as error:
                if error.errno not in _IN_THE_WAY:
                    raise
            if _exchange(source, target):
                break
            old = _temporary_beside(target)
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, old)
                aside.append(old)
    except BaseException:
        if aside and not target.exists():
            os.rename(aside.pop(), target)
        raise
    finally:
        for old in aside:
            _remove(old)


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that becomes ``target`` only on success.

    Works for a file or a folder, whichever the caller makes. On an exception nothing is left
    behind and an earlier ``target`` stays as it was; what a killed process left is removed by the
    next one on the same machine.

    Raises
    ------
    InputError
        If the disk is full or may not be written to, or a file is where a folder belongs.
    """
    target = Path(target)
    temporary = _temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        yield temporary
        _replace(temporary, target)
    except (OSError, RuntimeError) as error:
        sentence = _refused(error, target)
        if sentence is None:
            raise
        raise sentence from error
    finally:
        with contextlib.suppress(NotADirectoryError):
            if os.path.lexists(temporary):
                _remove(temporary)


def write_text(target: str | Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
