"""The learned potential of a Langevin model: couplings, modes, mode shapes and a slice of U."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from driftwave.errors import InputError
from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, CYCLIC, DIVERGING, NULL, STYLE

STAGE = "models"
RESULTS = "latents"
EACH = True
OBSERVES = "spikes"
WAVES = "lattice"

NEEDED = ("coupling", "mode_frequency", "slice_force")
SHAPES = 4  # modes whose shapes are drawn
LEVELS = 14
CLOUD = 2000


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw what :func:`driftwave.inference.langevin_modes.describe` found.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``latents``: of a model with Langevin dynamics.

    Raises
    ------
    InputError
        If the latents hold no couplings and modes.
    """
    del recording
    latents = need_result(results, "latents", "potential")
    missing = [name for name in NEEDED if name not in latents]
    if missing:
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field=", ".join(missing),
            found="nothing",
            expected="the couplings and modes of a model with Langevin dynamics",
            fix="Give figure potential the latents of langevinflow",
        )
    latents = latents.load()
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(7.5, 5.2))
        top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False).ravel()
        panels = top.subplots(1, 3, width_ratios=(1.15, 1, 1.15))
        _couplings(panels[0], latents)
        _plane(panels[1], latents)
        _slice(panels[2], latents)
        _shapes(bottom, latents)
    return figure


def relative_coupling(coupling: np.ndarray) -> np.ndarray:
    """Off-diagonal couplings over the geometric mean of the two diagonals; NaN on the diagonal.

    Zero where a diagonal is zero (a model without a potential).
    """
    own = np.sqrt(np.abs(np.diag(coupling)))
    scale = own[:, None] * own[None]
    relative = np.divide(coupling, scale, out=np.zeros_like(coupling), where=scale > 0)
    np.fill_diagonal(relative, np.nan)
    return relative


def _couplings(axis: Axes, latents: xr.Dataset) -> None:
    relative = relative_coupling(latents["coupling"].values)
    top = max(float(np.nanmax(np.abs(relative), initial=0.0)), 1e-6)
    image = axis.imshow(relative, cmap=DIVERGING, vmin=-top, vmax=top, interpolation="none")
    axis.set_facecolor("0.85")
    channels, sites = latents["node_channel"].values, int(latents["node_site"].max()) + 1
    edges = np.arange(0, len(channels) + 1, sites) - 0.5
    for edge in edges[1:-1]:
        axis.axhline(edge, color=NULL, lw=0.5)
        axis.axvline(edge, color=NULL, lw=0.5)
    middle = (edges[1:] + edges[:-1]) / 2
    names = [str(k + 1) for k in range(len(middle))]
    axis.set_xticks(middle, names)
    axis.set_yticks(middle, names)
    axis.tick_params(length=0)
    sites_each = f"{sites} sites each"
    axis.set(xlabel=f"channel ({sites_each})", ylabel="channel")
    bar = axis.figure.colorbar(image, ax=axis, pad=0.02, shrink=0.7, ticks=MaxNLocator(5))
    bar.set_label("relative coupling")
    conservative = "slice_energy" in latents
    axis.set_title("mean Hessian of U" if conservative else "force, symmetric part")


def _plane(axis: Axes, latents: xr.Dataset) -> None:
    """Modes by frequency and damping, as large as their share of the positions' variance."""
    frequency, damping = latents["mode_frequency"].values, latents["mode_damping"].values
    share = latents["mode_share"].values
    axis.scatter(frequency, damping, s=8 + 250 * share, color=NULL, alpha=0.6, lw=0)
    for k in range(min(SHAPES, len(share))):
        axis.scatter(
            frequency[k], damping[k], s=8 + 250 * share[k], color=COLOURS[k], lw=0, alpha=0.85
        )
    top = max(float(frequency.max()) * 1.08, 0.5)
    axis.axhline(0, color=NULL, lw=0.6, zorder=0)
    end = min(top, float(damping.max()))
    axis.plot([0, end], [0, end], color=NULL, lw=0.8, ls=":", label="falls to 1/e in a cycle")
    axis.legend(loc="upper right", handlelength=1.5)
    axis.set(xlabel="frequency (Hz)", ylabel="damping (1/s)", xlim=(-0.04 * top, top))
    low, high = min(0.0, float(damping.min())), float(damping.max())
    axis.set_ylim(low - 0.06 * (high - low + 1), high + 0.25 * (high - low + 1))
    axis.set_title("modes (area: share\nof variance)")


