"""One trial of a search: fit without the test trials, score on the validation trials."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftwave import registry
from driftwave.compute import Clock, blas_threads, choose_device, generator
from driftwave.config import parse_params
from driftwave.contents import CONTENTS, seal
from driftwave.errors import DriftwaveError, InputError
from driftwave.provenance import provenance
from driftwave.recording import forward_bins, held_out_units, open_recording, require, trial_mask
from driftwave.scores.bits_per_spike import bps_sums
from driftwave.scores.settings import scored_bins
from driftwave.search.settings import ParameterSpace
from driftwave.search.space import draw_trials
from driftwave.store import atomic_path

RESULT = "result.json"
CO_BPS, LOSS = "valid_co_bps", "valid_loss"


@dataclass(frozen=True)
class Score:
    """What a trial is judged by.

    Attributes
    ----------
    metric : str
        ``valid_co_bps`` (the higher the better) or ``valid_loss`` (the lower the better).
    value : float
    low, high : float or None
        95 % interval (bootstrap over validation trials) of bits per spike.
    unit : str
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    unit: str


def without_test(recording: xr.DataTree) -> xr.DataTree:
    """The recording as a search may see it: training and validation trials, and no truth.

    Groups that are not cut into trials (spike times, field, behaviour as recorded) would show the
    time of the test trials and are left out; ``units`` stays.
    """
    kept = np.flatnonzero(trial_mask(recording, "train", "valid"))
    groups: dict[str, xr.Dataset] = {"/": recording.to_dataset()}
    for name, node in recording.children.items():
        dataset = node.to_dataset()
        if "trial" in dataset.dims and name != "truth":
            groups[name] = dataset.isel(trial=kept)
        elif name == "units":
            groups[name] = dataset
    if {"units", "spikes"} <= set(groups):
        # As ingested it is a mean over all trials.
        counts = groups["spikes"]["counts"].mean(("trial", "time"))
        rate = counts / float(groups["spikes"].attrs["bin_width"])
        groups["units"] = groups["units"].assign(rate=("unit", rate.values, {"units": "Hz"}))
    return xr.DataTree.from_dict(groups)


def validation_score(recording: xr.DataTree, latents: xr.Dataset) -> Score:
    """Score a fit on the validation trials.

    Bits per spike of the held-out units in the seen bins that scores are about; without held-out
    units, the lowest validation loss of the fit itself, which is of spikes hidden from its encoder.

    Raises
    ------
    InputError
        If the held-out units do not spike in the validation trials, or there are no held-out
        units and the fit gives no ``valid_loss``.
    """
    held_out = held_out_units(recording)
    if not held_out.any():
        return _own_loss(recording, latents)
    spikes = require(recording, "spikes", "a search")
    valid = trial_mask(recording, "valid")
    seen = spikes.sizes["time"] - forward_bins(recording)
    width = float(spikes.attrs["bin_width"])
    counts = spikes["counts"].values[valid][:, :seen, held_out].astype(float)
    counts[~scored_bins(recording)[valid]] = np.nan
    rate = latents["rate"].transpose("trial", "time", "unit").values[valid][:, :seen, held_out]
    if not np.isfinite(rate).all():
        raise DriftwaveError("The fit gave rates that are not finite; its training diverged.")
    sums = bps_sums(rate.astype(float) * width, counts)
    value = sums.value()
    if not np.isfinite(value):
        raise InputError(
            file=recording.attrs["session"],
            field="spikes/counts",
            found="no spike of a held-out unit in the validation trials",
            expected="some spikes to choose by",
            fix="Use more validation trials or another split in the layout",
        )
    low, high = sums.interval(generator(0, "bootstrap"))
    finite = np.isfinite([low, high]).all()
    return Score(CO_BPS, value, low if finite else None, high if finite else None, "bits/spike")


def _own_loss(recording: xr.DataTree, latents: xr.Dataset) -> Score:
    loss = latents.get(LOSS)
    if loss is None or not np.isfinite(loss.values).any():
        raise InputError(
            file=recording.attrs["session"],
            field="units/held_out",
            found="no held-out unit, and a fit without a validation loss",
            expected="held-out units, whose bits per spike a search chooses by",
            fix="Set `spikes.held_out` in the layout",
        )
    return Score(LOSS, float(np.nanmin(loss.values)), None, None, str(loss.attrs.get("units", "")))


