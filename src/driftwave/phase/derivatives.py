"""Divergence and curl of the phase gradient.

Of phi = omega t - k |r| (a wave that leaves a centre) the gradient is -k r / |r| and its
divergence -k / |r|: sources have negative, sinks positive divergence of the phase gradient; the
wave's velocity has the other sign. A gradient has no curl; it appears where phase winds: a rotation
by q about a point has a curl that adds up to -2 pi q over the area around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from driftwave.phase import kernels
from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import GridGradient, LocalPlanes, gradient_operator

# Ratio of singular values below which neighbours do not determine the derivatives.
SINGULAR = 0.03


@dataclass(frozen=True)
class Derivatives:
    """Curvature of phase that explains the gradients at an electrode and its neighbours best.

    With g the true gradient at electrode i, H its matrix of derivatives and d_j the way to
    neighbour j, the gradient found there is g + H d_j + B_j(H). B_j is what the gradient operator
    at j makes of curvature where it is not centred: at borders, beside missing electrodes, on
    irregular layouts. Least squares for g and H then gives centred differences inside a grid, and a
    quadratic phase its exact divergence everywhere.

    Attributes
    ----------
    operator : GridGradient or LocalPlanes
        What the gradients come from.
    position : ndarray (electrode, 2)
        mm.
    axes : ndarray (dimension, 2)
        Directions along which derivatives are taken: x and y, or a line's axis alone.
    rings : tuple of (usable, ...) lists of ndarray of int
        Neighbours of each usable electrode among the usable ones: near ones, and as many as are
        needed where these do not suffice.
    """

    operator: GridGradient | LocalPlanes
    position: np.ndarray
    axes: np.ndarray
    rings: tuple[list[np.ndarray], ...]
    _neighbour: np.ndarray = field(init=False, repr=False)
    _weight: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        usable = len(self.operator.usable)
        known = np.ones(usable, bool)
        found = [self._weights(u, None, known) for u in range(usable)]
        most = max(len(near) for near, _ in found)
        neighbour = np.repeat(np.arange(len(found))[:, None], most, axis=1)
        weight = np.zeros((2, len(found), len(self.axes), most))
        for u, (near, own) in enumerate(found):
            neighbour[u, : len(near)] = near
            weight[:, u, :, : len(near)] = own
        object.__setattr__(self, "_neighbour", neighbour)
        object.__setattr__(self, "_weight", weight)

    def __call__(
        self, gradient: np.ndarray, phase: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Divergence and curl.

        Parameters
        ----------
        gradient : ndarray (axis, usable electrode, frame)
            rad/mm, as the layout's gradient operator gives it; NaN where unknown.
        phase : ndarray (electrode, frame), optional
            Which phases are NaN. Without it an electrode is taken to have no phase where it has no
            gradient, which errs beside electrodes at the border whose one inward neighbour is NaN.

        Returns
        -------
        divergence, curl : ndarray (usable electrode, frame)
            rad/mm^2; NaN where the gradient is, or where the neighbours left do not determine them.
            On a line the divergence is the derivative along it and the curl 0.
        """
        kind = gradient.dtype
        along = np.tensordot(self.axes.astype(kind), gradient, axes=1)
        along = np.ascontiguousarray(along)
        found = np.empty((2, *gradient.shape[1:]), kind)
        for total, weight in zip(found, self._weight.astype(kind), strict=True):
            kernels.weighted_neighbours(along, self._neighbour, weight, total)
        self._mend(along, phase, found)
        return found[0], found[1]

    def _mend(self, along: np.ndarray, phase: np.ndarray | None, found: np.ndarray) -> None:
        """Where an electrode near by is NaN in a frame, do with the ones that are left.

        Its neighbours' gradients are one-sided in that frame, which changes what they tell.
        """
        broken = np.flatnonzero(np.isnan(along[0]).any(axis=0))
        usable = self.operator.usable
        without = np.isnan(along[0][:, broken])
        silent = without if phase is None else np.isnan(phase[usable][:, broken])
        for u, reach in enumerate(self._reach if len(broken) else ()):
            here = np.flatnonzero(without[reach].any(axis=0) & ~without[u])
            frames = broken[here]
            part = np.concatenate([silent[np.ix_(reach, here)], without[np.ix_(reach, here)]])
            patterns, which = np.unique(part, axis=1, return_inverse=True)
            for number, (gone, unknown) in enumerate(patterns.T.reshape(-1, 2, len(reach))):
                alive = np.ones(len(self.position), bool)
                alive[usable[reach[gone]]] = False
                known = np.ones(len(usable), bool)
                known[reach[unknown]] = False
                near, weight = self._weights(u, alive, known)
                at = frames[which.ravel() == number]
                found[:, u, at] = np.einsum("qan,ant->qt", weight, along[:, near][..., at])

    @cached_property
    def _reach(self) -> list[np.ndarray]:
        """Electrodes whose phase has a part in each one's derivatives."""
        wide = _doubled(self.rings[-1])
        return [
            np.unique(np.concatenate([wide[u], *(near[u] for near in self.rings)]))
            for u in range(len(wide))
        ]

    def _weights(
        self, u: int, alive: np.ndarray | None, known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours and the weights (divergence or curl, dimension, neighbour) of gradients.

        ``alive`` (electrode,) have a phase (None: all), ``known`` (usable,) a gradient; NaN if they
        do not suffice.
        """
        nothing = np.array([u]), np.full((2, len(self.axes), 1), np.nan)
        for ring in self.rings:
            near = ring[u][known[ring[u]]]
            weight = _solved(self._design(u, near, alive))
            if weight is not None:
                return near, weight
        return nothing

    @cached_property
    def _errors(self) -> np.ndarray:
        """Of each usable electrode where every electrode has a phase."""
        alive = np.ones(len(self.position), bool)
        return np.stack([self._error(u, alive) for u in range(len(self.operator.usable))])

    def _error(self, u: int, alive: np.ndarray) -> np.ndarray:
        """Gradient (dimension,) at ``u`` of unit dg_a/dx_b, (dimension, dimension^2)."""
        size = len(self.axes)
        error = self.operator.curvature_error(u, self.position, alive)
        error = np.einsum("ax,xij,bi,cj->abc", self.axes, error, self.axes, self.axes)
        return ((error + error.swapaxes(1, 2)) / 2).reshape(size, -1)

    def _design(self, u: int, near: np.ndarray, alive: np.ndarray | None) -> np.ndarray:
        """Gradients (dimension, neighbour, unknown) of unit g_a and dg_a/dx_b, a and b in order."""
        size = len(self.axes)
        usable = self.operator.usable
        offset = (self.position[usable[near]] - self.position[usable[u]]) @ self.axes.T
        design = np.zeros((size, len(near), size + size**2))
        if alive is None:
            design[:, :, size:] = self._errors[near].swapaxes(0, 1)
        else:
            for n, j in enumerate(near):
                design[:, n, size:] = self._error(j, alive)
        for a in range(size):
            design[a, :, a] = 1
            for b in range(size):
                design[a, :, size + size * a + b] += offset[:, b]
        return design


def _solved(design: np.ndarray) -> np.ndarray | None:
    """Weights (divergence or curl, dimension, neighbour); None if the design is singular."""
    size, count, unknowns = design.shape
    scale = np.abs(design[..., size:]).max(initial=0.0)
    if size * count < unknowns or scale == 0:
        return None
    flat = design.reshape(-1, unknowns) / np.append(np.ones(size), np.full(size**2, scale))
    left, value, right = np.linalg.svd(flat, full_matrices=False)
    if value[-1] < SINGULAR * value[0]:
        return None
    solve = ((right.T / value) @ left.T)[size:] / scale
    slope = solve.reshape(size, size, -1)
    curl = slope[1, 0] - slope[0, 1] if size == 2 else np.zeros_like(slope[0, 0])
    return np.stack([np.trace(slope), curl]).reshape(2, size, count)


def field_derivatives(electrodes: Electrodes) -> Derivatives:
    """The derivatives of gradients that ``gradient_operator(electrodes)`` gives."""
    operator = gradient_operator(electrodes)
    usable = operator.usable
    rank = np.full(len(electrodes), -1)
    rank[usable] = np.arange(len(usable))
    if isinstance(operator, LocalPlanes):
        near = [_ranked(rank, [i, *row]) for i, row in zip(usable, operator.neighbour, strict=True)]
        rings: tuple[list[np.ndarray], ...] = (near, _doubled(near))
    elif electrodes.linear:
        near = [_ranked(rank, [i, *operator.stencil[0, i].ravel()]) for i in usable]
        rings = (near, _doubled(near))
    else:
        assert electrodes.lattice is not None
        at = {tuple(node): i for i, node in enumerate(electrodes.lattice.tolist())}
        cross = np.array([(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)])
        square = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        rings = tuple(
            [
                _ranked(rank, [at.get(tuple(n), -1) for n in (node + around).tolist()])
                for node in electrodes.lattice[usable]
            ]
            for around in (cross, square)
        )
    axes = electrodes.axis[None] if electrodes.linear else np.eye(2)
    return Derivatives(operator, electrodes.position, axes, rings)


def _ranked(rank: np.ndarray, electrodes: list[int]) -> np.ndarray:
    """Places among the usable electrodes of those that are; -1 marks none."""
    found = [rank[i] for i in dict.fromkeys(electrodes) if i >= 0]
    return np.array([r for r in found if r >= 0], dtype=int)


def _doubled(near: list[np.ndarray]) -> list[np.ndarray]:
    """Neighbours and their neighbours."""
    return [np.unique(np.concatenate([near[j] for j in own])) for own in near]
