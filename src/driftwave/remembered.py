"""What was read from source files, kept between processes: each cluster job plans anew.

Reading the syntax of some 250 modules takes two seconds, more than all else that Snakemake does
before a short job. An entry counts while its file has the same size and time of change.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from driftwave.atomic import write_text
from driftwave.errors import InputError

# Two changes within the clock tick of a file system, or of a network's, have one time.
_SETTLED_SECONDS = 3.0
_UNUSED_SECONDS = 90 * 24 * 3600.0
_LARGEST = 64_000_000  # bytes; a file beyond it is none of ours


def user_cache() -> Path:
    """Folder of what driftwave keeps for a user, in XDG_CACHE_HOME or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "driftwave"


def cache_file() -> Path:
    """Where the entries are kept: one file per user, Python version and installed driftwave."""
    here = Path(__file__).resolve().parent
    own = [here / f"{name}.py" for name in ("remembered", "fingerprint", "registry")]
    changed = [f"{path}:{path.stat().st_mtime_ns}" for path in own]
    key = hashlib.sha256("\n".join([sys.version, *changed]).encode()).hexdigest()[:16]
    return user_cache() / f"sources-{key}.json"


class _Store:
    """Entries of the file, read at first use and written at exit if some are new."""

    def __init__(self) -> None:
        self.path = cache_file()
        self.entries: dict[str, list[Any]] = {}
        self.changed = False
        with contextlib.suppress(OSError, ValueError):  # absent or damaged: read the sources
            if self.path.stat().st_size < _LARGEST:
                found = json.loads(self.path.read_text(encoding="utf-8"))
                self.entries = found if isinstance(found, dict) else {}
        atexit.register(self.write)

    def write(self) -> None:
        """Write the file; without a folder that can be written to nothing is kept."""
        if not self.changed:
            return
        kept = {k: v for k, v in self.entries.items() if os.path.exists(k.partition(":")[2])}
        with contextlib.suppress(OSError, InputError):
            write_text(self.path, json.dumps(kept))
            for other in self.path.parent.glob("sources-*.json"):  # of driftwaves long gone
                if time.time() - other.stat().st_mtime > _UNUSED_SECONDS:
                    other.unlink()


@cache
def _store() -> _Store:
    return _Store()


def remembered(kind: str, source: Path, read: Callable[[], Any]) -> Any:
    """What ``read`` finds in a source file, from an earlier process where the file is the same.

    Parameters
    ----------
    kind : str
        What is read; the same file may be read in several ways.
    source : Path
    read : callable
        Reads it; what it returns must be made of what JSON knows.
    """
    state = source.stat()
    stamp = [state.st_mtime_ns, state.st_size]
    key = f"{kind}:{source}"
    entry = _store().entries.get(key)
    if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
        return entry[2]
    value = read()
    if time.time() - state.st_mtime > _SETTLED_SECONDS:
        _store().entries[key] = [*stamp, value]
        _store().changed = True
    return value
