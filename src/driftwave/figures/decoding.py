"""Decoded behaviour and stimuli: every source against chance, and examples of the test split."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from driftwave.errors import InputError
from driftwave.figures.style import NULL, STYLE, TRUTH, colour_of

STAGE = "decoding"
RESULTS = "decode"

LOWEST_R2 = -0.25
MOST_PANELS = 6
MOST_TRACES = 3
MOST_EXAMPLES = 2
EXAMPLE_SECONDS = 20.0
EXAMPLE_TRIALS = 8
_NAMES = {"smoothed_counts": "smoothed counts"}
_MARKERS = {"counts": "o", "smoothed_counts": "s", "rates": "o", "latents": "s"}


@dataclass(frozen=True, eq=False)
class Row:
    """One set of features: a line of every panel."""

    source: str
    features: str
    result: xr.Dataset

    @property
    def label(self) -> str:
        name = _NAMES.get(self.features, self.features)
        return name if self.source == "recording" else f"{self.source}, {name}"


@dataclass(frozen=True)
class Panel:
    """One score of one target."""

    score: str
    dim: str
    target: str

    @property
    def title(self) -> str:
        return self.target.replace("_", " ")

    @property
    def axis_label(self) -> str:
        labels = {"r2": "R$^2$", "angular_error": "median error (degree)"}
        return labels.get(self.score, "share right")

    def values(self, row: Row, suffix: str) -> np.ndarray:
        """Variable ``<score>_<suffix>`` (or ``null_<score>_test``) of a row, NaN if not there."""
        name = f"null_{self.score}_test" if suffix == "null" else f"{self.score}_{suffix}"
        data = row.result.get(name)
        if data is None or self.target not in data[self.dim].values:
            return np.array(np.nan)
        return data.sel({"features_from": row.features, self.dim: self.target}).values

    def ceiling(self, row: Row) -> float:
        """Noise ceiling of a row; NaN where there is none."""
        data = row.result.get(f"ceiling_{self.score}")
        if data is None or self.dim not in data.dims or self.target not in data[self.dim].values:
            return np.nan
        return float(data.sel({"features_from": row.features, self.dim: self.target}))


def draw(recording: xr.DataTree | None, results: dict[str, xr.Dataset]) -> Figure:
    """Scores of the test split per target beside their null, and example predictions.

    Parameters
    ----------
    recording : DataTree or None
        Not used.
    results : mapping of source to Dataset
        Decoding of the recording and of each model, by any decoder.

    Raises
    ------
    InputError
        If nothing was decoded.
    """
    del recording
    rows = [
        Row(source, str(features), result)
        for source, result in results.items()
        for features in result["features_from"].values
    ]
    panels = _panels(rows)
    if not panels:
        raise InputError(
            file=", ".join(results) or "results",
            field="r2_test",
            found="no score",
            expected="a decoding result",
            fix="Decode the recording first",
        )
    with plt.rc_context(STYLE):
        examples = _examples(rows)
        height = 0.9 + 0.19 * len(rows)
        figure = plt.figure(figsize=(7.5, height + 1.45 * len(examples) + 0.3))
        ratios = [height, *[1.45] * len(examples)]
        grid = figure.add_gridspec(len(ratios), 1, height_ratios=ratios)
        _score_panels(figure, grid, rows, panels)
        keys: list[list[str]] = []
        for number, example in enumerate(examples, start=1):
            axes = figure.add_subplot(grid[number])
            keys.append(_draw_example(axes, rows, example, last=number == len(examples)))
            if keys.count(keys[-1]) == 1:
                axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)
    return figure


def _colours(rows: list[Row]) -> dict[str, str]:
    """A colour for each model; the recording has none of its own."""
    return colour_of(list(dict.fromkeys(r.source for r in rows if r.source != "recording")))


def _panels(rows: list[Row]) -> list[Panel]:
    """Angles and classes first: a component of an angle says less than its error."""
    found: dict[Panel, None] = {}
    for score, dim in (("accuracy", "stimulus"), ("angular_error", "angle"), ("r2", "target")):
        for row in rows:
            names = row.result[dim].values.tolist() if dim in row.result.dims else []
            for name in names:
                panel = Panel(score, dim, str(name))
                if np.isfinite(panel.values(row, "cv")).any():
                    found[panel] = None
    return list(found)[:MOST_PANELS]


def _score_panels(figure: Figure, grid: GridSpec, rows: list[Row], panels: list[Panel]) -> None:
    colours = _colours(rows)
    inner = grid[0].subgridspec(1, len(panels), wspace=0.08)
    first: Axes | None = None
    for column, panel in enumerate(panels):
        axes = figure.add_subplot(inner[column], sharey=first)
        first = first or axes
        for y, row in enumerate(rows):
            _draw_score(axes, y, row, panel, colours.get(row.source, TRUTH))
        axes.set_title(panel.title)
        axes.set_xlabel(panel.axis_label)
        axes.tick_params(axis="y", length=0, labelleft=column == 0)
        if panel.score == "angular_error":
            axes.set_xlim(left=0)
        else:
            axes.set_xlim(LOWEST_R2 if panel.score == "r2" else 0, 1.02)
            axes.axvline(0, color=NULL, linewidth=0.6, zorder=0)
    assert first is not None
    first.set_yticks(range(len(rows)), [row.label for row in rows])
    first.set_ylim(len(rows) - 0.4, -0.6)


def _draw_score(axes: Axes, y: int, row: Row, panel: Panel, colour: str) -> None:
    """Null band, folds, ceiling and test score of one row; off the axis, an arrow at its end."""
    lowest = LOWEST_R2 if panel.score == "r2" else 0.0
    null = panel.values(row, "null")
    if np.isfinite(null).any():
        low, high = np.maximum(np.nanquantile(null, [0.025, 0.975]), lowest)
        axes.barh(y, high - low, left=low, height=0.7, color=NULL, alpha=0.45, linewidth=0)
    folds = panel.values(row, "fold")
    axes.plot(
        np.maximum(folds, lowest), np.full(folds.shape, y), "|", color=colour, ms=5, alpha=0.6
    )
    ceiling = panel.ceiling(row)
    if np.isfinite(ceiling):
        axes.plot(ceiling, y, marker=7, color=TRUTH, markeredgewidth=0, ms=4, clip_on=False)
    test = float(panel.values(row, "test"))
    marker = "<" if test < lowest else _MARKERS.get(row.features, "o")
    face = "white" if row.features in ("smoothed_counts", "latents") else colour
    axes.plot(
        max(test, lowest), y, marker, color=colour, markerfacecolor=face, ms=4.5, clip_on=False
    )


@dataclass(frozen=True)
class Example:
    """A target whose decoded and true values are drawn."""

    feature: str
    targets: list[str]
    unit: str
    per: str

    def values(self, data: xr.DataArray) -> np.ndarray:
        """Values (test trial, time): as they are, or the angle in degrees."""
        parts = [data.sel(target=target).values for target in self.targets]
        return np.degrees(np.arctan2(parts[1], parts[0])) if len(parts) == 2 else parts[0]


def _examples(rows: list[Row]) -> list[Example]:
    """The two features decoded best in the test split, at chance only if all are."""
    found: list[tuple[float, Example]] = []
    result = rows[0].result
    if "target_value" not in result or not result.sizes["test_trial"]:
        return []
    for feature in dict.fromkeys(result["feature"].values.tolist()):
        part = result.where(result["feature"] == feature, drop=True)
        scored = part["r2_test"].max()
        if np.isfinite(scored):
            circular = part.sizes["target"] == 2
            example = Example(
                str(feature),
                part["target"].values.tolist(),
                "degree" if circular else str(part["unit_of_measure"].values[0]),
                str(part["per"].values[0]),
            )
            above = part["p_value_test"].min() < 0.05
            found.append((float(scored) + 10 * float(above), example))
    ranked = sorted(found, key=lambda pair: -pair[0])[:MOST_EXAMPLES]
    kept = [pair for pair in ranked if pair[0] > 5 or pair is ranked[0]]
    return [example for score, example in found if (score, example) in kept]


def _best(rows: list[Row], example: Example) -> list[Row]:
    """The best row of the recording and of the best models, on this target."""
    best: dict[str, tuple[float, Row]] = {}
    for row in rows:
        if set(example.targets) <= set(row.result["target"].values):
            chosen = row.result["r2_test"].sel(features_from=row.features, target=example.targets)
            score = float(chosen.mean())
            if np.isfinite(score) and score > best.get(row.source, (-np.inf, row))[0]:
                best[row.source] = (score, row)
    ranked = sorted(best.values(), key=lambda pair: -pair[0])
    models = [row for _, row in ranked if row.source != "recording"]
    return [row for _, row in ranked if row.source == "recording"] + models[: MOST_TRACES - 1]


def _draw_example(axes: Axes, rows: list[Row], example: Example, *, last: bool) -> list[str]:
    """Draw true and decoded values; returns the names of what is drawn."""
    result = rows[0].result
    colours = _colours(rows)
    true = example.values(result["target_value"])
    chosen = _best(rows, example)
    decoded = {
        row: example.values(row.result["prediction"].sel(features_from=row.features))
        for row in chosen
    }
    name = example.feature.replace("_", " ")
    if example.per == "trial":
        _draw_trials(axes, true[:, 0], decoded, colours)
        axes.set_xlabel(f"true {name} ({example.unit})")
        axes.set_ylabel(f"decoded\n({example.unit})")
    else:
        _draw_traces(axes, true, decoded, colours, result, wraps=example.unit == "degree")
        axes.set_ylabel(f"{name}\n({example.unit or 'unit not stated'})")
        if last:
            axes.set_xlabel("test trials, one after the other (s)")
    return [row.label for row in chosen]


def _draw_trials(
    axes: Axes, true: np.ndarray, decoded: dict[Row, np.ndarray], colours: dict[str, str]
) -> None:
    low, high = np.nanmin(true), np.nanmax(true)
    axes.plot([low, high], [low, high], color=TRUTH, linewidth=0.7, label="true")
    for row, values in decoded.items():
        colour = colours.get(row.source, NULL)
        axes.plot(true, values[:, 0], "o", ms=3, color=colour, alpha=0.6, label=row.label)


def _draw_traces(
    axes: Axes,
    true: np.ndarray,
    decoded: dict[Row, np.ndarray],
    colours: dict[str, str],
    result: xr.Dataset,
    *,
    wraps: bool,
) -> None:
    """Test trials one after the other, a gap between those that do not abut."""
    width = float(result.attrs["bin_width"])
    bins = true.shape[1]
    shown = int(np.clip(EXAMPLE_SECONDS / (bins * width), 2, EXAMPLE_TRIALS))
    trials = np.arange(min(shown, len(true)))
    start = trials * (bins + 2) * width
    time = (start[:, None] + np.arange(bins) * width).ravel()
    style = {"linestyle": "none", "marker": ".", "ms": 3.5} if wraps else {"linewidth": 1.1}
    apart = np.full((len(trials), 1), np.nan)

    def line(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.hstack([time.reshape(len(trials), bins), apart])
        return x.ravel(), np.hstack([values[trials], apart]).ravel()

    axes.plot(*line(true), color=TRUTH, label="true", **style)
    for row, values in decoded.items():
        axes.plot(*line(values), color=colours.get(row.source, NULL), label=row.label, **style)
    for edge in start[1:]:
        axes.axvline(edge - width, color=NULL, linewidth=0.5, zorder=0)
    axes.margins(x=0.01)
    if wraps:
        axes.set_yticks([-180, 0, 180])
