"""Successive halving: how many trials get how much, and which go on.

Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
optimization", algorithm 1; rungs as in Li et al. 2020, "A system for massively parallel
hyperparameter tuning" (ASHA), but a rung waits for all trials of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from driftwave.search.settings import SearchConfig

SMALL_IS_GOOD = ("valid_loss",)  # metrics of which the lowest is the best


@dataclass(frozen=True)
class Rung:
    """Trials that are given the same budget.

    Attributes
    ----------
    places : int
        Number of trials.
    budget : int or None
        Value of the budget parameter; None for the model's own.
    """

    places: int
    budget: int | None


def rungs(search: SearchConfig) -> list[Rung]:
    """The rungs of a search, the first first.

    With n trials, budgets from b to B and factor eta there are
    ``1 + floor(min(log_eta n, log_eta(B / b)))`` rungs; rung i of them has ``floor(n / eta^i)``
    trials, and the last has budget B, each one before it an eta-th of the next.
    """
    if search.budget is None:
        return [Rung(search.trials, None)]
    eta, least, most = search.eta, search.budget.least, search.budget.most
    last = 0
    while eta ** (last + 1) <= search.trials and least * eta ** (last + 1) <= most:
        last += 1
    return [
        Rung(search.trials // eta**i, math.ceil(most / eta ** (last - i))) for i in range(last + 1)
    ]


def ranked(results: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Results with the best score first, failed ones last, equal ones by number of trial."""
    return sorted(results, key=_rank)


def _rank(result: Mapping[str, Any]) -> tuple[bool, float, int]:
    score = result["score"]
    if score is None:
        return True, 0.0, result["trial"]
    sign = 1.0 if result["metric"] in SMALL_IS_GOOD else -1.0
    return False, sign * score, result["trial"]
