"""All decoders and sources of a session in one table, with their nulls, ceilings and q-values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.store import write_text

COLUMNS = (
    "decoder",
    "source",
    "features_from",
    "target",
    "metric",
    "score_cv",
    "score_test",
    "null_mean",
    "null_high",
    "ceiling",
    "p",
    "p_test",
    "q",
    "folds",
    "shuffles",
)
# Small errors are the good ones: what chance reaches in 5 % of cases lies at the other end.
SMALLER = ("angular_error", "mean_angular_error", "median_error", "error")

_CLASS = ' class="found"'
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; }
table { border-collapse: collapse; margin: 0.5em 0 1em; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25em 0.8em; border-bottom: 1px solid #ddd; text-align: left; }
tr.found td { font-weight: bold; }
p { max-width: 50em; }
"""
_NOTE = (
    "score_cv: mean over folds; score_test: the test split, decoded from train and valid. Null: "
    "the same score with the labels of other trials (mean, and what chance reaches in 5 % of "
    "cases). Ceiling: the most that the noise of the prediction allows, from two halves of the "
    "units. q: Benjamini-Hochberg over all rows of a metric; rows below .05 are bold. Angular "
    "errors are in degrees, and small is good."
)


def decoding_table(stores: Mapping[tuple[str, str], xr.Dataset]) -> pd.DataFrame:
    """One row per decoder, source, set of features, target and metric.

    Parameters
    ----------
    stores : mapping of (decoder, source) to Dataset
        Results of continuous and discrete decoders: every metric that has a
        ``<metric>_cv (features_from, target-like dim)``.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`. ``null_high`` is the 95 % point of the null of ``score_cv`` (the
        5 % point of an error); ``ceiling`` is of the metric, NaN where there is none; ``q``
        (Benjamini and Hochberg 1995) is over all rows of one metric that have a p-value.
    """
    rows = [
        row
        for (decoder, source), result in stores.items()
        for row in _rows(decoder, source, result)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["q"] = table["q"].astype(float)
    for _, group in table.groupby("metric", sort=False):
        tested = group.index[group["p"].notna()]
        table.loc[tested, "q"] = benjamini_hochberg(group.loc[tested, "p"].to_numpy())
    return table


def write_decoding_table(table: pd.DataFrame, path: str | Path, *, html: bool = True) -> None:
    """Write the table as tsv, and as a page of the same name beside it.

    Parameters
    ----------
    table : DataFrame
        As of :func:`decoding_table`.
    path : path
        Ends in ``.tsv``.
    html : bool
    """
    path = Path(path)
    write_text(path, table.to_csv(sep="\t", index=False, float_format="%.6g"))
    if html:
        write_text(path.with_suffix(".html"), decoding_page(table))


def decoding_page(table: pd.DataFrame) -> str:
    """The table as a page that needs no network: one part per metric, q below .05 in bold."""
    parts = ["<h1>Decoders</h1>", f"<p>{_NOTE}</p>"]
    for metric, group in table.groupby("metric", sort=False):
        parts.append(f"<h2>{escape(str(metric).replace('_', ' '))}</h2>")
        shown = group.drop(columns="metric")
        columns = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in shown.columns)
        rows = [
            f"<tr{_CLASS if row['q'] < 0.05 else ''}>"
            + "".join(f"<td>{escape(_cell(value))}</td>" for value in row)
            + "</tr>"
            for _, row in shown.iterrows()
        ]
        parts.append(f"<table><tr>{columns}</tr>{''.join(rows)}</table>")
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>driftwave: decoders'
        f"</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3g}"
    return str(value)


def metrics_of(result: xr.Dataset) -> list[str]:
    """Metrics that a result holds cross-validated scores of, by name."""
    return [
        str(name).removesuffix("_cv")
        for name, data in result.data_vars.items()
        if str(name).endswith("_cv")
        and data.ndim == 2
        and data.dims[0] == "features_from"
        and not str(name).startswith(("null_", "ceiling_"))
    ]


def _rows(decoder: str, source: str, result: xr.Dataset) -> Iterator[dict[str, Any]]:
    for metric in metrics_of(result):
        scores = result[f"{metric}_cv"]
        dim = str(scores.dims[1])
        suffix = "" if metric == "r2" else f"_{metric}"
        for features in scores["features_from"].values:
            for target in scores[dim].values:
                at = {"features_from": features, dim: target}
                cell = _Cell(result, at)
                score = cell(f"{metric}_cv")
                if np.isnan(score):
                    continue
                null = cell.null(f"null_{metric}")
                high = 0.05 if metric in SMALLER else 0.95
                yield {
                    "decoder": decoder,
                    "source": source,
                    "features_from": str(features),
                    "target": str(target),
                    "metric": metric,
                    "score_cv": score,
                    "score_test": cell(f"{metric}_test"),
                    "null_mean": float(null.mean()) if len(null) else np.nan,
                    "null_high": float(np.quantile(null, high)) if len(null) else np.nan,
                    "ceiling": cell(f"ceiling_{metric}"),
                    "p": cell(f"p_value{suffix}"),
                    "p_test": cell(f"p_value{suffix}_test"),
                    "q": np.nan,
                    "folds": cell.count(f"{metric}_fold"),
                    "shuffles": len(null),
                }


class _Cell:
    """Variables of a result at one set of features and one target; NaN where there are none."""

    def __init__(self, result: xr.Dataset, at: dict[str, Any]) -> None:
        self.result, self.at = result, at

    def _values(self, name: str) -> np.ndarray:
        if name not in self.result or not set(self.at) <= set(self.result[name].dims):
            return np.array(np.nan)
        return np.asarray(self.result[name].sel(self.at).values, dtype=float)

    def __call__(self, name: str) -> float:
        values = self._values(name)
        return float(values) if values.ndim == 0 else np.nan

    def null(self, name: str) -> np.ndarray:
        values = np.atleast_1d(self._values(name)).ravel()
        return values[np.isfinite(values)]

    def count(self, name: str) -> int:
        return int(np.isfinite(np.atleast_1d(self._values(name))).sum())
