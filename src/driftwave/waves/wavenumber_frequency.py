"""Power over wavenumber and frequency: planes that travel or stand over the whole recording."""

from __future__ import annotations

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.nulls.surrogates import benjamini_hochberg
from driftwave.phase.band import Band
from driftwave.phase.frames import FieldReader, open_field
from driftwave.phase.signal import Signal, wave_signal
from driftwave.phase.timescale import stretch_of
from driftwave.wave_events.arrays import per_array
from driftwave.wave_events.units import MOTION, RHYTHM, SPAN
from driftwave.wavenumber.cross_spectra import CrossSpectra, Places, cross_spectra, places_of
from driftwave.wavenumber.standing import StandingWave, standing_waves
from driftwave.wavenumber.travelling import (
    Beams,
    Search,
    Wave,
    beam_power,
    beams_of,
    null_deviation,
    wavenumber_axes,
    zero_lag_maxima,
)

PAPER = "Capon 1969; Lacoss et al. 1969"
QUICK = {"surrogates": 19, "bootstrap": 20, "segment": 1.0}
# Beyond this share of the spatial Nyquist wavenumber a wave may be an alias.
ALIASED = 0.9
# Waves whose powers along k and -k differ less than this, relative to their sum, stand.
EQUAL = 0.2
# A wave against a stronger one is listed if it has this share of its power.
WEAKEST_OPPOSITE = 0.1
# Of electrodes, for standing waves.
SHUFFLES = 999
# Speeds beyond exp(20) mm/s are no speeds.
LOG_SLOWNESS = (-20.0, 20.0)
UNITS = {
    **SPAN,
    **MOTION,
    **RHYTHM,
    "frequency_low": "Hz",
    "frequency_high": "Hz",
    "extent": "mm",
    "score": "null SD",
    "asymmetry": "1",
    "cosine_share": "1",
    "p": "1",
    "p_channel_shuffle": "1",
    "q": "1",
}

SEGMENT = 2.0  # s


