"""Phase singularities: where they drift, when they live, and for how long beside chance."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure

from driftwave.errors import InputError
from driftwave.figures.array_parts import array_parts
from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, NULL, SEQUENTIAL, STYLE
from driftwave.phase.electrodes import arrays_of
from driftwave.phase.signal import wave_signal

STAGE = "waves"
RESULTS = "detectors"
DETECTOR = "singularities"
EACH = True

LEVEL = 0.05
CHARGES = {1: ("counter-clockwise", COLOURS[1]), -1: ("clockwise", COLOURS[0])}
NARROWEST = 0.002  # share of the time axis that a track is wide, at least
WIDTH, HEIGHT = 7.4, 3.4
MARGIN = 0.06
RASTERISED = 2000  # tracks beyond which they are drawn as pixels
MOST = 200  # tracks on the map, the longest ones


class Place(NamedTuple):
    """Where electrodes are (electrode, 2), mm, and from when to when was recorded, s.

    Without ``electrodes`` the positions are corners of a box.
    """

    position: np.ndarray
    start: float
    stop: float
    electrodes: bool = True


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the tracks over the array and over the recording, and their lifetimes.

    Parameters
    ----------
    recording : DataTree or None
        Gives electrodes and duration; without it the tracks' own bounds are drawn.
    results : dict
        ``detectors``: what the detector ``singularities`` found.

    Raises
    ------
    InputError
        If ``detectors`` is not given, or holds no tracks.
    """
    found = need_result(results, "detectors", "singularity_tracks")
    if "track_x" not in found:
        raise InputError(
            file="figure singularity_tracks",
            field="track_x",
            found=f"variables {sorted(map(str, found.data_vars))}",
            expected="tracks of singularities",
            fix="Give the result of the detector singularities",
        )
    parts = array_parts(found)
    places = _places(recording)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH, HEIGHT * len(parts)))
        blocks = figure.subfigures(len(parts), 1, squeeze=False).flat
        for block, (name, part) in zip(blocks, parts.items(), strict=True):
            tracks = part.isel(point=np.flatnonzero(part["track"].values >= 0))
            _draw_array(block, tracks, places.get(name) or _bounds(tracks), name)
    return figure


def _places(recording: xr.DataTree | None) -> dict[str, Place]:
    if recording is None:
        return {}
    signal = wave_signal(recording)
    time = signal["time"].values
    return {
        name: Place(
            np.stack([one["x"].values, one["y"].values], axis=1), float(time[0]), float(time[-1])
        )
        for name, one in arrays_of(signal, str(recording.attrs.get("session", "recording"))).items()
    }


def _bounds(tracks: xr.Dataset) -> Place:
    """The tracks' own bounds, where the recording is not at hand."""
    if not tracks.sizes["point"]:
        return Place(np.zeros((0, 2)), 0.0, 1.0, electrodes=False)
    x, y = tracks["track_x"].values, tracks["track_y"].values
    pitch = float(tracks.attrs.get("pitch", 0.0))
    corners = np.array(
        [
            (column, row)
            for column in (x.min() - pitch, x.max() + pitch)
            for row in (y.min() - pitch, y.max() + pitch)
        ]
    )
    return Place(
        corners, float(tracks["start"].min()), float(tracks["stop"].max()), electrodes=False
    )


def _draw_array(figure: SubFigure, tracks: xr.Dataset, place: Place, name: str) -> None:
    sure = tracks["q"].values <= LEVEL if "q" in tracks else np.zeros(0, bool)
    above, below = figure.subfigures(2, 1, height_ratios=[0.07, 1], squeeze=False).flat
    left, right = below.subfigures(1, 2, width_ratios=[1, 1.15], squeeze=False).flat
    _map(left, left.subplots(), tracks, place, sure)
    axes = right.subplots(2, 1, height_ratios=[1, 1.5])
    _raster(axes[0], tracks, place, sure)
    _lifetimes(axes[1], tracks)
    count = tracks.sizes["event"]
    session = str(tracks.attrs.get("session", "recording")) + (f", array {name}" if name else "")
    words = f"{session}: {count} track{'s' * (count != 1)}"
    if count:
        words += f", {int(sure.sum())} of significant lifetime (q ≤ {LEVEL:g}, thick)"
    above.suptitle(words, fontsize=8.5, x=0.02, ha="left")


