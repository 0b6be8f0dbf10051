"""Spatial gradient of phase without unwrapping, and what is read off it frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from driftwave.phase import kernels
from driftwave.phase.electrodes import Electrodes

NEIGHBOURS = 6
MOST_NEIGHBOURS = 12
# Smallest ratio of a neighbourhood's breadth to its length that more neighbours are sought for,
# and below which it gives no gradient.
BROAD, NARROW = 0.4, 0.1
NEWTON_STEPS = 2
# On a line, a gap this much longer than the other beside it is a missing electrode.
GAP = 1.5
# Share of pi above which a phase step between neighbours is near aliasing.
STEEP = 0.75


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angle in [-pi, pi]; equals arg(exp(i angle)) without a trigonometric call."""
    turns = angle * angle.dtype.type(1 / (2 * np.pi))
    np.rint(turns, out=turns)
    turns *= angle.dtype.type(2 * np.pi)
    return np.subtract(angle, turns, out=turns)


@dataclass(frozen=True)
class GridGradient:
    """Centred differences on a grid with holes, or along a line of electrodes.

    d(i) = arg(u_{i+1} conj u_i); at an electrode with both neighbours the gradient is the mean
    of its two one-sided differences (between unequal gaps on a line, the mean that is exact for a
    quadratic phase), with one neighbour the one-sided difference. The customary
    arg(u_{i+1} conj u_{i-1}) / 2 aliases at half the wavenumber. Where a phase is NaN in a frame
    the same rule holds for the neighbours that are left.

    Attributes
    ----------
    pair : tuple of 2 ndarray of int (2, pair)
        Neighbouring electrodes along columns and along rows (along a line; then none across it).
    stencil : ndarray of int (axis, usable, side, 2)
        The pair before and the pair after each usable electrode; the same twice at a border.
    gap : ndarray (axis, usable, side)
        mm between the electrodes of these pairs.
    basis : ndarray (2, 2)
        Unit vectors of the grid, as rows.
    usable : ndarray of int (usable,)
        Electrodes with a neighbour along both axes (along the line).
    linear : bool
    """

    pair: tuple[np.ndarray, np.ndarray]
    stencil: np.ndarray
    gap: np.ndarray
    basis: np.ndarray
    usable: np.ndarray
    linear: bool

    def differences(self, phase: np.ndarray) -> list[np.ndarray]:
        """Wrapped differences of neighbouring pairs along each axis, each (pair, frame)."""
        return [wrap(phase[pair[1]] - phase[pair[0]]) for pair in self.pair]

    def steep(self, phase: np.ndarray, limit: float = STEEP) -> np.ndarray:
        """Share (frame,) of neighbouring pairs whose phases differ by more than ``limit`` pi.

        A plane wave near the spatial Nyquist wavenumber has it near 1 along an axis, that is .5.
        """
        return _steep(phase, np.concatenate(self.pair, axis=1), limit)

    @cached_property
    def weight(self) -> np.ndarray:
        """What the differences of the two pairs are multiplied by, 1/mm (axis, usable, side).

        The one-sided slope over the longer gap counts less, by the other gap's share.
        """
        return self.gap[..., ::-1] / self.gap.sum(axis=-1, keepdims=True) / self.gap

    def curvature_error(self, u: int, position: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """Gradient (2,) at usable electrode ``u`` of the phases r_i r_j / 2 about it, (2, 2, 2).

        The exact gradient is 0 there. ``alive`` (electrode,) says whose phase is known.
        """
        here = position[self.usable[u]]
        error = np.zeros((2, 2, 2))
        for axis in range(1 if self.linear else 2):
            pairs = self.stencil[axis, u]
            left = alive[pairs].all(axis=1)
            weight = self.weight[axis, u] if left.all() else 1 / self.gap[axis, u]
            for (low, high), factor in zip(pairs[left], weight[left], strict=True):
                ahead, behind = position[high] - here, position[low] - here
                step = np.outer(ahead, ahead) - np.outer(behind, behind)
                error += np.multiply.outer(self.basis[axis], factor * step / 2)
        return error

    def __call__(self, phase: np.ndarray) -> np.ndarray:
        """Gradient (axis, usable electrode, frame), rad/mm, of phase (electrode, frame), rad.

        NaN where the electrode's own phase is, or where no neighbour is left along an axis.
        """
        phase = np.ascontiguousarray(phase)
        kind = phase.dtype
        gradient = np.empty((2, len(self.usable), phase.shape[1]), kind)
        kernels.grid_gradient(
            phase,
            self.stencil,
            self.weight.astype(kind),
            (1 / self.gap).astype(kind),
            self.basis.astype(kind),
            self.linear,
            kernels.wrapping(kind),
            gradient,
        )
        return gradient


@dataclass(frozen=True)
class LocalPlanes:
    """Gradient on an irregular layout: a plane on the circle through each electrode's neighbours.

    Least squares on wrapped differences to the neighbours, then Gauss-Newton steps on the
    residuals wrapped again, so that a difference beyond half a cycle finds its branch. Neighbours
    whose phase is NaN in a frame are left out of that frame.

    Attributes
    ----------
    neighbour : ndarray of int (usable, neighbour)
        The six nearest; where these lie nearly on a line, the last ones give way to farther
        electrodes beside it.
    offset : ndarray (usable, neighbour, 2)
        mm, from the electrode to its neighbours.
    inverse : ndarray (usable, 2, neighbour)
        Pseudo-inverse of the offsets.
    usable : ndarray of int (usable,)
    """

    neighbour: np.ndarray
    offset: np.ndarray
    inverse: np.ndarray
    usable: np.ndarray

    @property
    def linear(self) -> bool:
        """Never: on a line differences along it are taken."""
        return False

    def differences(self, phase: np.ndarray) -> list[np.ndarray]:
        """Wrapped differences to the neighbours, one array (electrode x neighbour, frame)."""
        step = wrap(phase[self.neighbour] - phase[self.usable][:, None])
        return [step.reshape(-1, phase.shape[1])]

    def steep(self, phase: np.ndarray, limit: float = STEEP) -> np.ndarray:
        """Share (frame,) of pairs of neighbours whose phases differ by more than ``limit`` pi."""
        own = np.repeat(self.usable, self.neighbour.shape[1])
        return _steep(phase, np.stack([own, self.neighbour.ravel()]), limit)

    def curvature_error(self, u: int, position: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """Gradient of the phases r_i r_j / 2; see :meth:`GridGradient.curvature_error`."""
        away = position[self.neighbour[u]] - position[self.usable[u]]
        left = alive[self.neighbour[u]]
        inverse = self.inverse[u] if left.all() else np.linalg.pinv(away[left])
        return np.einsum("am,mi,mj->aij", inverse, away[left], away[left]) / 2

    def __call__(self, phase: np.ndarray) -> np.ndarray:
        """Gradient (axis, usable electrode, frame), rad/mm, of phase (electrode, frame), rad.

        NaN where the electrode's own phase is, or where the neighbours left lie on a line.
        """
        phase = np.ascontiguousarray(phase)
        kind = phase.dtype
        gradient = np.empty((2, len(self.usable), phase.shape[1]), kind)
        kernels.local_planes(
            phase,
            self.usable,
            self.neighbour,
            self.offset.astype(kind),
            self.inverse.astype(kind),
            kernels.wrapping(kind),
            NEWTON_STEPS,
            gradient,
        )
        return gradient


def _steep(phase: np.ndarray, pair: np.ndarray, limit: float) -> np.ndarray:
    phase = np.ascontiguousarray(phase)
    share = np.zeros(phase.shape[1], phase.dtype)
    turn = kernels.wrapping(phase.dtype)
    kernels.steep_share(phase, pair, phase.dtype.type(limit * np.pi), turn, share)
    return share


def gradient_operator(electrodes: Electrodes) -> GridGradient | LocalPlanes:
    """The operator that suits a layout; ``usable`` lists the electrodes it gives a gradient at."""
    if electrodes.linear:
        return _line(electrodes)
    return _local_planes(electrodes) if electrodes.lattice is None else _grid(electrodes)


def _grid(electrodes: Electrodes) -> GridGradient:
    lattice = electrodes.lattice
    assert lattice is not None
    at = {tuple(node): i for i, node in enumerate(lattice.tolist())}
    pairs, sides = [], []
    for axis in (0, 1):
        ahead = np.eye(2, dtype=int)[axis]
        after = [at.get(tuple(node), -1) for node in (lattice + ahead).tolist()]
        before = [at.get(tuple(node), -1) for node in (lattice - ahead).tolist()]
        pairs.append(np.array([(i, j) for i, j in enumerate(after) if j >= 0], int).T)
        sides.append((np.array(before), np.array(after)))
    usable = np.flatnonzero(np.all([(b >= 0) | (a >= 0) for b, a in sides], axis=0))
    stencil = np.stack([_stencil(usable, before, after) for before, after in sides])
    gap = np.broadcast_to(electrodes.spacing[:, None, None], (2, len(usable), 2)).copy()
    return GridGradient((pairs[0], pairs[1]), stencil, gap, electrodes.basis, usable, False)


def _stencil(usable: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Pairs (usable, side, 2) before and after each electrode; -1 marks no neighbour."""
    back = np.stack([before[usable], usable], axis=1)
    on = np.stack([usable, after[usable]], axis=1)
    back, on = np.where(back[:, :1] < 0, on, back), np.where(on[:, 1:] < 0, back, on)
    return np.stack([back, on], axis=1)


def _line(electrodes: Electrodes) -> GridGradient:
    count = len(electrodes)
    along = electrodes.position @ electrodes.axis
    order = np.argsort(along)
    gap = np.diff(along[order])
    shorter = np.minimum(np.append(np.inf, gap), np.append(gap, np.inf))
    before, after = np.full(count, -1), np.full(count, -1)
    before[order[1:]] = np.where(gap <= GAP * shorter[1:], order[:-1], -1)
    after[order[:-1]] = np.where(gap <= GAP * shorter[:-1], order[1:], -1)
    usable = np.arange(count)
    stencil = _stencil(usable, before, after)
    length = along[stencil[..., 1]] - along[stencil[..., 0]]
    pair = np.stack([order[:-1], order[1:]])
    none = np.empty((2, 0), int)
    return GridGradient(
        (pair, none),
        np.stack([stencil, stencil]),
        np.stack([length, length]),
        electrodes.basis,
        usable,
        True,
    )


def _local_planes(electrodes: Electrodes) -> LocalPlanes:
    count = min(NEIGHBOURS, len(electrodes) - 1)
    position = electrodes.position
    most = min(MOST_NEIGHBOURS, len(electrodes) - 1)
    _, nearest = cKDTree(position).query(position, k=most + 1)
    candidates = nearest[:, 1:]
    neighbour = candidates[:, :count].copy()
    for i in np.flatnonzero(_breadth(position[neighbour] - position[:, None]) < BROAD):
        neighbour[i] = _broader(position[candidates[i]] - position[i], candidates[i], count)
    offset = position[neighbour] - position[:, None]
    usable = np.flatnonzero(_breadth(offset) > NARROW)
    return LocalPlanes(neighbour[usable], offset[usable], np.linalg.pinv(offset[usable]), usable)


def _breadth(offset: np.ndarray) -> np.ndarray:
    """Smaller over larger singular value of offsets (..., neighbour, 2)."""
    size = np.linalg.svd(offset, compute_uv=False)
    return size[..., 1] / size[..., 0]


def _broader(offset: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """The nearest candidates, of which up to three give way to ones that broaden them."""
    chosen = list(range(count))
    for drop in range(1, min(4, count)):
        spare = [c for c in range(len(candidates)) if c not in chosen]
        if _breadth(offset[chosen]) >= BROAD or not spare:
            break
        rest = [c for c in chosen if c != count - drop]
        best = max(spare, key=lambda c: _breadth(offset[[*rest, c]]))
        if _breadth(offset[[*rest, best]]) <= _breadth(offset[chosen]):
            break
        chosen = [*rest, best]
    return candidates[chosen]


def directionality(gradient: np.ndarray) -> np.ndarray:
    """Phase gradient directionality |mean grad phi| / mean |grad phi| (Rubino et al. 2006, eq. 2).

    Parameters
    ----------
    gradient : ndarray (axis, electrode, frame)
        rad/mm; electrodes that are NaN in a frame are left out of it.

    Returns
    -------
    ndarray (frame,)
        1 where all electrodes agree on the direction, 0 where they cancel; NaN where none is left.
    """
    mean = gradient.mean(axis=1)
    size = np.sqrt((gradient**2).sum(axis=0)).mean(axis=0)
    ratio = np.sqrt((mean**2).sum(axis=0)) / np.maximum(size, np.finfo(gradient.dtype).tiny)
    return _without_nan(directionality, gradient, ratio)


def order_parameter(phase: np.ndarray) -> np.ndarray:
    """Kuramoto's |mean exp(i phi)| over electrodes, (frame,), of phase (electrode, frame).

    Electrodes that are NaN in a frame are left out of it; NaN where none is left.
    """
    order = np.hypot(np.cos(phase).mean(axis=0), np.sin(phase).mean(axis=0))
    return _without_nan(order_parameter, phase, order)


def _without_nan(measure, values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """``found`` (frame,) with its NaN replaced by the measure of the electrodes left, by frame.

    Frames without NaN, nearly all, cost nothing.
    """
    for frame in np.flatnonzero(np.isnan(found)):
        part = values[..., frame]
        kept = np.isfinite(part).all(axis=tuple(range(part.ndim - 1)))
        if 0 < kept.sum() < len(kept):
            found[frame] = measure(part[..., kept, None])[0]
    return found


def frequency(phase: np.ndarray, rate: float) -> np.ndarray:
    """Mean instantaneous frequency over electrodes, Hz (frame,), by centred differences.

    ``phase`` (electrode, frame) is in rad, ``rate`` the frames per second.
    """
    step = wrap(np.diff(phase, axis=1)).mean(axis=0) * rate / (2 * np.pi)
    padded = np.concatenate([step[:1], step, step[-1:]])
    return 0.5 * (padded[1:] + padded[:-1])
