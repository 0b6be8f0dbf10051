"""Intervals of a wave's direction, speed and centre from the standard errors of its loading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.phase.gradient import wrap
from driftwave.wave_events.patterns import Pattern
from driftwave.wave_events.resultant import ascend

LEVEL = 0.95
DRAWS = 400
# Newton steps of each fit: they start close to where they end.
STEPS = 5
BOUNDED = ("direction", "speed", "wavelength", "wavenumber", "centre_x", "centre_y")


@dataclass(frozen=True)
class LoadingErrors:
    """Normal errors of one oscillator's loading and frequency.

    Attributes
    ----------
    real, imaginary : ndarray (electrode,)
        Standard errors of Re c and Im c, in the loading's unit.
    factor : ndarray (electrode, electrode)
        F, with F F' the correlation of errors between electrodes.
    frequency : float
        Standard error of the frequency, Hz.
    joint : ndarray (2 x electrode, error), optional
        G, with G G' the covariance of the errors of Re c, then Im c; in place of the others.
    """

    real: np.ndarray
    imaginary: np.ndarray
    factor: np.ndarray
    frequency: float
    joint: np.ndarray | None = None

    def draw(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Errors of the loading, complex (draw, electrode)."""
        if self.joint is not None:
            both = rng.standard_normal((draws, self.joint.shape[1])) @ self.joint.T
            return both[:, : len(self.real)] + 1j * both[:, len(self.real) :]
        noise = rng.standard_normal((2, draws, len(self.factor))) @ self.factor.T
        return noise[0] * self.real + 1j * noise[1] * self.imaginary


def wave_intervals(
    family: Pattern,
    fitted: np.ndarray,
    position: np.ndarray,
    loading: np.ndarray,
    frequency: float,
    errors: LoadingErrors,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of a wave's parameters by a parametric bootstrap.

    The pattern is fitted again to loadings with errors added, each fit from the one found, so that
    the intervals hold the errors of estimation but not a pattern's misfit.

    Parameters
    ----------
    family : Pattern
    fitted : ndarray (parameter,)
        Of the loading as it is; centres relative to the origin of ``position``.
    position : ndarray (electrode, 2)
        mm, as the family was made for.
    loading : ndarray, complex (electrode,)
    frequency : float
        Hz.
    errors : LoadingErrors
    rng : Generator
    draws : int

    Returns
    -------
    dict of str to (low, high)
        Those of :data:`BOUNDED` that the pattern has. Of ``direction`` (degree, in [-180, 180))
        the interval runs counter-clockwise from low to high, across the seam where low > high.
    """
    if family.name == "synchronous":
        return {}
    drawn = loading + errors.draw(draws, rng)
    values = (np.abs(drawn) * drawn)[:, :, None]
    start = np.repeat(fitted[None], draws, axis=0)
    found, _ = ascend(family.theta, start, position, values, bounds=family.bounds, steps=STEPS)
    hertz = frequency + errors.frequency * rng.standard_normal(draws)
    if family.name == "planar":
        angle = np.arctan2(found[:, 1], found[:, 0])
        here = np.arctan2(fitted[1], fitted[0])
        edges = here + np.array(_quantiles(wrap(angle - here)))
        low, high = np.degrees(wrap(edges))
        return {"direction": (float(low), float(high))} | _sizes(np.hypot(*found.T), hertz)
    centre = {"centre_x": _quantiles(found[:, 0]), "centre_y": _quantiles(found[:, 1])}
    if family.name.startswith("radial"):
        return centre | _sizes(np.abs(found[:, 2]), hertz)
    return centre


def _sizes(wavenumber: np.ndarray, frequency: np.ndarray) -> dict[str, tuple[float, float]]:
    wavelength = 2 * np.pi / np.maximum(wavenumber, 1e-9)
    return {
        "wavenumber": _quantiles(wavenumber),
        "wavelength": _quantiles(wavelength),
        "speed": _quantiles(wavelength * frequency),
    }


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
