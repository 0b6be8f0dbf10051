"""Scores that a session's layout asks for: behaviour, PSTHs and produced intervals from rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.errors import InputError
from driftwave.layout import ProducedIntervalLayout, PsthLayout, VelocityLayout
from driftwave.recording import forward_bins, trial_mask
from driftwave.scores.produced_interval import interval_sums, speeds
from driftwave.scores.psth import psth_of, psth_sums
from driftwave.scores.session import rates_per_bin
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
# A score's name, its note, and the score of all trials' rates in spikes/bin.
Maker = tuple[str, str, Callable[[np.ndarray], TrialSums]]


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
    makers: list[Maker | None] = []
    if settings.velocity is not None:
        makers.append(_velocity(recording, settings.velocity))
    if settings.psth is not None:
        makers.append(_psth(recording, settings.psth))
    if settings.produced_interval is not None:
        makers.append(_interval(recording, settings.produced_interval))
    truth = None
    if "truth" in recording.children and "rate" in recording["truth"].data_vars:
        truth = recording["truth"].to_dataset()["rate"].values
    seen = recording["spikes"].sizes["time"] - forward_bins(recording)
    width = float(recording["spikes"].attrs["bin_width"])

    def per_bin(hertz: np.ndarray) -> np.ndarray:
        return rates_per_bin(hertz[:, :seen], width)

    for maker in makers:
        if maker is None:
            continue
        name, note, score = maker
        ceiling = np.nan if truth is None else score(per_bin(truth)).value()
        yield name, note, score(per_bin(latents["rate"].values)), ceiling


def _velocity(recording: xr.DataTree, layout: VelocityLayout) -> Maker:
    known = decoding_of(recording, layout)
    fitted, test = trial_mask(recording, "train", "valid"), trial_mask(recording, "test")

    def score(rates: np.ndarray) -> TrialSums:
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
            raise InputError(
                file=recording.attrs["session"],
                field="scores.velocity",
                found=str(error),
                expected="finite rates and enough behaviour in training and test trials",
                fix="Fit the model again, or mend the behaviour's layout",
            ) from error

    note = f"{', '.join(layout.features)} from all units' rates by ridge, seen bins"
    if layout.by:
        note += f"; mean over {known.groups.shape[1]} decoders, by {layout.by}"
    return "vel_r2", f"{note}; null_shuffled: rates of other trials", score


def _psth(recording: xr.DataTree, layout: PsthLayout) -> Maker | None:
    psth, test = psth_of(recording, layout.sd, layout.where), trial_mask(recording, "test")
    if not any(map(len, psth.test)):
        return None
    note = (
        f"condition means of rates against spikes smoothed by {layout.sd:g} s; interval over "
        "conditions; null_shuffled: rates of other conditions"
    )
    return "psth_r2", note, lambda rates: psth_sums(psth.mean, rates[test], psth.test)


def _interval(recording: xr.DataTree, layout: ProducedIntervalLayout) -> Maker:
    test = trial_mask(recording, "test")
    produced, bins = intervals_of(recording, layout), scored_bins(recording)[test]

    def score(rates: np.ndarray) -> TrialSums:
        speed = speeds(rates[test], bins)
        labels = np.where(np.isfinite(speed)[:, None], produced.labels[test], np.nan)
        used = np.isfinite(labels[:, 0])
        return interval_sums(
            np.where(used, speed, 0.0), np.where(used, produced.interval[test], 0.0), labels
        )

    note = f"speed of rates against {layout.column}, within conditions; more negative is better"
    return "tp_corr", f"{note}; null_shuffled: rates of other trials", score


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
