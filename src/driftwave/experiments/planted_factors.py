"""Recovery of planted response factors with and without circular shifts of direction.

Units have preferred directions of their own for every stimulus. Neuron factors are fitted with a
shift for each map, one common to a unit's maps, and none; their cosine with the planted ones, after
matching, is compared with that of the planted factors with units shuffled (chance).
"""

from __future__ import annotations

import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import Clock, generator
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.tensors.matching import matched_cosine
from driftwave.tensors.permuted import permuted_ntf
from driftwave.tensors.planted import Planted, planted_factors
from driftwave.tensors.rank import choose_rank
from driftwave.tensors.steps import Shift

# CPU time does not repeat itself.
TIMED = True
QUICK = {
    "seeds": 1,
    "shape": (30, 2, 4, 8),
    "rank": 2,
    "restarts": 1,
    "ranks": (1, 2, 3),
    "rank_seeds": 1,
    "annealing": 5,
}
MODES: tuple[Shift, ...] = ("per_stimulus", "common", "none")
LABELS = {"per_stimulus": "per stimulus", "common": "common", "none": "none"}


class Params(BaseModel):
    """Settings of the recovery of planted factors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int = Field(5, ge=1, description="Tensors.")
    shape: tuple[int, int, int, int] = Field(
        (300, 6, 8, 37), description="Neurons, stimuli, directions, times."
    )
    rank: int = Field(6, ge=1, description="Components planted.")
    noise: float = Field(0.3, ge=0, description="Norm of the noise over that of the responses.")
    restarts: int = Field(20, ge=1, description="Random starts of each fit.")
    annealing: int = Field(100, ge=0, description="Iterations in which the shifts settle.")
    ranks: tuple[int, ...] = Field(
        (2, 3, 4, 5, 6, 7, 8, 10), min_length=1, description="Ranks of the curve."
    )
    rank_seeds: int = Field(2, ge=0, description="Tensors whose rank is chosen; 0 for none.")
    rank_restarts: int = Field(3, ge=1, description="Random starts at each rank of the curve.")


def planted(params: Params, seed: int, number: int) -> Planted:
    """Tensor ``number`` of the experiment."""
    rng = generator(seed, "planted factors", str(number))
    return planted_factors(*params.shape, params.rank, rng=rng, noise=params.noise)


def recovered(params: Params, seed: int, number: int) -> dict[str, list[float]]:
    """Cosine, relative error and CPU s per restart of each mode of shifts, for one tensor."""
    truth = planted(params, seed, number)
    found: dict[str, list[float]] = {"cosine": [], "error": [], "cpu": []}
    for mode in MODES:
        clock = Clock.start()
        with dask.config.set(scheduler="synchronous"):
            factors = permuted_ntf(
                truth.tensor, params.rank, shift=mode, restarts=params.restarts,
                annealing=params.annealing, seed=seed + number,
            )  # fmt: skip
        found["cpu"].append(clock.cpu_seconds / params.restarts)
        found["cosine"].append(matched_cosine(factors.neuron, truth.neuron))
        found["error"].append(factors.final_error)
    rng = generator(seed, "planted factors", "chance", str(number))
    shuffled = [matched_cosine(rng.permutation(truth.neuron), truth.neuron) for _ in range(20)]
    return found | {"chance": [float(np.mean(shuffled))]}


def rank_curves(params: Params, seed: int, number: int) -> dict[str, np.ndarray]:
    """Curves over rank of one tensor, whose halves share the truth but not the noise.

    The noise is that of counts (Poisson, of the norm asked for): Gaussian noise cut at zero would
    be one more component, alike in both halves.
    """
    clean = planted_factors(
        *params.shape, params.rank,
        rng=generator(seed, "planted factors", str(number)), noise=0.0,
    ).tensor  # fmt: skip
    rng = generator(seed, "planted factors", "halves", str(number))
    # Half of the trials: noise larger by the square root of two.
    variance = max(2 * params.noise**2, 1e-12)
    scale = clean.sum() / (variance * (clean**2).sum())
    halves = [rng.poisson(scale * clean) / scale for _ in range(2)]
    with dask.config.set(scheduler="synchronous"):
        curve = choose_rank(
            (halves[0] + halves[1]) / 2, [(halves[0], halves[1])], params.ranks,
            restarts=params.rank_restarts, annealing=params.annealing, seed=seed + number,
        )  # fmt: skip
    return {
        "nuclear_norm": curve.nuclear_norm,
        "stability": curve.stability.mean(axis=1),
        "held_out_error": curve.held_out_error.mean(axis=(1, 2)),
        "chosen": np.array(curve.chosen),
    }


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Recover factors and choose ranks of every tensor.

    Parameters
    ----------
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``cosine``, ``error`` and ``cpu`` (s per restart) along (set, shift), ``chance`` (set);
        with ``rank_seeds``, ``nuclear_norm``, ``stability`` and ``held_out_error`` along
        (rank_set, rank) and ``chosen`` (rank_set).
    """
    # CPU time is that of the process: one tensor at a time.
    rows = [recovered(params, seed, number) for number in range(params.seeds)]
    units = {"cosine": "1", "error": "1", "cpu": "s"}
    variables: dict[str, tuple] = {
        name: (("set", "shift"), np.array([row[name] for row in rows]), {"units": unit})
        for name, unit in units.items()
    }
    variables["chance"] = ("set", np.array([row["chance"][0] for row in rows]), {"units": "1"})
    result = xr.Dataset(variables, coords={"shift": list(MODES)}, attrs={"planted": params.rank})
    if params.rank_seeds:
        curves = [rank_curves(params, seed, number) for number in range(params.rank_seeds)]
        for name in ("nuclear_norm", "stability", "held_out_error"):
            values = np.array([curve[name] for curve in curves])
            result[name] = (("rank_set", "rank"), values, {"units": "1"})
        chosen = np.array([int(curve["chosen"]) for curve in curves])
        result["chosen"] = ("rank_set", chosen, {"units": "components"})
        ranks = np.unique(params.ranks)
        result = result.assign_coords(rank=("rank", ranks, {"units": "components"}))
    return result


