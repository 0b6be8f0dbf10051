"""Errors of a wave's fitted parameters: from whitened residuals, or by resampling cycles."""

from __future__ import annotations

import numpy as np
from scipy import stats

from driftwave.wave_events.fitting import Point, Weights
from driftwave.wave_events.plane import plane_phase
from driftwave.wave_events.resultant import ascend
from driftwave.wave_events.shapes import centred, planes
from driftwave.wave_events.verdict import CHARGES, CURVED, Prepared

QUANTILES = (0.025, 0.975)


def parameter_covariance(
    name: str,
    parameters: np.ndarray,
    position: np.ndarray,
    prepared: Prepared,
    values: np.ndarray,
    closest: float,
) -> np.ndarray:
    """Covariance of a plane's k, or of a centre and wavenumber (x, y, kappa), at their fit.

    (s^2 / 2) H^-1 with the curvature H of generalised least squares and s^2 the mean square of
    whitened residuals: right where the noise's covariance is, whatever its scale.

    Parameters
    ----------
    name : str
        A class, not of standing waves; a spiral's charge does not matter to its name here.
    parameters : ndarray (parameter,)
        Relative to the origin of ``position``.
    position : ndarray (electrode, 2)
        mm.
    prepared : Prepared
        Of the layout, in the noise.
    values : ndarray, complex (electrode, snapshot)
    closest : float
        mm.
    """
    weights = Weights(prepared.whitening.weights.inverse[:1])
    scaled = values / prepared.whitening.scale[:, None]
    weighted = weights(scaled.T[None]).swapaxes(1, 2)
    if name == "planar":
        shape = planes(position)
    else:
        charge = next(q for f, q in zip(CURVED, CHARGES, strict=True) if f.startswith(name))
        shape = centred(position, np.array([charge]), closest)
    point = Point.at(shape(parameters[None, None]), weights, weighted)
    energy = float(np.real(scaled.conj() * weighted[0]).sum())
    free = max(scaled.size - scaled.shape[1] - 1, 1)
    scale = max(energy - float(point.power[0, 0]), 0) / free
    curvature = point.curvature[0, 0]
    value, vector = np.linalg.eigh(curvature)
    # Directions that leave the fit as it is, such as across a line of electrodes, are held.
    loose = value > 1e-9 * np.trace(curvature)
    along = vector[:, loose]
    return scale / 2 * (along / value[loose]) @ along.T


def plane_spread(
    k: np.ndarray, covariance: np.ndarray, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a plane's direction and |k| for normal errors of k.

    Returns as :func:`plane_interval` does.
    """
    drawn = rng.multivariate_normal(k, covariance, size=max(draws, 1000), method="eigh")
    product = (drawn[:, 0] + 1j * drawn[:, 1]) * np.conj(k[0] + 1j * k[1])
    return np.quantile(np.angle(product), QUANTILES), np.quantile(np.hypot(*drawn.T), QUANTILES)


def plane_interval(
    k: np.ndarray, position: np.ndarray, parts: np.ndarray, rng: np.random.Generator, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap over cycles of a plane wave's direction and wavenumber.

    Deviations are widened by Student's factor for the number of cycles, as the percentile interval
    of so few is too narrow (88 % instead of 95 % at 12 cycles).

    Returns
    -------
    turn : ndarray (2,)
        2.5 and 97.5 % quantiles of the deviation of direction, rad.
    size : ndarray (2,)
        The same quantiles of |k|, rad/mm.
    """
    cycles = len(parts)
    counts = rng.multinomial(cycles, np.full(cycles, 1 / cycles), size=draws).astype(float)
    values = np.einsum("bc,cns->bns", counts, parts, optimize=True)
    start = np.repeat(k[None], draws, axis=0)
    drawn, _ = ascend(plane_phase, start, position, values, steps=6)
    product = (drawn[:, 0] + 1j * drawn[:, 1]) * np.conj(k[0] + 1j * k[1])
    widen = np.sqrt(cycles / max(cycles - 1, 1)) * stats.t.ppf(0.975, max(cycles - 1, 1))
    widen /= stats.norm.ppf(0.975)
    size = float(np.hypot(*k))
    deviation = np.log(np.maximum(np.hypot(*drawn.T), 1e-12) / max(size, 1e-12))
    turn = np.clip(widen * np.quantile(np.angle(product), QUANTILES), -np.pi, np.pi)
    return turn, size * np.exp(widen * np.quantile(deviation, QUANTILES))
