"""A recording's fluxes: their many templates on disk, their power in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from driftwave.phase.directionality import Fluxes
from driftwave.phase.spool import Spool


@dataclass(frozen=True)
class KeptFluxes:
    """Fluxes that are read piece by piece; fifty templates of hours do not fit into memory.

    Attributes
    ----------
    spool : Spool (frame, template)
    power, steepness : ndarray (frame,)
        See :class:`driftwave.phase.directionality.Fluxes`.
    """

    spool: Spool
    power: np.ndarray
    steepness: np.ndarray

    @property
    def flux(self) -> np.ndarray:
        """All of it, (template, frame)."""
        return self.whole().flux

    def whole(self) -> Fluxes:
        """All of it in memory."""
        return self._read(0, len(self.power))

    def pieces(self, frames: int) -> Iterator[Fluxes]:
        """Consecutive pieces of so many frames."""
        for start in range(0, len(self.power), frames):
            yield self._read(start, min(start + frames, len(self.power)))

    def smooth(self, frames: int) -> Fluxes:
        """See :meth:`driftwave.phase.directionality.Fluxes.smooth`."""
        return self.whole().smooth(frames)

    def _read(self, start: int, stop: int) -> Fluxes:
        flux = np.ascontiguousarray(self.spool.read(start, stop).T)
        return Fluxes(flux, self.power[start:stop], self.steepness[start:stop])
