"""Phase over the array: film strips of events, or maps of an oscillator model's loadings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from driftwave.figures.inputs import need_result
from driftwave.figures.style import COLOURS, CYCLIC, NULL, STYLE
from driftwave.figures.waves import class_label, significant

STAGE = "waves"
RESULTS = "waves"
EACH = True
WAVES = "field loadings"

EXAMPLES = 4
LEVEL = 0.05  # of a loading's p, above which its pattern is marked in grey
PHASES = 6
COLUMNS = 4


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Draw the phase at each electrode in the course of example events.

    Parameters
    ----------
    recording : DataTree or None
        With the group ``field``; None draws the events' mean maps only.
    results : dict
        ``waves``: what the waves stage wrote.

    Raises
    ------
    InputError
        If ``waves`` is not given.
    """
    waves = need_result(results, "waves", "wave_field")
    with plt.rc_context(STYLE):
        if "oscillator" in waves.dims:
            return _loadings(waves)
        if not waves.sizes["event"]:
            figure, axes = plt.subplots(figsize=(7, 1.2))
            axes.axis("off")
            axes.text(0.5, 0.5, "no event above the threshold of the zero-lag null", ha="center")
            return figure
        return _strips(recording, waves)


def example_events(waves: xr.Dataset, most: int = EXAMPLES) -> list[int]:
    """Best-scoring events of different classes, significant ones first, then others."""
    score = waves["peak_score"].values + 1e3 * significant(waves)
    order = np.argsort(-score)
    names = waves["class"].values.astype(str)
    first = [int(np.flatnonzero(names[order] == n)[0]) for n in dict.fromkeys(names[order])]
    chosen = [int(order[i]) for i in first]
    chosen += [int(i) for i in order if int(i) not in chosen]
    return chosen[:most]


def _strips(recording: xr.DataTree | None, waves: xr.Dataset) -> Figure:
    chosen = example_events(waves)
    figure, axes = plt.subplots(
        len(chosen), PHASES + 1, figsize=(7.6, 1.05 * len(chosen) + 0.3), squeeze=False
    )
    position = np.stack([waves["x"].values, waves["y"].values], axis=1)
    size = _marker(figure, position, waves, PHASES + 1)
    for row, event in enumerate(chosen):
        one = waves.isel(event=event)
        moments, phase = _course(recording, waves, one)
        for column in range(PHASES):
            axis = axes[row, column]
            if phase is None:
                axis.axis("off")
                continue
            _map(axis, position, phase[:, column], size)
            axis.set_title(f"{1e3 * (moments[column] - moments[0]):.0f} ms", fontsize=7)
        _map(axes[row, -1], position, one["event_phase"].values, size)
        _mark(axes[row, -1], one, position)
        axes[row, -1].set_title("mean", fontsize=7)
        q = float(one["q"])
        axes[row, 0].set_ylabel(
            f"{class_label(str(one['class'].values)).replace('counter-', 'counter-' + chr(10))}\n"
            f"{float(one['frequency']):.1f} Hz{_speed(one)}\nq = {q:.2g}",
            rotation=0,
            ha="right",
            va="center",
            fontsize=7,
        )
    _colour_bar(figure, axes)
    return figure


def _speed(one: xr.Dataset) -> str:
    speed = float(one["speed"])
    return f", {speed:.0f} mm/s" if np.isfinite(speed) else ""


def _words(one: xr.Dataset) -> str:
    """What is known of one oscillator's wave, with its intervals."""
    lines = [
        f"{float(one['frequency']):.1f} Hz, p = {float(one['p']):.2g}",
        class_label(str(one["class"].values)),
    ]
    lines += [
        f"{float(one[name]):.0f} {unit}{_interval(one, name)}"
        for name, unit in (("direction", "degrees"), ("speed", "mm/s"))
        if np.isfinite(float(one[name]))
    ]
    if "log_bayes_factor" in one and np.isfinite(float(one["log_bayes_factor"])):
        factor = float(one["log_bayes_factor"]) / np.log(10)
        lines.append(f"travelling : standing = 10^{factor:.1f}")
    return "\n".join(lines)


def _interval(one: xr.Dataset, name: str) -> str:
    if f"{name}_low" not in one or not np.isfinite(float(one[f"{name}_low"])):
        return ""
    low, high = float(one[f"{name}_low"]), float(one[f"{name}_high"])
    digits = 1 if high - low < 10 else 0
    return f" ({low:.{digits}f} to {high:.{digits}f})"


