"""False positives and power of the Bayes factor for travelling waves in an oscillator's loading.

One oscillator is fitted to each field and its loading judged as the waves stage does. A wave is
claimed where the log Bayes factor exceeds ln 20, or where it exceeds 0 and the zero-lag null gives
p <= .05. An oscillator too broad to be judged claims nothing.
"""

from __future__ import annotations

from typing import Literal

import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.experiments._chance import binomial_interval
from driftwave.experiments._travelling_fields import Condition, conditions, planted
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.inference.oscillator_field_fit import fit_field
from driftwave.latent_waves.loadings import analyse_loadings
from driftwave.models import oscillators

QUICK = {
    "sets": 1,
    "duration": 20.0,
    "side": 6,
    "kinds": ("noise", "wave"),
    "backgrounds": ("whitened",),
}
WIDTH = 2.0  # Hz
STRONG = float(np.log(20))
ALPHA = 0.05
RULES = ("log BF > ln 20", "BF > 1 and p <= .05")
MEASURES = {
    "log_bayes_factor": "nats",
    "p": "1",
    "frequency": "Hz",
    "bandwidth": "Hz",
    "direction_error": "degree",
}
Kind = Literal["noise", "band", "bursts", "standing", "wave"]


class Params(BaseModel):
    """Settings of the calibration of travelling waves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sets: int = Field(5, ge=1, description="Fields of each condition.")
    duration: float = Field(60.0, ge=20, description="Length of a field, s.")
    side: int = Field(10, ge=4, description="Electrodes along a side of the square array.")
    kinds: tuple[Kind, ...] = Field(
        ("noise", "band", "bursts", "standing", "wave"),
        min_length=1,
        description="Kinds of field: 1/f noise alone, or with band noise, bursts of standing maps, "
        "standing waves, or a travelling plane wave.",
    )
    backgrounds: tuple[Literal["whitened", "factors"], ...] = Field(
        ("whitened", "factors"), min_length=1, description="Backgrounds of the fits."
    )
    surrogates: int = Field(19, ge=19, description="Zero-lag surrogates behind each p value.")


def chosen_conditions(params: Params) -> list[Condition]:
    """The conditions that the parameters ask for."""
    return [
        one
        for one in conditions()
        if one.kind in params.kinds and one.background in params.backgrounds
    ]


def judged(condition: Condition, params: Params, seed: int, number: int) -> dict[str, float]:
    """What is found in field ``number`` of a condition: the values named by ``MEASURES``.

    The field does not depend on the fit's background.
    """
    name = (condition.kind, f"{condition.snr:g}", condition.noise, str(number))
    rng = generator(seed, "travelling calibration", *name)
    recording, direction = planted(condition, params.side, params.duration, rng)
    settings = oscillators.Params(oscillators=1, background=condition.background)
    latents = fit_field(recording, settings, seed=0).infer(recording)
    latents = latents.drop_vars(["latent", "latent_sd"]).assign_attrs(model="oscillators")
    found = analyse_loadings(
        recording,
        recording["field"].to_dataset(),
        latents,
        width=WIDTH,
        surrogates=params.surrogates,
        chunk=params.duration,
        seed=int(rng.integers(2**31)),
    ).isel(oscillator=0)
    vector = float(found["wavevector_x"]) + 1j * float(found["wavevector_y"])
    return {
        "log_bayes_factor": float(found["log_bayes_factor"]),
        "p": float(found["p"]),
        "frequency": float(latents["frequency"][0]),
        "bandwidth": float(latents["bandwidth"][0]),
        "direction_error": float(
            np.degrees(np.angle(vector * np.exp(-1j * np.radians(direction))))
        ),
    }


def claims(log_bayes_factor: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Whether a wave is claimed (rule, ...), by each of ``RULES``; NaN claims nothing."""
    return np.stack([log_bayes_factor > STRONG, (log_bayes_factor > 0) & (p <= ALPHA)])


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Judge every field and count the claims.

    Parameters
    ----------
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``log_bayes_factor`` (nats), ``p``, ``frequency`` and ``bandwidth`` (Hz) and
        ``direction_error`` (degrees; NaN where nothing travels) along (condition, set);
        ``claimed`` (rule, condition), the share of sets, with its exact 95 % interval
        ``claimed_low``, ``claimed_high``. Coords ``kind``, ``snr``, ``noise``, ``background``,
        ``label`` (condition).
    """
    wanted = chosen_conditions(params)
    tasks = [
        dask.delayed(judged)(condition, params, seed, number)
        for condition in wanted
        for number in range(params.sets)
    ]
    rows = dask.compute(*tasks)
    shape = len(wanted), params.sets
    result = xr.Dataset(
        {
            name: (("condition", "set"), np.array([row[name] for row in rows]).reshape(shape))
            for name in MEASURES
        },
        coords={
            name: ("condition", np.array([getattr(one, name) for one in wanted]))
            for name in ("label", "kind", "snr", "noise", "background")
        },
    )
    for name, unit in {**MEASURES, "snr": "1"}.items():
        result[name].attrs["units"] = unit
    hits = claims(result["log_bayes_factor"].values, result["p"].values).sum(-1)
    low, high = binomial_interval(hits, params.sets)
    shares = {"": hits / params.sets, "_low": low, "_high": high}
    for ending, share in shares.items():
        result[f"claimed{ending}"] = (("rule", "condition"), share, {"units": "1"})
    return result.assign_coords(rule=list(RULES))


def draw(result: xr.Dataset) -> Figure:
    """Shares of claims with intervals, and the log Bayes factors, a row per condition.

    Parameters
    ----------
    result : Dataset
        Of :func:`run`.
    """
    rows, headings = _rows(result)
    height = 1.0 + 0.19 * (max(rows) + 1)
    figure, axes = new_figure(1, 2, height=height, width=7.0, sharey=True)
    with plt.rc_context(STYLE):
        _shares(axes[0], result, rows)
        _factors(axes[1], result, rows)
        axes[0].set_yticks(rows, result["label"].values)
        axes[0].set_ylim(max(rows) + 0.7, -0.7)
        for place, *texts in headings:
            for ax, text in zip(axes, texts, strict=True):
                ax.text(
                    0.07, place, text, va="center", weight="bold", fontsize=7,
                    transform=ax.get_yaxis_transform(),
                ).set_in_layout(False)  # fmt: skip
        for ax in axes:
            ax.tick_params(axis="y", length=0)
    return figure


def _rows(result: xr.Dataset) -> tuple[list[int], list[tuple[int, str, str]]]:
    """Row of each condition; of each group its row, heading and count of false claims."""
    rows: list[int] = []
    headings: list[tuple[int, str, str]] = []
    before, row = None, 0
    groups = [
        f"fit: {b}; noise: {n}"
        for b, n in zip(result["background"].values, result["noise"].values, strict=True)
    ]
    for group in groups:
        if group != before:
            still = (np.array(groups) == group) & (result["kind"].values != "wave")
            hits = result["log_bayes_factor"].values[still] > STRONG
            headings.append((row, group, f"{hits.sum()} of {hits.size} without a wave above ln 20"))
            before, row = group, row + 1
        rows.append(row)
        row += 1
    return rows, headings


def _colours(result: xr.Dataset) -> list[str]:
    return [COLOURS[0] if kind == "wave" else COLOURS[1] for kind in result["kind"].values]


def _shares(ax: Axes, result: xr.Dataset, rows: list[int]) -> None:
    colours = _colours(result)
    for rule, (marker, shift) in enumerate((("o", -0.17), ("s", 0.17))):
        one = result.isel(rule=rule)
        value, low, high = (one[f"claimed{end}"].values for end in ("", "_low", "_high"))
        for k, row in enumerate(rows):
            fill = colours[k] if rule == 0 else "white"
            ax.errorbar(
                value[k], row + shift, xerr=[[value[k] - low[k]], [high[k] - value[k]]],
                fmt=marker, ms=3, lw=0.8, color=colours[k], mfc=fill, clip_on=False,
            )  # fmt: skip
        ax.plot([], [], marker, ms=3, color=TRUTH, mfc=TRUTH if rule == 0 else "white",
                label=RULES[rule].replace("<=", "\N{LESS-THAN OR EQUAL TO}"))  # fmt: skip
    ax.axvline(ALPHA, color=TRUTH, ls="--", lw=0.8, label="5 %")
    sets = result.sizes["set"]
    ax.set(
        xlim=(0, 1), xlabel=f"Share of {sets} fields in which a wave is claimed\n(95 % interval)"
    )
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1)


def _factors(ax: Axes, result: xr.Dataset, rows: list[int]) -> None:
    factors = result["log_bayes_factor"].values
    spread = np.linspace(-0.25, 0.25, factors.shape[1]) if factors.shape[1] > 1 else np.zeros(1)
    for values, row, colour in zip(factors, rows, _colours(result), strict=True):
        known = np.isfinite(values)
        ax.plot(values[known], row + spread[known], "o", ms=2.5, color=colour, alpha=0.7, mew=0)
        if not known.all():
            ax.annotate(
                f"{int((~known).sum())} not judged", (1.01, row), xycoords=ax.get_yaxis_transform(),
                ha="left", va="center", fontsize=6, color=TRUTH,
            )  # fmt: skip
    for value, style in ((0, "-"), (STRONG, ":")):
        ax.axvline(value, color=NULL, ls=style, lw=0.8, zorder=0)
    ax.set_xscale("symlog", linthresh=10, linscale=1)
    ax.xaxis.set_major_formatter("{x:g}")
    known = factors[np.isfinite(factors)]
    ax.set_xlim(1.3 * min(-8, *known), 1.3 * max(8, *known))
    ax.set(xlabel="Log Bayes factor, travelling against standing (nats)\n(dotted: ln 20)")
    for colour, name in ((COLOURS[1], "nothing travels"), (COLOURS[0], "a wave travels")):
        ax.plot([], [], "o", ms=3, color=colour, label=name)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
