"""Waves of a decoded field beside the recorded ones: directions, directionality, singularities."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftwave.errors import InputError
from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "loadings decoded"

SIGNAL_COLOURS = {"recorded": COLOURS[0], "decoded": COLOURS[1], "truth": TRUTH}
NEEDED = ("direction_share", "directionality_share", "winding_share", "singularity_rate")


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw wave statistics of the recorded, the decoded and, where known, the true field.

    Parameters
    ----------
    recording : DataTree or None
        Not needed.
    results : dict
        ``waves``: what the waves stage wrote for a model with a decoded field.

    Raises
    ------
    InputError
        If ``waves`` is not given or holds no decoded field.
    """
    del recording
    waves = need_result(results, "waves", "decoded_waves")
    missing = [name for name in NEEDED if name not in waves]
    if missing:
        raise InputError(
            file="figure decoded_waves",
            field="waves",
            found=f"no {', '.join(missing)}",
            expected="the waves of a model with a decoded field",
            fix="Run the waves stage on such a model's latents again",
        )
    bands = waves if "band" in waves.dims else waves.expand_dims("band")
    signals = [str(name) for name in waves["signal"].values]
    ring = waves.attrs.get("field_topology") == "ring"
    rows, columns = bands.sizes["band"], len(signals) + 2
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(1.75 * columns + 0.6, 2.5 * rows))
        grid = figure.add_gridspec(rows, columns)
        for row in range(rows):
            one = bands.isel(band=row)
            for column, name in enumerate(signals):
                cell = grid[row, column]
                polar = None if ring else "polar"
                axes = figure.add_subplot(cell, projection=polar)
                (_windings if ring else _rose)(axes, one.sel(signal=name), name)
            _levels(figure.add_subplot(grid[row, -2]), one, signals)
            _singularities(figure.add_subplot(grid[row, -1]), one, signals, ring)
            figure.axes[-columns].set_ylabel(_row_label(waves, row), labelpad=18 if not ring else 4)
        if "supported" in bands:
            figure.suptitle("\n".join(_claim(bands.isel(band=row)) for row in range(rows)))
    return figure


def _row_label(waves: xr.Dataset, row: int) -> str:
    if "band" in waves["direction_share"].dims:
        return f"{float(np.atleast_1d(waves['frequency'].values)[row]):.1f} Hz"
    low, high = waves.attrs.get("field_band", (np.nan, np.nan))
    return f"{low:.1f}-{high:.1f} Hz"


def _claim(one: xr.Dataset) -> str:
    """What units that the model did not see say of a band's lags."""
    gain, error = float(one["wave_gain"]), float(one["wave_gain_sd"])
    if not np.isfinite(gain):
        return f"{float(one['frequency']):.1f} Hz: units have no places on the lattice, not judged"
    words = f"{float(one['frequency']):.1f} Hz: lags are worth {gain:.3f} ± {error:.3f} "
    words += f"{one['wave_gain'].attrs.get('units', '')} on unseen units"
    if bool(one["supported"]):
        return f"{words}: the wave is supported"
    return f"{words}: NOT supported, read as no wave"


def _title(one: xr.Dataset, name: str) -> str:
    if name == "recorded":
        return f"recorded ({one.attrs.get('recorded_from', 'field')})"
    return name


def _rose(axes: Axes, one: xr.Dataset, name: str) -> None:
    centre = np.deg2rad(one["direction_bin"].values)
    share = one["direction_share"].values
    axes.bar(centre, share, width=2 * np.pi / len(centre), color=SIGNAL_COLOURS.get(name, NULL))
    axes.set_yticks([float(share.max())], [f"{100 * share.max():.0f} %"])
    axes.set_xticks(np.deg2rad([0, 90, 180, 270]), ["0°", "90°", "180°", "270°"])
    axes.tick_params(pad=-2)
    axes.set_title(f"{_title(one, name)}\ndirections")
    if name == "decoded" and "direction_agreement" in one:
        agreement, null = (
            float(one[n]) for n in ("direction_agreement", "null_direction_agreement")
        )
        axes.set_xlabel(f"agreement {agreement:.2f}\n(null < {null:.2f})")


def _windings(axes: Axes, one: xr.Dataset, name: str) -> None:
    share = one["winding_share"].values
    axes.bar(one["winding"].values, share, color=SIGNAL_COLOURS.get(name, NULL))
    axes.set(ylim=(0, 1), title=f"{_title(one, name)}", xlabel="winding number")
    axes.set_xticks([-4, -2, 0, 2, 4])


def _levels(axes: Axes, one: xr.Dataset, signals: list[str]) -> None:
    for name in signals:
        part, colour = one.sel(signal=name), SIGNAL_COLOURS.get(name, NULL)
        centre, share = part["level_bin"].values, part["directionality_share"].values
        axes.step(centre, share, where="mid", color=colour, label=name)
        axes.axvline(float(part["null_directionality"].mean()), color=colour, ls=":", lw=0.9)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="directionality", ylabel="share of power")
    axes.set_title("PGD\n(dotted: its zero-lag null)")
    axes.legend(loc="best", borderpad=0, handlelength=1)


def _singularities(axes: Axes, one: xr.Dataset, signals: list[str], ring: bool) -> None:
    kind = "net_winding" if ring else "singularity_rate"
    for place, name in enumerate(signals):
        part, colour = one.sel(signal=name), SIGNAL_COLOURS.get(name, NULL)
        axes.bar(place, float(part[kind]), width=0.6, color=colour)
        null = part[f"null_{kind}"].values
        low, high = np.quantile(null, [0.025, 0.975])
        axes.plot([place + 0.4] * 2, [low, high], color=NULL, lw=2.5)
        axes.plot(place + 0.4, null.mean(), "_", color=NULL, ms=7)
    axes.set_xticks(range(len(signals)), signals, rotation=30)
    axes.set_ylim(0, None)
    what, mean = ("net winding", "trial") if ring else ("singularities", "frame")
    axes.set(ylabel=f"mean per {mean}", title=f"{what}\n(grey: zero-lag null)")
