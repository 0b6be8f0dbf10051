"""p values from surrogates: one measure, many measures together, many events."""

from __future__ import annotations

import numpy as np


def p_value(null: np.ndarray, observed: np.ndarray | float) -> np.ndarray:
    """p = (1 + #{null >= observed}) / (surrogates + 1) along the first axis of ``null``."""
    return (1 + (null >= observed).sum(axis=0)) / (len(null) + 1)


def p_maximum(null: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """p of the largest of several measures, standardised to be comparable.

    Mean and standard deviation are those of surrogates and observation together: the observation
    is then one of exchangeable draws, and p is uniform under the null however few surrogates
    there are.

    Parameters
    ----------
    null : ndarray (surrogate, measure, ...)
    observed : ndarray (measure, ...)

    Returns
    -------
    ndarray (...)
    """
    together = np.concatenate([observed[None], null])
    spread = together.std(axis=0)
    score = (together - together.mean(axis=0)) / np.where(spread > 0, spread, 1)
    largest = score.max(axis=1)
    return p_value(largest[1:], largest[0])


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rate at which each hypothesis would be rejected (Benjamini 1995)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1) if len(p) else ranked
    return q
