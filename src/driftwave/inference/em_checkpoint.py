"""Checkpoints of EM: the present and the best model, and the losses so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from driftwave.errors import InputError
from driftwave.store import atomic_path

LOSSES = ("train_loss", "valid_loss")


class EmState(NamedTuple):
    """What an EM run needs to go on.

    Attributes
    ----------
    model, best : mapping of str to ndarray
        Parameters of the present model, and of the one that validated best.
    train_loss, valid_loss : list of float
    """

    model: Mapping[str, np.ndarray]
    best: Mapping[str, np.ndarray]
    train_loss: list[float]
    valid_loss: list[float]


def save_state(path: Path, key: str, state: EmState) -> None:
    """Write a state of the fit that ``key`` identifies, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"model_{name}": value for name, value in state.model.items()}
    arrays |= {f"best_{name}": value for name, value in state.best.items()}
    arrays |= {name: np.array(getattr(state, name)) for name in LOSSES}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, key=np.array(key), **arrays)


def load_state(path: Path, key: str) -> EmState | None:
    """The state saved there, if it is of this very fit.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except Exception as error:  # zip and numpy raise many kinds on damaged files
        raise InputError(
            file=path,
            field="checkpoint",
            found=f"an unreadable file ({type(error).__name__})",
            expected="a checkpoint written by driftwave",
            fix="Delete it to start the fit afresh",
        ) from error
    if str(arrays["key"]) != key:
        return None
    model, best = (
        {name.removeprefix(part): v for name, v in arrays.items() if name.startswith(part)}
        for part in ("model_", "best_")
    )
    return EmState(model, best, *(arrays[name].tolist() for name in LOSSES))
