"""False positives and power of the p values of travelling waves, against each null.

Each data set is 96 electrodes, 250 Hz, 20 s, and tested from 8 to 16 Hz as the waves stage tests a
recording: one p for the recording, one per family of waves, and one per event. Noise has spatial
correlations, a common reference, gain and spectra that change; waves come steadily or in bursts.
"""

from __future__ import annotations

import threading
from pathlib import Path

import dask
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.experiments._calibration_fields import BAND, CONDITIONS, NOISE, WAVES, field
from driftwave.experiments._chance import binomial_interval
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.nulls.kinds import NULLS
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.nulls.of_field import field_nulls, recording_windows
from driftwave.nulls.statistics import multiscale, recording_means
from driftwave.phase.directionality import FAMILIES
from driftwave.phase.frames import open_field
from driftwave.phase.passes import read_frames
from driftwave.wave_events.spans import SpanFinder

QUICK = {"noise_sets": 2, "wave_sets": 1, "null_sets": 1, "conditions": ("1/f", "steady, SNR 2")}
ALPHA = 0.05
ALLOWED = (0.02, 0.07)
POWER = 0.95
FURTHER = NULLS[1:]
COMPARED = ("0.6 mm, 50 % shared", "2 mm, 90 % shared", "bursts, SNR 1", "steady, SNR 1")
TESTS = {
    "recording": "one p per recording",
    "planar": "planar",
    "radial": "radial",
    "rotating": "rotating",
    "event_q": "any event, q",
    "event_familywise": "any event, family-wise p",
}
# As the waves stage has them by default.
SMOOTHING, QUANTILE, CHUNK = (0.5, 1.0, 4.0), 0.95, 60.0  # s, share, s
SHORTEST, LONGEST, LONGEST_GAP = 3.0, 30.0, 0.1  # cycles, s, s
KEYS = ["condition", "set", "seed", "surrogates", "duration"]
COLUMNS = [*KEYS, *TESTS, *FURTHER]


class Params(BaseModel):
    """Settings of the calibration of p values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise_sets: int = Field(200, ge=1, description="Data sets of each kind of noise.")
    wave_sets: int = Field(50, ge=1, description="Data sets of each kind of wave.")
    null_sets: int = Field(
        20, ge=0, description="Data sets of some kinds that are tested against further nulls, too."
    )
    surrogates: int = Field(39, ge=19, description="Surrogates behind each p value.")
    duration: float = Field(20.0, ge=8, description="Length of a data set, s.")
    conditions: tuple[str, ...] = Field(
        tuple(CONDITIONS), min_length=1, description="Kinds of data sets, by label."
    )
    resume: str | None = Field(
        None,
        description="Table (tsv) to which each data set's p values are appended; those it has "
        "already are not computed again.",
    )


class Table:
    """p values of data sets, kept in a file from which an interrupted run goes on."""

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        self.rows: dict[tuple[str, ...], dict[str, float]] = {}
        self.lock = threading.Lock()
        if self.path is None:
            return
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("\t".join(COLUMNS) + "\n", encoding="utf-8")
        text = self.path.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            # A run that was killed while it wrote: its last line is not whole.
            text = text[: text.rfind("\n") + 1]
            self.path.write_text(text, encoding="utf-8")
        known = pd.read_csv(self.path, sep="\t", dtype=dict.fromkeys(KEYS, str))
        for row in known.to_dict("records"):
            self.rows[tuple(row[key] for key in KEYS)] = {
                name: float(row[name]) for name in COLUMNS[len(KEYS) :]
            }

    def add(self, key: tuple[str, ...], values: dict[str, float]) -> None:
        """Keep one data set's p values."""
        line = "\t".join([*key, *(f"{values[name]:.6g}" for name in COLUMNS[len(KEYS) :])])
        with self.lock:
            self.rows[key] = values
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


