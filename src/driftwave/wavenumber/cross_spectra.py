"""Multitaper cross-spectra of a recording's field, segment by segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import fft, signal
from scipy.ndimage import uniform_filter1d

from driftwave.errors import InputError
from driftwave.phase.electrodes import Electrodes, place

# Time-bandwidth product and number of tapers: half the bandwidth is BANDWIDTH / segment.
BANDWIDTH = 2.0
TAPERS = 3
# The bootstrap resamples this many blocks of segments.
BLOCKS = 40
# Larger arrays are averaged over squares: pairs of electrodes grow with their square.
MOST_PLACES = 144
FEWEST_SEGMENTS = 8


@dataclass(frozen=True)
class Places:
    """Electrodes, or means over squares of them, that spectra are of.

    Attributes
    ----------
    position : ndarray (place, 2)
        mm.
    mixing : ndarray, float32 (place, electrode)
        Rows sum to 1.
    electrodes : Electrodes
        The places as a layout.
    """

    position: np.ndarray
    mixing: np.ndarray
    electrodes: Electrodes


def places_of(electrodes: Electrodes) -> Places:
    """At most :data:`MOST_PLACES` places, one per electrode where there are no more."""
    position = electrodes.position
    count = len(position)
    if count <= MOST_PLACES:
        return Places(position, np.eye(count, dtype=np.float32), electrodes)
    low, extent = position.min(axis=0), np.ptp(position, axis=0)
    side = np.sqrt(np.prod(extent + electrodes.spacing) / MOST_PLACES)
    # Whole numbers of pitches, so that all squares of a grid hold as many electrodes.
    side = np.ceil(side / electrodes.spacing - 1e-9) * electrodes.spacing
    square = np.floor((position - low) / side + 1e-6).astype(int)
    _, member = np.unique(square, axis=0, return_inverse=True)
    mixing = np.zeros((member.max() + 1, count), np.float32)
    mixing[member.ravel(), np.arange(count)] = 1
    mixing /= mixing.sum(axis=1, keepdims=True)
    means = mixing.astype(float) @ position
    return Places(means, mixing, place(means))


@dataclass(frozen=True)
class CrossSpectra:
    """Multitaper cross-spectra.

    Attributes
    ----------
    frequency : ndarray (frequency,)
        Hz.
    mean : ndarray, complex (frequency, place, place)
        Signal unit^2 / Hz, one-sided.
    imaginary : ndarray, float32 (block, frequency, pair)
        Sum of the imaginary parts of pairs n < m over each block's segments.
    segments : ndarray of int (block,)
        Segments per block.
    freedom : ndarray (frequency,)
        Effective number of independent segments times tapers, fewer if power varies in time.
    bandwidth : float
        Half the bandwidth of the tapers, Hz.
    """

    frequency: np.ndarray
    mean: np.ndarray
    imaginary: np.ndarray
    segments: np.ndarray
    freedom: np.ndarray
    bandwidth: float


def cross_spectra(
    lfp: xr.DataArray,
    electrodes: Electrodes,
    places: Places,
    *,
    rate: float,
    band: tuple[float, float],
    segment: float,
    session: str,
) -> CrossSpectra:
    """Cross-spectra of all segments whose samples are finite.

    Parameters
    ----------
    lfp : DataArray (time, electrode)
        Lazy; read one segment at a time.
    electrodes, places : Electrodes, Places
    rate : float
        Hz.
    band : (low, high)
        Hz.
    segment : float
        s; segments do not overlap, so that they are independent.
    session : str
        Named in errors.

    Raises
    ------
    InputError
        Fewer than eight segments without gaps.
    """
    length = round(segment * rate)
    frequency = fft.rfftfreq(length, 1 / rate)
    bins = np.flatnonzero((frequency >= band[0]) & (frequency <= band[1]))
    tapers = signal.windows.dpss(length, BANDWIDTH, TAPERS).astype(np.float32)
    starts = range(0, lfp.sizes["time"] - length + 1, length)
    blocks = max(1, min(BLOCKS, len(starts)))
    count = len(places.position)
    upper = np.triu_indices(count, 1)
    total = np.zeros((len(bins), count, count), complex)
    imaginary = np.zeros((blocks, len(bins), len(upper[0])), np.float32)
    segments = np.zeros(blocks, int)
    power = []
    for number, start in enumerate(starts):
        block = lfp[start : start + length].values[:, electrodes.index]
        if not np.isfinite(block).all():
            continue
        block = places.mixing @ block.T.astype(np.float32)
        block = signal.detrend(block, axis=-1)
        spectrum = fft.rfft(block[None] * tapers[:, None], axis=-1)[..., bins]
        spectrum = np.ascontiguousarray(spectrum.transpose(2, 1, 0))
        here = spectrum @ spectrum.conj().swapaxes(1, 2) * (2 / (rate * TAPERS))
        total += here
        which = number * blocks // len(starts)
        imaginary[which] += here.imag[:, upper[0], upper[1]]
        segments[which] += 1
        power.append(np.trace(here.real, axis1=1, axis2=2))
    if segments.sum() < FEWEST_SEGMENTS:
        raise InputError(
            file=session,
            field="field/lfp",
            found=f"{segments.sum()} segments of {segment:g} s without missing samples",
            expected=f"at least {FEWEST_SEGMENTS}",
            fix="Lower `segment`, or leave wavenumber_frequency out for this session",
        )
    used = segments > 0
    return CrossSpectra(
        frequency[bins],
        total / segments.sum(),
        imaginary[used],
        segments[used],
        _freedom(np.array(power), BANDWIDTH),
        BANDWIDTH / segment,
    )


def _freedom(power: np.ndarray, bandwidth: float) -> np.ndarray:
    """(sum p)^2 / sum p^2 of segments' power (segment, frequency), times tapers.

    Power is averaged over a few bandwidths first: what is left of its variation is that of the
    signal, not chance.
    """
    width = 1 + 2 * round(3 * bandwidth)
    smooth = uniform_filter1d(power, width, axis=1, mode="nearest")
    share = smooth / np.maximum(smooth.sum(axis=0), np.finfo(float).tiny)
    return np.maximum(TAPERS / (share**2).sum(axis=0), TAPERS)
