"""Rates for the trials whose held-out units nobody but the benchmark has: its test phase.

The benchmark keeps these trials in a file of their own, without held-out units, behaviour or
forward bins. Pei, Ye et al. 2021, "Neural Latents Benchmark '21".
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

from driftwave.config import parse_layout
from driftwave.errors import InputError
from driftwave.layout import Layout
from driftwave.provenance import used
from driftwave.recording import forward_bins, held_out_units


def hidden_rates(
    recording: xr.DataTree, path: str | Path, fit: str | Path, plugin: str
) -> np.ndarray:
    """Rates (trial, time, unit), Hz, that a fitted model gives for the trials of a test file.

    Parameters
    ----------
    recording : DataTree
        Of the training file, which the model was fitted to.
    path : path
        NWB file of the test phase.
    fit : path
        Folder of the fitted model.
    plugin : str
        Its plug-in.

    Raises
    ------
    InputError
        As :func:`hidden_recording`; no such fit, or a damaged one.
    """
    from driftwave.models.run import load_fit

    used(path)
    found = load_fit(fit, plugin).infer(hidden_recording(recording, path))
    public = recording["spikes"].sizes["trial"]
    return np.asarray(found["rate"].values[public:], dtype=float)


def hidden_recording(recording: xr.DataTree, path: str | Path) -> xr.DataTree:
    """The recording's trials, then those of a test file, in the recording's units and bins.

    Held-out units and forward bins of the latter, which no model may see, are 0.

    Raises
    ------
    InputError
        If the file cannot be read with the recording's layout, trials of its lie outside what was
        recorded, or its units are not the recording's held-in ones.
    """
    from driftwave.ingest.nwb import open_nwb, read_recording

    layout = _visible_layout(recording)
    with open_nwb(path) as file:
        found = read_recording(file, layout, session=str(recording.attrs["session"]))
    outside = int(found["trials"].attrs["rows_outside_recording"])
    if outside:
        raise InputError(
            file=path,
            field="trials",
            found=f"{outside} trials that reach beyond what was recorded",
            expected="all trials, as the benchmark scores them all",
            fix="Check that it is the benchmark's test file of this session",
        )
    units = _matched_units(recording, found, path)
    hidden, forward = held_out_units(recording), forward_bins(recording)
    shown = found["spikes"].to_dataset()
    counts = shown["counts"].values
    trials, seen, _ = counts.shape
    filled = np.zeros((trials, seen + forward, len(hidden)), dtype=np.uint16)
    filled[:, :seen, units] = counts
    spikes = recording["spikes"].to_dataset()
    public = spikes["counts"].values
    starts = spikes["trial_start"].values, shown["trial_start"].values
    known = recording["trials"].to_dataset()["split"].values.astype("<U6")
    split = known, np.full(trials, "test", dtype="<U6")
    groups = {
        "/": xr.Dataset(attrs=recording.attrs),
        "units": recording["units"].to_dataset(),
        "spikes": xr.Dataset(
            {
                "counts": (spikes["counts"].dims, np.concatenate([public, filled])),
                "trial_start": ("trial", np.concatenate(starts), {"units": "s"}),
            },
            coords={"time": spikes["time"], "unit": spikes["unit"]},
            attrs=spikes.attrs,
        ),
        "trials": xr.Dataset(
            {
                "split": ("trial", np.concatenate(split)),
                "condition": ("trial", np.zeros(len(public) + trials, dtype=int)),
            }
        ),
    }
    return xr.DataTree.from_dict(groups)


def _visible_layout(recording: xr.DataTree) -> Layout:
    """The recording's layout without what a test file lacks."""
    told = json.loads(recording.attrs["layout_settings"])
    begin, end = told["trials"]["window"]
    told["trials"]["window"] = [begin, round(end - float(told.get("forward") or 0.0), 9)]
    # Ingest asks for trials to train on; there is one split here.
    split = {"column": told["split"]["column"], "words": {"test": "train", "none": "unused"}}
    told |= {"forward": 0.0, "behavior": [], "stimulus": None, "truth": None, "scores": None}
    told |= {"split": split, "spikes": told["spikes"] | {"held_out": 0.0, "min_rate": 0.0}}
    told["trials"]["condition"] = []
    return parse_layout(told)


def _matched_units(recording: xr.DataTree, found: xr.DataTree, path: str | Path) -> np.ndarray:
    """Place of each of the test file's units among the recording's."""
    hidden = held_out_units(recording)
    known = recording["units"].to_dataset()["id"].values
    theirs = found["units"].to_dataset()["id"].values
    if not np.array_equal(np.sort(theirs), np.sort(known[~hidden])):
        raise InputError(
            file=path,
            field="units/id",
            found=f"{len(theirs)} units, {int(np.isin(theirs, known[~hidden]).sum())} of them "
            "held-in units of the recording",
            expected=f"its {int((~hidden).sum())} held-in units",
            fix="Give the benchmark's test file of this session",
        )
    order = np.argsort(known)
    return order[np.searchsorted(known[order], theirs)]
