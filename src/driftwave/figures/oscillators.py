"""Oscillator model: spectrum and components, maps of amplitude and phase, a stretch of latents."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.figures.inputs import need_recording, need_result
from driftwave.figures.style import COLOURS, CYCLIC, NULL, SEQUENTIAL, STYLE, TRUTH
from driftwave.inference.oscillator_results import oscillation_spectrum
from driftwave.recording import require

STAGE = "models"
RESULTS = "latents"
EACH = True
OBSERVES = "field"
WAVES = "loadings"

LONGEST = 120.0  # s of the recording the spectrum is made of
SNIPPET = 2.0  # s of latents
MOST = 6  # oscillators shown


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the model.

    Parameters
    ----------
    recording : DataTree
        With ``field``.
    results : dict
        ``latents``: what the model ``oscillators`` inferred.

    Raises
    ------
    InputError
        If no recording or no latents are given, or the recording has no field.
    """
    recording = need_recording(recording, "oscillators")
    latents = need_result(results, "latents", "oscillators").load()
    field = require(recording, "field", "the figure `oscillators`")
    count = min(MOST, latents.sizes["oscillator"])
    has_maps = "x" in latents.coords and "y" in latents.coords
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(max(7.0, 1.55 * count + 0.7), 6.4 if has_maps else 3.0))
        top, *rest = figure.subfigures(2 if has_maps else 1, 1, squeeze=False).ravel()
        left, right = top.subplots(1, 2, width_ratios=(1, 1.25))
        _spectrum(left, field, latents, count)
        _true_frequencies(left, recording)
        _snippet(right, latents, count)
        if has_maps:
            # One oscillator's two maps lie side by side.
            shape = (2, count) if count > 1 else (1, 2)
            axes = rest[0].subplots(*shape, squeeze=False).reshape(2, count)
            _maps(rest[0], axes, latents, count)
    return figure


def _spectrum(axes: Axes, field: xr.Dataset, latents: xr.Dataset, count: int) -> None:
    from scipy.signal import welch

    rate = float(field.attrs["sampling_rate"])
    good = np.flatnonzero(latents["good"].values)
    lfp = field["lfp"].isel(time=slice(0, int(LONGEST * rate)), electrode=good).values
    lfp = np.nan_to_num(lfp - np.nanmean(lfp, axis=0))
    frequency, power = welch(lfp, rate, nperseg=min(len(lfp), int(2 * rate)), axis=0)
    shown = (frequency >= 1) & (frequency <= 60)
    frequency, power = frequency[shown], power[shown]
    axes.semilogy(frequency, power.mean(1), color="black", label="recorded, mean over electrodes")
    ceiling, floor = 2 * power.mean(1).max(), 0.5 * power.mean(1).min()
    fine = np.linspace(1, 60, 1000)
    for k in range(count):
        one = latents.isel(oscillator=k)
        centre, variance = float(one["frequency"]), np.nanmean(one["loading_amplitude"] ** 2)
        density = oscillation_spectrum(
            fine, centre, float(one["damping"]), latents.attrs["sampling_rate"]
        )
        axes.semilogy(fine, variance * density, color=COLOURS[k], lw=1)
        axes.axvline(centre, color=COLOURS[k], lw=0.6, ls=":")
        ceiling = max(ceiling, 2 * variance * density.max())
    axes.plot([], [], color=COLOURS[0], lw=1, label="model, one line per oscillator")
    axes.set(
        xlabel="frequency (Hz)",
        ylabel="power density (µV²/Hz)",
        xlim=(1, 60),
        ylim=(floor, 6 * ceiling),
    )
    axes.legend(loc="upper right")


def _true_frequencies(axes: Axes, recording: xr.DataTree) -> None:
    """Triangles above the spectrum where a simulated recording's oscillators truly lie."""
    if "truth" not in recording.children or "oscillator_frequency" not in recording["truth"]:
        return
    true = recording["truth"].to_dataset()["oscillator_frequency"].values
    axes.plot(
        true,
        np.full(len(true), 0.02),
        "^",
        color=TRUTH,
        ms=4.5,
        transform=axes.get_xaxis_transform(),
        label="true frequency",
    )
    axes.legend(loc="upper right")


