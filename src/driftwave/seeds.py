"""Fits of one model with several seeds: what they are called, and what their ensemble is called."""

from __future__ import annotations

from dataclasses import dataclass

from driftwave.config import Config


@dataclass(frozen=True)
class Member:
    """One fit of a configured model.

    Attributes
    ----------
    name : str
        Name in the results: the model's own, or ``<model>-s<k>`` where it has several seeds.
    model : str
        Entry of the configuration.
    seed : int
        The configuration's seed + k - 1.
    """

    name: str
    model: str
    seed: int


def members_of(config: Config, model: str) -> list[Member]:
    """The fits of a configured model, one per seed."""
    seeds = config.models[model].seeds or config.seeds
    if seeds == 1:
        return [Member(model, model, config.seed)]
    return [Member(f"{model}-s{k + 1}", model, config.seed + k) for k in range(seeds)]


def ensemble_of(config: Config, model: str) -> str:
    """Name of the average over a model's seeds; empty where there is none."""
    several = len(members_of(config, model)) > 1
    return f"{model}-ensemble" if several and config.models[model].ensemble else ""
