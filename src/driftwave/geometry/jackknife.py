"""Standard errors from leaving out groups of units or trials."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

GROUPS = 10


def jackknife_groups(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Group (item,) of each item: at most ``GROUPS``, each with its share of every stratum."""
    order = np.lexsort((rng.random(len(strata)), strata))
    group = np.empty(len(strata), int)
    group[order] = np.arange(len(strata)) % min(GROUPS, len(strata))
    return group


def jackknife(
    groups: np.ndarray, estimate: Callable[[np.ndarray], dict[str, float]]
) -> dict[str, float]:
    """Standard error of each estimate by the delete-a-group jackknife.

    :math:`se^2 = (G - 1) / G \\sum_g (\\theta_{(g)} - \\bar\\theta)^2`, where
    :math:`\\theta_{(g)}` is found without group g (Kott 2001, J. Official Statistics 17, 521). The
    items left out are the unit that is resampled: replicates are never samples of a test.

    Parameters
    ----------
    groups : ndarray (item,)
    estimate : callable
        From the items kept (boolean mask) to estimates by name.

    Returns
    -------
    dict
        NaN where an estimate is not there without some group.
    """
    labels = np.unique(groups)
    found = [estimate(groups != label) for label in labels]
    names = set.intersection(*(set(f) for f in found))
    count = len(labels)
    return {
        name: float(np.sqrt((count - 1) * np.var([f[name] for f in found])))
        if count > 1
        else np.nan
        for name in names
    }
