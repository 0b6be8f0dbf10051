"""A run of EM that is judged on validation, and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from driftwave.errors import DriftwaveError
from driftwave.inference.checkpoint import load_arrays, save_arrays

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
    arrays: dict[str, Any] = {f"model_{name}": value for name, value in state.model.items()}
    arrays |= {f"best_{name}": value for name, value in state.best.items()}
    arrays |= {name: np.array(getattr(state, name)) for name in LOSSES}
    save_arrays(path, {"key": np.array(key), **arrays})


def load_state(path: Path, key: str) -> EmState | None:
    """The state saved there, if it is of this very fit.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    if not path.exists():
        return None
    arrays = load_arrays(path)
    if str(arrays["key"]) != key:
        return None
    model, best = (
        {name.removeprefix(part): v for name, v in arrays.items() if name.startswith(part)}
        for part in ("model_", "best_")
    )
    return EmState(model, best, *(arrays[name].tolist() for name in LOSSES))


class EmModel(Protocol):
    """Parameters that can be written down by name."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by name."""
        ...

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Self:
        """The model of parameters by name."""
        ...


Model = TypeVar("Model", bound=EmModel)


@dataclass
class EmRun(Generic[Model]):
    """State and outcome of one EM run.

    Attributes
    ----------
    model, best : EmModel
        After the last look, and with the least validation cost.
    train_loss, valid_loss : list of float
        At each look, minus the log-likelihood and the cost of units left out, nats per entry.
    """

    MODEL: ClassVar[Any]
    WHAT: ClassVar[str]
    FIX: ClassVar[str]

    model: Model
    best: Model
    train_loss: list[float]
    valid_loss: list[float]

    @property
    def cost(self) -> float:
        """Least validation cost."""
        return min(self.valid_loss)

    def judge(self, model: Model, train_loss: float, valid_loss: float) -> None:
        """Take note of one look.

        Raises
        ------
        DriftwaveError
            If a loss is not finite.
        """
        if not np.isfinite([train_loss, valid_loss]).all():
            raise DriftwaveError(
                f"EM of the {self.WHAT} diverged at look {len(self.valid_loss) + 1} (training loss "
                f"{train_loss}, validation loss {valid_loss}); {self.FIX} in the model's params."
            )
        self.model = model
        self.train_loss.append(train_loss)
        self.valid_loss.append(valid_loss)
        if valid_loss <= self.cost:
            self.best = model

    def save(self, path: Path, key: str) -> None:
        """Write the whole state, atomically."""
        model, best = self.model.arrays(), self.best.arrays()
        save_state(path, key, EmState(model, best, self.train_loss, self.valid_loss))

    @classmethod
    def resume(cls, path: Path, key: str) -> Self | None:
        """The state saved there, if it is of this very fit."""
        state = load_state(path, key)
        if state is None:
            return None
        model, best = (cls.MODEL.from_arrays(dict(part)) for part in (state.model, state.best))
        return cls(model, best, state.train_loss, state.valid_loss)
