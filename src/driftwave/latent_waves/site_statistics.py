"""Frame by frame: how a complex field at sites travels, in the plane or around a ring.

In the plane the mean phase gradient and its power-weighted directionality are those of
:mod:`driftwave.phase.directionality`. A phase singularity is a Delaunay triangle around which the
phase winds once, confirmed where it winds the same way around all triangles that share a corner
with it: the winding of single triangles is not specific to rotations (pure noise is full of them).

A charge or winding number is positive where the phase falls counter-clockwise, so that the wave
turns counter-clockwise. Around a ring the phase winds a whole number of times, and with a^2 the
product of the amplitudes of two neighbours and g their wrapped phase difference the directionality
is ``P = sum a^2 (-g) / sqrt(sum a^2 sum a^2 g^2)``, positive where the wave runs counter-clockwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_matrix

from driftwave.phase.directionality import Directionality, directionality_of
from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import wrap
from driftwave.phase.winding import triangles


class SiteFrames(NamedTuple):
    """What is read off each frame.

    Attributes
    ----------
    power : ndarray (frame,)
        Sum of squared amplitudes: the weight of a frame.
    direction : ndarray (frame,)
        In which the wave travels, rad; around a ring 0 is counter-clockwise, pi clockwise.
    directionality : ndarray (frame,)
        Power-weighted PGD, 0 to 1; around a ring the size of P.
    wavenumber : ndarray (frame,)
        Size of the mean phase gradient, rad/mm.
    positive, negative : ndarray of int (frame,)
        Phase singularities that wind by +1 and by -1; around a ring the winding number's positive
        and negative part.
    """

    power: np.ndarray
    direction: np.ndarray
    directionality: np.ndarray
    wavenumber: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @property
    def winding(self) -> np.ndarray:
        """Net winding of each frame."""
        return self.positive - self.negative

    def mean(self, values: np.ndarray) -> float:
        """Average over frames weighted by power."""
        return float((self.power * values).sum() / max(self.power.sum(), np.finfo(float).tiny))


class Sites(Protocol):
    """A layout of sites."""

    def __call__(self, signal: np.ndarray) -> SiteFrames:
        """Read frames off a complex signal (site, frame)."""
        ...


def join_frames(parts: list[SiteFrames]) -> SiteFrames:
    """Frames of several stretches as one."""
    return SiteFrames(*(np.concatenate(values) for values in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Singularities:
    """Triangles of a layout and the neighbourhoods that confirm a singularity.

    Attributes
    ----------
    corners : ndarray of int (triangle, 3)
        Counter-clockwise.
    around : sparse matrix (triangle, triangle)
        1 where two triangles share a corner.
    """

    corners: np.ndarray
    around: csr_matrix

    @classmethod
    def of(cls, position: np.ndarray) -> Singularities:
        """Triangulate positions (site, 2), mm."""
        corners = triangles(position)
        rows = np.repeat(np.arange(len(corners)), 3)
        shape = (len(corners), len(position))
        member = csr_matrix((np.ones(3 * len(corners), np.float32), (rows, corners.ravel())), shape)
        shared = member @ member.T
        return cls(corners, (shared > 0).astype(np.float32).tocsr())

    def __call__(self, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number of confirmed singularities of charge +1 (counter-clockwise) and -1, (frame,)."""
        one, two, three = (phase[self.corners[:, i]] for i in range(3))
        turn = wrap(two - one) + wrap(three - two) + wrap(one - three)
        charge = -np.rint(turn / (2 * np.pi)).astype(np.float32)
        patch = self.around @ charge
        confirmed = np.where((charge != 0) & (patch == charge), charge, 0)
        return (confirmed > 0).sum(0), (confirmed < 0).sum(0)


@dataclass(frozen=True)
class PlaneSites:
    """Sites that span a plane."""

    electrodes: Electrodes
    measure: Directionality = field(init=False)
    singularities: Singularities = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measure", directionality_of(self.electrodes))
        object.__setattr__(self, "singularities", Singularities.of(self.electrodes.position))

    def __call__(self, signal: np.ndarray) -> SiteFrames:
        """Read frames off a complex signal (site, frame)."""
        fluxes = self.measure(signal)
        positive, negative = self.singularities(np.angle(signal))
        east, north = fluxes.flux[:2]
        return SiteFrames(
            power=fluxes.power,
            direction=np.arctan2(north, east),
            directionality=fluxes.statistic()[0],
            wavenumber=np.hypot(east, north) / np.maximum(fluxes.power, np.finfo(float).tiny),
            positive=positive,
            negative=negative,
        )


@dataclass(frozen=True)
class RingSites:
    """Sites around a ring, in counter-clockwise order.

    Attributes
    ----------
    order : ndarray of int (site,)
        The sites in the order of their angle.
    pitch : float
        Distance between neighbours along the ring, mm.
    """

    order: np.ndarray
    pitch: float

    @classmethod
    def of(cls, position: np.ndarray) -> RingSites:
        """Order positions (site, 2), mm, by their angle about their mean."""
        away = position - position.mean(0)
        radius = float(np.hypot(*away.T).mean())
        order = np.argsort(np.arctan2(away[:, 1], away[:, 0]))
        return cls(order, 2 * np.pi * radius / len(position))

    def __call__(self, signal: np.ndarray) -> SiteFrames:
        """Read frames off a complex signal (site, frame)."""
        around = signal[self.order]
        cross = np.roll(around, -1, axis=0) * around.conj()
        weight, gradient = np.abs(cross), np.angle(cross)
        power = weight.sum(0)
        flux, steepness = (weight * gradient).sum(0), (weight * gradient**2).sum(0)
        winding = -np.rint(gradient.sum(0) / (2 * np.pi)).astype(int)
        tiny = np.finfo(float).tiny
        return SiteFrames(
            power=power,
            direction=np.where(flux <= 0, 0.0, np.pi),
            directionality=np.abs(flux) / np.sqrt(np.maximum(power * steepness, tiny)),
            wavenumber=np.abs(flux) / np.maximum(power, tiny) / self.pitch,
            positive=np.maximum(winding, 0),
            negative=np.maximum(-winding, 0),
        )
