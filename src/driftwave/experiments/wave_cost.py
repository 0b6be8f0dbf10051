"""CPU time and memory of each step of the wave analyses, ours beside those of peers.

Every step runs in a process of its own on the same kind of field: a grid of electrodes, 1/f noise
and a plane wave. Peers that need minutes for a few seconds of data are given a shorter field; what
is compared is CPU time per frame of data. Peers run under the interpreter ``peers``, since their
dependencies do not suit driftwave's; without one only driftwave is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from driftwave.errors import DriftwaveError
from driftwave.experiments import _cost_ours, _cost_peers
from driftwave.figures.style import COLOURS, NULL, STYLE

TIMED = True  # results are measured times, which differ from run to run
QUICK = {"minutes": 0.2, "short": 0.2, "repeats": 1, "steps": ("filter", "plane_fit")}


@dataclass(frozen=True)
class Step:
    """One step of the analysis and who else takes it.

    Attributes
    ----------
    label : str
        For a reader.
    ours : str
        Name in :mod:`driftwave.experiments._cost_ours`.
    peers : tuple of str
        Names in :mod:`driftwave.experiments._cost_peers`.
    short : bool
        Whether the peers are given the shorter field.
    """

    label: str
    ours: str
    peers: tuple[str, ...] = ()
    short: bool = False


STEPS = {
    "filter": Step("band-pass and analytic signal", "analytic", ("elephant_filter",)),
    "generalized_phase": Step(
        "generalized phase, filter included",
        "generalized_phase",
        ("wavespace_generalized_phase", "cogpy_generalized_phase"),
    ),
    "gradient": Step("phase gradient and PGD", "gradient", ("cogpy_pgd",)),
    "plane_fit": Step("a plane wave per frame", "plane_fit", ("cogpy_plane_fit",)),
    "wavenumber_frequency": Step(
        "wavenumber-frequency spectrum", "wavenumber_frequency", ("cogpy_wavenumber_frequency",)
    ),
    "flow": Step("optical flow of phase", "flow", ("wavespace_flow", "cobrawap_flow"), short=True),
    "fronts": Step("triggers, wave fronts, directions", "fronts", ("cobrawap_fronts",), short=True),
    "stage": Step("waves stage without surrogates", "stage"),
}


class Params(BaseModel):
    """Settings of the cost experiment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minutes: float = Field(10.0, gt=0, description="Length of the recording, min.")
    short: float = Field(0.03, gt=0, description="Length given to slow peers, min.")
    rate: float = Field(1000.0, ge=200, description="Sampling rate, Hz.")
    repeats: int = Field(3, ge=1, description="Runs of each step, of which the median is told.")
    peers: str | None = Field(
        None, description="Python interpreter of an environment that holds the peers."
    )
    steps: tuple[str, ...] = Field(tuple(STEPS), min_length=1, description="Steps measured.")


