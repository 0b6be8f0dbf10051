"""Small recordings with known truth, made in memory, that plug-ins are tried on."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.recording import trial_mask

FIELD_WAVE = {"frequency": 10.0, "direction": 30.0, "speed": 150.0}  # Hz, degrees, mm/s


def make_recording(
    *,
    trials: int = 60,
    bins: int = 30,
    units: int = 12,
    held_out: int = 3,
    forward: int = 5,
    seed: int = 0,
    contiguous: bool = False,
) -> xr.DataTree:
    """A small in-memory recording: two latent oscillators drive Poisson units and a hand.

    Six conditions differ in phase. True rates (Hz) and the latent state are in ``truth``.
    """
    rng = np.random.default_rng(seed)
    width = 0.02
    time = np.arange(bins) * width
    condition = np.arange(trials) % 6
    phase = condition * np.pi / 3
    angle = 2 * np.pi * 2.5 * time[None, :] + phase[:, None]
    state = np.stack([np.cos(angle), np.sin(angle), np.cos(angle / 2), np.sin(angle / 2)], -1)
    loading = rng.normal(0, 0.6, (4, units))
    rate = np.exp(np.log(20.0) + state @ loading)
    counts = rng.poisson(rate * width).astype(np.uint16)
    value = state[..., :2] @ np.array([[1.0, 0.3], [-0.2, 0.9]]) + rng.normal(
        0, 0.05, (trials, bins, 2)
    )
    order = rng.permutation(trials)
    split = np.full(trials, "train", dtype="<U6")
    split[order[: trials // 5]] = "test"
    split[order[trials // 5 : trials // 5 + max(1, trials // 10)]] = "valid"
    hidden = np.zeros(units, bool)
    hidden[units - held_out :] = True
    trial, unit = np.arange(trials), np.arange(units)
    coords = {"trial": trial, "time": ("time", time, {"units": "s"}), "unit": unit}
    start = trial * bins * width if contiguous else trial * (bins * width + 0.5)
    spikes = xr.Dataset(
        {
            "counts": (("trial", "time", "unit"), counts, {"units": "spikes/bin"}),
            "trial_start": ("trial", start, {"units": "s"}),
        },
        coords=coords,
        attrs={"bin_width": width, "forward_bins": forward, "contiguous": contiguous},
    )
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(
                attrs={
                    "session": "synthetic",
                    "source_file": "memory",
                    "source_sha256": "",
                    "layout": "synthetic",
                    "bin_width": width,
                    "schema_version": 1,
                }
            ),
            "spikes": spikes,
            "units": xr.Dataset(
                {
                    "held_out": ("unit", hidden),
                    "rate": ("unit", rate.mean((0, 1)), {"units": "Hz"}),
                },
                coords={"unit": unit},
            ),
            "behavior": xr.Dataset(
                {"value": (("trial", "time", "feature"), value)},
                coords={
                    "trial": trial,
                    "time": time,
                    "feature": ["hand_x", "hand_y"],
                    "kind": ("feature", ["continuous", "continuous"]),
                    "unit_of_measure": ("feature", ["m", "m"]),
                },
            ),
            "trials": xr.Dataset(
                {
                    "split": ("trial", split),
                    "condition": ("trial", condition),
                    "start": ("trial", start, {"units": "s"}),
                    "stop": ("trial", start + bins * width, {"units": "s"}),
                },
                coords={"trial": trial},
            ),
            "truth": xr.Dataset(
                {
                    "rate": (("trial", "time", "unit"), rate, {"units": "Hz"}),
                    "state": (("trial", "time", "state_dim"), state),
                },
                coords=coords,
            ),
        }
    )


def make_field_recording(
    *, seconds: float = 20.0, rate: float = 250.0, side: int = 4, noise: float = 0.5, seed: int = 0
) -> xr.DataTree:
    """A field on a square grid: a planar wave (``FIELD_WAVE``), shared 1/f and white noise."""
    rng = np.random.default_rng(seed)
    pitch, count = 0.4, int(seconds * rate)
    place = np.array([(i, j) for j in range(side) for i in range(side)], float) * pitch
    time = 3.0 + np.arange(count) / rate
    angle = np.deg2rad(FIELD_WAVE["direction"])
    delay = place @ np.array([np.cos(angle), np.sin(angle)]) / FIELD_WAVE["speed"]
    phase = 2 * np.pi * FIELD_WAVE["frequency"] * (time[:, None] - delay)
    swell = 1 + 0.5 * np.sin(2 * np.pi * 0.7 * time)[:, None]
    spectrum = np.fft.rfft(rng.normal(size=count))
    shared = np.fft.irfft(spectrum / np.sqrt(np.arange(spectrum.size) + 1.0), count)
    white = rng.normal(size=(count, len(place)))
    lfp = 50 * (swell * np.cos(phase) + noise * (shared[:, None] / shared.std() + white))
    electrode = np.arange(len(place))
    millimetres = {"units": "mm"}
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp.astype(np.float32), {"units": "microvolt"})},
        coords={
            "time": ("time", time, {"units": "s"}),
            "electrode": electrode,
            "x": ("electrode", place[:, 0], millimetres),
            "y": ("electrode", place[:, 1], millimetres),
            "z": ("electrode", np.zeros(len(place)), millimetres),
            "good": ("electrode", np.ones(len(place), bool)),
            "region": ("electrode", np.full(len(place), "V1")),
            "group": ("electrode", np.full(len(place), "grid")),
        },
        attrs={"sampling_rate": rate},
    )
    root = make_recording(trials=2).attrs | {"session": "synthetic_field"}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=root), "field": field})


def altered(recording: xr.DataTree, where: np.ndarray) -> xr.DataTree:
    """A copy whose counts are others where the mask (trial, time, unit) says so."""
    copy = recording.copy(deep=True)
    counts = copy["spikes"].dataset["counts"].values
    other = np.random.default_rng(9).poisson(5.0, counts.shape)
    counts[:] = np.where(where, other, counts)
    return copy


def in_split(recording: xr.DataTree, split: str) -> np.ndarray:
    """Mask (trial, time, unit) of the trials of a split."""
    mask = trial_mask(recording, split)
    return np.broadcast_to(mask[:, None, None], recording["spikes"].dataset["counts"].shape)
