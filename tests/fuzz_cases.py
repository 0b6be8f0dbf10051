"""Damaged files for the tests of untrusted input, and a process of its own to open each in."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftwave import isolation
from driftwave.errors import DriftwaveError

# What a process may take beyond what it has, and what it is told it may take.
_MEMORY = 3 << 30
_TOLD_MB = 2000
_SECONDS = 20


def outcome(job: Callable[[], object], *, isolated: bool = False) -> str:
    """What a job comes to in a process of its own: ``ok`` or the sentence it is refused with.

    With ``isolated``, as the command line runs it: a crash or endless loop of libhdf5 is told.

    Raises
    ------
    AssertionError
        On any other exception, a death by signal (a crash of libhdf5, too much memory or time),
        or a sentence that is more than one line or tells of memory only after it ran out.
    """
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        with contextlib.suppress(BaseException):
            os.write(write, _told(job, isolated).encode(errors="replace")[:4000])
        os._exit(0)
    os.close(write)
    said = b""
    while part := os.read(read, 1 << 16):
        said += part
    os.close(read)
    _, status = os.waitpid(process, 0)
    words = said.decode(errors="replace")
    if isolated and not words and os.WIFSIGNALED(status):
        ended_by = signal.Signals(os.WTERMSIG(status))
        # Neither of the limits of this test, on time and memory.
        assert ended_by not in (signal.SIGKILL, signal.SIGXCPU, signal.SIGALRM), ended_by
        return isolation.death_sentence(["ingest"], ended_by)
    assert words, f"died by signal {status & 0x7F} (status {status})"
    assert not words.startswith("!"), words[1:]
    return words


def _told(job: Callable[[], object], isolated: bool) -> str:
    import dask

    from driftwave.ingest import file

    isolation._watching = isolated
    file.OPENING = 2.0

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + _MEMORY, own + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(2 * _SECONDS)
    os.environ["DRIFTWAVE_MEMORY_MB"] = str(_TOLD_MB)
    try:
        # A thread pool of the parent does not survive the fork.
        with dask.config.set(scheduler="synchronous"):
            job()
    except DriftwaveError as error:
        sentence = str(error)
        bad = "\n" in sentence or "MemoryError" in sentence or "Unable to allocate" in sentence
        bad = bad or not sentence.endswith(".")
        return f"{'!' if bad else ''}{sentence}"
    except BaseException:
        return "!" + traceback.format_exc()[-3000:]
    return "ok"


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with bits flipped, bytes replaced, a stretch zeroed or copied, or the end cut off."""
    data = bytearray(content)
    place, other = (int(k) for k in rng.integers(0, len(data), 2))
    length = min(int(rng.integers(1, 512)), len(data) - max(place, other))
    kind = rng.integers(6)
    if kind == 0:
        for k in rng.integers(0, len(data), int(rng.integers(1, 4))):
            data[k] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        for k in rng.integers(0, len(data), int(rng.integers(1, 40))):
            data[k] = int(rng.integers(256))
    elif kind == 2:
        del data[place:]
    elif kind == 3:
        data[place : place + length] = bytes(length)
    elif kind == 4:
        data[place : place + length] = data[other : other + length]
    else:
        data[place : place + 8] = b"\xff" * len(data[place : place + 8])
    return bytes(data)


def objects(h5: h5py.File) -> list[str]:
    """Names of all datasets, and of the attributes of all objects as ``NAME@ATTRIBUTE``."""
    names: list[str] = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if name.startswith("specifications"):
            return
        if isinstance(item, h5py.Dataset):
            names.append(name)
        names.extend(f"{name}@{attribute}" for attribute in item.attrs)

    h5.visititems(visit)
    return names


_NUMBERS = (0, -1, 1e-300, 1e12, 1e300, np.nan, np.inf, -np.inf, 2**63)


