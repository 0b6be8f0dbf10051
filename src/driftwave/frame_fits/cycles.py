"""One pattern per cycle: its centre by the extremum of divergence or curl, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from driftwave.frame_fits.centre_ascent import Kind, ascend_centres
from driftwave.frame_fits.circular_correlation import (
    circular_circular,
    circular_linear,
    radial_fit,
)
from driftwave.frame_fits.circular_plane import PlaneFitter, plane_fitter
from driftwave.frame_fits.stream import Measures, Piece
from driftwave.phase.derivatives import Derivatives, field_derivatives
from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import GridGradient, LocalPlanes, frequency, gradient_operator

ITERATIONS = 4
NEARBY = 1.6


def cycle_patterns(signal: np.ndarray) -> np.ndarray:
    """The pattern c_n of z_n(t) ~ c_n s(t) in each window, by power iteration.

    It needs no reference phase, which the mean over electrodes of a rotating wave does not have.

    Parameters
    ----------
    signal : ndarray, complex (window, electrode, frame)

    Returns
    -------
    ndarray, complex (window, electrode)
        The leading singular vector, of arbitrary phase.
    """
    strongest = np.argmax((np.abs(signal) ** 2).sum(axis=-1), axis=-1)
    course = signal[np.arange(len(signal)), strongest].conj()[..., None]
    for _ in range(ITERATIONS):
        pattern = signal @ course
        size = np.linalg.norm(pattern, axis=1, keepdims=True)
        pattern /= np.maximum(size, np.finfo(np.float32).tiny)
        course = signal.conj().swapaxes(1, 2) @ pattern
    return pattern[..., 0]


@dataclass(frozen=True)
class CentreFits:
    """Fits a source or a rotation to each window of a piece.

    Attributes
    ----------
    electrodes : Electrodes
    kind : {"radial", "rotating"}
    window : int
        Frames.
    operator, derivatives
        Phase gradient and its divergence and curl.
    kernel, near : sparse array (usable, usable)
        Gaussian weights that smooth the gradient; electrodes beside each other.
    fitter : PlaneFitter
        What a plane explains, for comparison.
    """

    electrodes: Electrodes
    kind: Kind
    window: int
    operator: GridGradient | LocalPlanes
    derivatives: Derivatives
    kernel: sparse.csr_array
    near: sparse.csr_array
    fitter: PlaneFitter

    def __call__(self, piece: Piece) -> Measures:
        count = piece.signal.shape[1] // self.window
        kept = piece.signal[:, : count * self.window]
        split = kept.reshape(len(kept), count, self.window).transpose(1, 0, 2)
        pattern = cycle_patterns(split)
        rhythm = frequency(np.angle(kept), piece.rate).reshape(count, self.window).mean(axis=1)
        valid = piece.valid[: count * self.window].reshape(count, self.window).all(axis=1)
        first = (piece.first + np.arange(count) * self.window).astype(np.int64)
        found = self.fit(pattern)
        return found | {"first": first, "valid": valid, "frequency": rhythm}

    def fit(self, pattern: np.ndarray) -> Measures:
        """Centre, signed correlation and resultants of patterns (window, electrode)."""
        unit = pattern / np.maximum(np.abs(pattern), np.finfo(np.float32).tiny)
        _, plane = self.fitter(unit.T)
        field = self._field(np.angle(pattern).T)
        position = self.electrodes.position
        # Noise makes the larger extremum the wrong one now and then: both are followed.
        (fitted, resultant), (other, rival) = (self._ascend(unit, field, s) for s in (1, -1))
        worse = rival > resultant
        fitted = np.where(worse[:, None], other, fitted)
        resultant = np.maximum(resultant, rival)
        away = position - fitted[:, None, :2]
        phase = np.angle(pattern)
        if self.kind == "radial":
            rho = circular_linear(phase, np.hypot(away[..., 0], away[..., 1]))
            rho = np.sign(fitted[:, 2]) * rho
        else:
            rho = -circular_circular(phase, np.arctan2(away[..., 1], away[..., 0]))
            fitted[:, 2] = np.nan
        # A plane correlates with distance from any remote point: it must not explain more.
        score = np.where(resultant > plane, rho, 0.0)
        return {
            "x": fitted[:, 0],
            "y": fitted[:, 1],
            "rho": rho,
            "score": score,
            "resultant": resultant,
            "plane": plane,
            "kappa": fitted[:, 2],
        }

    def _field(self, phase: np.ndarray) -> np.ndarray:
        """Divergence or curl (window, usable) of the wave's smoothed direction -grad phi.

        Positive where it expands, or turns counter-clockwise.
        """
        gradient = -self.operator(phase)
        if self.kind == "rotating":
            size = np.hypot(gradient[0], gradient[1])
            gradient = gradient / np.maximum(size, np.finfo(size.dtype).tiny)
        smooth = np.stack([self.kernel @ part for part in gradient]).astype(phase.dtype)
        divergence, curl = self.derivatives(smooth)
        return np.nan_to_num(divergence if self.kind == "radial" else curl).T

    def _ascend(
        self, unit: np.ndarray, field: np.ndarray, sign: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centre and kappa (or charge) (window, 3) from the extremum of one sign, and resultant."""
        start = self._extremum(sign * field)
        position, pitch = self.electrodes.position, self.electrodes.pitch
        last = np.full(len(start), float(sign))
        if self.kind == "radial":
            away = position - start[:, None]
            distance = np.hypot(away[..., 0], away[..., 1])
            last, _ = radial_fit(unit, distance, largest=self.electrodes.nyquist)
        return ascend_centres(
            self.kind,
            unit,
            np.column_stack([start, last]),
            position,
            pitch=pitch,
            bounds=(position.min(axis=0) - pitch, position.max(axis=0) + pitch),
        )

    def _extremum(self, field: np.ndarray) -> np.ndarray:
        """Centre (window, 2), mm, of the largest value of a field (window, usable)."""
        peak = np.argmax(field, axis=1)
        # The extremum's neighbours place it between electrodes.
        beside = self.near[peak].toarray() * np.maximum(field, 0)
        beside[np.arange(len(field)), peak] += 1e-12
        position = self.electrodes.position[self.operator.usable]
        return (beside @ position) / beside.sum(axis=1, keepdims=True)


