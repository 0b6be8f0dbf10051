"""Predictions and targets in the form of the Neural Latents Benchmark's h5 files.

A file holds one group per session, named after it with ``_20`` (the bin width in ms) added unless
bins are 5 ms wide. Rates and counts are (trial, time, unit) in spikes/bin.

Predictions: ``train_rates_heldin``, ``train_rates_heldout``, ``eval_rates_heldin``,
``eval_rates_heldout`` of the seen bins; ``eval_rates_heldin_forward``,
``eval_rates_heldout_forward``. Training trials are those of the splits train and valid, evaluation
trials those of the split test, each in the order of the recording.

Targets: ``eval_spikes_heldout`` (NaN in bins that are not scored), ``eval_spikes_heldin_forward``,
``eval_spikes_heldout_forward``; where the layout's ``scores`` asks for them ``train_behavior`` and
``eval_behavior``, (trial, time, feature) for decoding or (trial, column) with condition, 0, 0,
produced interval; ``train_decode_mask``, ``eval_decode_mask`` (trial, group); ``psth``
(condition, time, unit), held-in units first, and ``train_cond_idx``, ``eval_cond_idx``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.ingest.outside import refuse_outside
from driftwave.recording import forward_bins, held_out_units, trial_mask
from driftwave.scores.layout_rows import decoding_of, intervals_of
from driftwave.scores.psth import psth_of
from driftwave.scores.session import rates_per_bin, scored_session
from driftwave.scores.settings import score_settings, scored_bins
from driftwave.store import atomic_path

# Bins of this width (ms) need no ending of the group's name.
_PLAIN_WIDTH = 5
Group = dict[str, Any]


def group_name(recording: xr.DataTree) -> str:
    """Name of the session's group: ``mc_maze`` for bins of 5 ms, ``mc_maze_20`` for 20 ms."""
    name = score_settings(recording).name or str(recording.attrs["session"])
    width = round(float(recording["spikes"].attrs["bin_width"]) * 1000, 6)
    return name if width == _PLAIN_WIDTH else f"{name}_{width:g}"


def prediction(
    recording: xr.DataTree, latents: xr.Dataset, *, hidden: np.ndarray | None = None
) -> dict[str, Group]:
    """A model's rates as groups of arrays.

    Parameters
    ----------
    recording : DataTree
    latents : Dataset
        ``rate (trial, time, unit)``, Hz.
    hidden : ndarray (trial, time, unit), optional
        Rates (Hz) of the benchmark's test phase, see :mod:`driftwave.scores.hidden_trials`. They
        take the place of the test trials, which join the training trials.

    Raises
    ------
    InputError
        As scoring raises them: rates of another recording, negative, NaN or infinite, or no test
        trial; no held-out unit.
    """
    scored_session(recording, latents)  # for its checks
    _check_held_out(recording)
    width = float(recording["spikes"].attrs["bin_width"])
    rates = rates_per_bin(latents["rate"].values, width).astype(np.float32)
    held_out, seen = held_out_units(recording), _seen_bins(recording)
    fitted, test = trial_mask(recording, "train", "valid"), trial_mask(recording, "test")
    evaluated = rates[test]
    if hidden is not None:
        fitted, evaluated = fitted | test, rates_per_bin(hidden, width).astype(np.float32)
    arrays: Group = {}
    for part, units in (("heldin", ~held_out), ("heldout", held_out)):
        arrays[f"train_rates_{part}"] = rates[fitted][:, :seen][..., units]
        arrays[f"eval_rates_{part}"] = evaluated[:, :seen][..., units]
        if seen < rates.shape[1]:
            arrays[f"eval_rates_{part}_forward"] = evaluated[:, seen:][..., units]
    return {group_name(recording): arrays}


def target(recording: xr.DataTree) -> dict[str, Group]:
    """What predictions are scored against, as groups of arrays.

    Raises
    ------
    InputError
        No test trial, no held-out unit, or a recording that lacks what the layout's ``scores``
        names.
    """
    _check_held_out(recording)
    settings, hidden = score_settings(recording), held_out_units(recording)
    fitted, test = trial_mask(recording, "train", "valid"), trial_mask(recording, "test")
    counts = recording["spikes"].to_dataset()["counts"].values.astype(np.float32)
    seen, bins = _seen_bins(recording), scored_bins(recording)
    scored = np.where(bins[..., None], counts[:, :seen], np.float32(np.nan))
    arrays: Group = {"eval_spikes_heldout": scored[test][..., hidden]}
    if seen < counts.shape[1]:
        arrays["eval_spikes_heldin_forward"] = counts[test][:, seen:][..., ~hidden]
        arrays["eval_spikes_heldout_forward"] = counts[test][:, seen:][..., hidden]
    if settings.velocity is not None:
        known = decoding_of(recording, settings.velocity)
        for name, trials in (("train", fitted), ("eval", test)):
            arrays[f"{name}_behavior"] = known.behavior[trials].astype(np.float32)
            if settings.velocity.by is not None:
                arrays[f"{name}_decode_mask"] = known.groups[trials]
    elif settings.produced_interval is not None:
        produced = intervals_of(recording, settings.produced_interval)
        nothing = np.where(np.isnan(produced.labels), np.nan, 0.0)
        rows = np.hstack([produced.labels, nothing, nothing, produced.interval[:, None]])
        arrays["train_behavior"] = rows[fitted].astype(np.float32)
        arrays["eval_behavior"] = rows[test].astype(np.float32)
    if settings.psth is not None:
        psth = psth_of(recording, settings.psth.sd, settings.psth.where)
        order = np.argsort(hidden, kind="stable")
        arrays["psth"] = psth.mean[..., order].astype(np.float32)
        arrays["train_cond_idx"] = psth.train
        arrays["eval_cond_idx"] = psth.test
    return {group_name(recording): arrays}


def write_h5(path: str | Path, groups: Mapping[str, Group]) -> None:
    """Write groups of arrays (lists of index arrays as ragged ones), whole or not at all."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, arrays in groups.items():
            group = file.create_group(name)
            for key, values in arrays.items():
                if isinstance(values, list):
                    ragged = group.create_dataset(
                        key, (len(values),), dtype=h5py.vlen_dtype(np.int32)
                    )
                    for place, one in enumerate(values):
                        ragged[place] = one
                else:
                    group.create_dataset(key, data=values, compression="gzip", shuffle=True)


@contextmanager
def open_h5(path: str | Path) -> Iterator[h5py.File]:
    """Open an h5 file for reading.

    Raises
    ------
    InputError
        If it is missing, no HDF5 file, or refers to other files.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        missing = not Path(path).exists()
        raise InputError(
            file=path,
            field="file",
            found="no such file" if missing else f"a file that cannot be read ({error})",
            expected="an HDF5 file of predictions or targets",
            fix="Mend the path" if missing else "Write it again with `driftwave benchmark export`",
        ) from error
    with file:
        refuse_outside(file, path)
        yield file


def _seen_bins(recording: xr.DataTree) -> int:
    return int(recording["spikes"].sizes["time"] - forward_bins(recording))


def _check_held_out(recording: xr.DataTree) -> None:
    hidden, test = held_out_units(recording), trial_mask(recording, "test")
    if not hidden.any():
        raise InputError(
            file=recording.attrs["session"],
            field="units/held_out",
            found="no held-out unit",
            expected="at least one, to be predicted",
            fix="Set `spikes.held_out` in the layout and ingest again",
        )
    if not test.any():
        raise InputError(
            file=recording.attrs["session"],
            field="trials/split",
            found="no test trial",
            expected="at least 1",
            fix="Use more trials or another split in the layout",
        )
