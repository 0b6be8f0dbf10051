"""The wave in an oscillator's loadings, whose argument over the electrodes is its phase map."""

from __future__ import annotations

import dask
import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.waves.directionality import Directionality
from driftwave.waves.electrodes import Electrodes, good_electrodes, place
from driftwave.waves.frames import FieldReader, open_field, read_frames
from driftwave.waves.patterns import CLASSES, Verdict, circular_linear, classify, patterns_of
from driftwave.waves.surrogates import (
    CrossSpectrum,
    benjamini_hochberg,
    power_course,
    stretches,
    zero_lag_factors,
)

LOWEST = 0.5
COURSE = 0.5
NEEDED = ("frequency", "loading_amplitude", "loading_phase")
UNITS = {
    "direction": "degree",
    "speed": "mm/s",
    "wavelength": "mm",
    "wavenumber": "rad/mm",
    "centre_x": "mm",
    "centre_y": "mm",
    "frequency": "Hz",
}


def analyse_loadings(
    recording: xr.DataTree,
    dataset: xr.Dataset,
    latents: xr.Dataset,
    *,
    width: float,
    surrogates: int,
    chunk: float,
    seed: int,
) -> xr.Dataset:
    """Pattern, direction and speed of each oscillator's loadings, with a zero-lag null.

    Patterns are fitted to the loadings c = A e^{i phi} with weights A^2. The null asks whether the
    field about the oscillator's frequency travels at all: the cross-spectral matrix within
    ``width`` Hz of it, of the data and of zero-lag surrogates, is reduced to

    - ``asymmetry``, the largest eigenvalue of i Im S over the trace of S: how much more power a
      spatial pattern holds than its mirror image in time, at most, whatever the pattern;
    - ``pgd``, the power-weighted PGD of the leading eigenvector.

    Parameters
    ----------
    recording : DataTree
    dataset : Dataset
        The group ``field``.
    latents : Dataset
        ``frequency`` (oscillator) Hz, ``loading_amplitude`` and ``loading_phase``
        (oscillator, electrode), coords x and y (mm).
    width : float
        Hz.
    surrogates : int
    chunk : float
        s.
    seed : int

    Raises
    ------
    InputError
        If the latents carry no loadings or positions, or no oscillator is slow enough for the
        field's sampling rate.
    """
    session = str(recording.attrs.get("session", "recording"))
    electrodes, index = _loaded_electrodes(latents, session)
    frequency = np.atleast_1d(latents["frequency"].values).astype(float)
    amplitude = latents["loading_amplitude"].transpose("oscillator", "electrode").values[:, index]
    phase = latents["loading_phase"].transpose("oscillator", "electrode").values[:, index]
    reader = _open_for(recording, dataset, frequency, width)
    patterns = patterns_of(electrodes)
    rows, verdicts = [], []
    for f, a, angle in zip(frequency, amplitude, phase, strict=True):
        verdict = classify(patterns, (a**2 * np.exp(1j * angle))[:, None])
        verdicts.append(verdict)
        rows.append(_row(verdict, f, angle, electrodes))
    table = xr.Dataset(
        {
            name: ("oscillator", np.array([row[name] for row in rows]), {"units": _unit(name)})
            for name in rows[0]
        }
    )
    table["class"] = ("oscillator", np.array([v.name for v in verdicts], dtype="<U16"))
    table["frequency"] = ("oscillator", frequency, {"units": "Hz"})
    table["loading_amplitude"] = (("oscillator", "electrode"), amplitude, {"units": "microvolt"})
    table["event_phase"] = (("oscillator", "electrode"), phase, {"units": "rad"})
    scores = np.array([verdict.prediction for verdict in verdicts])
    table["prediction"] = (("oscillator", "pattern"), scores, {"units": "1"})
    table = table.merge(_null_table(reader, frequency, width, surrogates, chunk, seed))
    return table.assign_coords(
        pattern=list(CLASSES),
        electrode=latents["electrode"].values[index],
        x=("electrode", electrodes.position[:, 0], {"units": "mm"}),
        y=("electrode", electrodes.position[:, 1], {"units": "mm"}),
    ).assign_attrs(
        source=str(latents.attrs.get("model", "latents")),
        session=session,
        null="zero-lag cross-spectrum surrogates",
        surrogates=surrogates,
        pitch=electrodes.pitch,
    )


def _unit(name: str) -> str:
    return UNITS.get(name, "1")


def _loaded_electrodes(latents: xr.Dataset, session: str) -> tuple[Electrodes, np.ndarray]:
    """Electrodes with a loading, and where they stand."""
    missing = [name for name in NEEDED if name not in latents]
    if missing or "x" not in latents or "y" not in latents:
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field="loadings",
            found=f"no {', '.join(missing) or 'electrode positions x and y'}",
            expected="an oscillator model's frequency and loadings, with electrode positions",
            fix="Give the latents of a model of oscillators on a field, or leave waves out for it",
        )
    finite = np.isfinite(latents["loading_phase"].transpose("oscillator", "electrode").values)
    finite &= np.isfinite(latents["loading_amplitude"].transpose("oscillator", "electrode").values)
    good = finite.all(axis=0)
    if "good" in latents:
        good &= latents["good"].values.astype(bool)
    chosen = good_electrodes(
        latents.assign_coords(good=("electrode", good)), session, group="latents"
    )
    return place(chosen.position), chosen.index


def _open_for(
    recording: xr.DataTree, dataset: xr.Dataset, frequency: np.ndarray, width: float
) -> FieldReader:
    """Read the field in a band that holds every oscillator, or as high as its rate allows."""
    rate = float(dataset.attrs["sampling_rate"])
    high = min(float(frequency.max()) + 2 * width, rate / 2.5)
    low = max(LOWEST, min(float(frequency.min()) - 2 * width, high / 4))
    return open_field(recording, dataset, band=(low, high), frame_rate=3 * high)


def _row(
    verdict: Verdict, frequency: float, phase: np.ndarray, electrodes: Electrodes
) -> dict[str, float]:
    fitted = verdict.parameters[verdict.name]
    at = CLASSES.index(verdict.name)
    row = dict.fromkeys(
        ("direction", "speed", "wavelength", "wavenumber", "centre_x", "centre_y", "rho"), np.nan
    )
    row |= {
        "resultant": verdict.resultant[at],
        "plane_resultant": verdict.resultant[CLASSES.index("planar")],
        "evidence": verdict.prediction[at],
    }
    size = np.nan
    if verdict.name == "planar":
        size = float(np.hypot(*fitted))
        row["direction"] = float(np.degrees(np.arctan2(fitted[1], fitted[0])))
    elif verdict.name != "synchronous":
        row["centre_x"], row["centre_y"] = map(float, fitted[:2])
    if verdict.name.startswith("radial"):
        size = float(abs(fitted[2]))
        distance = np.hypot(*(electrodes.position - fitted[:2]).T)
        row["rho"] = circular_linear(phase, distance)
    row["wavenumber"] = size
    row["wavelength"] = 2 * np.pi / max(size, 1e-9) if np.isfinite(size) else np.nan
    row["speed"] = row["wavelength"] * frequency
    return row


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


def _null_table(
    reader: FieldReader,
    frequency: np.ndarray,
    width: float,
    surrogates: int,
    chunk: float,
    seed: int,
) -> xr.Dataset:
    frames, measure = read_frames(reader, chunk=chunk, generalized=False, keep_phase=False)
    spectrum = frames.spectrum.mean
    length = len(spectrum)
    axis = np.arange(length) * reader.detection_rate / length
    bands = [np.flatnonzero(np.abs(axis - f) <= width) for f in frequency]
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