def _slice(axis: Axes, latents: xr.Dataset) -> None:
    """U, or the force alone where it has no potential, over the plane of most variance."""
    x, y = latents["slice_1"].values, latents["slice_2"].values
    if "slice_energy" in latents:
        energy = latents["slice_energy"].values.T
        low = float(energy.min())
        high = float(np.quantile(energy, 0.9))
        levels = MaxNLocator(LEVELS).tick_values(low, high if high > low else low + 1.0)
        shown = axis.contourf(x, y, energy, levels=levels, cmap="cividis", extend="max")
        bar = axis.figure.colorbar(shown, ax=axis, pad=0.02, ticks=MaxNLocator(5))
        bar.set_label("U (kT)")
    nodes = latents.sizes["node"]
    positions = latents["latent"].values[..., :nodes].reshape(-1, nodes)
    axes = latents["slice_axis"].values
    cloud = (positions - latents["slice_centre"].values) @ axes.T
    cloud = cloud[np.linspace(0, len(cloud) - 1, min(CLOUD, len(cloud))).astype(int)]
    axis.plot(cloud[:, 0], cloud[:, 1], ".", color="white", ms=1.5, mew=0, alpha=0.6)
    if "slice_energy" not in latents:
        axis.set_facecolor("0.6")
    every = slice(2, None, 6)
    force = latents["slice_force"].values
    if force.any():
        axis.quiver(
            x[every],
            y[every],
            force[0][every, every].T,
            force[1][every, every].T,
            color=COLOURS[1],
            width=0.007,
            pivot="mid",
        )
    axis.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axis.set(xlabel="positions, component 1", ylabel="component 2")
    axis.set_title("U and force" if "slice_energy" in latents else "force (no potential)")


def _shapes(figure: SubFigure, latents: xr.Dataset) -> None:
    """Amplitude (area) and phase (colour) of the leading modes over the lattice."""
    channel, site = latents["node_channel"].values, latents["node_site"].values
    count = min(SHAPES, latents.sizes["mode"])
    sites = int(site.max()) + 1
    size = float(np.clip(95.0 / max(sites, int(channel.max()) + 1), 3, 16)) ** 2
    panels, image = list(figure.subplots(1, count, squeeze=False).flat), None
    for k, axis in enumerate(panels):
        amplitude = latents["mode_amplitude"].values[k]
        phase = latents["mode_phase"].values[k]
        image = axis.scatter(
            site + 1,
            channel + 1,
            c=phase,
            s=size * amplitude,
            cmap=CYCLIC,
            vmin=-np.pi,
            vmax=np.pi,
            lw=0.4,
            edgecolors=NULL,
        )
        axis.set(xlim=(0.3, sites + 0.7), ylim=(int(channel.max()) + 1.7, 0.3), xlabel="site")
        axis.set_yticks(np.unique(channel) + 1)
        axis.set_xticks(np.unique(site) + 1 if sites <= 8 else np.linspace(1, sites, 4).astype(int))
        axis.tick_params(labelleft=k == 0)
        frequency, damping = (float(latents[f"mode_{n}"][k]) for n in ("frequency", "damping"))
        share = float(latents["mode_share"][k])
        axis.set_title(
            f"{_motion(frequency, damping)}\n{100 * share:.0f} % of variance", color=COLOURS[k]
        )
    panels[0].set_ylabel("channel")
    assert image is not None
    bar = figure.colorbar(image, ax=panels, shrink=0.9, pad=0.01)
    bar.set_label("phase (rad)")
    bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])


def _motion(frequency: float, damping: float) -> str:
    """Frequency and damping in words: what neither turns nor decays within minutes stands still."""
    decay = f"{damping:.2g}/s"
    if frequency > 0:
        return f"{frequency:.2g} Hz, {decay}"
    return f"no oscillation, {decay}" if abs(damping) > 0.005 else "frozen"