def _map(figure: SubFigure, axes: Axes, tracks: xr.Dataset, place: Place, sure: np.ndarray) -> None:
    """Tracks over the electrodes, coloured by time; circles where they turn counter-clockwise."""
    if place.electrodes:
        axes.plot(*place.position.T, ".", color="#CCCCCC", ms=2, zorder=0)
    norm = Normalize(place.start, place.stop)
    longest = np.argsort(-tracks["lifetime"].values, kind="stable")[:MOST]
    paths = [(path, event) for path, event in _paths(tracks) if event in set(longest.tolist())]
    for bold in (False, True):
        lines, ends, times, charges = [], [], [], []
        for path, event in paths:
            if bool(sure[event]) == bold:
                lines.append(path[:, 1:])
                ends.append(path[-1, 1:])
                times.append(path[0, 0])
                charges.append(float(tracks["charge"][event]))
        if not lines:
            continue
        colours = plt.get_cmap(SEQUENTIAL)(norm(times))
        width = 1.8 if bold else 0.6
        axes.add_collection(LineCollection(lines, colors=colours, linewidths=width))
        for charge, marker in ((1, "o"), (-1, "s")):
            at = np.flatnonzero(np.sign(charges) == charge)
            x, y = np.array(ends)[at].reshape(-1, 2).T
            axes.scatter(
                x,
                y,
                c=colours[at],
                marker=marker,
                s=18 if bold else 5,
                edgecolor="black" if bold else "none",
                lw=0.5,
                zorder=3,
            )
    axes.set_aspect("equal")
    axes.set(xlabel="x (mm)", ylabel="y (mm)")
    if not len(place.position):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no track", ha="center", transform=axes.transAxes)
    else:
        low, high = place.position.min(axis=0), place.position.max(axis=0)
        margin = MARGIN * float((high - low).max())
        axes.set(xlim=(low[0] - margin, high[0] + margin))
        axes.set(ylim=(low[1] - margin, high[1] + margin))
    if tracks.sizes["event"]:
        longest_only = f" of the {MOST} that live longest" * (tracks.sizes["event"] > MOST)
        axes.set_title(f"tracks{longest_only}; at their ends\n○ counter-clockwise, □ clockwise")
        bar = figure.colorbar(ScalarMappable(norm, SEQUENTIAL), ax=axes, shrink=0.8, aspect=25)
        bar.set_label("time (s)")


def _paths(tracks: xr.Dataset) -> list[tuple[np.ndarray, int]]:
    """Each track as rows of time (s), x and y (mm), with its event."""
    points = np.stack([tracks[f"track_{name}"].values for name in ("time", "x", "y")], axis=1)
    number = tracks["track"].values.astype(int)
    order = np.lexsort((points[:, 0], number))
    events, first = np.unique(number[order], return_index=True)
    pieces = np.split(points[order], first[1:]) if len(events) else []
    return list(zip(pieces, events.tolist(), strict=True))


def _raster(axes: Axes, tracks: xr.Dataset, place: Place, sure: np.ndarray) -> None:
    """When each charge is there, each track at the height it fits in beside the others."""
    charge = np.sign(tracks["charge"].values)
    start, stop = tracks["start"].values, tracks["stop"].values
    narrowest = NARROWEST * (place.stop - place.start)
    for row, (sign, (_, colour)) in enumerate(CHARGES.items()):
        for bold in (False, True):
            at = np.flatnonzero((charge == sign) & (sure == bold))
            axes.broken_barh(
                [(start[n], max(stop[n] - start[n], narrowest)) for n in at],
                (row - 0.3, 0.6) if bold else (row - 0.12, 0.24),
                facecolor=colour,
                edgecolor="none",
                alpha=1 if bold else 0.6,
                rasterized=len(at) > RASTERISED,
            )
    labels = [f"{words}\n({int((charge == sign).sum())})" for sign, (words, _) in CHARGES.items()]
    axes.set_yticks(range(len(CHARGES)), labels)
    axes.set(xlim=(place.start, place.stop), ylim=(1.5, -0.5), xlabel="time (s)")
    axes.set_title("tracks by charge")


def _lifetimes(axes: Axes, tracks: xr.Dataset) -> None:
    """Lifetimes found beside those of the surrogates' tracks, per recording of each."""
    life = tracks["lifetime"].values
    null = tracks["null_lifetime"].values
    null = null[np.isfinite(null)]
    surrogates = int(tracks.attrs.get("surrogates", 1))
    axes.set(xlabel="lifetime (s)", ylabel="tracks that\nlive longer")
    everything = np.concatenate([life, null])
    if not len(everything):
        axes.text(
            0.5, 0.5, "no track, nor any in surrogates", ha="center", transform=axes.transAxes
        )
        axes.set(xticks=[], yticks=[])
        return
    for values, weight, colour, label in (
        (null, 1 / surrogates, NULL, f"per surrogate (mean of {surrogates})"),
        (life, 1.0, COLOURS[2], "found"),
    ):
        if len(values):
            longer = np.sort(values)
            left = weight * np.arange(len(values), 0, -1)
            axes.step(
                [0, *longer, longer[-1]],
                [left[0], *left, 0],
                where="pre",
                color=colour,
                label=label,
            )
    axes.set_xlim(0, 1.05 * float(everything.max()))
    most = max(len(life), len(null) / surrogates)
    axes.set_yscale("symlog", linthresh=1, linscale=0.6)
    ticks = [0, *(10**power for power in range(1 + int(np.log10(max(most, 1)))))]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.3 * max(most, 1))
    axes.legend(loc="upper right")
