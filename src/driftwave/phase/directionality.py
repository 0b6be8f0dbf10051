"""Power-weighted phase gradient directionality for planar, radial and rotating waves.

With amplitude a, phase phi and a field of unit vectors T(r), frame by frame

    P_T = sum_n a_n^2 (-grad phi_n . T_n) / sqrt(sum_n a_n^2  sum_n a_n^2 |grad phi_n|^2),

which lies in [-1, 1] by the Cauchy-Schwarz inequality. For uniform T along x and y the norm of the
two is the power-weighted PGD; T that points away from a centre gives expanding (+) and contracting
(-) waves, T that turns about it counter-clockwise (+) and clockwise (-) ones. In a field whose
electrodes share signals without lags every P_T vanishes on average.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import GridGradient, LocalPlanes, gradient_operator

FAMILIES = ("planar", "radial", "rotating")
CENTRES = 5


@dataclass(frozen=True)
class Fluxes:
    """Numerators and denominators of P over frames.

    Attributes
    ----------
    flux : ndarray (template, frame)
        sum a^2 (-grad phi . T): x, y, then all radial, then all rotating templates.
    power : ndarray (frame,)
        sum a^2.
    steepness : ndarray (frame,)
        sum a^2 |grad phi|^2.
    """

    flux: np.ndarray
    power: np.ndarray
    steepness: np.ndarray

    def smooth(self, frames: int) -> Fluxes:
        """Moving averages over ``frames`` frames; opposite directions cancel.

        At the ends and beside gaps, frames without power, the average is over the frames there
        are; a gap stays one.
        """
        parts = (self.flux, self.power, self.steepness)
        smooth = [uniform_filter1d(part, frames, axis=-1, mode="constant") for part in parts]
        return Fluxes(*smooth).without(self.power == 0)

    def without(self, gap: np.ndarray) -> Fluxes:
        """The same with zeros in frames (frame,) that must not count."""
        if not gap.any():
            return self
        return Fluxes(*(np.where(gap, 0, part) for part in (self.flux, self.power, self.steepness)))

    def cut(self, frames: slice) -> Fluxes:
        """Some of the frames."""
        return Fluxes(self.flux[:, frames], self.power[frames], self.steepness[frames])

    def pieces(self, frames: int) -> Iterator[Fluxes]:
        """Consecutive pieces of so many frames."""
        for start in range(0, len(self.power), frames):
            yield self.cut(slice(start, start + frames))

    def statistic(self) -> np.ndarray:
        """Largest |P_T| of each family, (family, frame)."""
        norm = np.sqrt(self.power * self.steepness)
        norm = np.maximum(norm, np.finfo(self.flux.dtype).tiny)
        centres = (len(self.flux) - 2) // 2
        planar = np.hypot(self.flux[0], self.flux[1])
        radial = np.abs(self.flux[2 : 2 + centres]).max(axis=0)
        rotating = np.abs(self.flux[2 + centres :]).max(axis=0)
        return np.stack([planar, radial, rotating]) / norm

    def mean_statistic(self) -> np.ndarray:
        """Average of the statistic over frames weighted by power, (family,)."""
        return (self.statistic() * self.power).sum(axis=1) / self.power.sum()


def join(parts: list[Fluxes]) -> Fluxes:
    """Fluxes of consecutive stretches as one."""
    return Fluxes(
        np.concatenate([part.flux for part in parts], axis=1),
        np.concatenate([part.power for part in parts]),
        np.concatenate([part.steepness for part in parts]),
    )


@dataclass(frozen=True)
class Directionality:
    """Turns analytic signals into :class:`Fluxes` for one layout."""

    operator: GridGradient | LocalPlanes
    templates: np.ndarray
    centres: np.ndarray

    def __call__(self, signal: np.ndarray) -> Fluxes:
        """Fluxes of an analytic signal (electrode, frame)."""
        gradient = self.operator(np.angle(signal))
        used = signal[self.operator.usable]
        weight = used.real**2 + used.imag**2
        weighted = gradient * weight
        steepness = (weighted * gradient).sum(axis=(0, 1))
        flat = weighted.reshape(-1, signal.shape[1])
        return Fluxes(-(self.templates.astype(flat.dtype) @ flat), weight.sum(axis=0), steepness)


def directionality_of(electrodes: Electrodes) -> Directionality:
    """Templates for a layout: two uniform ones, radial and rotating ones about 5 x 5 centres."""
    operator = gradient_operator(electrodes)
    position = electrodes.position[operator.usable]
    low, high = position.min(axis=0), position.max(axis=0)
    share = (np.arange(CENTRES) + 0.5) / CENTRES
    centres = np.stack(
        [axis.ravel() for axis in np.meshgrid(*(low + share[:, None] * (high - low)).T)], axis=1
    )
    away = position[None] - centres[:, None]
    distance = np.linalg.norm(away, axis=-1, keepdims=True)
    away = np.where(distance > electrodes.pitch / 4, away / np.maximum(distance, 1e-12), 0.0)
    turning = np.stack([-away[..., 1], away[..., 0]], axis=-1)
    uniform = np.broadcast_to(np.eye(2)[:, None, :], (2, len(position), 2))
    fields = np.concatenate([uniform, away, turning])
    return Directionality(operator, fields.transpose(0, 2, 1).reshape(len(fields), -1), centres)