def drawn_trial(
    space: Mapping[str, Mapping], trial: int, seed: int, *, plugin: str, base: Mapping
) -> dict[str, Any]:
    """One trial of :func:`draw_trials`, with the space as a configuration writes it."""
    parts = {name: ParameterSpace.model_validate(part) for name, part in space.items()}
    model = registry.load("models", plugin).Params
    return draw_trials(parts, trial + 1, seed, model=model, base=base)[trial]


def run_trial(
    recording_path: str | Path,
    entry: Mapping[str, Any],
    out: str | Path,
    *,
    plugin: str,
    params: Mapping[str, Any],
    budget: Mapping[str, int] | None = None,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
) -> dict[str, Any]:
    """Fit and score one parameter set, and write both to the folder ``out``.

    A fit that cannot be had with these parameters (its training diverges) is a result too, with no
    score and the reason; anything else that goes wrong ends the job.

    Parameters
    ----------
    recording_path : path
        Recording store.
    entry : mapping
        ``trial`` and ``params`` (drawn); one that failed in the rung before has no score here
        either.
    out : path
        Folder: ``result.json`` and, unless it failed, ``fit``. Whole or not at all.
    plugin : str
        Model plug-in.
    params : mapping
        Parameters that are not searched.
    budget : mapping, optional
        Budget parameter and its value.
    checkpoint : path, optional
        Scratch folder from which an interrupted fit resumes.
    seed, device, threads
        As everywhere.

    Returns
    -------
    dict
        What ``result.json`` holds.
    """
    result: dict[str, Any] = {"trial": entry["trial"], "params": dict(entry["params"])}
    result |= {"budget": dict(budget or {}), "metric": CO_BPS, "unit": "", "why": ""}
    result |= dict.fromkeys(("score", "ci_low", "ci_high", "cpu_seconds", "wall_seconds"))
    with atomic_path(out) as folder:
        folder.mkdir()
        if entry.get("why"):
            result["why"] = f"It failed in an earlier rung: {entry['why']}"
        else:
            chosen = {**params, **entry["params"], **(budget or {})}
            with blas_threads(threads):
                result |= _fit_and_score(
                    recording_path,
                    folder,
                    plugin,
                    chosen,
                    seed=seed,
                    device=device,
                    checkpoint=checkpoint,
                )
        facts = {"stage": "search", "plugin": plugin, "seed": seed, "recording": recording_path}
        facts["contents"] = CONTENTS
        text = json.dumps(result | {"provenance": provenance(**facts)}, default=str, indent=1)
        (folder / RESULT).write_text(text, encoding="utf-8")
        seal(folder)
    if checkpoint and Path(checkpoint).exists():
        shutil.rmtree(checkpoint)
    return result


def _fit_and_score(
    recording_path: str | Path,
    folder: Path,
    plugin: str,
    params: Mapping[str, Any],
    *,
    seed: int,
    device: str,
    checkpoint: str | Path | None,
) -> dict[str, Any]:
    module = registry.load("models", plugin)
    recording = without_test(open_recording(recording_path))
    clock = Clock.start()
    try:
        fitted = module.fit(
            recording,
            parse_params(module, params, plugin),
            seed=seed,
            device=choose_device(device) if hasattr(module, "USES_DEVICE") else "cpu",
            progress=f"{plugin} {recording.attrs['session']}",
            checkpoint=Path(checkpoint) if checkpoint else None,
        )
        cost = {"cpu_seconds": clock.cpu_seconds, "wall_seconds": clock.wall_seconds}
        score = validation_score(recording, fitted.infer(recording))
    except DriftwaveError as error:
        cost = {"cpu_seconds": clock.cpu_seconds, "wall_seconds": clock.wall_seconds}
        return cost | {"why": str(error)}
    (folder / "fit").mkdir()
    fitted.save(folder / "fit")
    found = {"score": score.value, "ci_low": score.low, "ci_high": score.high}
    return cost | found | {"metric": score.metric, "unit": score.unit}