def replace(h5: h5py.File, name: str, values: Any = None, **options: Any) -> None:
    """Put another dataset in a dataset's place, with its attributes and the references to it."""
    old = h5[name]
    attributes, pointing = dict(old.attrs), []

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        for key, value in item.attrs.items():
            if isinstance(value, h5py.Reference) and h5[value] == old:
                pointing.append((item, key))

    h5.visititems(visit)
    del h5[name]
    made = h5.create_dataset(name, data=values, **options)
    for key, value in attributes.items():
        made.attrs[key] = value
    for item, key in pointing:
        item.attrs[key] = made.ref


def _of_numbers(h5: h5py.File, name: str, change: Callable[[np.ndarray], Any]) -> None:
    old = h5[name]
    if old.dtype.kind not in "iuf" or old.shape is None:
        return
    replace(h5, name, change(np.asarray(old[()])))


def _gone(h5: h5py.File, name: str) -> None:
    del h5[name]


def _text(h5: h5py.File, name: str) -> None:
    replace(h5, name, np.full(h5[name].shape, b"\xff\xfe<b>", dtype="S6"))


def _vast(h5: h5py.File, name: str) -> None:
    """A dataset that claims 8 TB and stores nothing."""
    shape = (10**12, *(h5[name].shape or ())[1:])
    replace(h5, name, shape=shape, dtype=h5[name].dtype, chunks=(1024, *shape[1:]))


def _set(value: Any) -> Callable[[h5py.File, str], None]:
    def change(h5: h5py.File, name: str) -> None:
        _of_numbers(h5, name, lambda old: np.full(old.shape, value, dtype=float))

    return change


def _reshaped(change: Callable[[np.ndarray], Any]) -> Callable[[h5py.File, str], None]:
    def apply(h5: h5py.File, name: str) -> None:
        old = h5[name]
        if old.shape:
            replace(h5, name, change(old[()]), dtype=old.dtype)

    return apply


def _one(value: Any) -> Callable[[h5py.File, str], None]:
    """One value of a column replaced, the last one."""

    def change(old: np.ndarray) -> np.ndarray:
        new = old.astype(float)
        if new.size:
            new.reshape(-1)[-1] = value
        return new

    return lambda h5, name: _of_numbers(h5, name, change)


DATASETS: dict[str, Callable[[h5py.File, str], None]] = {
    "gone": _gone,
    "text": _text,
    "vast": _vast,
    "empty": _reshaped(lambda v: v[:0]),
    "short": _reshaped(lambda v: v[: len(v) // 2]),
    "scalar": _reshaped(lambda v: v.reshape(-1)[0]),
    "deeper": _reshaped(lambda v: v[..., None]),
    "twice": _reshaped(lambda v: np.concatenate([v, v])),
    "backwards": _reshaped(lambda v: v[::-1]),
    "booleans": lambda h5, name: _of_numbers(h5, name, lambda v: v > 0),
    "complex": lambda h5, name: _of_numbers(h5, name, lambda v: v.astype(complex)),
    **{f"all {value}": _set(value) for value in _NUMBERS},
    **{f"last {value}": _one(value) for value in _NUMBERS},
}

ATTRIBUTES: dict[str, Any] = {
    "gone": None,
    "text": b"\xff\xfe",
    "empty": np.zeros(0),
    "many": np.zeros((3, 2)),
    "word": "TimeSeries",
    **{f"{value}": value for value in _NUMBERS},
}


def changes(name: str) -> list[str]:
    """Names of the changes that an object of :func:`objects` can be given."""
    return list(ATTRIBUTES if "@" in name else DATASETS)


def change(h5: h5py.File, name: str, kind: str) -> None:
    """Change one dataset or attribute."""
    item, _, attribute = name.partition("@")
    if not attribute:
        DATASETS[kind](h5, item)
    elif kind == "gone":
        del h5[item].attrs[attribute]
    else:
        h5[item].attrs[attribute] = ATTRIBUTES[kind]