def measured(command: list[str]) -> dict[str, float | str]:
    """What a step reports of itself, run by ``command`` in a process of its own.

    Raises
    ------
    DriftwaveError
        If it fails; the message has the last of what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DriftwaveError(f"{' '.join(command[1:3])} failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _median(command: list[str], repeats: int) -> dict[str, float | str]:
    runs = [measured(command) for _ in range(repeats)]
    middle = {name: float(np.median([float(r[name]) for r in runs])) for name in ("cpu", "memory")}
    return {**runs[0], **middle}


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Measure every step, ours and the peers'.

    Returns
    -------
    Dataset
        Over ``run`` (step and who took it): ``cpu`` (s), ``memory`` (MB), ``frames``, ``cpu_frame``
        (ms per frame), ``ratio`` (to driftwave's CPU time per frame in the same step; NaN where
        that was not measured), ``failure`` (what a peer said that failed, else empty).
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, params, seed)
        for key in params.steps:
            rows += _of_step(key, params, folder)
    return _table(rows).assign_attrs(minutes=params.minutes, short=params.short, rate=params.rate)


def _write(folder: Path, params: Params, seed: int) -> None:
    """Write the fields in a process of its own: a child starts with its parent's peak memory."""
    settings = [params.minutes, params.short, params.rate, seed]
    command = [sys.executable, _cost_ours.__file__, "write", str(folder), *map(str, settings)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DriftwaveError(f"The fields could not be written: {done.stderr.strip()[-300:]}")


def _of_step(key: str, params: Params, folder: Path) -> list[dict[str, float | str]]:
    step = STEPS[key]
    rate = str(params.rate)
    command = [sys.executable, _cost_ours.__file__, step.ours, str(folder / "long.zarr")]
    rows = [{"step": key, "who": "driftwave", **_median(command, params.repeats), "failure": ""}]
    if params.peers is None:
        return rows
    field = str(folder / ("short.npy" if step.short else "long.npy"))
    for peer in step.peers:
        command = [params.peers, _cost_peers.__file__, peer, field, rate]
        distribution = _cost_peers.STEPS[peer][1]
        row: dict[str, float | str] = {"step": key, "who": distribution, "failure": ""}
        try:
            row |= _median(command, 1 if step.short else params.repeats)
        except DriftwaveError as error:
            # A peer that cannot run is a result of the comparison, not a fault of it.
            row |= dict.fromkeys(("cpu", "memory", "frames"), np.nan)
            row["failure"] = str(error)
        rows.append(row)
    return rows


def _table(rows: list[dict[str, float | str]]) -> xr.Dataset:
    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    cpu, frames = column("cpu"), column("frames")
    cost = 1e3 * cpu / frames
    ours = {row["step"]: c for row, c in zip(rows, cost, strict=True) if row["who"] == "driftwave"}
    ratio = np.array([c / ours[row["step"]] for row, c in zip(rows, cost, strict=True)])
    texts = {
        name: ("run", np.array([str(row.get(name, "")) for row in rows]))
        for name in ("step", "who", "peer", "failure")
    }
    return xr.Dataset(
        {
            "cpu": ("run", cpu, {"units": "s"}),
            "memory": ("run", column("memory"), {"units": "MB"}),
            "frames": ("run", frames, {"units": "1"}),
            "cpu_frame": ("run", cost, {"units": "ms"}),
            "ratio": ("run", ratio, {"units": "1"}),
            **texts,
        }
    )


def draw(result: xr.Dataset) -> Figure:
    """Bars of CPU time per frame, ours and the peers', step by step."""
    steps = list(dict.fromkeys(result["step"].values.astype(str)))
    with plt.rc_context(STYLE):
        count = result.sizes["run"]
        figure, axes = plt.subplots(figsize=(7.0, 0.8 + 0.24 * (count + len(steps))))
        place, labels = 0.0, []
        lowest = float(np.nanmin(result["cpu_frame"].values)) / 3
        for step in steps:
            one = result.isel(run=np.flatnonzero(result["step"].values == step))
            axes.text(lowest, place, STEPS[step].label, va="center", weight="bold")
            place += 1
            for number in range(one.sizes["run"]):
                _bar(axes, place, one.isel(run=number), lowest)
                labels.append((place, str(one["who"].values[number])))
                place += 1
        axes.set_yticks([at for at, _ in labels], [who for _, who in labels])
        axes.set(xscale="log", ylim=(place - 0.5, -0.7), xlabel="CPU time per frame of data (ms)")
        axes.set_xlim(lowest, 20 * float(np.nanmax(result["cpu_frame"].values)))
    return figure


def _bar(axes: plt.Axes, place: float, one: xr.Dataset, lowest: float) -> None:
    ours = str(one["who"].values) == "driftwave"
    cost = float(one["cpu_frame"])
    if not np.isfinite(cost):
        axes.text(lowest, place, " does not run", va="center", style="italic", fontsize=7)
        return
    axes.barh(place, cost - lowest, left=lowest, height=0.7, color=COLOURS[0] if ours else NULL)
    words = f" {cost:.2g} ms, {float(one['memory']):.0f} MB"
    if not ours:
        words += f": {float(one['ratio']):.3g} times driftwave"
    axes.text(cost, place, words, va="center", fontsize=7)