def _snippet(axes: Axes, latents: xr.Dataset, count: int) -> None:
    """Real parts with two posterior standard deviations, where the oscillations are strongest."""
    time = latents["time"].values
    labels = list(latents["label"].values.astype(str))
    rows = [labels.index(f"osc{k}_re") for k in range(count)]
    length = min(len(time), int(SNIPPET * latents.attrs["sampling_rate"]))
    start = _strongest(latents["latent"].values[:, : 2 * latents.sizes["oscillator"]], length)
    part = slice(start, start + length)
    values, deviations = (latents[name].values[part, rows] for name in ("latent", "latent_sd"))
    gap = float(np.ceil(1.6 * np.abs(values).max() + 2 * deviations.max()))
    for k in range(count):
        base, value, band = -gap * k, values[:, k], 2 * deviations[:, k]
        low, high = base + value - band, base + value + band
        axes.axhline(base, color=NULL, lw=0.4)
        axes.fill_between(time[part], low, high, color=COLOURS[k], alpha=0.3, lw=0)
        axes.plot(time[part], base + value, color=COLOURS[k], lw=0.9)
    axes.set(
        xlabel="time (s)",
        ylabel=f"latents, real part ({gap:g} SD apart)" if count > 1 else "latent, real part (SD)",
        xlim=(time[part][0], time[part][-1]),
    )
    if count > 1:
        names = [f"{float(f):.1f} Hz" for f in latents["frequency"][:count]]
        axes.set_yticks([-gap * k for k in range(count)], labels=names)


def _strongest(latent: np.ndarray, length: int) -> int:
    energy = np.concatenate([[0.0], np.cumsum((latent.astype(float) ** 2).sum(1))])
    return int(np.argmax(energy[length:] - energy[:-length]))


def _maps(figure: Figure, axes: np.ndarray, latents: xr.Dataset, count: int) -> None:
    good = latents["good"].values
    x, y = latents["x"].values, latents["y"].values
    size = _marker_size(x, y, 72.0 if count > 1 else 145.0)
    top = float(np.nanmax(latents["loading_amplitude"][:count]))
    for k in range(count):
        one = latents.isel(oscillator=k)
        kinds = (
            ("loading_amplitude", SEQUENTIAL, 0, top),
            ("loading_phase", CYCLIC, -np.pi, np.pi),
        )
        for row, (name, palette, low, high) in enumerate(kinds):
            panel = axes[row, k]
            panel.scatter(x[~good], y[~good], s=size / 4, marker="x", color=NULL, lw=0.6)
            values = one[name].values[good]
            image = panel.scatter(
                x[good],
                y[good],
                c=values,
                s=size,
                marker="s",
                cmap=palette,
                vmin=low,
                vmax=high,
                lw=0,
            )
            panel.set(aspect="equal", xticks=[], yticks=[], **_limits(x, y))
            panel.spines[:].set_visible(False)
            if k == count - 1:
                _colour_bar(figure, image, axes[row, :], name)
        share = float(one["variance_share"])
        axes[0, k].set_title(
            f"{_frequency(one)} Hz\n{100 * share:.1f} % of variance", color=COLOURS[k]
        )
    _scale_bar(axes[1, 0], x, y)


def _frequency(one: xr.Dataset) -> str:
    """Frequency, with its standard error where there is one."""
    centre = float(one["frequency"])
    spread = float(one["frequency_sd"]) if "frequency_sd" in one else float("nan")
    return f"{centre:.2f} ± {spread:.2f}" if np.isfinite(spread) else f"{centre:.1f}"


def _colour_bar(figure: Figure, image: object, axes: np.ndarray, name: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.01)  # type: ignore[arg-type]
    if name == "loading_amplitude":
        bar.set_label("amplitude (SD, µV)")
    else:
        bar.set_label("phase (rad)")
        bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])


def _marker_size(x: np.ndarray, y: np.ndarray, width: float) -> float:
    """Square markers (points^2) that nearly touch on a grid drawn ``width`` points wide."""
    extent = max(np.ptp(x), np.ptp(y), 1e-9)
    distance = np.hypot(x[:, None] - x[None], y[:, None] - y[None])
    distance[np.diag_indices(len(x))] = np.inf
    pitch = float(np.median(distance.min(0))) if len(x) > 1 else extent
    return float(np.clip(width * pitch / (extent + pitch), 2, 20)) ** 2


def _limits(x: np.ndarray, y: np.ndarray) -> dict[str, tuple[float, float]]:
    """The same for every map, with room for the scale bar below."""
    extent = max(np.ptp(x), np.ptp(y), 1e-9)
    around, below = 0.08 * extent, 0.3 * extent
    return {
        "xlim": (np.min(x) - around, np.max(x) + around),
        "ylim": (np.min(y) - below, np.max(y) + around),
    }


def _scale_bar(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    extent = max(np.ptp(x), np.ptp(y), 1e-9)
    length = 10.0 ** np.floor(np.log10(extent / 2))
    length *= max(m for m in (1, 2, 5) if m * length <= extent / 2)
    base = np.min(y) - 0.14 * extent
    axes.plot([np.min(x), np.min(x) + length], [base, base], color="black", lw=1.5)
    axes.text(np.min(x) + length / 2, base - 0.03 * extent, f"{length:g} mm", ha="center", va="top")
