"""Standing waves in cross-spectra: one map with two polarities, at a rhythm of its own.

A standing wave cos(k.r + c) cos(omega t) has a real cross-spectrum of rank one, as any source has
whose map is shared without lags. What tells it from those is the map itself: that of the rhythm,
the first eigenvector of Re S(f) less its mean at the flanking frequencies, is a cosine of
position with both polarities. The share of the map's power that a cosine takes,
R^2(k) = |projection onto (cos k.r, sin k.r)|^2, is compared with maps whose electrodes are
shuffled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from driftwave.wavenumber.cross_spectra import CrossSpectra
from driftwave.wavenumber.travelling import Beams

# What a map must be like: its share of the rhythm's power, of itself that a cosine takes, and of
# its power in the weaker polarity.
DOMINANT = 0.5
COSINE = 0.8
POLARITY = 0.1
# A rhythm stands this much above its flanks.
ABOVE = 0.2


@dataclass(frozen=True)
class StandingWave:
    """A standing wave.

    Attributes
    ----------
    bin : int
    wavenumber : ndarray (2,)
        rad/mm; k and -k are the same.
    share : float
        Of the map's power that a cosine takes.
    p : float
        Against maps whose electrodes are shuffled.
    """

    bin: int
    wavenumber: np.ndarray
    share: float
    p: float


def standing_waves(
    spectra: CrossSpectra,
    beams: Beams,
    travelling: np.ndarray,
    *,
    shuffles: int,
    level: float,
    rng: np.random.Generator,
) -> list[StandingWave]:
    """Standing waves at rhythms that do not travel.

    Parameters
    ----------
    spectra : CrossSpectra
    beams : Beams
    travelling : ndarray of bool (frequency,)
        Frequencies of travelling waves, left out.
    shuffles : int
    level : float
        p, times the number of rhythms, at which a wave is listed.
    rng : Generator
    """
    basis = np.stack([_basis(k, beams.position) for k in beams.wavenumber])
    found = []
    rhythms = [(i, excess) for i, excess in _rhythms(spectra) if not travelling[i]]
    for i, excess in rhythms:
        value, vector = np.linalg.eigh(excess)
        topography = vector[:, -1]
        if value[-1] < DOMINANT * value[value > 0].sum() or _weaker(topography) < POLARITY:
            continue
        share = _shares(basis, topography[None])[0]
        k = _refined(topography, beams.wavenumber[share.argmax()], beams.position)
        largest = _share(k, topography, beams.position)
        shuffled = np.stack([rng.permutation(topography) for _ in range(shuffles)])
        null = _shares(basis, shuffled).max(axis=1)
        p = min(1.0, len(rhythms) * (1 + (null >= largest).sum()) / (shuffles + 1))
        if largest >= COSINE and p <= level:
            found.append(StandingWave(i, k, largest, float(p)))
    return found


def _rhythms(spectra: CrossSpectra) -> list[tuple[int, np.ndarray]]:
    """Bins of spectral peaks and the real cross-spectrum in excess of their flanks."""
    step = float(np.diff(spectra.frequency).mean())
    width = max(1, round(2 * spectra.bandwidth / step))
    real = spectra.mean.real
    power = np.trace(real, axis1=1, axis2=2)
    found = []
    for i in range(len(real)):
        near = power[max(0, i - width) : i + width + 1]
        flank = [j for j in (i - width, i + width) if 0 <= j < len(real)]
        if power[i] < near.max() or not flank:
            continue
        excess = real[i] - real[flank].mean(axis=0)
        if np.trace(excess) > ABOVE * power[flank].mean():
            found.append((i, excess))
    return found


def _basis(wavenumber: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Orthonormal (2, place) for cosines of a wavenumber, whatever their phase."""
    angle = position @ wavenumber
    return np.linalg.qr(np.stack([np.cos(angle), np.sin(angle)], axis=1))[0].T


def _shares(basis: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Share of each map's power (map, beam) that a cosine takes."""
    return (np.einsum("kcn,mn->mkc", basis, maps) ** 2).sum(axis=-1)


def _share(wavenumber: np.ndarray, topography: np.ndarray, position: np.ndarray) -> float:
    return float(((_basis(wavenumber, position) @ topography) ** 2).sum())


def _refined(topography: np.ndarray, start: np.ndarray, position: np.ndarray) -> np.ndarray:
    size = float(np.hypot(*start))
    result = minimize(
        lambda k: -_share(k * size, topography, position), start / size, method="Nelder-Mead"
    )
    return np.asarray(result.x) * size


def _weaker(topography: np.ndarray) -> float:
    """Share of a map's power in the weaker of its polarities."""
    power = topography**2
    positive = float(power[topography > 0].sum() / power.sum())
    return min(positive, 1 - positive)
