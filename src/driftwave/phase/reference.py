"""Spatial references: what is left of a field without what its electrodes share.

A reference, or a distant source, adds the same to all electrodes. Waves that are real stay waves
with the common average removed, and in the current source density, apart from their amplitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from driftwave.phase.electrodes import Electrodes, place

ReferenceKind = Literal["none", "common_average", "csd"]
NEIGHBOURS = 6
LARGEST_WEIGHT = 1.0


@dataclass(frozen=True)
class Reference:
    """A linear map from the electrodes that were recorded to those that are analysed.

    Attributes
    ----------
    source : Electrodes
        What is read.
    kept : ndarray of int (kept,)
        Which of them are analysed.
    matrix : ndarray, float32 (kept, electrode)
        Applied to samples (electrode, time), before or after the filter: it commutes with it.
    """

    source: Electrodes
    kept: np.ndarray
    matrix: np.ndarray

    @property
    def electrodes(self) -> Electrodes:
        """The electrodes that are analysed."""
        if len(self.kept) == len(self.source):
            return self.source
        return place(self.source.position[self.kept], self.source.index[self.kept])

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Samples (electrode, time), real or complex, to (kept, time)."""
        return self.matrix.astype(samples.real.dtype, copy=False) @ samples


def reference_of(electrodes: Electrodes, kind: ReferenceKind) -> Reference:
    """The map of one reference.

    ``common_average`` subtracts the mean over electrodes. ``csd`` subtracts from each electrode
    what a plane through its neighbours says it should measure (the nearest-neighbour Laplacian of
    Hjorth 1975, up to sign and scale): on a grid the mean of the pairs of neighbours on either
    side. A gradient over the array vanishes, and a plane wave keeps its phase: one-sided
    differences, which would shift it by a quarter of a cycle, are not used, and electrodes without
    neighbours around them (corners of a grid) are not kept.
    """
    count = len(electrodes)
    if kind == "none":
        return Reference(electrodes, np.arange(count), np.eye(count, dtype=np.float32))
    if kind == "common_average":
        matrix = np.eye(count) - 1 / count
        return Reference(electrodes, np.arange(count), matrix.astype(np.float32))
    predicted = _between(electrodes) if electrodes.lattice is not None else _plane(electrodes)
    kept = np.flatnonzero(np.isfinite(predicted).all(axis=1))
    matrix = np.eye(count)[kept] - predicted[kept]
    return Reference(electrodes, kept, matrix.astype(np.float32))


def _between(electrodes: Electrodes) -> np.ndarray:
    """Weights (electrode, electrode) of the mean over pairs on either side; NaN without a pair."""
    assert electrodes.lattice is not None
    at = {tuple(node): number for number, node in enumerate(electrodes.lattice.tolist())}
    weights = np.full((len(electrodes), len(electrodes)), np.nan)
    for number, node in enumerate(electrodes.lattice):
        pairs = [
            (at.get(tuple((node - step).tolist())), at.get(tuple((node + step).tolist())))
            for step in np.eye(2, dtype=int)
        ]
        whole = [one for pair in pairs if None not in pair for one in pair if one is not None]
        if whole:
            weights[number] = 0
            weights[number, whole] = 1 / len(whole)
    return weights


def _plane(electrodes: Electrodes) -> np.ndarray:
    """Weights (electrode, electrode) of a plane through neighbours; NaN where it extrapolates."""
    count = min(NEIGHBOURS, len(electrodes) - 1)
    _, nearest = cKDTree(electrodes.position).query(electrodes.position, k=count + 1)
    weights = np.full((len(electrodes), len(electrodes)), np.nan)
    for number, neighbours in enumerate(nearest[:, 1:]):
        offset = electrodes.position[neighbours] - electrodes.position[number]
        design = np.column_stack([np.ones(count), offset / electrodes.pitch])
        found, _, rank, _ = np.linalg.lstsq(design, np.eye(count), rcond=1e-6)
        spanned = rank == (2 if electrodes.linear else 3)
        if spanned and found[0].max() < LARGEST_WEIGHT and found[0].min() > -LARGEST_WEIGHT / 2:
            weights[number] = 0
            weights[number, neighbours] = found[0]
    return weights
