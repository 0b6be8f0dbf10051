"""Where the fields come from that :mod:`driftwave.latent_waves.decoded` compares."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import signal as filters

from driftwave.errors import InputError
from driftwave.latent_waves.decoded import SiteSignal, compare_fields
from driftwave.latent_waves.site_statistics import PlaneSites, RingSites, Sites
from driftwave.phase.electrodes import place
from driftwave.phase.filters import analytic, settling
from driftwave.phase.frames import open_field
from driftwave.recording import forward_bins, trial_mask

PIECES, PIECE_SECONDS = 12, 10.0
LOWEST = 0.5
DECODED = ("decoded_re", "decoded_im")


def gives_field(latents: xr.Dataset) -> bool:
    """Whether a model gives a decoded field at sites with positions."""
    return set(DECODED) <= set(latents) and {"site_x", "site_y"} <= set(latents.coords)


def of_oscillators(
    recording: xr.DataTree,
    dataset: xr.Dataset,
    latents: xr.Dataset,
    *,
    width: float,
    surrogates: int,
    seed: int,
) -> xr.Dataset:
    """The recorded field and that of a model of oscillators at the same electrodes and times.

    At most two minutes are read, in pieces spread over the recording.

    Parameters
    ----------
    recording : DataTree
    dataset : Dataset
        The group ``field``.
    latents : Dataset
        With loadings over ``electrode`` and ``latent`` (time, latent), labelled.
    width : float
        The band reaches so far beyond the lowest and highest oscillator, Hz.
    surrogates, seed : int
    """
    frequency = latents["frequency"].values
    rate = float(dataset.attrs["sampling_rate"])
    high = min(float(frequency.max()) + width, rate / 2.5)
    band = (max(LOWEST, min(float(frequency.min()) - width, high / 4)), high)
    reader = open_field(recording, dataset, band=band, frame_rate=3 * high)
    index = reader.electrodes.index
    loading = latents["loading_amplitude"] * np.exp(1j * latents["loading_phase"])
    loading = np.nan_to_num(loading.transpose("electrode", "oscillator").values[index])
    states, clock = _states(latents), latents["time"].values
    recorded, decoded = [], []
    field_clock = reader.lfp["time"].values[:: reader.every]
    for start, stop in _pieces(reader.frames, round(PIECE_SECONDS * reader.rate)):
        times = field_clock[start : stop : reader.stride]
        nearest = np.clip(np.searchsorted(clock, times), 0, len(clock) - 1)
        recorded.append(reader.signal(start, stop)[:, :: reader.stride].astype(np.complex64))
        decoded.append((loading @ states[:, nearest]).astype(np.complex64))
    sites = PlaneSites(reader.electrodes)
    signals = [
        SiteSignal("recorded", recorded, reader.detection_rate, sites),
        SiteSignal("decoded", decoded, reader.detection_rate, sites),
    ]
    return compare_fields(signals, surrogates=surrogates, seed=seed).assign_attrs(
        field_band=list(band), field_topology="plane", recorded_from="field"
    )


def _states(latents: xr.Dataset) -> np.ndarray:
    """Complex states (oscillator, time)."""
    labels = list(latents["label"].values.astype(str))
    values = latents["latent"].transpose("latent", "time").values
    count = latents.sizes["oscillator"]
    real = [labels.index(f"osc{k}_re") for k in range(count)]
    imaginary = [labels.index(f"osc{k}_im") for k in range(count)]
    return values[real] + 1j * values[imaginary]


def _pieces(frames: int, length: int) -> list[tuple[int, int]]:
    """Stretches spread evenly over all frames; the whole if it is short."""
    if frames <= PIECES * length:
        count = max(1, frames // length)
        edges = np.linspace(0, frames, count + 1).astype(int)
        return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    starts = np.linspace(0, frames - length, PIECES).astype(int)
    return [(int(start), int(start) + length) for start in starts]


def of_lattice(
    recording: xr.DataTree, latents: xr.Dataset, *, width: float, surrogates: int, seed: int
) -> xr.Dataset:
    """The decoded field of coupled oscillators beside what the units near each site do.

    Of spikes: test trials, bins that the model saw. The recorded field is the sum of the units'
    standardised counts, weighted by a Gaussian of their distance to a site, filtered within
    ``width`` Hz of the band's frequency. Of a simulated recording the true field is the third.
    Of a field alone (latents with ``trial_start``): all windows, beside the electrodes' field.

    Parameters
    ----------
    recording : DataTree
    latents : Dataset
        ``decoded_re``, ``decoded_im`` (trial, time, band, site), coords ``site_x``, ``site_y``,
        ``frequency`` (band) Hz.
    width : float
        Hz.
    surrogates, seed : int

    Returns
    -------
    Dataset
        As :func:`driftwave.latent_waves.decoded.compare_fields`, over the dim ``band``; and where
        the model gives evidence from units it does not see (``prediction_gain``, ``wave_gain`` and
        their errors), that evidence and ``supported`` (band): whether both are above twice their
        errors, without which a decoded field's waves are no claim about the recording.
    """
    topology = str(latents.attrs.get("topology", "lattice"))
    position = np.stack([latents["site_x"].values, latents["site_y"].values], 1)
    sites = _sites(position, topology)
    of_field = "trial_start" in latents
    if of_field:
        chosen, seen = np.ones(latents.sizes["trial"], bool), latents.sizes["time"]
    else:
        chosen, seen = _chosen(recording, latents)
    field = latents["decoded_re"] + 1j * latents["decoded_im"]
    complete = field.transpose("trial", "time", "band", "site").values[chosen, :seen]
    step = np.diff(latents["time"].values[:2]).item()
    tables = []
    for band, frequency in enumerate(np.atleast_1d(latents["frequency"].values)):
        decoded = [part.T.astype(np.complex64) for part in complete[:, :, band]]
        signals = [SiteSignal("decoded", decoded, 1 / step, sites)]
        if of_field:
            signals = _from_field(recording, latents, signals[0], float(frequency), width)
        else:
            recorded = units_field(recording, position, float(frequency), width, chosen, seen)
            if recorded is not None:
                signals.insert(0, SiteSignal("recorded", recorded, 1 / step, sites))
        truth = None if of_field else true_field(recording, chosen, seen, topology)
        if truth is not None:
            signals.append(SiteSignal("truth", truth[0], 1 / step, truth[1]))
        tables.append(compare_fields(signals, surrogates=surrogates, seed=seed))
    result = xr.concat(tables, dim="band").assign_coords(frequency=latents["frequency"])
    result = result.merge(_evidence(latents))
    return result.assign_attrs(
        source=str(latents.attrs.get("model", "latents")),
        session=str(recording.attrs.get("session", "recording")),
        field_topology="ring" if topology == "ring" else "plane",
        recorded_from="field" if of_field else "spikes",
        null="zero-lag cross-spectrum surrogates",
        surrogates=surrogates,
    )


def _from_field(
    recording: xr.DataTree, latents: xr.Dataset, decoded: SiteSignal, frequency: float, width: float
) -> list[SiteSignal]:
    """The recorded field at its electrodes and the decoded one, in the windows of the model."""
    dataset = recording["field"].to_dataset()
    low = max(LOWEST, frequency - width)
    reader = open_field(
        recording, dataset, band=(low, frequency + width), frame_rate=0.999 * decoded.rate
    )
    begin = (latents["trial_start"].values - float(dataset["time"][0])) * reader.rate
    starts = np.rint(begin).astype(int)
    whole = [
        (start, part)
        for start, part in zip(starts, decoded.stretches, strict=True)
        if start >= 0 and start + part.shape[1] <= reader.frames
    ]
    recorded = [
        reader.signal(int(start), int(start) + part.shape[1]).astype(np.complex64)
        for start, part in whole
    ]
    return [
        SiteSignal("recorded", recorded, reader.rate, PlaneSites(reader.electrodes)),
        decoded._replace(stretches=[part for _, part in whole]),
    ]


def _evidence(latents: xr.Dataset) -> xr.Dataset:
    """What unseen units say of the decoded field, and whether it supports its waves."""
    names = ["prediction_gain", "wave_gain"]
    names += [f"{name}_sd" for name in names]
    if not set(names) <= set(latents):
        return xr.Dataset()
    found = latents[names].load()
    enough = [found[name] > 2 * found[f"{name}_sd"] for name in names[:2]]
    supported = (enough[0] & enough[1]).transpose("band")
    return found.drop_vars(found.coords).assign(supported=("band", supported.values))


def _sites(position: np.ndarray, topology: str) -> Sites:
    return RingSites.of(position) if topology == "ring" else PlaneSites(place(position))


def _chosen(recording: xr.DataTree, latents: xr.Dataset) -> tuple[np.ndarray, int]:
    """Test trials, and the number of bins that the model saw."""
    chosen = trial_mask(recording, "test")
    if not chosen.any():
        raise InputError(
            file=str(recording.attrs.get("session", "recording")),
            field="trials/split",
            found="no test trial",
            expected="at least 1",
            fix="Use more trials or another split in the layout",
        )
    return chosen, latents.sizes["time"] - forward_bins(recording)


def units_field(
    recording: xr.DataTree,
    position: np.ndarray,
    frequency: float,
    width: float,
    chosen: np.ndarray,
    seen: int,
) -> list[np.ndarray] | None:
    """Analytic signal of the units' counts around each site; None without positions of units."""
    units = recording["units"].to_dataset()
    if not {"x", "y"} <= set(units):
        return None
    places = np.stack([units["x"].values, units["y"].values], 1).astype(float)
    counts = recording["spikes/counts"].transpose("trial", "time", "unit").values[:, :seen]
    usable = np.isfinite(places).all(1) & (counts.std((0, 1)) > 0)
    if not usable.any():
        return None
    counts, places = counts[..., usable].astype(float), places[usable]
    standard = (counts - counts.mean((0, 1))) / counts.std((0, 1))
    pitch = place(position).pitch
    apart = np.linalg.norm(places[:, None] - position[None], axis=-1)
    weight = np.exp(-0.5 * (apart / pitch) ** 2)
    weight /= np.maximum(weight.sum(0), 1e-6)
    rate = 1 / float(recording["spikes"].attrs["bin_width"])
    band = (max(LOWEST, frequency - width), min(frequency + width, 0.45 * rate))
    margin = min(settling(band, rate, 1e-3), 4 * seen)
    return [_filtered((part @ weight).T, rate, band, margin) for part in standard[chosen]]


def _filtered(
    samples: np.ndarray, rate: float, band: tuple[float, float], margin: int
) -> np.ndarray:
    """Analytic signal (site, bin) of one trial, continued by reflection."""
    flat = filters.detrend(samples, axis=-1, type="constant")
    extended = np.pad(flat, ((0, 0), (margin, margin)), mode="symmetric")
    found = analytic(extended, rate=rate, band=band, before=margin, after=margin)
    return found.astype(np.complex64)


def true_field(
    recording: xr.DataTree, chosen: np.ndarray, seen: int, topology: str
) -> tuple[list[np.ndarray], Sites] | None:
    """The simulated field and its sites; None where there is none."""
    if "truth" not in recording.children or "site_re" not in recording["truth"]:
        return None
    truth = recording["truth"].to_dataset()
    field = truth["site_re"] + 1j * truth["site_im"]
    values = field.transpose("trial", "time", "site").values[chosen, :seen]
    position = np.stack([truth["site_x"].values, truth["site_y"].values], 1)
    return [part.T.astype(np.complex64) for part in values], _sites(position, topology)
