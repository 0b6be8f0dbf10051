"""How much memory a job may ask for, checked before an array is made rather than when it fails."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from driftwave.errors import InputError

VARIABLE = "DRIFTWAVE_MEMORY_MB"
# One array may take this share: the work on it makes a copy or two.
SHARE = 0.5
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def memory_limit() -> int:
    """Bytes this process may use: the least of what the machine, its cgroup and ulimit allow.

    The environment variable ``DRIFTWAVE_MEMORY_MB`` lowers it.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    for path in _limits_of_cgroups():
        text = path.read_text(encoding="ascii").strip() if path.is_file() else ""
        if text.isdigit():
            limits.append(int(text))
    asked = os.environ.get(VARIABLE, "")
    if asked.isdigit() and int(asked):
        limits.append(int(asked) * 1_000_000)
    return min(limits)


def _limits_of_cgroups() -> Iterator[Path]:
    """Files with the limits of this process's cgroup and of those it lies in (version 1 and 2).

    A cluster job has one of its own, deep in the tree; in a container it looks like the root.
    """
    text = _OWN_CGROUP.read_text(encoding="utf-8") if _OWN_CGROUP.is_file() else ""
    for line in text.splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        place = root / group.strip("/")
        inside = (p for p in (place, *place.parents) if p.is_relative_to(root))
        yield from (folder / name for folder in inside)


def check_size(
    shape: Iterable[float],
    itemsize: float,
    *,
    file: str | Path,
    field: str,
    what: str,
    fix: str,
) -> None:
    """Refuse an array before it is made.

    Parameters
    ----------
    shape : iterable of number
        Sizes of its dims, by far too large ones included.
    itemsize : float
        Bytes per value.
    file, field, fix : str
        As of :class:`driftwave.errors.InputError`.
    what : str
        What the array is, with its dims in words.

    Raises
    ------
    InputError
        If it takes more than half of :func:`memory_limit`.
    """
    needed = math.prod(float(n) for n in shape) * itemsize
    allowed = SHARE * memory_limit()
    if not needed <= allowed:
        raise InputError(
            file=file,
            field=field,
            found=f"{what}, which take {_spelt(needed)}",
            expected=f"at most {_spelt(allowed)}, half of the memory of this job",
            fix=fix,
        )


def _spelt(size: float) -> str:
    if not math.isfinite(size) or size >= 1e18:
        return "more than an exabyte"
    for unit, scale in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} bytes"