def _course(
    recording: xr.DataTree | None, waves: xr.Dataset, one: xr.Dataset
) -> tuple[np.ndarray, np.ndarray | None]:
    """Phase (electrode, moment) at moments of one cycle in the middle of an event."""
    middle = 0.5 * (float(one["start"]) + float(one["stop"]))
    moments = middle + np.arange(PHASES) / PHASES / float(one["frequency"])
    if recording is None or "field" not in recording.children:
        return moments, None
    from driftwave.phase.frames import open_field

    band = tuple(float(edge) for edge in waves.attrs["band"])
    dataset = recording["field"].to_dataset()
    wanted = float(waves.attrs["sampling_rate"]) * 0.999
    reader = open_field(recording, dataset, band=(band[0], band[1]), frame_rate=wanted)
    time = reader.lfp["time"].values
    origin = float(time[0])
    frames = np.round((moments - origin) * reader.rate).astype(int)
    frames = np.clip(frames, 0, reader.frames - 1)
    _, phase, _ = reader.stretch(
        int(frames[0]),
        int(frames[-1]) + 1,
        generalized=waves.attrs["phase"] == "generalized",
    )
    return time[np.minimum(frames * reader.every, len(time) - 1)], phase[:, frames - frames[0]]


def _marker(figure: Figure, position: np.ndarray, waves: xr.Dataset, columns: int) -> float:
    """Area (points squared) of a square as large as the pitch."""
    extent = float(np.ptp(position, axis=0).max()) + float(waves.attrs["pitch"])
    inches = 0.78 * figure.get_figwidth() / columns * float(waves.attrs["pitch"]) / extent
    return (72 * inches) ** 2


def _map(axes: Axes, position: np.ndarray, phase: np.ndarray, size: float) -> None:
    x, y = position.T
    axes.scatter(x, y, c=phase, s=size, marker="s", cmap=CYCLIC, vmin=-np.pi, vmax=np.pi, lw=0)
    axes.set_aspect("equal")
    margin = 0.08 * float(np.ptp(position, axis=0).max())
    axes.set_xlim(position[:, 0].min() - margin, position[:, 0].max() + margin)
    axes.set_ylim(position[:, 1].min() - margin, position[:, 1].max() + margin)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _mark(axes: Axes, one: xr.Dataset, position: np.ndarray, colour: str = COLOURS[7]) -> None:
    """Arrow along a planar wave; a dot at the centre of the others, if it lies on the map."""
    low, high = position.min(axis=0), position.max(axis=0)
    if np.isfinite(float(one["direction"])):
        angle = np.deg2rad(float(one["direction"]))
        step = 0.35 * (high - low).max() * np.array([np.cos(angle), np.sin(angle)])
        middle = (low + high) / 2
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "mutation_scale": 9}
        axes.annotate("", xy=middle + step, xytext=middle - step, arrowprops=arrow)
    elif np.isfinite(float(one["centre_x"])):
        centre = np.array([float(one["centre_x"]), float(one["centre_y"])])
        if ((centre >= low) & (centre <= high)).all():
            axes.plot(*centre, "o", mfc=colour, mec="black", ms=4.5)


def _colour_bar(figure: Figure, axes: np.ndarray) -> None:
    mappable = ScalarMappable(Normalize(-np.pi, np.pi), CYCLIC)
    bar = figure.colorbar(mappable, ax=axes, shrink=0.6, aspect=14, pad=0.02)
    bar.set_ticks([-np.pi, 0, np.pi], labels=["-π", "0", "π"])
    bar.set_label("phase (rad)")


def _loadings(waves: xr.Dataset) -> Figure:
    count = waves.sizes["oscillator"]
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns + 0.9, 3.0 * rows), squeeze=False
    )
    position = np.stack([waves["x"].values, waves["y"].values], axis=1)
    size = _marker(figure, position, waves, columns) * 0.8
    for number, axis in enumerate(axes.flat):
        if number >= count:
            axis.axis("off")
            continue
        one = waves.isel(oscillator=number)
        _map(axis, position, one["event_phase"].values, size)
        _mark(axis, one, position, COLOURS[7] if float(one["p"]) <= LEVEL else NULL)
        axis.set_title(_words(one), fontsize=7)
    _colour_bar(figure, axes)
    return figure
