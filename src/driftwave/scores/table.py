"""The table of scores: each beside its interval, null and ceiling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.provenance import used
from driftwave.recording import trial_mask
from driftwave.scores.bits_per_spike import bps_sums
from driftwave.scores.decoded import decoding_rows
from driftwave.scores.few_shot import MeanOfSubsets, few_shot_co_bps, shots
from driftwave.scores.field import field_rows
from driftwave.scores.latent_r2 import read_out_state
from driftwave.scores.layout_rows import layout_rows
from driftwave.scores.page import comparison_page
from driftwave.scores.r_squared import r2_sums
from driftwave.scores.session import Scored, scored_session, true_values
from driftwave.scores.settings import scored_bins
from driftwave.scores.trial_sums import TrialSums
from driftwave.store import write_text

COLUMNS = (
    "session",
    "model",
    "metric",
    "value",
    "unit",
    "ci_low",
    "ci_high",
    "null",
    "ceiling",
    "split",
    "note",
    "null_shuffled",
    "features",
)
_SHUFFLE_NOTE = "null_shuffled: rates of other trials"
# metric -> (part of the test trials, what the null model of the score is)
_BITS = {"co_bps": "held_out", "fp_bps": "forward"}
_R2 = {"rate_r2": "seen", "rate_r2_held_out": "held_out", "rate_r2_forward": "forward"}
_PARTS = {
    "seen": "all units, seen bins",
    "held_out": "held-out units, seen bins",
    "forward": "all units, forward bins",
}


def score_model(
    recording: xr.DataTree, latents: xr.Dataset, seed: int, *, resamples: int = 1000
) -> pd.DataFrame:
    """Score a model's rates on the test trials, or its field on the test stretch.

    Rows (each only where the session allows it):

    ``co_bps``
        Bits per spike of the held-out units in the seen bins (co-smoothing).
    ``fp_bps``
        Bits per spike of all units in the forward bins.
    ``expected_bps``
        Expected bits per spike of a fresh repeat of the test trials, all units, seen bins.
    ``rate_r2``, ``rate_r2_held_out``, ``rate_r2_forward``
        Uniform mean over units of R2 against the true rates over trials and bins.
    ``latent_r2``
        Uniform mean over state dims of R2 of the true state, read out by ridge from log rates
        (fitted on train, penalty chosen on valid), seen bins.
    ``few_shot_co_bps k=K``
        As ``co_bps``, but of rates that a Poisson readout, fitted to K training trials, gives
        from the model's ``factors`` or, where it has none, its ``latent``: mean over random
        subsets.
    ``vel_r2``, ``psth_r2``, ``tp_corr``
        Where the layout's ``scores`` asks for them: see
        :mod:`driftwave.scores.velocity`, :mod:`driftwave.scores.psth` and
        :mod:`driftwave.scores.produced_interval`.
    ``held_out_electrode_r2``, ``forecast_r2 H ms`` and others
        Of a model of the field: see :func:`driftwave.scores.field.field_rows`.
    ``cpu_seconds``
        Cost of the fit.

    Parameters
    ----------
    recording : DataTree
    latents : Dataset
        Output of a model, with ``rate``, or ``field_filled`` and ``field_forecast``, or both.
    seed : int
        Of the bootstrap and of the random subsets of training trials.
    resamples : int
        Bootstrap resamples of test trials behind the 95 % interval.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`. ``null`` is the score of each unit's mean over the evaluation,
        0 by construction of bits per spike and R2; ``null_shuffled`` that of the same rates dealt
        to other trials; ``ceiling`` that of the true rates.
    """
    rows: list[dict[str, Any]] = []
    if "rate" in latents:
        scored = scored_session(recording, latents)
        found: list[tuple[str, str, TrialSums | MeanOfSubsets, float]] = [
            *_sums(recording, latents, scored),
            *_few_shot(recording, latents, scored, seed),
            *layout_rows(recording, latents),
        ]
        for name, note, sums, ceiling in found:
            rng = generator(seed, "bootstrap", name)
            rows.append(_row(name, note, sums, ceiling, sums.interval(rng, resamples=resamples)))
    if "field_filled" in latents:
        rows += field_rows(recording, latents, seed, resamples=resamples)
    if "cpu_seconds" in latents.attrs:
        cost = {"metric": "cpu_seconds", "value": float(latents.attrs["cpu_seconds"]), "unit": "s"}
        rows.append({**cost, "note": "fit, all threads" + _trouble(latents)})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["session"] = recording.attrs["session"]
    table["model"] = latents.attrs.get("model", "model")
    return _tidy(table)


def _trouble(latents: xr.Dataset) -> str:
    """What a reader of the scores should know of the training."""
    backs = int(latents.attrs.get("step_backs", 0))
    return f"; training diverged {backs} times and was stepped back" if backs else ""


def _row(
    name: str,
    note: str,
    sums: TrialSums | MeanOfSubsets,
    ceiling: float,
    interval: tuple[float, float],
) -> dict[str, Any]:
    return {
        "metric": name,
        "value": sums.value(),
        "unit": "bits/spike" if "_bps" in name else "r" if name.endswith("_corr") else "R2",
        "ci_low": interval[0],
        "ci_high": interval[1],
        "null": 0.0,
        "ceiling": ceiling,
        "split": "test",
        "note": note,
        "null_shuffled": sums.shuffled(),
    }


def _sums(
    recording: xr.DataTree, latents: xr.Dataset, scored: Scored
) -> Iterator[tuple[str, str, TrialSums, float]]:
    """Name, note, trial sums and ceiling of each score the session allows."""
    truth = scored.true_rates
    for name, part in _BITS.items():
        if scored.has(part):
            counts = scored.cut(scored.counts, part)
            ceiling = np.nan
            if truth is not None:
                ceiling = bps_sums(scored.cut(truth, part), counts).value()
            note = f"{_PARTS[part]}; 0: each unit's mean; {_SHUFFLE_NOTE}"
            yield name, note, bps_sums(scored.cut(scored.rates, part), counts), ceiling
    if truth is None:
        return
    seen = scored.cut(truth, "seen")
    note = f"fresh repeat, {_PARTS['seen']}; 0: each unit's mean; {_SHUFFLE_NOTE}"
    sums = bps_sums(scored.cut(scored.rates, "seen"), seen)
    yield "expected_bps", note, sums, bps_sums(seen, seen).value()
    for name, part in _R2.items():
        if scored.has(part):
            sums = r2_sums(scored.cut(scored.rates, part), scored.cut(truth, part))
            note = f"uniform mean over units of R2 against true rates, {_PARTS[part]}"
            yield name, f"{note}; {_SHUFFLE_NOTE}", sums, 1.0
    yield from _latent_sums(recording, latents, scored)


def _latent_sums(
    recording: xr.DataTree, latents: xr.Dataset, scored: Scored
) -> Iterator[tuple[str, str, TrialSums, float]]:
    state, rate = true_values(recording, "state"), true_values(recording, "rate")
    train = trial_mask(recording, "train")
    if state is None or rate is None or not train.any():
        return
    state = state[:, : scored.seen_bins]
    splits = train, trial_mask(recording, "valid"), trial_mask(recording, "test")
    width = float(recording["spikes"].attrs["bin_width"])

    def sums(hertz: np.ndarray) -> TrialSums:
        rates = hertz[:, : scored.seen_bins].astype(float) * width
        return r2_sums(read_out_state(rates, state, *splits), state[splits[2]])

    note = "uniform mean over state dims of R2; ridge from log rates, fitted on train, seen bins"
    yield (
        "latent_r2",
        f"{note}; {_SHUFFLE_NOTE}",
        sums(latents["rate"].values),
        sums(rate).value(),
    )


def _few_shot(
    recording: xr.DataTree, latents: xr.Dataset, scored: Scored, seed: int
) -> Iterator[tuple[str, str, MeanOfSubsets, float]]:
    """Name, note, score and ceiling for each number of trials that a readout is fitted to."""
    name = next((n for n in ("factors", "latent") if n in latents), None)
    train, test = trial_mask(recording, "train"), trial_mask(recording, "test")
    if name is None or not scored.has("held_out") or train.sum() < 2:
        return
    bins = scored.seen_bins
    features = {"model": latents[name].values[:, :bins].astype(float)}
    bad = ~np.isfinite(features["model"][train | test])
    if bad.any():
        raise InputError(
            file=str(latents.attrs.get("model", "latents")),
            field=name,
            found=f"{int(bad.sum())} NaN or infinite values in training and test trials",
            expected="finite values",
            fix="Fit the model again, with a smaller learning rate if its training diverged",
        )
    state = true_values(recording, "state")
    if state is not None:
        features["truth"] = state[:, :bins]
    counts = recording["spikes"].to_dataset()["counts"].values[:, :bins][..., scored.held_out]
    counts = np.where(scored_bins(recording)[..., None], counts, np.nan)
    for k in shots(int(train.sum())):
        rows = {
            source: few_shot_co_bps(
                values, counts, train, test, k, generator(seed, "few-shot", str(k))
            )
            for source, values in features.items()
        }
        note = (
            f"held-out units, seen bins, read out of {name} by a Poisson GLM fitted to {k} "
            f"training trials; mean of {len(rows['model'].each)} random subsets, standard "
            f"deviation {rows['model'].spread():.3g}; ceiling: from the true state; {_SHUFFLE_NOTE}"
        )
        ceiling = rows["truth"].value() if "truth" in rows else np.nan
        yield f"few_shot_co_bps k={k}", note, rows["model"], ceiling


def compare_models(
    score_paths: Iterable[str | Path], decoded: Mapping[str, xr.Dataset]
) -> pd.DataFrame:
    """All scores of a session, decoding included, as one tidy table.

    Parameters
    ----------
    score_paths : iterable of path
        Tables written by :func:`write_table`.
    decoded : mapping of str to Dataset
        Decoding results by source: ``recording`` or a model.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`; rows of decoding name their source in ``model`` and what was
        decoded from in ``features``.
    """
    tables = [read_table(path) for path in score_paths]
    for source, dataset in decoded.items():
        rows = pd.DataFrame(list(decoding_rows(source, dataset)), columns=list(COLUMNS))
        tables.append(_tidy(rows))
    tables = [table for table in tables if len(table)]
    if not tables:
        return _tidy(pd.DataFrame(columns=list(COLUMNS)))
    return pd.concat(tables, ignore_index=True)


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Text columns as text, the others as numbers."""
    text = ["session", "model", "metric", "unit", "split", "note", "features"]
    numbers = [name for name in COLUMNS if name not in text]
    table[text] = table[text].astype(object).fillna("").astype(str)
    table[numbers] = table[numbers].astype(float)
    return table


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a table of scores.

    Raises
    ------
    InputError
        If it is missing or lacks a column.
    """
    try:
        table = pd.read_csv(path, sep="\t", keep_default_na=False, na_values=[""])
    except (FileNotFoundError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise InputError(
            file=path,
            field="table",
            found=type(error).__name__,
            expected="a table written by `driftwave score`",
            fix="Run the scoring again",
        ) from error
    used(path)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise InputError(
            file=path,
            field="columns",
            found=list(table.columns),
            expected=f"also {missing}",
            fix="Run the scoring again",
        )
    return _tidy(table[list(COLUMNS)].copy())


def open_scores(path: str | Path) -> xr.Dataset:
    """A table of scores as a Dataset, one variable per column, along ``index``."""
    table = read_table(path)
    return xr.Dataset(
        {
            name: ("index", column.to_numpy(dtype=float if column.dtype.kind == "f" else str))
            for name, column in table.items()
        }
    )


def write_table(table: pd.DataFrame, path: str | Path, html: bool = False) -> None:
    """Write a table as tsv, whole or not at all; with ``html`` a page of the same name beside it.

    Parameters
    ----------
    table : DataFrame
        Columns :data:`COLUMNS`.
    path : path
        Ends in ``.tsv``.
    html : bool
        The page shows models against metrics, with units, the best of each marked, and everything
        else below; it needs no network.
    """
    path = Path(path)
    write_text(path, table.to_csv(sep="\t", index=False, float_format="%.6g"))
    if html:
        write_text(path.with_suffix(".html"), comparison_page(table))
