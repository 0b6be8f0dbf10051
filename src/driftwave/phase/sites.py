"""Macro-sites: neighbouring electrodes taken as one, for what cannot be done on thousands.

The cross-spectrum of N electrodes holds N^2 numbers per frequency. Above a limit, detection works
on means of the analytic signal over blocks of neighbours. Over a block of side L the mean of a
plane wave of wavelength lambda shrinks by sinc(L / lambda): to .64 at 2 L, the shortest that sites
L apart can tell from a longer one, and to nothing at L.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.phase.electrodes import Electrodes, place

GROWTH = 1.1
FULL = 0.5
FEWEST = 4


@dataclass(frozen=True)
class Sites:
    """Blocks of neighbouring electrodes.

    Attributes
    ----------
    electrodes : Electrodes
        The sites as a layout of their own; ``index`` is the electrode nearest to each centre.
    member : ndarray of int (electrode,)
        Site of each electrode; -1 in a block at the border that is less than half full.
    nearest : ndarray of int (electrode,)
        The same with those given to the nearest site.
    """

    electrodes: Electrodes
    member: np.ndarray
    nearest: np.ndarray

    @classmethod
    def alone(cls, electrodes: Electrodes) -> Sites:
        """Each electrode its own site."""
        own = np.arange(len(electrodes))
        return cls(electrodes, own, own)

    @property
    def trivial(self) -> bool:
        """Whether sites are the electrodes themselves."""
        return len(self.electrodes) == len(self.member)

    def mean(self, signal: np.ndarray) -> np.ndarray:
        """Mean of a signal (electrode, frame) over each site's electrodes (site, frame)."""
        if self.trivial:
            return signal
        used = np.flatnonzero(self.member >= 0)
        order = used[np.argsort(self.member[used], kind="stable")]
        starts = np.searchsorted(self.member[order], np.arange(len(self.electrodes)))
        count = np.bincount(self.member[used], minlength=len(self.electrodes))
        total = np.add.reduceat(signal[order], starts, axis=0)
        return total / count[:, None].astype(signal.real.dtype)


def sites_of(electrodes: Electrodes, most: int | None) -> Sites:
    """Sites of a layout: its electrodes where there are up to ``most``, else blocks of them."""
    if most is None or len(electrodes) <= most:
        return Sites.alone(electrodes)
    if electrodes.lattice is None:
        origin = electrodes.position.min(axis=0)
        block, nodes = _boxes(electrodes, origin, most)
        centre = np.stack([electrodes.position[block == b].mean(axis=0) for b in range(nodes)])
        return _sites(electrodes, block, centre)
    lattice = electrodes.lattice
    size = _block_size(lattice.max(axis=0) + 1, electrodes.spacing, most)
    node, block, count = np.unique(lattice // size, axis=0, return_inverse=True, return_counts=True)
    kept = count >= FULL * np.prod(size)
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    design = np.column_stack([lattice, np.ones(len(lattice))])
    affine = np.linalg.lstsq(design, electrodes.position, rcond=None)[0]
    # The middle of the whole block, so that sites stand on a grid though electrodes are missing.
    middle = node[kept] * size + (size - 1) / 2
    return _sites(electrodes, number[block.ravel()], middle @ affine[:2] + affine[2])


def _sites(electrodes: Electrodes, member: np.ndarray, centre: np.ndarray) -> Sites:
    distance = np.stack([np.hypot(*(centre - here).T) for here in electrodes.position])
    index = electrodes.index[np.argmin(distance, axis=0)]
    nearest = np.where(member >= 0, member, np.argmin(distance, axis=1))
    return Sites(place(centre, index), member, nearest)


def _block_size(nodes: np.ndarray, spacing: np.ndarray, most: int) -> np.ndarray:
    """Electrodes per block along columns and rows: nearly square, an axis never below 4 sites."""
    size = np.ones(2, int)
    while np.prod(-(-nodes // size)) > most:
        free = -(-nodes // (size + 1)) >= np.minimum(FEWEST, nodes)
        if not free.any():
            free[:] = True
        size[np.argmin(np.where(free, size * spacing, np.inf))] += 1
    return size


def _boxes(electrodes: Electrodes, origin: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Box (electrode,) of an irregular layout, as small as gives no more than ``most`` of them."""
    extent = np.ptp(electrodes.position, axis=0)
    side = electrodes.pitch
    while True:
        step = np.minimum(side, np.maximum(extent * (1 + 1e-9) / FEWEST, 1e-9))
        if side > extent.max():
            step = np.full(2, side)
        box = np.floor((electrodes.position - origin) / step).astype(int)
        unique, block = np.unique(box, axis=0, return_inverse=True)
        if len(unique) <= most:
            return block.ravel(), len(unique)
        side *= GROWTH
