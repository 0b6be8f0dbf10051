"""Fields with known waves, for the tests of the waves stage."""

from __future__ import annotations

import numpy as np
import xarray as xr

PITCH = 0.4


def grid(
    columns: int = 10, rows: int = 10, *, corners: bool = True, missing: int = 0, seed: int = 0
):
    """Positions (electrode, 2) in mm of a grid, without corners and random electrodes."""
    place = np.array([(i, j) for j in range(rows) for i in range(columns)], float) * PITCH
    keep = np.ones(len(place), bool)
    if not corners:
        keep[[0, columns - 1, (rows - 1) * columns, rows * columns - 1]] = False
    rng = np.random.default_rng(seed)
    keep[rng.choice(np.flatnonzero(keep), missing, replace=False)] = False
    return place[keep]


def phase_of(
    kind: str,
    position: np.ndarray,
    *,
    frequency: float,
    speed: float = 200.0,
    direction: float = 0.0,
    centre=(1.8, 1.8),
    sign: int = 1,
) -> np.ndarray:
    """Phase (electrode,) of a wave that moves at ``speed`` (mm/s) towards ``direction`` (deg)."""
    k = 2 * np.pi * frequency / speed
    away = position - np.asarray(centre)
    if kind == "planar":
        angle = np.deg2rad(direction)
        return -k * position @ np.array([np.cos(angle), np.sin(angle)])
    if kind == "radial":
        return -sign * k * np.hypot(*away.T)
    return -sign * np.arctan2(away[:, 1], away[:, 0])


def noise(
    rng,
    position,
    count: int,
    rate: float,
    *,
    length: float = 0.0,
    shared: float = 0.0,
    exponent: float = 1.0,
    power: float = 2.0,
) -> np.ndarray:
    """Zero-lag Gaussian noise (electrode, time), unit variance, 1/f^exponent power spectrum.

    A share ``shared`` of its variance has correlation exp(-(d / length)^power / power) between
    electrodes.
    """
    n = len(position)
    mix = np.eye(n)
    if shared:
        square = ((position[:, None] - position[None]) ** 2).sum(-1)
        correlation = np.exp(-((np.sqrt(square) / length) ** power) / power)
        covariance = shared * correlation + (1 - shared) * np.eye(n)
        mix = np.linalg.cholesky(covariance)
    spectrum = np.fft.rfft(mix @ rng.normal(size=(n, count)), axis=1)
    frequency = np.fft.rfftfreq(count, 1 / rate)
    gain = np.zeros(len(frequency))
    gain[1:] = np.maximum(frequency[1:], 1.0) ** (-exponent / 2)
    field = np.fft.irfft(spectrum * gain, n=count, axis=1)
    return field / field.std()


def in_band(signal: np.ndarray, rate: float, band=(5.0, 40.0)) -> float:
    """Root mean square of a signal within a band."""
    spectrum = np.fft.rfft(signal, axis=-1)
    frequency = np.fft.rfftfreq(signal.shape[-1], 1 / rate)
    spectrum[..., (frequency < band[0]) | (frequency > band[1])] = 0
    return float(np.fft.irfft(spectrum, n=signal.shape[-1], axis=-1).std())


def recording_of(
    lfp: np.ndarray, position: np.ndarray, rate: float, *, good=None, truth=None, start: float = 0.0
) -> xr.DataTree:
    """A recording with a field group from lfp (time, electrode)."""
    n = len(position)
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp.astype(np.float32), {"units": "microvolt"})},
        coords={
            "time": ("time", start + np.arange(len(lfp)) / rate, {"units": "s"}),
            "electrode": np.arange(n),
            "x": ("electrode", position[:, 0], {"units": "mm"}),
            "y": ("electrode", position[:, 1], {"units": "mm"}),
            "good": ("electrode", np.ones(n, bool) if good is None else good),
        },
        attrs={"sampling_rate": rate},
    )
    attrs = {
        "session": "array",
        "source_file": "memory",
        "source_sha256": "",
        "layout": "array",
        "schema_version": 1,
    }
    groups = {"/": xr.Dataset(attrs=attrs), "field": field}
    if truth is not None:
        groups["truth"] = truth
    return xr.DataTree.from_dict(groups)