class Params(BaseModel):
    """Parameters of the wavenumber-frequency spectrum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Signal = Field(
        "auto",
        description="What the spectrum is of: field, imaging, spikes, or the first there is.",
    )
    band: Band = Field((5.0, 40.0), description="Frequencies, Hz.")
    segment: float | None = Field(
        None,
        gt=0,
        description="Length of a segment, s; the spectrum's bandwidth is four over this. Default 2 "
        "s, or 10 cycles of the band's geometric mean frequency where that is longer.",
    )
    surrogates: int = Field(99, ge=19, description="Number of zero-lag surrogates.")
    level: float = Field(
        0.05, gt=0, lt=1, description="Family-wise level over wavenumbers and frequencies."
    )
    bootstrap: int = Field(
        500, ge=20, description="Resamples of blocks of segments for confidence intervals."
    )


def analyse(
    recording: xr.DataTree,
    latents: xr.Dataset | None,  # noqa: ARG001  the signature all wave analyses share
    params: Params,
    *,
    seed: int,
) -> xr.Dataset:
    """Find plane waves that last over a recording in its wavenumber-frequency spectrum.

    Parameters
    ----------
    recording : DataTree
        With a signal whose electrodes have positions.
    latents : None
        Not used.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``event``: one per wave, with the detectors' columns, the range of its ridge
        (frequency_low, frequency_high), score, asymmetry (P(k) - P(-k)) / (P(k) + P(-k)), aliased
        (bool), resolved (bool: k and -k are more than a beam's width apart) and for standing waves
        cosine_share and p_channel_shuffle. ``spectrum`` (frequency, wavenumber_x, wavenumber_y);
        per frequency the wavenumber that travels most (dispersion_x, dispersion_y, rad/mm) with
        its score; threshold and null_score (surrogate).

    Raises
    ------
    InputError
        No signal, unusable electrodes, a sampling rate that does not suit the band, fewer than
        eight segments.
    """
    dataset = wave_signal(recording, params.signal)
    session = str(recording.attrs.get("session", "recording"))
    return per_array(dataset, session, lambda one: _of_array(recording, one, params, seed))


def _of_array(recording: xr.DataTree, dataset: xr.Dataset, params: Params, seed: int) -> xr.Dataset:
    reader = open_field(recording, dataset, band=params.band, frame_rate=None)
    places = places_of(reader.electrodes)
    spectra = cross_spectra(
        dataset["lfp"],
        reader.electrodes,
        places,
        rate=reader.sampling_rate,
        band=params.band,
        segment=params.segment or SEGMENT * stretch_of(params.band),
        session=reader.session,
    )
    limit, basis = np.pi / places.electrodes.spacing, places.electrodes.basis
    axes = wavenumber_axes(places.position, limit, basis)
    beams = beams_of(places.position, axes, limit, basis)
    deviation = null_deviation(spectra, beams)
    rngs = [
        generator(seed, "wavenumber surrogate", str(number)) for number in range(params.surrogates)
    ]
    null = zero_lag_maxima(spectra, beams, deviation, rngs)
    threshold = float(np.quantile(null, 1 - params.level, method="higher"))
    upper = np.triu_indices(len(places.position), 1)
    imaginary = spectra.mean.imag[:, upper[0], upper[1]]
    search = Search(spectra, beams, deviation, imaginary, threshold)
    waves = search.waves()
    moving = np.zeros(len(spectra.frequency), bool)
    for wave in waves:
        moving[wave.bins] = True
    standing = standing_waves(
        spectra,
        beams,
        moving,
        shuffles=SHUFFLES,
        level=params.level,
        rng=generator(seed, "channel shuffle"),
    )
    rng = generator(seed, "wavenumber bootstrap")
    rows = [
        _travelling(wave, [w for w in waves if w is not wave], search, null, params.bootstrap, rng)
        for wave in waves
    ]
    rows += [one for row in rows if (one := _opposite(row, spectra, search)) is not None]
    rows += [_standing(wave, spectra, beams) for wave in standing]
    table = _table(rows, reader, places)
    unit = reader.lfp.attrs.get("units", "signal")
    dense = _dense(spectra, search, places, axes, f"{unit}^2/Hz")
    return (
        table.merge(dense)
        .assign(
            null_score=("surrogate", null, {"units": "null SD"}),
            threshold=((), threshold, {"units": "null SD"}),
        )
        .assign_attrs(
            detector="wavenumber_frequency",
            session=reader.session,
            speed_kind="phase",
            null="zero-lag cross-spectrum surrogates",
            surrogates=params.surrogates,
            band=list(params.band),
            bandwidth=2 * spectra.bandwidth,
            segments=int(spectra.segments.sum()),
            resolution=beams.width,
            nyquist=places.electrodes.nyquist,
            places=len(places.position),
            pitch=reader.electrodes.pitch,
        )
    )


def _travelling(
    wave: Wave,
    others: list[Wave],
    search: Search,
    null: np.ndarray,
    bootstrap: int,
    rng: np.random.Generator,
) -> dict:
    spectra, beams = search.spectra, search.beams
    best = search.slowness(wave, others)
    slowness = complex(*best)
    drawn = search.resampled(wave, best, others, bootstrap, rng)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    turn, slow = np.full(2, np.nan), np.full(2, np.nan)
    if len(drawn) > bootstrap / 2:
        turned = np.degrees(drawn[:, 1] - np.angle(slowness)).clip(-180, 180)
        turn = np.quantile(turned, (0.025, 0.975))
        slow = np.exp(np.quantile(drawn[:, 0].clip(*LOG_SLOWNESS), (0.025, 0.975)))
    frequency = float(spectra.frequency[wave.peak])
    direction = float(np.degrees(np.angle(slowness)))
    row = _wave_row(2 * np.pi * frequency * best, wave.peak, spectra, beams)
    stands = row["resolved"] and abs(row["asymmetry"]) < EQUAL
    return row | {
        "class": "standing" if stands else "planar",
        "direction": direction,
        "direction_low": direction + turn[0],
        "direction_high": direction + turn[1],
        "speed": 1 / abs(slowness),
        "speed_low": 1 / slow[1],
        "speed_high": 1 / slow[0],
        "frequency_low": float(spectra.frequency[wave.bins[0]]),
        "frequency_high": float(spectra.frequency[wave.bins[-1]]),
        "score": wave.score,
        "p": float((1 + (null >= wave.score).sum()) / (len(null) + 1)),
    }


def _opposite(row: dict, spectra: CrossSpectra, search: Search) -> dict | None:
    """The wave that travels against a stronger one, where beams and spectrum tell it from that.

    The imaginary part holds the two's difference only, so that it is judged by its power, has no p.
    """
    beams, k = search.beams, row["k"]
    if row["class"] != "planar" or not row["resolved"]:
        return None
    i = int(np.abs(spectra.frequency - row["frequency"]).argmin())
    flank = [j for j in (i - 2 * search.reach, i + 2 * search.reach) if 0 <= j < len(spectra.mean)]
    beam = np.exp(-1j * beams.position @ k)
    side = abs((beam**2).mean()) ** 2
    floor = np.mean([_power(beam.conj(), spectra.mean[j]) for j in flank]) if flank else 0.0
    ahead = _power(beam, spectra.mean[i]) - floor
    behind = _power(beam.conj(), spectra.mean[i]) - floor - side * ahead
    if behind < WEAKEST_OPPOSITE * ahead or behind < floor:
        return None
    offset = 180 if row["direction"] <= 0 else -180
    names = ("direction", "direction_low", "direction_high")
    turned = {name: row[name] + offset for name in names}
    kept = {name: row[name] for name in ("frequency", "wavenumber", "wavelength", "speed")}
    further = {"asymmetry": -row["asymmetry"], "resolved": True, "k": -k, "class": "planar"}
    return kept | turned | further


def _power(beam: np.ndarray, matrix: np.ndarray) -> float:
    return float((beam.conj() @ matrix @ beam).real)


def _standing(wave: StandingWave, spectra: CrossSpectra, beams: Beams) -> dict:
    return _wave_row(wave.wavenumber, wave.bin, spectra, beams) | {
        "class": "standing",
        "cosine_share": wave.share,
        "p_channel_shuffle": wave.p,
    }


def _wave_row(k: np.ndarray, i: int, spectra: CrossSpectra, beams: Beams) -> dict:
    """What travelling and standing waves have in common."""
    beam = np.exp(-1j * beams.position @ k)
    matrix = spectra.mean[i]
    ahead, behind = _power(beam, matrix), _power(beam.conj(), matrix)
    size = float(np.hypot(*k))
    return {
        "frequency": float(spectra.frequency[i]),
        "wavenumber": size,
        "wavelength": 2 * np.pi / size,
        "asymmetry": float((ahead - behind) / (ahead + behind)),
        "resolved": size > beams.width / 2,
        "k": k,
    }


def _table(rows: list[dict], reader: FieldReader, places: Places) -> xr.Dataset:
    time = reader.lfp["time"].values
    rows.sort(key=lambda row: row["frequency"])
    columns = {name: np.array([r.get(name, np.nan) for r in rows], float) for name in UNITS}
    columns["start"] = np.full(len(rows), float(time[0]))
    columns["stop"] = np.full(len(rows), float(time[-1]) + 1 / reader.sampling_rate)
    columns["extent"] = np.full(len(rows), places.electrodes.extent)
    tested = np.isfinite(columns["p"])
    columns["q"][tested] = benjamini_hochberg(columns["p"][tested])
    table = xr.Dataset(
        {name: ("event", columns[name], {"units": unit}) for name, unit in UNITS.items()}
    )
    steps = places.electrodes.steps(np.array([row["k"] for row in rows]).reshape(-1, 2))
    aliased = (steps > ALIASED * np.pi).any(axis=-1)
    return table.assign(
        {
            "class": ("event", np.array([row["class"] for row in rows], "<U16")),
            "aliased": ("event", aliased),
            "resolved": ("event", np.array([row["resolved"] for row in rows], bool)),
        }
    )


def _dense(
    spectra: CrossSpectra, search: Search, places: Places, axes: list[np.ndarray], unit: str
) -> xr.Dataset:
    """The spectrum, and per frequency the wavenumber that travels most."""
    beams = search.beams
    score = -(search.imaginary @ beams.sines.T) / search.deviation
    matched = score * search.deviation / beams.norm
    rows = np.arange(len(score))
    best = np.abs(matched).argmax(axis=1)
    k = beams.wavenumber[best] * np.sign(matched[rows, best])[:, None]
    wave = {"units": "rad/mm"}
    return xr.Dataset(
        {
            "spectrum": (
                ("frequency_bin", "wavenumber_x", "wavenumber_y"),
                beam_power(spectra.mean, places.position, axes),
                {"units": unit},
            ),
            "dispersion_x": ("frequency_bin", k[:, 0], wave),
            "dispersion_y": ("frequency_bin", k[:, 1], wave),
            "dispersion_score": (
                "frequency_bin",
                np.abs(score).max(axis=1),
                {"units": "null SD"},
            ),
            "freedom": ("frequency_bin", spectra.freedom, {"units": "1"}),
        },
        coords={
            "frequency_bin": ("frequency_bin", spectra.frequency, {"units": "Hz"}),
            "wavenumber_x": ("wavenumber_x", axes[0], wave),
            "wavenumber_y": ("wavenumber_y", axes[1], wave),
        },
    )