def gaussian_kernel(position: np.ndarray, width: float) -> sparse.csr_array:
    """Weights (place, place) that average over a Gaussian of SD ``width`` (mm), cut at 3 SD."""
    tree = cKDTree(position)
    apart = tree.sparse_distance_matrix(tree, 3 * width, output_type="ndarray")
    weight = np.exp(-(apart["v"] ** 2) / (2 * width**2))
    shape = (len(position), len(position))
    kernel = sparse.csr_array((weight, (apart["i"], apart["j"])), shape=shape)
    return sparse.csr_array(sparse.diags_array(1 / kernel.sum(axis=1)) @ kernel)


def centre_fits(electrodes: Electrodes, kind: Kind, *, window: int, smoothing: float) -> CentreFits:
    """Prepare the fits for a layout; ``smoothing`` is the Gaussian's SD in pitches."""
    operator = gradient_operator(electrodes)
    position = electrodes.position[operator.usable]
    tree = cKDTree(position)
    apart = tree.sparse_distance_matrix(tree, NEARBY * electrodes.pitch, output_type="ndarray")
    row, column = apart["i"], apart["j"]
    shape = (len(position), len(position))
    return CentreFits(
        electrodes=electrodes,
        kind=kind,
        window=window,
        operator=operator,
        derivatives=field_derivatives(electrodes),
        kernel=gaussian_kernel(position, smoothing * electrodes.pitch),
        near=sparse.csr_array((np.ones(len(row)), (row, column)), shape=shape),
        fitter=plane_fitter(electrodes),
    )
