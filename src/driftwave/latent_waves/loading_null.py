"""Whether the field about an oscillator's frequency travels, against zero-lag surrogates."""

from __future__ import annotations

import dask
import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.nulls.surrogates import (
    CrossSpectrum,
    benjamini_hochberg,
    power_course,
    stretches,
    zero_lag_factors,
)
from driftwave.phase.directionality import Directionality
from driftwave.phase.frames import FieldReader
from driftwave.phase.passes import Frames

COURSE = 0.5


def near(frequency: np.ndarray, width: float, rate: float, length: int) -> list[np.ndarray]:
    """Bins of a spectrum of ``length`` samples at ``rate`` (Hz) within ``width`` of each (Hz)."""
    axis = np.arange(length) * rate / length
    return [np.flatnonzero(np.abs(axis - f) <= width) for f in frequency]


def lag_statistics(
    cross: np.ndarray, bands: list[np.ndarray], measure: Directionality
) -> np.ndarray:
    """Asymmetry and PGD (statistic, band) of a cross-spectrum (frequency, electrode, electrode)."""
    result = np.full((2, len(bands)), np.nan)
    for number, band in enumerate(bands):
        matrix = cross[band].mean(axis=0)
        if not len(band):
            continue
        lagged = np.linalg.eigvalsh(1j * matrix.imag)
        result[0, number] = lagged[-1] / np.trace(matrix).real
        _, vectors = np.linalg.eigh(matrix)
        result[1, number] = measure(vectors[:, -1:]).statistic()[0, 0]
    return result


def null_table(
    reader: FieldReader,
    frames: Frames,
    measure: Directionality,
    frequency: np.ndarray,
    *,
    width: float,
    surrogates: int,
    chunk: float,
    seed: int,
) -> xr.Dataset:
    """Asymmetry and PGD of the cross-spectrum about each frequency, with p and q values.

    Parameters
    ----------
    reader : FieldReader
    frames : Frames
        Of the whole recording.
    measure : Directionality
    frequency : ndarray (oscillator,)
        Hz.
    width : float
        Half-width of the band about each, Hz.
    surrogates : int
    chunk : float
        s.
    seed : int
    """
    spectrum = frames.spectrum.mean
    length = len(spectrum)
    bands = near(frequency, width, reader.detection_rate, length)
    used = np.unique(np.concatenate(bands))
    bands = [np.searchsorted(used, band) for band in bands]
    observed = lag_statistics(spectrum[used], bands, measure)
    factors = zero_lag_factors(spectrum)
    gain = power_course(frames.fluxes.power, max(1, round(COURSE * reader.detection_rate)))
    stretch = max(round(chunk * reader.detection_rate), 4 * length)

    def draw(number: int) -> np.ndarray:
        rng = generator(seed, "oscillator surrogate", str(number))
        gathered = None
        for field in stretches(factors, gain, stretch, rng):
            part = CrossSpectrum.of(field, length, used)
            gathered = part if gathered is None else gathered + part
        assert gathered is not None
        return lag_statistics(gathered.mean, bands, measure)

    null = np.stack(dask.compute(*[dask.delayed(draw)(b) for b in range(surrogates)]))
    p = (1 + (null >= observed).sum(axis=0)) / (surrogates + 1)
    p[:, ~np.isfinite(observed[0])] = np.nan
    tested = np.isfinite(p[0])
    q = np.full(len(frequency), np.nan)
    q[tested] = benjamini_hochberg(p[0, tested])
    unit = {"units": "1"}
    return xr.Dataset(
        {
            "asymmetry": ("oscillator", observed[0], unit),
            "pgd": ("oscillator", observed[1], unit),
            "p": ("oscillator", p[0], unit),
            "q": ("oscillator", q, unit),
            "p_pgd": ("oscillator", p[1], unit),
            "null_asymmetry": (("surrogate", "oscillator"), null[:, 0], unit),
            "null_pgd": (("surrogate", "oscillator"), null[:, 1], unit),
        }
    )
