"""Posterior predictive checks: do counts drawn from inferred rates look like those recorded?

Gelman, Meng and Stern 1996, Statistica Sinica 6: a statistic of the data against its law under the
model. Counts are drawn as Poisson from the rates; where the posterior's spread is given, from gamma
distributed rates of that mean and sd (negative binomial counts), independent between bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr

from driftwave.compute import generator

LEVEL = 0.95
MOST_LAGS = 15
UNITS = {
    "rate": "Hz",
    "fano": "1",
    "signal_correlation": "1",
    "noise_correlation": "1",
    "population": "share of bins",
    "autocorrelation": "1",
}


def draw_counts(
    mean: np.ndarray, rng: np.random.Generator, *, sd: np.ndarray | None = None
) -> np.ndarray:
    """Counts drawn once from expected counts.

    Parameters
    ----------
    mean : ndarray
        Expected counts.
    rng : numpy Generator
    sd : ndarray, optional
        Posterior standard deviation of the expected counts.
    """
    if sd is not None:
        variance = np.maximum(np.asarray(sd, dtype=float) ** 2, 1e-12)
        mean = np.asarray(mean, dtype=float)
        shape = np.maximum(mean, 1e-9) ** 2 / variance
        mean = rng.gamma(shape, variance / np.maximum(mean, 1e-9))
    return rng.poisson(mean)


def fano_factor(totals: np.ndarray, condition: np.ndarray) -> np.ndarray:
    """Variance over mean of each unit's counts, pooled over conditions.

    ``sum_c (n_c - 1) var_c / sum_c (n_c - 1) mean_c``: the variance is that about each condition's
    mean, so that differences between conditions do not count. Conditions with one trial are left
    out; where none has two, all trials are one condition.

    Parameters
    ----------
    totals : ndarray (trial, unit)
        Spikes of a trial.
    condition : ndarray of int (trial,)

    Returns
    -------
    ndarray (unit,)
        NaN for a unit without a spike.
    """
    groups = [part for part in _groups(condition) if len(part) > 1]
    groups = groups or [np.arange(len(totals))]
    variance = sum((len(g) - 1) * totals[g].var(0, ddof=1) for g in groups)
    mean = sum((len(g) - 1) * totals[g].mean(0) for g in groups)
    return np.divide(variance, mean, out=np.full(totals.shape[1], np.nan), where=mean > 0)


def count_correlations(totals: np.ndarray, condition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise correlation of each pair of units.

    Signal: of the conditions' mean counts. Noise: of the counts about these means
    (Cohen and Kohn 2011, Nature Neuroscience 14).

    Parameters
    ----------
    totals : ndarray (trial, unit)
    condition : ndarray of int (trial,)

    Returns
    -------
    signal, noise : ndarray (pair,)
        Pairs i < j in the order of ``numpy.triu_indices``. NaN where a unit does not vary, signal
        also with fewer than three conditions.
    """
    groups = _groups(condition)
    mean = np.stack([totals[g].mean(0) for g in groups])
    about = np.concatenate([totals[g] - totals[g].mean(0) for g in groups if len(g) > 1] or [mean])
    nothing = np.full(totals.shape[1] * (totals.shape[1] - 1) // 2, np.nan)
    signal = _pairs(mean) if len(groups) > 2 else nothing
    noise = _pairs(about) if any(len(g) > 1 for g in groups) else nothing
    return signal, noise


def _groups(condition: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(condition == value) for value in np.unique(condition)]


def _pairs(values: np.ndarray) -> np.ndarray:
    """Correlation of each pair of columns."""
    values = values - values.mean(0)
    size = np.sqrt((values**2).sum(0))
    flat = size <= 1e-9
    scaled = values / np.where(flat, np.nan, size)
    first, second = np.triu_indices(values.shape[1], 1)
    return (scaled.T @ scaled)[first, second]


def population_autocorrelation(population: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelation (lag,) of population counts (trial, time) about their mean, lags 1 ..."""
    about = population - population.mean()
    power = max(float((about**2).mean()), np.finfo(float).tiny)
    return np.array([(about[:, k:] * about[:, :-k]).mean() / power for k in range(1, lags + 1)])


def count_statistics(
    counts: np.ndarray, condition: np.ndarray, bin_width: float, edges: np.ndarray
) -> dict[str, np.ndarray]:
    """All statistics of counts (trial, time, unit).

    Returns
    -------
    dict
        ``rate`` (unit) in Hz, ``fano`` (unit), ``signal_correlation`` and ``noise_correlation``
        (pair) of the counts of whole trials, ``population`` (level): shares of bins whose
        population count lies between ``edges``, ``autocorrelation`` (lag) of the population count.
    """
    totals = counts.sum(1).astype(float)
    signal, noise = count_correlations(totals, condition)
    population = counts.sum(2).astype(float)
    shares, _ = np.histogram(population, edges)
    lags = min(MOST_LAGS, max(1, counts.shape[1] // 2))
    return {
        "rate": totals.mean(0) / (counts.shape[1] * bin_width),
        "fano": fano_factor(totals, condition),
        "signal_correlation": signal,
        "noise_correlation": noise,
        "population": shares / population.size,
        "autocorrelation": population_autocorrelation(population, lags),
    }


DIMS = {
    "rate": "unit",
    "fano": "unit",
    "signal_correlation": "pair",
    "noise_correlation": "pair",
    "population": "level",
    "autocorrelation": "lag",
}


def population_edges(counts: np.ndarray, most: int = 30) -> np.ndarray:
    """Edges of about ``most`` bins of whole population counts, with room above the data."""
    population = counts.sum(2)
    top = int(population.max() * 1.25) + 2
    step = max(1, -(-top // most))
    return np.append(np.arange(0, top + step, step) - 0.5, np.inf)


def predictive_check(
    counts: np.ndarray,
    expected: np.ndarray,
    condition: np.ndarray,
    bin_width: float,
    *,
    expected_sd: np.ndarray | None = None,
    draws: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Statistics of recorded counts beside their law under inferred rates.

    Parameters
    ----------
    counts : ndarray (trial, time, unit)
        Spikes per bin.
    expected : ndarray (trial, time, unit)
        Inferred rates, spikes per bin.
    condition : ndarray (trial,)
    bin_width : float
        s.
    expected_sd : ndarray (trial, time, unit), optional
        Posterior sd of ``expected``.
    draws : int
        Sets of counts drawn from the rates.
    seed : int

    Returns
    -------
    Dataset
        For each statistic of :func:`count_statistics`: ``<name>`` of the data, ``<name>_predicted``
        (mean over draws), ``<name>_low`` and ``<name>_high`` (95 % band), and attrs
        ``<name>_share``: the share of its units, pairs, levels or lags that lie in the band, at
        best about .95. Levels whose band holds nothing but zero are not counted.
    """
    rng = generator(seed, "posterior predictive")
    condition = np.unique(np.asarray(condition).astype(str), return_inverse=True)[1]
    edges = population_edges(counts)
    data = count_statistics(counts, condition, bin_width, edges)

    def drawn() -> Iterator[dict[str, np.ndarray]]:
        for _ in range(draws):
            sample = draw_counts(expected, rng, sd=expected_sd)
            yield count_statistics(sample, condition, bin_width, edges)

    samples = list(drawn())
    result = xr.Dataset(
        attrs={"draws": draws, "level": LEVEL, "bins": int(np.prod(counts.shape[:2]))}
    )
    for name, dim in DIMS.items():
        stack = np.stack([sample[name] for sample in samples])
        low, high = _band(stack)
        unit = {"units": UNITS[name]}
        values = (
            ("", data[name]),
            ("_predicted", _over_draws(np.nanmean, stack)),
            ("_low", low),
            ("_high", high),
        )
        for suffix, value in values:
            result[name + suffix] = (dim, value, unit)
        result.attrs[f"{name}_share"] = _share(data[name], low, high)
    return result.assign_coords(
        level=("level", (edges[:-1] + 0.5), {"units": "spikes/bin"}),
        lag=("lag", bin_width * np.arange(1, result.sizes["lag"] + 1), {"units": "s"}),
    )


def _over_draws(function: Callable[..., Any], stack: np.ndarray, **options: Any) -> np.ndarray:
    """A NaN-aware reduction over draws; NaN where every draw is."""
    some = np.isfinite(stack).any(0)
    filled = np.where(some, stack, 0.0)
    result = np.asarray(function(filled, axis=0, **options))
    return np.where(some, result, np.nan)


def _band(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tail = (1 - LEVEL) / 2
    low, high = (_over_draws(np.nanquantile, stack, q=q) for q in (tail, 1 - tail))
    return low, high


def _share(data: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of values inside their band, of those that can be told."""
    told = np.isfinite(data) & np.isfinite(low) & ((high > 0) | (low < 0) | (data != 0))
    inside = (data >= low) & (data <= high)
    return float(inside[told].mean()) if told.any() else float("nan")
