"""What a session's layout says about its scores, and the parts of its trials that they name."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.errors import InputError
from driftwave.expression import GRAMMAR, ExpressionError, evaluate
from driftwave.layout import ScoresLayout
from driftwave.recording import forward_bins, require


def score_settings(recording: xr.DataTree) -> ScoresLayout:
    """The ``scores`` section of the layout a recording was made with; empty where there is none."""
    layout = json.loads(recording.attrs.get("layout_settings", "{}"))
    return ScoresLayout.model_validate(layout.get("scores") or {})


def trials_table(recording: xr.DataTree) -> pd.DataFrame:
    """One row per trial, a column for each variable of the ``trials`` group."""
    trials = recording["trials"].to_dataset()
    names = [name for name in trials.data_vars if trials[name].dims == ("trial",)]
    return pd.DataFrame({str(name): trials[name].values for name in names})


def trial_column(recording: xr.DataTree, name: str, field: str) -> pd.Series:
    """A column of the trials table, or an error that says which setting asks for it."""
    table = trials_table(recording)
    if name not in table:
        raise InputError(
            file=recording.attrs["session"],
            field=f"scores.{field}",
            found=f"no trials column {name!r}",
            expected=f"one of {list(table.columns)}",
            fix="Mend the name in the layout and ingest again",
        )
    return table[name]


def trials_where(recording: xr.DataTree, query: str | None, field: str) -> np.ndarray:
    """Trials for which a condition holds, bool (trial,); all of them without one."""
    table = trials_table(recording)
    if query is None:
        return np.ones(len(table), dtype=bool)
    try:
        return evaluate(query, table)
    except ExpressionError as error:
        raise InputError(
            file=recording.attrs["session"],
            field=f"scores.{field}",
            found=f"{query[:200]!r}, {error}",
            expected=f"{GRAMMAR}, such as `is_outlier == 0`, on the columns {list(table.columns)}",
            fix="Mend the condition in the layout and ingest again",
        ) from error


def scored_bins(recording: xr.DataTree) -> np.ndarray:
    """Seen bins that scores are about, bool (trial, seen bin): from ``scores.start`` on, or all."""
    spikes = require(recording, "spikes", "scoring")
    seen = spikes.sizes["time"] - forward_bins(recording)
    trials = spikes.sizes["trial"]
    name = score_settings(recording).start
    if name is None:
        return np.ones((trials, seen), dtype=bool)
    start = pd.to_numeric(trial_column(recording, name, "start"), errors="coerce").to_numpy(float)
    width = float(spikes.attrs["bin_width"])
    bins = spikes["trial_start"].values[:, None] + np.arange(seen) * width
    # A tolerance far below a bin: clocks hold rounding errors.
    return bins >= start[:, None] - 1e-6 * width


def behavior_features(recording: xr.DataTree, names: list[str], field: str) -> np.ndarray:
    """Features of the ``behavior`` group by name, (trial, seen bin, feature).

    Raises
    ------
    InputError
        If there is no behaviour, or a feature of another name only.
    """
    behavior = require(recording, "behavior", f"scores.{field}")
    known = [str(name) for name in behavior["feature"].values]
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(
            file=recording.attrs["session"],
            field=f"scores.{field}",
            found=f"{missing}",
            expected=f"some of the features {known}",
            fix="Mend the names in the layout and ingest again",
        )
    seen = behavior.sizes["time"] - forward_bins(recording)
    chosen = behavior["value"].values[:, :seen, [known.index(name) for name in names]]
    return chosen.astype(float)
