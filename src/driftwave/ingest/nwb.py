"""From an NWB file and a layout to a recording that keeps the data contract."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.ingest import intervals
from driftwave.ingest.behavior import behavior_groups
from driftwave.ingest.clock import stretches
from driftwave.ingest.exclusion import invalid_times
from driftwave.ingest.field import FieldSource, field_group, field_source
from driftwave.ingest.file import NwbFile, explained, open_nwb
from driftwave.ingest.imaging import imaging_group
from driftwave.ingest.imaging_source import ImagingSource, imaging_source
from driftwave.ingest.limits import check_trials
from driftwave.ingest.observed import units_and_trials
from driftwave.ingest.quality import unit_quality
from driftwave.ingest.split import overlapping, split_trials
from driftwave.ingest.tables import column
from driftwave.ingest.trials import (
    Trials,
    check_enough,
    conditions,
    cut,
    stimulus_group,
    trials_group,
    whole_bins,
)
from driftwave.ingest.truth import truth_group
from driftwave.ingest.unit_electrodes import unit_positions
from driftwave.ingest.units import SpikeSource, SpikeTimes, held_out, read_spikes
from driftwave.layout import Layout
from driftwave.recording import SCHEMA_VERSION, check_recording

__all__ = ["NwbFile", "open_nwb", "read_recording"]


def read_recording(file: NwbFile, layout: Layout, *, session: str) -> xr.DataTree:
    """Read a recording as a layout asks, in the form :mod:`driftwave.recording` describes.

    Everything but the signals of field and imaging is in memory; those are dask-backed and need
    the file open until they are written.

    Parameters
    ----------
    file : NwbFile
        As :func:`open_nwb` yields it.
    layout : Layout
    session : str
        Name of the session.

    Raises
    ------
    InputError
        Anything the layout asks for that the file does not hold, and data that cannot be used:
        no spike in any trial, behaviour that is NaN throughout, electrodes that share a position,
        fewer trials than a split needs.
    """
    with explained(file):
        return _recording(file, layout, session)


def _recording(file: NwbFile, layout: Layout, session: str) -> xr.DataTree:
    spikes = read_spikes(file, layout.spikes, layout.bin_width) if layout.spikes else None
    invalid = invalid_times(file, layout)
    source = field_source(file, layout.field, invalid) if layout.field else None
    imaging = imaging_source(file, layout.imaging, invalid) if layout.imaging else None
    coverage, slack = _coverage(spikes, source, imaging)
    trials = cut(file, layout, coverage, slack)
    groups: dict[str, xr.Dataset] = {"/": _root(file, layout, session)}
    if spikes is not None and trials is not None:
        spikes = _observed_units(file, layout, spikes, trials)
        spikes, found = _spike_groups(file, layout, spikes, trials)
        if isinstance(spikes, SpikeTimes):
            seen = intervals.minus(spikes.observed.union, invalid)
            found["spike_times"] = _spike_times(spikes, seen)
        groups |= found
    if trials is not None:
        groups |= _trial_groups(file, layout, trials)
    if layout.truth is not None:
        groups["truth"] = truth_group(
            file,
            layout.truth,
            starts=None if trials is None else trials.starts,
            offset=0.0 if trials is None else trials.offset,
            bin_width=layout.bin_width,
            bins=0 if trials is None else trials.bins,
            units=None if spikes is None else spikes.rows,
            units_in_file=0 if spikes is None else spikes.units_in_file,
        )
    if source is not None and layout.field is not None:
        groups["field"] = field_group(file, layout.field, source)
    if imaging is not None and layout.imaging is not None:
        groups["imaging"] = imaging_group(file, layout.imaging, imaging)
    tree = xr.DataTree.from_dict(groups)
    check_recording(tree, file.path)
    return tree


def _coverage(
    spikes: SpikeSource | None, source: FieldSource | None, imaging: ImagingSource | None
) -> tuple[np.ndarray, float]:
    """When was recorded (interval, 2), s, and how far (s) a trial may reach beyond."""
    if spikes is not None:
        return spikes.observed.union, spikes.slack
    if source is None:
        assert imaging is not None  # a layout has spikes, field or imaging
        step = 1 / imaging.rate
        return stretches(imaging.times, step), 0.5 * step
    samples = source.samples
    if source.clock is not None:
        return source.clock.recorded, 0.5 / samples.rate
    stop = samples.time + (samples.stop - samples.first) / samples.rate
    return np.array([[samples.time, stop]]), 0.5 / samples.rate


def _observed_units(
    file: NwbFile, layout: Layout, spikes: SpikeSource, trials: Trials
) -> SpikeSource:
    """Units observed often enough; trials in which one of them was not are left out."""
    assert layout.spikes is not None
    seen = spikes.observed.during(trials.starts, trials.stops, spikes.slack)
    kept, unseen = units_and_trials(file, seen, trials.usable, layout.spikes.min_observed)
    trials.leave_out(unseen, "with_unobserved_units")
    trials.trim()
    check_enough(file, trials, spikes.observed.union)
    return spikes.select(kept)


def _root(file: NwbFile, layout: Layout, session: str) -> xr.Dataset:
    subject = file.nwbfile.subject
    begin = file.nwbfile.session_start_time
    return xr.Dataset(
        attrs={
            "session": session,
            "source_file": str(file.path),
            "source_sha256": file.sha256,
            **file.origin,
            "subject": str((subject and subject.subject_id) or "not stated"),
            "species": str((subject and subject.species) or "not stated"),
            "session_start_time": begin.isoformat() if begin else "not stated",
            "layout": layout.name,
            "layout_settings": layout.model_dump_json(),
            "bin_width": layout.bin_width,
            "schema_version": SCHEMA_VERSION,
        }
    )


def _spike_groups(
    file: NwbFile, layout: Layout, spikes: SpikeSource, trials: Trials
) -> tuple[SpikeSource, dict[str, xr.Dataset]]:
    """The units that are kept, and groups ``spikes``, ``units`` and ``spike_times``."""
    assert layout.spikes is not None
    check_trials(file, layout, len(trials.starts), trials.bins, len(spikes.rows))
    counts = _counts(file, layout, spikes, trials)
    # Windows in gaps hold zeros that nobody counted.
    used = counts if trials.usable.all() else counts[trials.usable]
    rate = used.mean(axis=(0, 1), dtype=float) / layout.bin_width
    kept = rate >= layout.spikes.min_rate
    if not kept.any():
        raise file.fault(
            "spikes.min_rate",
            f"no unit at {layout.spikes.min_rate:g} Hz or more, the fastest at {rate.max():.3g} Hz",
            "at least one unit",
            "Lower `spikes.min_rate` in the layout",
        )
    if not kept.all():
        spikes, counts, rate = spikes.select(kept), counts[:, :, kept], rate[kept]
    forward = whole_bins(layout.forward, layout.bin_width, file.path, "forward")
    if trials.bins - forward < 2:
        raise file.fault(
            "forward",
            f"{layout.forward:g} s of trials {trials.bins * layout.bin_width:g} s long",
            "at least two bins of a trial left to see",
            "Shorten `forward` or lengthen the trials in the layout",
        )
    coords = {
        "trial": np.arange(len(trials.starts)),
        "time": (
            "time",
            trials.offset + np.arange(trials.bins) * layout.bin_width,
            {"units": "s", "long_name": "start of bin relative to the alignment event"},
        ),
        "unit": np.arange(counts.shape[2]),
    }
    silent = rate == 0
    spikes_group = xr.Dataset(
        {
            "counts": (("trial", "time", "unit"), counts, {"units": "spikes/bin"}),
            "trial_start": ("trial", trials.starts, {"units": "s"}),
        },
        coords=coords,
        attrs={
            "bin_width": layout.bin_width,
            "forward_bins": forward,
            "contiguous": trials.contiguous,
            "source": layout.spikes.source,
            "silent_units": np.flatnonzero(silent).tolist(),
        },
    )
    return spikes, {"spikes": spikes_group, "units": _units(file, layout, spikes, rate)}


def _counts(file: NwbFile, layout: Layout, spikes: SpikeSource, trials: Trials) -> np.ndarray:
    try:
        counts = spikes.counts(trials.starts, layout.bin_width, trials.bins)
    except OverflowError as error:
        raise file.fault(
            "spikes",
            str(error),
            f"at most 65535 spikes in a bin of {layout.bin_width:g} s",
            "Use narrower bins, or check that the spike times are in seconds",
        ) from error
    if not np.any(counts.any(axis=(1, 2)) & trials.usable):
        raise file.fault(
            "spikes",
            f"no spike of {counts.shape[2]} units in any of {len(trials.starts)} trials from "
            f"{trials.starts.min():.6g} to "
            f"{trials.starts.max() + trials.bins * layout.bin_width:.6g} s",
            "spikes within the trials",
            "Check alignment, window and `spikes.where` in the layout against the spike times, "
            f"which span {spikes.observed.union[0, 0]:.6g} to {spikes.observed.union[-1, 1]:.6g} s",
        )
    return counts


def _units(file: NwbFile, layout: Layout, spikes: SpikeSource, rate: np.ndarray) -> xr.Dataset:
    assert layout.spikes is not None
    frame = spikes.frame
    hidden = held_out(file, layout, frame, silent=rate == 0)
    variables: dict[str, tuple] = {
        "held_out": ("unit", hidden, {"units": "bool"}),
        "rate": ("unit", rate, {"units": "Hz", "long_name": "mean rate within the trials"}),
    }
    wanted = layout.spikes.positions
    if wanted is None and layout.field is not None:
        wanted = layout.field.positions
    for axis, values in unit_positions(file, spikes.electrodes, wanted, spikes.rows).items():
        variables[axis] = ("unit", values, {"units": "mm"})
    if layout.spikes.region is not None:
        region = column(file, frame, layout.spikes.region, "spikes.region", "units")
        variables["region"] = ("unit", region.to_numpy().astype(str), {"units": "text"})
    if isinstance(spikes, SpikeTimes):
        for name, share in unit_quality(spikes.times, spikes.ends).items():
            variables[name] = ("unit", share, {"units": "1"})
    for name in frame.columns.drop([str(layout.spikes.held_out)], errors="ignore"):
        values = frame[name].to_numpy()
        text = values.dtype.kind not in "biufc"
        variables.setdefault(
            name if name not in ("unit", *variables) else f"{name}_in_file",
            (
                "unit",
                values.astype(str) if text else values,
                {"units": "text" if text else "as in the file"},
            ),
        )
    return xr.Dataset(
        variables,
        coords={"unit": np.arange(len(frame))},
        attrs={
            "silent_units": np.flatnonzero(rate == 0).tolist(),
            "units_in_file": spikes.units_in_file,
        },
    )


def _spike_times(spikes: SpikeTimes, seen: np.ndarray) -> xr.Dataset:
    unit = np.repeat(np.arange(len(spikes.ends), dtype=np.int32), np.diff(spikes.ends, prepend=0))
    return xr.Dataset(
        {
            "time": ("spike", spikes.times, {"units": "s", "long_name": "session clock"}),
            "unit": ("spike", unit, {"units": "index of the unit"}),
        },
        # s; when spikes could have been seen.
        attrs={"observed": seen.astype(float).tolist()},
    )


def _trial_groups(file: NwbFile, layout: Layout, trials: Trials) -> dict[str, xr.Dataset]:
    """Groups ``behavior``, ``behavior_series``, ``stimulus`` and ``trials``."""
    groups: dict[str, xr.Dataset] = {}
    if layout.behavior:
        check_trials(file, layout, len(trials.starts), trials.bins, 0)
        behavior, series, covered = behavior_groups(
            file, layout.behavior, trials.starts, trials.offset, layout.bin_width, trials.bins
        )
        groups |= {"behavior": behavior, "behavior_series": series}
        trials.usable &= covered
    if layout.stimulus is not None:
        groups["stimulus"] = stimulus_group(file, layout.stimulus, trials.table)
    if layout.trials is not None:
        condition, names = conditions(file, layout.trials, trials.table)
    else:
        condition, names = np.zeros(len(trials.starts), dtype=np.int64), '["all"]'
    split = split_trials(
        file,
        layout.split,
        usable=trials.usable,
        condition=condition,
        table=trials.table,
        contiguous=trials.contiguous,
        starts=trials.starts,
        stops=trials.stops,
    )
    trials.notes["trials_that_overlap"] = int(overlapping(trials.starts, trials.stops).sum())
    groups["trials"] = trials_group(trials, layout.bin_width, split, condition, names)
    return groups