def tested(label: str, number: int, params: Params, seed: int) -> dict[str, float]:
    """p values of data set ``number`` of a condition: one per test and per further null.

    Of events, the smallest q and the smallest family-wise p; 1 where there is none.
    """
    rng = generator(seed, "wave calibration", label, str(number))
    recording = field(CONDITIONS[label], params.duration, rng)
    reader = open_field(recording, recording["field"].to_dataset(), band=BAND, frame_rate=None)
    frames, measure = read_frames(reader, chunk=CHUNK, generalized=False)
    kinds = NULLS if label in COMPARED and number < params.null_sets else NULLS[:1]
    rate = frames.reader.detection_rate
    smoothing = tuple(round(seconds * rate) for seconds in SMOOTHING)
    finder = SpanFinder(
        window=smoothing[0],
        shortest=round(SHORTEST / np.sqrt(np.prod(BAND)) * rate),
        longest_gap=round(LONGEST_GAP * rate),
        longest=round(LONGEST * rate),
    )
    nulls = field_nulls(
        frames,
        measure,
        finder,
        kinds=kinds,
        surrogates=params.surrogates,
        smoothing=smoothing,
        quantile=QUANTILE,
        chunk=CHUNK,
        seed=int(rng.integers(2**31)),
    )
    means = recording_means(frames.fluxes, recording_windows(frames.reader))
    values: dict[str, float] = dict.fromkeys(map(str, FURTHER), np.nan)
    values |= {null.kind: null.p_any(means) for null in nulls[1:]}
    values["recording"] = nulls[0].p_any(means)
    values |= dict(zip(FAMILIES, nulls[0].p_recording(means).tolist(), strict=True))
    spans = nulls[0].scale.spans(multiscale(frames.fluxes, smoothing), finder)
    peak = np.array([span.peak for span in spans])
    values["event_q"] = float(benjamini_hochberg(nulls[0].p_event(peak)).min(initial=1))
    values["event_familywise"] = float(nulls[0].p_familywise(peak).min(initial=1))
    return values


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Test every data set and count the rejections.

    Parameters
    ----------
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``p`` (condition, set, test), NaN beyond a condition's number of sets; ``rejected``
        (condition, test), the share with p <= .05, with its exact 95 % interval ``rejected_low``,
        ``rejected_high``; ``sets`` (condition). ``null_rejected`` (compared, null) and its
        interval: the share of recordings that each null rejects, over ``null_sets`` (compared).

    Raises
    ------
    ValueError
        A condition that is not known.
    """
    unknown = sorted(set(params.conditions) - set(CONDITIONS))
    if unknown:
        raise ValueError(f"unknown conditions {unknown}; known are {sorted(CONDITIONS)}")
    table = Table(params.resume)
    noise = {one.label for one in NOISE}
    wanted = {
        label: params.noise_sets if label in noise else params.wave_sets
        for label in params.conditions
    }

    def key(label: str, number: int) -> tuple[str, ...]:
        numbers = (number, seed, params.surrogates)
        return (label, *map(str, numbers), f"{params.duration:g}")

    def fill(label: str, number: int) -> None:
        table.add(key(label, number), tested(label, number, params, seed))

    # Set by set through all conditions, so that what an interrupted run has is balanced.
    tasks = [
        dask.delayed(fill)(label, number)
        for number in range(max(wanted.values()))
        for label, sets in wanted.items()
        if number < sets and key(label, number) not in table.rows
    ]
    dask.compute(*tasks)
    rows = {
        label: [table.rows[key(label, number)] for number in range(sets)]
        for label, sets in wanted.items()
    }
    return _counted(rows).merge(_compared(rows)).assign_attrs(alpha=ALPHA)


def _counted(rows: dict[str, list[dict[str, float]]]) -> xr.Dataset:
    sets = np.array([len(some) for some in rows.values()])
    p = np.full((len(rows), sets.max(), len(TESTS)), np.nan)
    for number, some in enumerate(rows.values()):
        p[number, : len(some)] = [[row[test] for test in TESTS] for row in some]
    hits = (p <= ALPHA).sum(axis=1)
    low, high = binomial_interval(hits, sets[:, None])
    dims = ("condition", "test")
    unit = {"units": "1"}
    return xr.Dataset(
        {
            "p": (("condition", "set", "test"), p, unit),
            "rejected": (dims, hits / sets[:, None], unit),
            "rejected_low": (dims, low, unit),
            "rejected_high": (dims, high, unit),
            "sets": ("condition", sets, unit),
        },
        coords={"condition": list(rows), "test": list(TESTS)},
    )


def _compared(rows: dict[str, list[dict[str, float]]]) -> xr.Dataset:
    labels = [label for label in COMPARED if label in rows]
    names = ["recording", *FURTHER]
    p = [
        np.array([[row[name] for name in names] for row in rows[label]], float).reshape(-1, 5)
        for label in labels
    ]
    whole = [np.isfinite(some).all(axis=1) for some in p]
    labels = [label for label, kept in zip(labels, whole, strict=True) if kept.any()]
    p = [some[kept] for some, kept in zip(p, whole, strict=True) if kept.any()]
    sets = np.array([len(some) for some in p], int)
    hits = np.array([(some <= ALPHA).sum(axis=0) for some in p], int).reshape(-1, len(names))
    low, high = binomial_interval(hits, sets[:, None])
    dims, unit = ("compared", "null"), {"units": "1"}
    return xr.Dataset(
        {
            "null_rejected": (dims, hits / sets[:, None], unit),
            "null_rejected_low": (dims, low, unit),
            "null_rejected_high": (dims, high, unit),
            "null_sets": ("compared", sets, unit),
        },
        coords={"compared": np.array(labels, dtype=str), "null": list(NULLS)},
    )


def draw(result: xr.Dataset) -> Figure:
    """False positives, power, and what each null rejects, with exact intervals.

    Parameters
    ----------
    result : Dataset
        Of :func:`run`.
    """
    noise = [one.label for one in NOISE if one.label in result["condition"].values]
    waves = [one.label for one in WAVES if one.label in result["condition"].values]
    rows = max(len(noise), len(waves), 1)
    figure, axes = new_figure(1, 3, height=1.3 + 0.33 * rows, width=8.2, width_ratios=[1, 1, 0.9])
    with plt.rc_context(STYLE):
        axes[0].axvspan(*ALLOWED, color=NULL, alpha=0.3, lw=0)
        _points(axes[0], result, noise, ("recording", "planar", "event_q"))
        axes[0].axvline(ALPHA, color=TRUTH, lw=0.7, ls="--")
        axes[0].set_xlim(0, _edge(result, noise))
        axes[0].set_xlabel("Share of noise taken for waves\n(grey: .02 to .07)")
        axes[0].set_title("No wave: false positives")
        _points(axes[1], result, waves, ("recording", "planar", "event_q"))
        axes[1].axvline(POWER, color=TRUTH, lw=0.7, ls="--")
        axes[1].set(xlim=(0, 1.02), xlabel="Share of waves found\n(dashed: .95)")
        axes[1].set_title("Waves: power")
        _nulls(axes[2], result)
        handles, labels = axes[0].get_legend_handles_labels()
        if not handles:
            handles, labels = axes[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, title="95 % intervals")
    return figure


def _edge(result: xr.Dataset, labels: list[str]) -> float:
    if not labels:
        return 1.0
    high = float(result["rejected_high"].sel(condition=labels).max())
    return min(1.0, max(0.15, high + 0.02))


def _points(ax: Axes, result: xr.Dataset, labels: list[str], tests: tuple[str, ...]) -> None:
    for place, test in enumerate(tests):
        marker, shift = "osD"[place], 0.22 * (place - 1)
        for row, label in enumerate(labels):
            one = result.sel(condition=label, test=test)
            value, low, high = (float(one[f"rejected{end}"]) for end in ("", "_low", "_high"))
            ax.errorbar(
                value, row + shift, xerr=[[value - low], [high - value]], fmt=marker, ms=3.2,
                lw=0.8, color=COLOURS[place], mfc=COLOURS[place] if place == 0 else "white",
                clip_on=False, label=TESTS[test] if row == 0 else None,
            )  # fmt: skip
    names = [f"{label}  ({int(result['sets'].sel(condition=label))})" for label in labels]
    ax.set_yticks(range(len(labels)), names)
    ax.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def _nulls(ax: Axes, result: xr.Dataset) -> None:
    """A table: the share that each null rejects, darker for more."""
    share = result["null_rejected"].values
    names = [str(name).replace("_", " ") for name in result["null"].values]
    labels = [str(label) for label in result["compared"].values]
    if not len(labels):
        ax.set_axis_off()
        return
    ax.imshow(share.T, cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for (column, row), value in np.ndenumerate(share):
        ink = "white" if value > 0.7 else TRUTH
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
    ax.set_yticks(range(len(names)), names)
    ax.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(f"Rejected, by null\n({int(result['null_sets'].max())} sets)")
