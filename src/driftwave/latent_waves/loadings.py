"""The wave in an oscillator's loadings, whose argument over the electrodes is its phase map."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.inference.oscillator_subspace import groups_of
from driftwave.latent_waves.loading_errors import noise_of, standard_errors
from driftwave.latent_waves.loading_intervals import BOUNDED, LoadingErrors, wave_intervals
from driftwave.latent_waves.loading_null import near, null_table
from driftwave.latent_waves.loading_travel import travelling_table
from driftwave.phase.electrodes import Electrodes, good_electrodes, place
from driftwave.phase.frames import FieldReader, open_field
from driftwave.phase.passes import read_frames
from driftwave.wave_events.patterns import CLASSES, Patterns, circular_linear, patterns_of
from driftwave.wave_events.verdict import Verdict, classify

LOWEST = 0.5
# Whether a loading stands is asked by loading_travel, which knows its errors.
CONSIDERED = (
    "synchronous",
    "planar",
    "radial_out",
    "radial_in",
    "rotating_ccw",
    "rotating_cw",
)
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
WITHOUT = "none: the latents have no standard errors (loading_re_sd, loading_im_sd)"


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

    Where the latents have standard errors, ``direction_low`` and ``direction_high`` and their like
    are 95 % intervals (:mod:`driftwave.latent_waves.loading_intervals`). ``log_bayes_factor``
    compares a travelling with a standing pattern (:mod:`driftwave.latent_waves.loading_travel`).
    Oscillators of the same ``group`` have one frequency and damping: only the subspace of their
    loadings is identified (:mod:`driftwave.inference.oscillator_subspace`), and their single
    patterns, this table's rows, are one choice of many.

    Parameters
    ----------
    recording : DataTree
    dataset : Dataset
        The group ``field``.
    latents : Dataset
        ``frequency`` (oscillator) Hz, ``loading_amplitude`` and ``loading_phase``
        (oscillator, electrode), coords x and y (mm); optionally their standard errors
        ``frequency_sd``, ``loading_re_sd``, ``loading_im_sd``, ``damping``, ``damping_sd``,
        ``bandwidth`` (Hz) and ``noise_covariance`` or ``noise_variance``.
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
    errors = standard_errors(latents, index)
    rows, verdicts = [], []
    for k, (f, a, angle) in enumerate(zip(frequency, amplitude, phase, strict=True)):
        verdict = classify(patterns, (a**2 * np.exp(1j * angle))[:, None], classes=CONSIDERED)
        verdicts.append(verdict)
        row = _row(verdict, f, angle, electrodes)
        rng = generator(seed, "loading interval", str(k))
        row |= _bounds(
            verdict, patterns, a * np.exp(1j * angle), f, errors[k] if errors else None, rng
        )
        rows.append(row)
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
    considered = [CLASSES.index(name) for name in CONSIDERED]
    scores = np.array([verdict.prediction[considered] for verdict in verdicts])
    table["prediction"] = (("oscillator", "pattern"), scores, {"units": "1"})
    table["group"] = ("oscillator", groups_of(latents), {"units": "1"})
    frames, measure = read_frames(reader, chunk=chunk, generalized=False)
    spectrum = frames.spectrum.mean
    bands = near(frequency, width, reader.detection_rate, len(spectrum))
    travelling = travelling_table(
        electrodes,
        amplitude * np.exp(1j * phase),
        [spectrum[band].mean(axis=0) if len(band) else None for band in bands],
        noise_of(latents, index),
        bandwidth=latents["bandwidth"].values if "bandwidth" in latents else None,
        seconds=float(latents.attrs.get("fitted_seconds", reader.frames / reader.rate)),
        width=width,
    )
    null = null_table(
        reader,
        frames,
        measure,
        frequency,
        width=width,
        surrogates=surrogates,
        chunk=chunk,
        seed=seed,
    )
    return (
        table.merge(travelling)
        .merge(null)
        .assign_coords(
            pattern=list(CONSIDERED),
            electrode=latents["electrode"].values[index],
            x=("electrode", electrodes.position[:, 0], {"units": "mm"}),
            y=("electrode", electrodes.position[:, 1], {"units": "mm"}),
        )
        .assign_attrs(
            source=str(latents.attrs.get("model", "latents")),
            session=session,
            null="zero-lag cross-spectrum surrogates",
            surrogates=surrogates,
            pitch=electrodes.pitch,
            intervals="95 % from the loadings' standard errors" if errors else WITHOUT,
        )
    )


def _unit(name: str) -> str:
    return UNITS.get(name.removesuffix("_low").removesuffix("_high"), "1")


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
    fitted = verdict.parameters.get(verdict.name, np.zeros(0))
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


def _bounds(
    verdict: Verdict,
    patterns: Patterns,
    loading: np.ndarray,
    frequency: float,
    errors: LoadingErrors | None,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Ends of the intervals of what the pattern has; NaN for the rest or without errors."""
    row = {f"{name}_{end}": np.nan for name in BOUNDED for end in ("low", "high")}
    if errors is None or not np.isfinite([errors.real, errors.imaginary]).all():
        return row
    if verdict.name == "synchronous":
        return row
    turning = verdict.name.startswith(("radial", "rotating"))
    fitted = verdict.parameters[verdict.name].copy()
    if turning:
        fitted[:2] -= patterns.centroid
    family = patterns[verdict.name]
    found = wave_intervals(family, fitted, patterns.position, loading, frequency, errors, rng=rng)
    for name, ends in found.items():
        shift = float(patterns.centroid["xy".index(name[-1])]) if name.startswith("centre") else 0.0
        row |= {f"{name}_low": ends[0] + shift, f"{name}_high": ends[1] + shift}
    return row
