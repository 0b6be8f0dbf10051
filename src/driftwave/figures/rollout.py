"""Film strips of a decoded field: phase at every site with time, beside units and truth."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from driftwave.errors import InputError
from driftwave.figures.inputs import need_recording, need_result
from driftwave.figures.style import CYCLIC, STYLE
from driftwave.latent_waves.decoded_sources import gives_field, true_field, units_field
from driftwave.recording import forward_bins, trial_mask

STAGE = "models"
RESULTS = "latents"
EACH = True
WAVES = "decoded"

PICTURES = 9
HALF_WIDTH = 3.0  # Hz about the band's frequency, in which units are shown
GREY = 0.62


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the strongest band of one test trial.

    Around a ring: phase over angle and time. In the plane: pictures of the sites in the course of
    two periods. Colour is phase; the greyer, the smaller the amplitude.

    Parameters
    ----------
    recording : DataTree
        With ``trials``; of one with ``spikes`` the units around each site are shown as well, and of
        a simulated one the true field.
    results : dict
        ``latents``: of a model with a decoded field.

    Raises
    ------
    InputError
        If something is not given, or the latents hold no decoded field.
    """
    recording = need_recording(recording, "rollout")
    latents = need_result(results, "latents", "rollout")
    if not gives_field(latents):
        raise InputError(
            file="figure rollout",
            field="latents",
            found="no decoded_re, decoded_im with site_x, site_y",
            expected="the latents of a model with a decoded field",
            fix="Give the latents of coupled_oscillators with a spatial readout",
        )
    rows, frequency, seen = _rows(recording, latents)
    time = latents["time"].values
    if str(latents.attrs.get("topology")) == "ring":
        return _ring(rows, time, seen, frequency)
    return _pictures(rows, time, seen, frequency)


def _rows(
    recording: xr.DataTree, latents: xr.Dataset
) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], float, int]:
    """Fields (name, complex (site, bin), position (site, 2)) of one trial, frequency, seen bins."""
    field = (latents["decoded_re"] + 1j * latents["decoded_im"]).transpose(
        "trial", "time", "band", "site"
    )
    power = (np.abs(field.values) ** 2).mean((0, 1, 3))
    band = int(np.argmax(power))
    frequency = float(np.atleast_1d(latents["frequency"].values)[band])
    position = np.stack([latents["site_x"].values, latents["site_y"].values], 1)
    whole = latents.sizes["time"]
    spikes = "trial_start" not in latents
    seen = whole - (forward_bins(recording) if spikes else 0)
    tests = trial_mask(recording, "test") if spikes else np.ones(latents.sizes["trial"], bool)
    trial = int(np.flatnonzero(tests)[0])
    chosen = np.arange(latents.sizes["trial"]) == trial
    decoded = field.values[trial, :, band].T
    rows = [("decoded", decoded, position)]
    recorded = (
        units_field(recording, position, frequency, HALF_WIDTH, chosen, whole) if spikes else None
    )
    if recorded is not None:
        rows.insert(0, ("units around each site", recorded[0], position))
    truth = true_field(recording, chosen, whole, "ring") if spikes else None
    if truth is not None:
        group = recording["truth"].to_dataset()
        places = np.stack([group["site_x"].values, group["site_y"].values], 1)
        rows.append(("truth", truth[0][0], places))
    return rows, frequency, seen


def _colours(field: np.ndarray) -> np.ndarray:
    """Phase as hue, amplitude as distance from grey: (..., 3)."""
    colour = plt.get_cmap(CYCLIC)((np.angle(field) + np.pi) / (2 * np.pi))[..., :3]
    strength = np.abs(field) / max(float(np.quantile(np.abs(field), 0.95)), 1e-12)
    strength = np.clip(strength, 0, 1)[..., None]
    return strength * colour + (1 - strength) * GREY


def _ring(
    rows: list[tuple[str, np.ndarray, np.ndarray]], time: np.ndarray, seen: int, frequency: float
) -> Figure:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows), 1, figsize=(7.0, 1.35 * len(rows) + 0.7), sharex=True, squeeze=False
        )
        step = float(np.diff(time[:2])[0])
        for axis, (name, field, position) in zip(axes[:, 0], rows, strict=True):
            away = position - position.mean(0)
            angle = np.arctan2(away[:, 1], away[:, 0])
            order = np.argsort(angle)
            extent = (1e3 * time[0], 1e3 * (time[-1] + step), -180, 180)
            axis.imshow(
                _colours(field[order]),
                aspect="auto",
                origin="lower",
                extent=extent,
                interpolation="nearest",
            )
            axis.set(ylabel="angle (degrees)", yticks=[-180, 0, 180], title=name)
            _mark(axis, time, seen)
        axes[-1, 0].set_xlabel(f"time (ms); {frequency:.1f} Hz")
        _colour_bar(figure, axes.ravel().tolist())
    return figure


def _mark(axis: Axes, time: np.ndarray, seen: int) -> None:
    if seen < len(time):
        axis.axvline(1e3 * time[seen], color="white", lw=2.4)
        axis.axvline(1e3 * time[seen], color="black", lw=1.2, ls="--")
        axis.text(
            1e3 * time[seen], 1.0, " forward", transform=axis.get_xaxis_transform(), va="bottom"
        )


def _pictures(
    rows: list[tuple[str, np.ndarray, np.ndarray]], time: np.ndarray, seen: int, frequency: float
) -> Figure:
    step = float(np.diff(time[:2])[0])
    span = min(len(time) - 1, round(2 / (frequency * step)))
    # Half of the pictures before the model's sight ends, half after, where there is an after.
    middle = seen if seen < len(time) else len(time) // 2
    first = int(np.clip(middle - span // 2, 0, len(time) - 1 - span))
    bins = np.unique(np.linspace(first, first + span, PICTURES).astype(int))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows),
            len(bins),
            figsize=(0.86 * len(bins) + 0.9, 1.0 * len(rows) + 0.5),
            squeeze=False,
        )
        for row, (name, field, position) in enumerate(rows):
            colour = _colours(field)
            for column, now in enumerate(bins):
                axis = axes[row, column]
                axis.scatter(*position.T, c=colour[:, now], s=_marker(position), marker="s", lw=0)
                axis.set(aspect="equal", xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                if row == 0:
                    after = "\nforward" if now >= seen else ""
                    axis.set_title(f"{1e3 * time[now]:.0f} ms{after}")
            axes[row, 0].set_ylabel(name.replace(" around", "\naround"))
        figure.suptitle(f"{frequency:.1f} Hz", fontsize=8)
        _colour_bar(figure, axes.ravel().tolist())
    return figure


def _marker(position: np.ndarray) -> float:
    """Square markers (points^2) that nearly touch in a panel of 50 points."""
    return (50.0 / (np.sqrt(len(position)) + 1)) ** 2


def _colour_bar(figure: Figure, axes: list[Axes]) -> None:
    image = ScalarMappable(Normalize(-np.pi, np.pi), CYCLIC)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.01, aspect=18)
    bar.set_label("phase (rad)\ngrey: small amplitude")
    bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])
