"""Scores that a session's layout asks for: behaviour, PSTHs and produced intervals from rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.config import ProducedIntervalLayout, VelocityLayout
from driftwave.errors import InputError
from driftwave.recording import forward_bins, trial_mask
from driftwave.scores.produced_interval import interval_sums, speeds
from driftwave.scores.psth import psth_of, psth_sums
from driftwave.scores.settings import (
    behavior_features,
    score_settings,
    scored_bins,
    trial_column,
    trials_where,
)
from driftwave.scores.trial_sums import TrialSums
from driftwave.scores.velocity import velocity_sums

Row = tuple[str, str, TrialSums, float]


@dataclass(frozen=True)
class Decoding:
    """What is read out of rates, and which trials share a decoder.

    Attributes
    ----------
    behavior : ndarray (trial, seen bin, feature)
    groups : ndarray of bool (trial, group)
    """

    behavior: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Intervals:
    """Produced intervals and conditions.

    Attributes
    ----------
    interval : ndarray (trial,)
    labels : ndarray (trial, 1)
        Condition's number; NaN for trials that are not used.
    """

    interval: np.ndarray
    labels: np.ndarray


def layout_rows(recording: xr.DataTree, latents: xr.Dataset) -> Iterator[Row]:
    """Name, note, sums over trials and ceiling of each score that the layout asks for.

    Raises
    ------
    InputError
        If the recording lacks what the layout names, or the rates of training trials (which
        decoders are fitted to) are not finite.
    """
    settings = score_settings(recording)
    fitted, test = trial_mask(recording, "train", "valid"), trial_mask(recording, "test")
    seen = recording["spikes"].sizes["time"] - forward_bins(recording)
    width = float(recording["spikes"].attrs["bin_width"])
    truth = None
    if "truth" in recording.children and "rate" in recording["truth"].data_vars:
        truth = recording["truth"].to_dataset()["rate"].values

    def row(name: str, note: str, score: Callable[[np.ndarray], TrialSums]) -> Row:
        sums = score(latents["rate"].values[:, :seen].astype(float) * width)
        ceiling = np.nan
        if truth is not None:
            ceiling = score(truth[:, :seen].astype(float) * width).value()
        return name, note, sums, ceiling

    if settings.velocity is not None:
        known = decoding_of(recording, settings.velocity)

        def velocity(rates: np.ndarray) -> TrialSums:
            try:
                return velocity_sums(
                    rates[fitted],
                    known.behavior[fitted],
                    rates[test],
                    known.behavior[test],
                    known.groups[fitted],
                    known.groups[test],
                )
            except ValueError as error:
                raise _fault(recording, "velocity", error) from error

        note = f"{', '.join(settings.velocity.features)} from all units' rates by ridge, seen bins"
        if settings.velocity.by:
            note += f"; mean over {known.groups.shape[1]} decoders, by {settings.velocity.by}"
        yield row("vel_r2", f"{note}; null_shuffled: rates of other trials", velocity)
    if settings.psth is not None:
        psth = psth_of(recording, settings.psth.sd, settings.psth.where)
        if any(map(len, psth.test)):
            note = (
                f"condition means of rates against spikes smoothed by {settings.psth.sd:g} s; "
                "interval over conditions; null_shuffled: rates of other conditions"
            )
            yield row("psth_r2", note, lambda r: psth_sums(psth.mean, r[test], psth.test))
    if settings.produced_interval is not None:
        produced = intervals_of(recording, settings.produced_interval)
        bins = scored_bins(recording)[test]

        def correlation(rates: np.ndarray) -> TrialSums:
            speed = speeds(rates[test], bins)
            labels = np.where(np.isfinite(speed)[:, None], produced.labels[test], np.nan)
            used = np.isfinite(labels[:, 0])
            return interval_sums(
                np.where(used, speed, 0.0), np.where(used, produced.interval[test], 0.0), labels
            )

        note = f"speed of rates against {settings.produced_interval.column}, within conditions"
        note += "; more negative is better; null_shuffled: rates of other trials"
        yield row("tp_corr", note, correlation)


def decoding_of(recording: xr.DataTree, layout: VelocityLayout) -> Decoding:
    """Behaviour to read out, and the trials that share a decoder."""
    behavior = behavior_features(recording, list(layout.features), "velocity.features")
    if layout.by is None:
        return Decoding(behavior, np.ones((len(behavior), 1), dtype=bool))
    column = trial_column(recording, layout.by, "velocity.by")
    used = trial_mask(recording, "train", "valid", "test")
    values = np.sort(column[used].dropna().unique())
    return Decoding(behavior, column.to_numpy()[:, None] == values)


def intervals_of(recording: xr.DataTree, layout: ProducedIntervalLayout) -> Intervals:
    """Produced intervals, and the condition of each trial that is used."""
    field = "produced_interval"
    values = trial_column(recording, layout.column, f"{field}.column")
    interval = pd.to_numeric(values, errors="coerce").to_numpy(float)
    used = trials_where(recording, layout.where, f"{field}.where") & np.isfinite(interval)
    columns = {name: trial_column(recording, name, f"{field}.by") for name in layout.by}
    code = np.zeros(len(interval), dtype=float)
    if columns:
        groups = pd.DataFrame(columns).groupby(list(columns), sort=True).ngroup()
        code = groups.to_numpy().astype(float)
        used &= code >= 0  # a missing value belongs to no condition
    return Intervals(
        interval=np.where(used, interval, np.nan),
        labels=np.where(used, code, np.nan)[:, None],
    )


def _fault(recording: xr.DataTree, field: str, error: ValueError) -> InputError:
    return InputError(
        file=recording.attrs["session"],
        field=f"scores.{field}",
        found=str(error),
        expected="finite rates and enough behaviour in training and test trials",
        fix="Fit the model again, or mend the behaviour's layout",
    )
