"""The nulls there are: what each keeps of a field, what it destroys, what it therefore asks.

``zero_lag`` is the default, ``zero_lag_ranked`` that of spike counts. ``common_phase`` asks another
question. The others are what much of
the literature uses and are there for comparison: ``independent_phase`` and ``channel_shuffle``
destroy the coherence between electrodes, ``grid_shift`` breaks it along a seam, and so they reject
fields whose electrodes share signals, waves or not (100 % of noise correlated over 2 mm).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import fft
from scipy.spatial import cKDTree

from driftwave.phase.electrodes import Electrodes

Kind = Literal[
    "zero_lag",
    "zero_lag_ranked",
    "common_phase",
    "independent_phase",
    "channel_shuffle",
    "grid_shift",
]
COUNTS: Kind = "zero_lag_ranked"
# Those of any signal, the default one first.
NULLS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != COUNTS)

LABELS: dict[str, str] = {
    "zero_lag": "zero-lag cross-spectrum surrogates",
    "zero_lag_ranked": "zero-lag surrogates with each site's own counts",
}
QUESTIONS: dict[str, str] = {
    "zero_lag": "Does the field travel, beyond what signals shared without lags feign? (keeps "
    "every spectrum, all zero-lag coherence and the course of the power)",
    "zero_lag_ranked": "Do counts travel, beyond what counts as sparse and shared without lags "
    "feign? (keeps every site's counts and, nearly, its spectrum and all zero-lag coherence)",
    "common_phase": "Do waves come in bursts? (keeps the whole cross-spectrum, lags included: no "
    "power for steady waves)",
    "independent_phase": "Do electrodes have anything in common? (legacy: keeps the spectra only, "
    "rejects spatially correlated noise)",
    "channel_shuffle": "Do neighbours resemble each other more than distant electrodes? (legacy: "
    "keeps the signals, rejects spatially correlated noise)",
    "grid_shift": "Does the field fit this place on the array better than one shifted around its "
    "edges? (legacy: keeps neighbourhoods but for a seam, rejects spatially correlated noise)",
}


def common_phase(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signal (electrode, frame) with one random phase per frequency, the same for all."""
    turn = _turns((1, signal.shape[1]), rng)
    return fft.ifft(fft.fft(signal, axis=1) * turn, axis=1)


def independent_phase(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Signal (electrode, frame) with a random phase per frequency and electrode."""
    return fft.ifft(fft.fft(signal, axis=1) * _turns(signal.shape, rng), axis=1)


def _turns(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return np.exp(2j * np.pi * rng.random(shape, dtype=np.float32)).astype(np.complex64)


def shuffled(electrodes: Electrodes, rng: np.random.Generator) -> np.ndarray:
    """Which electrode's signal each electrode (electrode,) gets: a random permutation."""
    return rng.permutation(len(electrodes))


def shifted(electrodes: Electrodes, rng: np.random.Generator) -> np.ndarray:
    """Which electrode's signal each electrode (electrode,) gets: the array rolled around its edges.

    The shift is by whole pitches along columns and rows, never by none; where no electrode stands
    at the place a signal comes from, the nearest one gives it.
    """
    position = electrodes.position @ electrodes.basis.T
    place = (position - position.min(axis=0)) / electrodes.spacing
    if electrodes.lattice is not None:
        # Whole numbers: a rounding error at the edge would go once around the array.
        place = np.round(place)
    size = np.round(place.max(axis=0)).astype(int) + 1
    number = int(rng.integers(1, int(np.prod(size))))
    shift = np.array([number % size[0], number // size[0]])
    _, source = cKDTree(place).query((place + shift) % size)
    return np.asarray(source)


SIGNALS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "common_phase": common_phase,
    "independent_phase": independent_phase,
}
PLACES: dict[str, Callable[[Electrodes, np.random.Generator], np.ndarray]] = {
    "channel_shuffle": shuffled,
    "grid_shift": shifted,
}


@dataclass(frozen=True)
class Randomised:
    """Surrogates made of the field's own signals.

    Attributes
    ----------
    kind : str
    read : callable
        Signal (electrode, frame) between two frames.
    frames : int
    stretch : int
        Frames of a piece; phases are randomised within pieces.
    electrodes : Electrodes
    """

    kind: str
    read: Callable[[int, int], np.ndarray]
    frames: int
    stretch: int
    electrodes: Electrodes

    def pieces(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """One surrogate (electrode, frame), piece by piece."""
        place = PLACES[self.kind](self.electrodes, rng) if self.kind in PLACES else None
        for start in range(0, self.frames, self.stretch):
            signal = self.read(start, min(start + self.stretch, self.frames))
            yield SIGNALS[self.kind](signal, rng) if place is None else signal[place]
