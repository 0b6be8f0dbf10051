"""Checkpoints that are used only if every number in them is the one that was written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from driftwave.atomic import atomic_path
from driftwave.errors import InputError

DIGEST = "sha256"


def state_digest(state: Any) -> str:
    """SHA-256 of a nested state: tensors and arrays by their bytes, everything else by its text.

    torch checks no checksum when it loads, and a flipped bit in a weight is a weight like any.
    """
    whole = hashlib.sha256()
    _enter(state, whole.update)
    return whole.hexdigest()


def _enter(part: Any, update: Callable[[bytes], Any]) -> None:
    if isinstance(part, Mapping):
        for key in part:
            update(f"{{{key!r}:".encode())
            _enter(part[key], update)
    elif isinstance(part, list | tuple):
        update(f"[{len(part)}".encode())
        for item in part:
            _enter(item, update)
    elif hasattr(part, "detach"):
        _enter(part.detach().cpu().numpy(), update)
    elif isinstance(part, np.ndarray):
        update(f"{part.dtype}{part.shape}".encode())
        update(np.ascontiguousarray(part).tobytes())
    else:
        update(f"{type(part).__name__}{part!r}".encode())


def sealed(state: dict[str, Any]) -> dict[str, Any]:
    """The state with its digest beside it."""
    return state | {DIGEST: state_digest(state)}


def read_sealed(path: Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """A state as :func:`sealed` gave it, without the digest.

    Raises
    ------
    InputError
        If it cannot be read, or is not what was written.
    """
    try:
        state = dict(load(path))
        digest = str(state.pop(DIGEST))
    except Exception as error:  # torch, zip and numpy raise many kinds on damaged files
        raise damaged(path, f"an unreadable file ({type(error).__name__})") from error
    if state_digest(state) != digest:
        raise damaged(path, "other numbers than were written")
    return state


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as ``npz``, whole or not at all, with their digest among them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = sealed({name: np.asarray(array) for name, array in arrays.items()})
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **content)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What :func:`save_arrays` wrote.

    Raises
    ------
    InputError
        If it cannot be read, or is not what was written.
    """

    def load(file: Path) -> dict[str, np.ndarray]:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)

    return read_sealed(path, load)


def damaged(path: Path, found: str) -> InputError:
    """The sentence for a checkpoint that cannot be gone on from."""
    return InputError(
        file=path,
        field="checkpoint",
        found=found,
        expected="a checkpoint written by driftwave",
        fix="Delete it to start the fit afresh",
    )
