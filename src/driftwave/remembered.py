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
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

# Two changes within the clock tick of a file system, or of a network's, have one time.
_SETTLED_SECONDS = 3.0
_LARGEST = 64_000_000  # bytes; a file beyond it is none of ours


def cache_file() -> Path:
    """Where the entries are kept: one file per user, Python version and installed driftwave."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    here = Path(__file__).resolve().parent
    own = [here / f"{name}.py" for name in ("remembered", "fingerprint", "registry")]
    changed = [f"{path}:{path.stat().st_mtime_ns}" for path in own]
    key = hashlib.sha256("\n".join([sys.version, *changed]).encode()).hexdigest()[:16]
    return Path(base) / "driftwave" / f"sources-{key}.json"


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
        """Write the file beside its place and move it there; a folder that is read-only is none."""
        if not self.changed:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".partial")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(self.entries, file)
                os.replace(temporary, self.path)
            except OSError:
                os.unlink(temporary)
                raise


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
