"""The comparison table with one row per model where a model was fitted with several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.errors import InputError
from driftwave.scores.table import compare_models

SEED_COLUMNS = ("seeds", "seed_low", "seed_high")
_AVERAGED = ("value", "ci_low", "ci_high", "null", "ceiling", "null_shuffled")


def compare_seeds(
    score_paths: Iterable[str | Path],
    decoded: Mapping[str, xr.Dataset],
    seeds: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """:func:`~driftwave.scores.table.compare_models`, then :func:`over_seeds`."""
    return over_seeds(compare_models(score_paths, decoded), seeds)


def over_seeds(table: pd.DataFrame, seeds: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Replace the rows of each model's seeds by their median.

    The value is the median over seeds; ``seed_low`` and ``seed_high`` are the lowest and highest
    value. Interval over trials, null and ceiling are those of the seed in the middle (with an even
    number, the mean of the two in the middle).

    Parameters
    ----------
    table : DataFrame
        Tidy table of :func:`~driftwave.scores.table.compare_models`.
    seeds : mapping of str to sequence of str
        Model: names of its fits. Other rows (ensembles, models of one seed) stay as they are.

    Returns
    -------
    DataFrame
        With the columns :data:`SEED_COLUMNS` beside the others, unless ``seeds`` is empty.

    Raises
    ------
    InputError
        If a fit has no row in the table.
    """
    if not seeds:
        return table
    owner = {name: model for model, names in seeds.items() for name in names}
    missing = sorted(set(owner) - set(table["model"]))
    if missing:
        raise InputError(
            file="comparison",
            field="seeds",
            found=f"no score of {missing}",
            expected="scores of every seed",
            fix="Score these fits first",
        )
    of = table["model"].map(owner)
    groups = table[of.notna()].groupby([of, "metric", "features"], sort=False)
    medians = [_median(rows, str(key[0])) for key, rows in groups]
    others = table[of.isna()].assign(**dict.fromkeys(SEED_COLUMNS, np.nan))
    joined = pd.concat([others, pd.DataFrame(medians)])
    return joined.sort_index(kind="stable").reset_index(drop=True)


def _median(rows: pd.DataFrame, model: str) -> pd.Series:
    """One row in the place of the first of them."""
    ordered = rows.sort_values("value", kind="stable")
    count = len(rows)
    middle = ordered.iloc[(count - 1) // 2 : count // 2 + 1]
    row: dict[Any, Any] = rows.iloc[0].to_dict()
    row |= {name: middle[name].mean() for name in _AVERAGED}
    row |= {"seeds": float(count)}
    row |= {"seed_low": rows["value"].min(), "seed_high": rows["value"].max()}
    row |= {"model": model, "note": f"median of {count} seeds; {row['note']}".removesuffix("; ")}
    return pd.Series(row, name=rows.index[0])


def seed_range(row: pd.Series) -> tuple[float, float] | None:
    """Lowest and highest value over seeds of a row of the table, if it has several."""
    if not row.get("seeds", np.nan) > 1:
        return None
    return float(row["seed_low"]), float(row["seed_high"])
