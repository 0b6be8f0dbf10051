"""Group velocity: a plane through the delays between electrodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from driftwave.phase.frames import FieldReader

PAPER = "Martinet et al. 2017, Nat Commun 8:14896"
SEGMENT = 10.0
BANDWIDTH = 1.0
MOST_SEGMENTS = 12
COHERENCE = 0.6
FEWEST_FREQUENCIES = 4
HUBER = 1.345


@dataclass(frozen=True)
class DelayPlane:
    """Plane fit to delays over a whole recording.

    Attributes
    ----------
    slowness : ndarray (2,)
        s/mm; the group travels along it at 1 / |slowness|.
    r_squared : float
    drawn : ndarray (draw, 2)
        Bootstrap over segments and tapers.
    delay : ndarray (electrode,)
        s, relative to the mean.
    """

    slowness: np.ndarray
    r_squared: float
    drawn: np.ndarray
    delay: np.ndarray


def tapered_spectra(
    reader: FieldReader, band: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Multitaper coefficients (frequency, electrode, segment x taper) and frequencies (Hz).

    Up to 12 segments of 10 s, spread evenly, with tapers of 1 Hz half-bandwidth.
    """
    rate, total = reader.sampling_rate, reader.lfp.sizes["time"]
    length = min(total, round(SEGMENT * rate))
    half = BANDWIDTH * length / rate
    tapers = signal.windows.dpss(length, half, Kmax=max(1, int(2 * half) - 1))
    number = min(MOST_SEGMENTS, max(1, total // length))
    starts = np.linspace(0, total - length, number).round().astype(int)
    frequency = np.arange(band[0], band[1] + BANDWIDTH / 2, BANDWIDTH)
    carrier = np.exp(-2j * np.pi * frequency[:, None] * np.arange(length) / rate)
    kernel = (carrier[:, None] * tapers).reshape(-1, length)
    spectra = []
    for start in starts:
        block = reader.lfp[start : start + length].values[:, reader.electrodes.index]
        block = block - block.mean(axis=0)
        spectra.append((kernel @ block).reshape(len(frequency), len(tapers), -1))
    return np.concatenate(spectra, axis=1).transpose(0, 2, 1), frequency


def pair_delays(spectra: np.ndarray, frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Delay of each electrode behind each other one from the slope of their phase.

    The phase of the cross-spectrum is unwrapped over frequency and regressed on it (with an
    intercept) where the coherence exceeds 0.6.

    Returns
    -------
    delay : ndarray (electrode, electrode)
        s; positive where the row lags the column.
    weight : ndarray (electrode, electrode)
        Zero where fewer than four frequencies are coherent.
    """
    cross = spectra @ spectra.conj().swapaxes(1, 2)
    power = np.einsum("fnn->fn", cross).real
    coherence = np.abs(cross) / np.sqrt(power[:, :, None] * power[:, None, :])
    weight = (coherence > COHERENCE).astype(float)
    phase = np.unwrap(np.angle(cross), axis=0)
    omega = 2 * np.pi * frequency[:, None, None]
    total = np.maximum(weight.sum(axis=0), 1e-12)
    deviation = omega - (weight * omega).sum(axis=0) / total
    spread = (weight * deviation**2).sum(axis=0)
    slope = (weight * deviation * phase).sum(axis=0) / np.maximum(spread, 1e-12)
    used = (weight > 0).sum(axis=0) >= FEWEST_FREQUENCIES
    np.fill_diagonal(used, False)
    return -slope, np.where(used, spread, 0.0)


def robust_plane(
    position: np.ndarray, delay: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """Huber regression of delay (electrode,) on position; slowness (2,) in s/mm and R squared."""
    design = np.column_stack([position - position.mean(axis=0), np.ones(len(position))])
    robust = np.ones(len(delay))
    solution = np.zeros(3)
    for _ in range(30):
        root = np.sqrt(weight * robust)
        solution = np.linalg.lstsq(design * root[:, None], delay * root, rcond=None)[0]
        residual = np.abs(delay - design @ solution)
        scale = max(1.4826 * float(np.median(residual)), 1e-12)
        robust = np.minimum(1, HUBER * scale / np.maximum(residual, 1e-15))
    centred = delay - np.average(delay, weights=weight)
    error = (weight * (delay - design @ solution) ** 2).sum()
    return solution[:2], float(1 - error / (weight * centred**2).sum())


def _plane(
    position: np.ndarray, spectra: np.ndarray, frequency: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray] | None:
    delay, weight = pair_delays(spectra, frequency)
    total = weight.sum(axis=1)
    seen = total > 0
    if seen.sum() < 4:
        return None
    relative = np.full(len(position), np.nan)
    relative[seen] = (weight * delay).sum(axis=1)[seen] / total[seen]
    slowness, r_squared = robust_plane(position[seen], relative[seen], total[seen])
    return slowness, r_squared, relative


def delay_plane(
    reader: FieldReader, band: tuple[float, float], *, draws: int, rng: np.random.Generator
) -> DelayPlane | None:
    """Group velocity over a whole recording; None where too few electrodes are coherent.

    Parameters
    ----------
    reader : FieldReader
    band : (low, high)
        Frequencies whose phase slope gives the delays, Hz.
    draws : int
        Bootstrap resamples of segments and tapers.
    """
    spectra, frequency = tapered_spectra(reader, band)
    position = reader.electrodes.position
    found = _plane(position, spectra, frequency)
    if found is None:
        return None
    count = spectra.shape[-1]
    drawn = []
    for _ in range(draws):
        again = _plane(position, spectra[..., rng.integers(0, count, count)], frequency)
        drawn.append(again[0] if again else np.full(2, np.nan))
    return DelayPlane(found[0], found[1], np.array(drawn).reshape(-1, 2), found[2])