def draw(result: xr.Dataset) -> Figure:
    """Cosines and CPU time by mode of shifts, and the curves over rank.

    Parameters
    ----------
    result : Dataset
        Of :func:`run`.
    """
    figure, axes = new_figure(1, 3, height=2.5, width=7.4)
    with plt.rc_context(STYLE):
        _draw_modes(axes[:2], result)
        _draw_curves(axes[2], result)
    return figure


def _draw_modes(axes: list[Axes], result: xr.Dataset) -> None:
    names = [LABELS[str(mode)] for mode in result["shift"].values]
    place = np.arange(len(names))
    jitter = np.linspace(-0.15, 0.15, result.sizes["set"]) if result.sizes["set"] > 1 else [0.0]
    for row, shift in zip(range(result.sizes["set"]), jitter, strict=True):
        label = "one tensor" if row == 0 else None
        axes[0].plot(place + shift, result["cosine"].values[row], "o", ms=3.5, color=COLOURS[0],
                     alpha=0.8, mew=0, label=label)  # fmt: skip
        axes[1].plot(place + shift, result["cpu"].values[row], "o", ms=3.5, color=COLOURS[0],
                     alpha=0.8, mew=0)  # fmt: skip
    axes[0].axhline(float(result["chance"].mean()), color=NULL, ls="--", lw=0.8, label="chance")
    axes[0].set(ylim=(0, 1.03), ylabel="Cosine with planted neuron factors")
    axes[0].legend(loc="lower left")
    axes[1].set(ylim=(0, None), ylabel="CPU time per restart (s)")
    for ax in axes:
        ax.set_xticks(place, names)
        ax.set(xlabel="Shift of direction fitted", xlim=(-0.5, len(names) - 0.5))


def _draw_curves(ax: Axes, result: xr.Dataset) -> None:
    if "chosen" not in result:
        ax.set_axis_off()
        return
    ranks = result["rank"].values
    norm = result["nuclear_norm"] / np.sqrt(ranks.max())
    curves = {
        "split-half cosine": result["stability"],
        "held-out error": result["held_out_error"],
        f"nuclear norm / $\\sqrt{{{ranks.max()}}}$": norm,
    }
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        for k, line in enumerate(values.transpose("rank_set", "rank").values):
            ax.plot(ranks, line, "o-", ms=2.5, color=colour, label=name if k == 0 else None)
    ax.axvline(result.attrs["planted"], color=TRUTH, ls="--", lw=0.8)
    chosen = ", ".join(str(c) for c in np.unique(result["chosen"].values))
    ax.set(xlabel=f"Rank (dashed: planted; chosen: {chosen})", ylim=(0, 1.05), ylabel="Measure")
    ax.legend(loc="lower left")
    ax.set_xticks(ranks)
