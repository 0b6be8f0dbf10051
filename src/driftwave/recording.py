"""The one data contract: what a session's ``recording.zarr`` holds, and the checks that keep it so.

A session is an :class:`xarray.DataTree`; a group is present only if the recording has it.

``/``
    attrs: session, source_file, source_sha256, subject, species, layout, bin_width (s),
    schema_version, provenance
``units``
    (unit): region, x, y, z (mm), rate (Hz), held_out (bool), other columns
``spikes``
    counts (trial, time, unit) uint16; trial_start (trial) s. attrs: bin_width (s), forward_bins
    (last bins of a trial, hidden at evaluation), contiguous (bool: trials are abutting windows of
    one continuous recording)
``spike_times``
    time (spike) s, unit (spike)
``field``
    lfp (time, electrode) float32 microvolt; coords electrode, time (s, session clock), x, y, z
    (mm), good (bool), region, group. attrs: sampling_rate (Hz)
``imaging``
    dff (time, roi) float32, in the unit its attrs state; coords roi, time (s, session clock, which
    may be uneven), x, y, z (mm), good (bool). attrs: sampling_rate (Hz, median)
``behavior``
    value (trial, time, feature); coords feature, kind (feature): continuous | circular,
    unit_of_measure (feature)
``behavior_series``
    each behavioural series as recorded, on its own clock (s)
``trials``
    condition (trial) int, split (trial): train | valid | test | unused, start (trial) s, stop
    (trial) s, one variable per further column of the trials table
``stimulus``
    what the layout names, per trial
``truth``
    simulated sessions only: rate (trial, time, unit) Hz, state (trial, time, state_dim), wave_*
    (wave); wave_kind is planar, radial or rotating; without waves, zero_lag or none; site_re and
    site_im (trial, time, site), coords site_x, site_y (site) mm; oscillator_* (oscillator),
    loading_re and loading_im (oscillator, electrode) microvolt; attrs: true parameters

``time`` is the start of a bin relative to the alignment event, in seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from driftwave.errors import InputError

SCHEMA_VERSION = 1
SPLITS = ("train", "valid", "test", "unused")

_DIMS: dict[str, dict[str, tuple[str, ...]]] = {
    "units": {"held_out": ("unit",), "rate": ("unit",)},
    "spikes": {"counts": ("trial", "time", "unit"), "trial_start": ("trial",)},
    "spike_times": {"time": ("spike",), "unit": ("spike",)},
    "field": {"lfp": ("time", "electrode")},
    "imaging": {"dff": ("time", "roi")},
    "behavior": {"value": ("trial", "time", "feature")},
    "trials": {"split": ("trial",), "condition": ("trial",)},
}
_ROOT_ATTRS = ("session", "source_file", "source_sha256", "layout", "schema_version")


def open_recording(path: str | Path) -> xr.DataTree:
    """Open a recording store lazily and check it against the contract.

    Raises
    ------
    InputError
        If the store is missing, unreadable or breaks the contract.
    """
    from driftwave.store import open_tree

    tree = open_tree(path)
    check_recording(tree, path)
    return tree


def check_recording(tree: xr.DataTree, file: str | Path = "recording") -> None:
    """Check groups, variables, dims and root attributes.

    Raises
    ------
    InputError
        Naming the variable or attribute, what was found and what the contract asks.
    """
    for name in _ROOT_ATTRS:
        if name not in tree.attrs:
            raise InputError(
                file=file,
                field=f"attrs[{name!r}]",
                found="nothing",
                expected="a value",
                fix="Make the recording again with `driftwave ingest`",
            )
    if tree.attrs["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            file=file,
            field="schema_version",
            found=tree.attrs["schema_version"],
            expected=SCHEMA_VERSION,
            fix="Make the recording again with `driftwave ingest`",
        )
    for group, variables in _DIMS.items():
        if group not in tree.children:
            continue
        dataset = tree[group].dataset
        for name, dims in variables.items():
            if name not in dataset:
                raise InputError(
                    file=file,
                    field=f"{group}/{name}",
                    found="nothing",
                    expected=f"a variable with dims {dims}",
                    fix="Make the recording again with `driftwave ingest`",
                )
            if dataset[name].dims != dims:
                raise InputError(
                    file=file,
                    field=f"{group}/{name}",
                    found=f"dims {dataset[name].dims}",
                    expected=f"dims {dims}",
                    fix="Make the recording again with `driftwave ingest`",
                )
    if "trials" in tree.children:
        found = set(np.unique(tree["trials"].dataset["split"].values.astype(str)))
        if not found <= set(SPLITS):
            raise InputError(
                file=file,
                field="trials/split",
                found=sorted(found - set(SPLITS)),
                expected=f"only {SPLITS}",
                fix="Mend the split in the layout",
            )


def require(tree: xr.DataTree, group: str, needed_by: str) -> xr.Dataset:
    """Return a group's dataset, or say what needs it and how to provide it."""
    if group not in tree.children:
        raise InputError(
            file=tree.attrs.get("session", "recording"),
            field=group,
            found=f"groups {sorted(tree.children)}",
            expected=f"a group {group!r}, which {needed_by} needs",
            fix=f"Add `{group}` to the session's layout and ingest again, "
            f"or leave {needed_by} out for this session",
        )
    return tree[group].to_dataset()


def trial_mask(tree: xr.DataTree, *splits: str) -> np.ndarray:
    """Boolean mask (trial,) of the trials in the named splits."""
    return np.isin(tree["trials"].dataset["split"].values.astype(str), splits)


def held_out_units(tree: xr.DataTree) -> np.ndarray:
    """Boolean mask (unit,) of the units that a model may not see at evaluation."""
    return tree["units"].dataset["held_out"].values.astype(bool)


def forward_bins(tree: xr.DataTree) -> int:
    """Number of bins at the end of each trial that a model may not see at evaluation."""
    return int(tree["spikes"].attrs.get("forward_bins", 0))
