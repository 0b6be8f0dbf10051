"""The comparison table as a page that needs no network."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

_SMALL_IS_GOOD = ("cpu_seconds", "decode_angular_error", "tp_corr")
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; }
table { border-collapse: collapse; margin: 0.5em 0 1em; }
th, td { padding: 0.25em 0.8em; border-bottom: 1px solid #ddd; text-align: right;
         font-variant-numeric: tabular-nums; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td.text { white-space: normal; }
th small, td small { color: #666; font-weight: normal; display: block; }
td.best { font-weight: bold; background: #e3eef6; }
tr.bound td { color: #666; font-style: italic; }
p { max-width: 50em; }
"""
_NOTE = (
    "Test trials only, of a field its last 15 %. Below each value: its 95 % interval (bootstrap "
    "over test trials, for psth_r2 over conditions, for a field over blocks of time). The best "
    "model of each column is bold on blue. In italics, for orientation: the score of the true "
    "rates (simulated sessions), of each unit's mean rate (of hidden electrodes: their mean; of "
    "forecasts: persistence), and, as a range over the models, of the model's predictions dealt to "
    "other trials or times."
)
_SEEDS_NOTE = (
    "A model fitted with several seeds has the median over them, with the lowest and highest value "
    "below; intervals and nulls are those of the seed in the middle. Its ensemble averages the "
    "seeds' rates."
)
_DECODING_NOTE = (
    "Test trials only. Below each value: what shuffled data reach (95 % quantile; 5 % for angular "
    "errors, where small is good)."
)


def wide_table(table: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    """One column of the tidy table as (model, features) x metric, in order of appearance."""
    # pivot, because pivot_table would average rows that should not be there twice.
    wide = table.pivot(index=["model", "features"], columns="metric", values=column)  # noqa: PD010
    return wide.reindex(
        index=pd.MultiIndex.from_frame(table[["model", "features"]].drop_duplicates()),
        columns=table["metric"].drop_duplicates(),
    )


def comparison_page(table: pd.DataFrame) -> str:
    """HTML of a session's comparison: scores, decoding, then every row.

    Parameters
    ----------
    table : DataFrame
        Tidy table as :func:`driftwave.scores.table.compare_models` gives it.
    """
    session = ", ".join(table["session"].drop_duplicates())
    decoding = table["metric"].str.startswith("decode_")
    parts = [f"<h1>Comparison of models: {escape(session)}</h1>"]
    if "seeds" in table:
        parts.append(f"<p>{_SEEDS_NOTE}</p>")
    if (~decoding).any():
        scores = table[~decoding]
        parts += [
            "<h2>Predictions</h2>",
            f"<p>{_NOTE}</p>",
            _matrix(scores, _interval, bounds=True),
        ]
    if decoding.any():
        parts += ["<h2>Decoding</h2>", f"<p>{_DECODING_NOTE}</p>"]
        parts.append(_matrix(table[decoding], _chance, bounds=False))
    parts += ["<details><summary>Every score, with its note</summary>", _all_rows(table)]
    body = "\n".join([*parts, "</details>"])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>driftwave: '
        f"comparison of models, {escape(session)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def number(value: float) -> str:
    """Three decimals, or three significant digits of large values; a dash for none."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return text.replace("-", "−")


def _interval(row: pd.Series) -> str:
    text = ""
    if np.isfinite(row["ci_low"]):
        text = f"{number(row['ci_low'])} to {number(row['ci_high'])}"
    return text + _over_seeds(row)


def _over_seeds(row: pd.Series) -> str:
    """Lowest and highest value over seeds, where a model has several."""
    if not row.get("seeds", np.nan) > 1:
        return ""
    low, high = number(row["seed_low"]), number(row["seed_high"])
    return f"<br>{row['seeds']:.0f} seeds: {low} to {high}"


def _chance(row: pd.Series) -> str:
    text = f"chance {number(row['null_shuffled'])}" if np.isfinite(row["null_shuffled"]) else ""
    return text + _over_seeds(row)


def _matrix(table: pd.DataFrame, below: object, *, bounds: bool) -> str:
    """Models x metrics, the best value of each metric marked."""
    values = wide_table(table)
    units = table.groupby("metric")["unit"].first()
    rows = {(r["model"], r["features"], r["metric"]): r for _, r in table.iterrows()}
    best = {m: _best(values[m], str(m)) for m in values.columns}
    head = "".join(f"<th>{escape(m)}<small>{escape(units[m])}</small></th>" for m in values.columns)
    lines = [f"<tr><th>model</th>{head}</tr>"]
    for model, features in values.index:
        name = escape(model) + (f"<small>{escape(features)}</small>" if features else "")
        cells = []
        for metric in values.columns:
            row = rows.get((model, features, metric))
            mark = ' class="best"' if (model, features) in best[metric] else ""
            cell = "–" if row is None else number(row["value"])
            note = "" if row is None else below(row)  # type: ignore[operator]
            cells.append(f"<td{mark}>{cell}<small>{note}</small></td>")
        lines.append(f"<tr><td>{name}</td>{''.join(cells)}</tr>")
    if bounds:
        lines += _bounds(table, list(values.columns))
    return f"<table>{''.join(lines)}</table>"


def _best(values: pd.Series, metric: str) -> set[tuple[str, str]]:
    """Index labels of the best values; none where there is nothing to compare."""
    there = values.dropna()
    if len(there) < 2:
        return set()
    extreme = there.min() if metric.startswith(_SMALL_IS_GOOD) else there.max()
    return set(there.index[there == extreme])


def _bounds(table: pd.DataFrame, metrics: list[str]) -> list[str]:
    """Rows of the ceiling and the nulls, which are the same for all models or a range."""
    names = {"ceiling": "true rates (ceiling)", "null": "unit means (null)"}
    names |= {"null_shuffled": "other trials (null)"}
    lines = []
    for column, title in names.items():
        cells = []
        for metric in metrics:
            found = table.loc[table["metric"] == metric, column].dropna()
            span = sorted({number(v) for v in (found.min(), found.max())}) if len(found) else []
            low_high = [number(found.min()), number(found.max())] if len(span) > 1 else span
            cells.append(f"<td>{' to '.join(low_high) or '–'}</td>")
        lines.append(f'<tr class="bound"><td>{title}</td>{"".join(cells)}</tr>')
    return lines


def _all_rows(table: pd.DataFrame) -> str:
    columns = [name for name in table.columns if name != "session"]
    numeric = {name for name in columns if pd.api.types.is_numeric_dtype(table[name])}
    head = "".join(
        f"<th{'' if name in numeric else ' class=text'}>{escape(name)}</th>" for name in columns
    )
    lines = [f"<tr>{head}</tr>"]
    for _, row in table.iterrows():
        cells = [
            f"<td>{number(row[name])}</td>"
            if name in numeric
            else f'<td class="text">{escape(str(row[name]))}</td>'
            for name in columns
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"
