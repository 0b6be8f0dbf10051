"""Plane waves frame by frame: the wavevector that maximises the resultant, for many frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.phase.electrodes import Electrodes

PAPER = "Zhang et al. 2018, Neuron 98:1269"
BLOCK = 2048
MOST_SEARCHED = 256
# The main lobe of R(k) reaches 2 pi / extent to either side: Newton's method needs a start in its
# inner half.
SPACING = 1.25
STEPS = 7


@dataclass(frozen=True)
class PlaneFitter:
    """Fits phi = phi_0 - k.r to every frame.

    Attributes
    ----------
    position : ndarray, float32 (electrode, 2)
        Along ``axes``, relative to the centroid, mm.
    grid : ndarray (candidate, 2)
        Wavevectors searched, rad/mm.
    dictionary : ndarray, complex64 (candidate, searched electrode)
        e^{i k.r}.
    searched : ndarray of int (searched electrode,)
        Electrodes the search uses; the refinement uses all.
    largest, step : float
        Largest |k| and the grid's spacing, rad/mm.
    axes : ndarray (2, 2)
        Unit vectors (rows) along which positions and the grid are given; on a probe, whose
        electrodes stand on one line, the first is the line's and k has no component across it.
    """

    position: np.ndarray
    grid: np.ndarray
    dictionary: np.ndarray
    searched: np.ndarray
    largest: float
    step: float
    axes: np.ndarray

    def __call__(self, unit: np.ndarray, *, refine: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Maximise R(k) = |1/N sum_n e^{i (phi_n + k.r_n)}| frame by frame.

        Parameters
        ----------
        unit : ndarray, complex (electrode, frame)
            e^{i phi}.
        refine : bool
            Whether Newton's method follows the search; the grid alone leaves an error of its
            spacing.

        Returns
        -------
        k : ndarray (frame, 2)
            rad/mm; the wave moves towards +k.
        resultant : ndarray (frame,)
            R there, between 0 and 1.
        """
        count = unit.shape[1]
        k, resultant = np.empty((count, 2)), np.empty(count)
        for start in range(0, count, BLOCK):
            block = np.ascontiguousarray(unit[:, start : start + BLOCK], dtype=np.complex64)
            product = self.dictionary @ block[self.searched]
            power = product.real**2
            power += product.imag**2
            first = self.grid[np.argmax(power, axis=0)]
            here = slice(start, start + block.shape[1])
            k[here], resultant[here] = self._ascend(first, block, STEPS if refine else 1)
        return k @ self.axes, resultant

    def _moments(self, k: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Sums of (1, x, y, xx, xy, yy) e^{i (phi + k.r)} over electrodes, (6, frame)."""
        x, y = self.position.T
        theta = self.position @ k.T.astype(np.float32)
        turned = np.empty(theta.shape, np.complex64)
        turned.real, turned.imag = np.cos(theta), np.sin(theta)
        turned *= unit
        return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]) @ turned

    def _ascend(
        self, start: np.ndarray, unit: np.ndarray, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Newton ascent of |sum|^2; a step that does not climb, or leaves the disc, is cut."""
        best, step = start.copy(), np.zeros_like(start)
        power = np.full(len(start), -1.0)
        for _ in range(steps):
            there = best + step
            moments = self._moments(there, unit).astype(complex)
            value = np.abs(moments[0]) ** 2
            inside = (there**2).sum(axis=1) <= (1 + 1e-6) * self.largest**2
            climbs = (value >= power) & inside
            fresh = _newton_step(moments, self.step)
            best = np.where(climbs[:, None], there, best)
            power = np.where(climbs, value, power)
            step = np.where(climbs[:, None], fresh, step / 4)
        return best, np.sqrt(power) / len(unit)


def plane_fitter(electrodes: Electrodes, largest: float | None = None) -> PlaneFitter:
    """Search grid for a layout; ``largest`` |k| defaults to the spatial Nyquist, pi / pitch.

    On more than 256 electrodes the search uses that many, drawn at random (a regular subset would
    alias), always the same.
    """
    largest = electrodes.nyquist if largest is None else largest
    axes = electrodes.basis if electrodes.linear else np.eye(2)
    position = (electrodes.position - electrodes.position.mean(axis=0)) @ axes.T
    if electrodes.linear:
        position[:, 1] = 0.0
    step = min(np.pi / (SPACING * float(np.ptp(position, axis=0).max())), largest)
    wavevectors = _grid(int(largest / step + 1e-9), step, linear=electrodes.linear)
    searched = np.arange(len(position))
    if len(position) > MOST_SEARCHED:
        rng = np.random.default_rng(0)
        searched = np.sort(rng.choice(len(position), MOST_SEARCHED, replace=False))
    dictionary = np.exp(1j * (wavevectors @ position[searched].T)).astype(np.complex64)
    flat = position.astype(np.float32)
    return PlaneFitter(flat, wavevectors, dictionary, searched, largest, step, axes)


def _grid(rings: int, step: float, *, linear: bool) -> np.ndarray:
    """Wavevectors (candidate, 2): zero and rings ``step`` apart, as dense along as across."""
    grid = [np.zeros((1, 2))]
    for ring in range(1, rings + 1):
        count = 2 if linear else max(8, int(np.ceil(2 * np.pi * ring)))
        angle = (np.arange(count) + (0 if linear else 0.5 * (ring % 2))) * 2 * np.pi / count
        grid.append(ring * step * np.column_stack([np.cos(angle), np.sin(angle)]))
    return np.concatenate(grid)


def _newton_step(moments: np.ndarray, longest: float) -> np.ndarray:
    """Newton step (frame, 2) of |T|^2, its curvature made negative, no longer than ``longest``."""
    total, mx, my, mxx, mxy, myy = moments
    back = total.conj()
    gx, gy = 2 * np.real(back * 1j * mx), 2 * np.real(back * 1j * my)
    hxx = 2 * (np.abs(mx) ** 2 - np.real(back * mxx))
    hyy = 2 * (np.abs(my) ** 2 - np.real(back * myy))
    hxy = 2 * (np.real(mx.conj() * my) - np.real(back * mxy))
    half, mean = np.hypot((hxx - hyy) / 2, hxy), (hxx + hyy) / 2
    # Eigenvalues are mean +- half; where the larger is not negative both are moved down.
    top, size = mean + half, half + np.abs(mean)
    flat = not myy.any()  # all on one line: no curvature across it
    shift = np.where((top >= 0) & ~(flat & (hxx < 0)), top + 0.25 * size, 0.0)
    hxx, hyy = hxx - shift, hyy - shift - flat * size
    determinant = hxx * hyy - hxy**2
    determinant = np.where(np.abs(determinant) > 1e-30, determinant, 1e-30)
    step = -np.column_stack([hyy * gx - hxy * gy, hxx * gy - hxy * gx]) / determinant[:, None]
    length = np.hypot(*step.T)
    return step * np.minimum(1, longest / np.maximum(length, 1e-30))[:, None]
