"""Barcode against its null, states coloured by decoded and true angle, and both angles."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from driftwave.errors import InputError
from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, CYCLIC, NULL, STYLE

STAGE = "manifold"
RESULTS = "geometry"
GEOMETRY = "topology"
EACH = True

WIDTH, HEIGHT = 7.5, 2.25
BARS_SHOWN = 8
MOST_STATES = 2000
_NAMES = {"smoothed_counts": "smoothed counts", "rates": "rates", "latents": "latents"}


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """A row for each set of features: barcode, states twice, decoded against true angle.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of str to Dataset
        ``geometry``: what the plug-in ``topology`` found.

    Raises
    ------
    InputError
        If it is not given, or is of another plug-in.
    """
    del recording
    found = need_result(results, "geometry", "topology")
    if "betti" not in found or "birth" not in found:
        raise InputError(
            file="figure topology",
            field="birth",
            found=f"variables {sorted(map(str, found.data_vars))}",
            expected="barcodes",
            fix="Give the result of the plug-in topology",
        )
    sources = [str(name) for name in found["features_from"].values]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH, 0.55 + HEIGHT * len(sources)))
        grid = figure.add_gridspec(len(sources), 4, width_ratios=[1.25, 1, 1, 1])
        for row, source in enumerate(sources):
            part = found.sel(features_from=source)
            axes = [figure.add_subplot(grid[row, column]) for column in range(4)]
            _barcode(axes[0], part)
            axes[0].set_title(f"{_NAMES.get(source, source)}\n{_betti(part)}", loc="left")
            decoded, true, label = _angles(part)
            _states(axes[1], part, decoded, f"decoded angle{_loop_note(part)}")
            _states(axes[2], part, true, f"true {label}" if label else "true angle")
            _agreement(axes[3], part, decoded, true, label)
        key = ScalarMappable(Normalize(0, 360), CYCLIC)
        bar = figure.colorbar(
            key, ax=figure.axes, location="bottom", aspect=60, shrink=0.5, pad=0.02
        )
        bar.set_ticks([0, 90, 180, 270, 360])
        bar.set_label("angle (deg)", labelpad=1)
        bar.outline.set_visible(False)
    return figure


def _betti(part: xr.Dataset) -> str:
    numbers = ", ".join(str(int(b)) for b in part["betti"].values)
    return f"Betti numbers {numbers}"


def _loop_note(part: xr.Dataset) -> str:
    count = int(part["betti"].sel(degree=1)) if 1 in part["degree"].values else 0
    return " (longest loop)" if count > 1 else ""


def _barcode(axes: Axes, part: xr.Dataset) -> None:
    """Longest bars of each degree; the grey stretch from birth is as long as chance allows."""
    y, ticks = 0.0, []
    for degree in part["degree"].values:
        one = part.sel(degree=degree)
        birth, death = one["birth"].values[:BARS_SHOWN], one["death"].values[:BARS_SHOWN]
        threshold = float(one["lifetime_threshold"])
        there = np.isfinite(birth)
        start = y
        for b, d in zip(birth[there], death[there], strict=True):
            if np.isfinite(threshold):
                axes.plot([b, b + threshold], [y, y], color=NULL, linewidth=3.2, alpha=0.45)
            axes.plot([b, d], [y, y], color=COLOURS[int(degree)], linewidth=1.5)
            y -= 1
        ticks.append(((start + y + 1) / 2, f"$H_{int(degree)}$"))
        note = f"p = {float(one['p_value']):.2g}"
        axes.text(0.99, start, note, transform=axes.get_yaxis_transform(), ha="right", va="center",
                  fontsize=6.5, color=COLOURS[int(degree)])  # fmt: skip
        y -= 1
    axes.set_yticks([t for t, _ in ticks], [label for _, label in ticks])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(left=0)
    low, high = axes.get_xlim()
    axes.set_xlim(low, 1.45 * high)
    axes.set_xlabel("distance (radii)\ngrey: longest by chance")


def _angles(part: xr.Dataset) -> tuple[np.ndarray, np.ndarray, str]:
    """Angle (row,) of the longest loop, brought to the measured one, that one, and its name."""
    decoded = part["angle"].isel(loop=0).values.ravel().astype(float)
    if "behaviour_angle" not in part:
        return decoded, np.full(decoded.shape, np.nan), ""
    correlation = np.nan_to_num(part["circular_correlation"].isel(loop=0).values, nan=-1)
    best = int(correlation.argmax())
    one = part.isel(loop=0, circular_feature=best)
    true = one["behaviour_angle"].values.ravel().astype(float)
    turned = float(one["angle_direction"]) * decoded + float(one["angle_rotation"])
    decoded = np.where(np.isfinite(turned), turned, decoded) % (2 * np.pi)
    return decoded, true % (2 * np.pi), str(one["circular_feature"].values).replace("_", " ")


def _states(axes: Axes, part: xr.Dataset, angle: np.ndarray, title: str) -> None:
    """Bins in the plane of the first two components, coloured by an angle."""
    state = part["projection"].values.reshape(len(angle), -1)
    shown = np.linspace(0, len(angle) - 1, min(len(angle), MOST_STATES)).astype(int)
    known = np.isfinite(angle[shown])
    x, y = state[shown, 0], state[shown, 1]
    axes.scatter(x[~known], y[~known], s=2, color=NULL, linewidths=0, rasterized=True)
    axes.scatter(
        x[known],
        y[known],
        s=3,
        c=np.degrees(angle[shown][known]),
        cmap=CYCLIC,
        vmin=0,
        vmax=360,
        linewidths=0,
        rasterized=True,
    )
    axes.set_facecolor("#ECECEC")  # the cyclic map is white at one end
    axes.set(xticks=[], yticks=[], xlabel="PC 1", ylabel="PC 2")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(title if known.any() else f"{title}: none", fontsize=7.5)


def _agreement(
    axes: Axes, part: xr.Dataset, decoded: np.ndarray, true: np.ndarray, label: str
) -> None:
    """Decoded against true angle; filled dots are test trials, which the error is of."""
    both = np.isfinite(decoded) & np.isfinite(true)
    axes.set_aspect("equal")
    axes.set(xlim=(0, 360), ylim=(0, 360), xticks=[0, 180, 360], yticks=[0, 180, 360])
    axes.set(xlabel=f"true {label} (deg)" if label else "true angle (deg)")
    axes.set_ylabel("decoded angle (deg)")
    if not both.any():
        why = "no circular behaviour" if not label else "no significant loop"
        axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
        return
    test = np.repeat(part["split"].values == "test", part.sizes["time"])
    for chosen, colour, name in ((~test, NULL, "other trials"), (test, COLOURS[0], "test trials")):
        at = np.flatnonzero(both & chosen)
        at = at[np.linspace(0, len(at) - 1, min(len(at), MOST_STATES)).astype(int)]
        axes.scatter(
            np.degrees(true[at]),
            np.degrees(decoded[at]),
            s=2.5,
            color=colour,
            linewidths=0,
            rasterized=True,
            label=name,
        )
    axes.plot([0, 360], [0, 360], color="black", linewidth=0.6)
    one = part.sel(loop=1, circular_feature=label.replace(" ", "_"))
    axes.set_title(
        f"r = {float(one['circular_correlation']):.2f}, p = {float(one['p_value_correlation']):.2g}"
        f"\nerror {float(one['angular_error']):.0f} deg in test trials",
        fontsize=7,
    )
    axes.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.32), ncols=2, markerscale=2.5,
                handletextpad=0, columnspacing=0.6, fontsize=6.5)  # fmt: skip
