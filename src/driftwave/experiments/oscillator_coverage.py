"""Coverage of the oscillators' 95 % intervals on data drawn from the model itself.

Each data set is drawn from the model: two oscillators seen by a row of electrodes. A fit to its
first 70 % gives estimates and standard errors; an interval is the estimate +- 1.96 of them. An
interval without end (no standard error) counts as a miss.
"""

from __future__ import annotations

from typing import Any

import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import BaseModel, ConfigDict, Field
from scipy.signal import lfilter
from scipy.stats import binom, norm

from driftwave.compute import generator
from driftwave.experiments._chance import binomial_interval
from driftwave.figures.style import COLOURS, NULL, STYLE, TRUTH, new_figure
from driftwave.inference.oscillator_field_fit import FieldFit, fit_field
from driftwave.inference.oscillator_model import Oscillators, fix_gauge
from driftwave.models import oscillators

PAPER = "Matsuda & Komaki 2017, Neural Computation 29:332"
QUICK = {"sets": 4, "duration": 40.0, "electrodes": 4}

FREQUENCY = np.array([7.0, 18.0])
DAMPING = np.array([0.96, 0.93])
LEVEL = 0.95
Z = float(norm.ppf(0.5 + LEVEL / 2))
GAP = 2.0  # s
KINDS = ("frequency", "damping", "Re c", "Im c")


class Params(BaseModel):
    """Settings of the coverage experiment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sets: int = Field(60, ge=1, description="Simulated data sets.")
    duration: float = Field(90.0, ge=20, description="Length of a data set, s.")
    rate: float = Field(100.0, ge=90, description="Sampling rate, Hz.")
    electrodes: int = Field(8, ge=2, description="Electrodes, in a row.")
    noise: float = Field(
        10.0, gt=0, description="SD of the noise, microvolt; oscillators have about 8."
    )
    missing: bool = Field(
        False, description="Whether a quarter of every electrode is missing, in stretches of 2 s."
    )


def planted(params: Params) -> Oscillators:
    """The true model: two waves along a row of electrodes, microvolt, in the fit's gauge."""
    place = np.arange(params.electrodes)
    amplitude = np.stack([8 + 2 * np.cos(place), 7 + 3 * np.sin(place / 2)])
    phase = np.stack([0.2 * place, -0.3 * place + 0.02 * place**2])
    c = amplitude * np.exp(1j * phase)
    loading = np.stack([c.real, -c.imag], 1).reshape(4, -1).T
    angle = 2 * np.pi * FREQUENCY / params.rate
    noise = np.full(params.electrodes, params.noise**2)
    return fix_gauge(Oscillators(angle, DAMPING, np.empty(0), loading, noise))


def simulated(truth: Oscillators, params: Params, rng: np.random.Generator) -> xr.DataTree:
    """A recording of the field of the model; NaN where missing."""
    samples = round(params.duration * params.rate)
    lfp = np.sqrt(truth.noise) * rng.normal(size=(samples, params.electrodes))
    for c, a, w in zip(truth.complex_loading, truth.damping, truth.angle, strict=True):
        kick = rng.normal(size=(2, samples)) * np.sqrt(1 - a**2)
        kick[:, 0] /= np.sqrt(1 - a**2)
        z = lfilter([1], [1, -a * np.exp(1j * w)], kick[0] + 1j * kick[1])
        lfp += (z[:, None] * c).real
    if params.missing:
        gap = round(GAP * params.rate)
        for electrode in range(params.electrodes):
            for start in range(gap * (electrode % 4), samples, 4 * gap):
                lfp[start : start + gap, electrode] = np.nan
    field = xr.Dataset(
        {"lfp": (("time", "electrode"), lfp.astype(np.float32), {"units": "microvolt"})},
        coords={
            "time": np.arange(samples) / params.rate,
            "electrode": np.arange(params.electrodes),
        },
        attrs={"sampling_rate": params.rate},
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "coverage"}), "field": field})


def refitted(truth: Oscillators, params: Params, seed: int, number: int) -> FieldFit:
    """A fit to data set ``number``."""
    recording = simulated(truth, params, generator(seed, "oscillator coverage", str(number)))
    settings = oscillators.Params(
        oscillators=2, background="factors", slow_factors=0, rate=params.rate, band=(3.0, 40.0)
    )
    return fit_field(recording, settings, seed=0)


def scores(found: FieldFit, truth: Oscillators) -> np.ndarray:
    """(estimate - truth) / standard error of frequencies, dampings, Re c, Im c (value,)."""
    errors = found.errors
    loading = (found.model.loading - truth.loading) / errors.loading
    # Columns of a loading are Re c and -Im c.
    parts = [
        (found.model.angle - truth.angle) / errors.angle,
        (found.model.damping - truth.damping) / errors.damping,
        loading[:, ::2].T.ravel(),
        -loading[:, 1::2].T.ravel(),
    ]
    return np.concatenate(parts)


def run(params: Params, *, seed: int) -> xr.Dataset:
    """Fit every data set and count how often intervals hold the truth.

    Parameters
    ----------
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``z`` (set, value): estimate minus truth in standard errors; ``coverage`` (value) with the
        exact interval ``coverage_low``, ``coverage_high``; ``frequency``, ``frequency_sd`` (set,
        oscillator) and ``frequency_true`` (oscillator), Hz. Coords ``kind``, ``oscillator_of``
        (value).
    """
    truth = planted(params)
    tasks = [dask.delayed(refitted)(truth, params, seed, number) for number in range(params.sets)]
    fits: tuple[FieldFit, ...] = dask.compute(*tasks)
    z = np.array([scores(found, truth) for found in fits])
    hits = (np.abs(z) < Z).sum(0)
    low, high = binomial_interval(hits, params.sets, LEVEL)
    hertz = params.rate / (2 * np.pi)
    number = {"units": "1"}
    return xr.Dataset(
        {
            "z": (("set", "value"), z, number),
            "coverage": ("value", hits / params.sets, number),
            "coverage_low": ("value", low, number),
            "coverage_high": ("value", high, number),
            "frequency": (
                ("set", "oscillator"),
                hertz * np.array([found.model.angle for found in fits]),
                {"units": "Hz"},
            ),
            "frequency_sd": (
                ("set", "oscillator"),
                hertz * np.array([found.errors.angle for found in fits]),
                {"units": "Hz"},
            ),
            "frequency_true": ("oscillator", FREQUENCY, {"units": "Hz"}),
        },
        coords=_labels(params.electrodes),
        attrs={"level": LEVEL, "sets": params.sets},
    )


def _labels(electrodes: int) -> dict[str, Any]:
    sizes = [1, 1, electrodes, electrodes]
    kind = np.repeat(KINDS, 2 * np.array(sizes))
    which = np.concatenate([np.repeat([1, 2], size) for size in sizes])
    return {"kind": ("value", kind), "oscillator_of": ("value", which, {"units": "1"})}


def draw(result: xr.Dataset) -> Figure:
    """Coverage of every parameter, quantiles of z, and the intervals of one frequency.

    Parameters
    ----------
    result : Dataset
        Of :func:`run`.
    """
    figure, axes = new_figure(
        1, 3, height=2.7, width=7.2, gridspec_kw={"width_ratios": [1.25, 1, 1]}
    )
    with plt.rc_context(STYLE):
        _coverage(axes[0], result)
        _quantiles(axes[1], result)
        _intervals(axes[2], result)
    return figure


def _coverage(ax: Axes, result: xr.Dataset) -> None:
    sets, level = int(result.attrs["sets"]), float(result.attrs["level"])
    chance = binom.ppf([0.025, 0.975], sets, level) / sets
    ax.axhspan(*chance, color=NULL, alpha=0.25, lw=0, label=f"95 % of shares if it is {level:g}")
    ax.axhline(level, color=TRUTH, ls="--", lw=0.8)
    kind = result["kind"].values
    for group, (name, colour) in enumerate(zip(KINDS, COLOURS, strict=False)):
        some = result.isel(value=kind == name).sortby("coverage")
        count = some.sizes["value"]
        place = group + 0.8 * ((np.arange(count) + 0.5) / count - 0.5)
        value = some["coverage"].values
        around = [value - some["coverage_low"].values, some["coverage_high"].values - value]
        ax.errorbar(place, value, around, fmt="o", ms=2.5, lw=0.7, color=colour)
    ax.set_xticks(range(len(KINDS)), KINDS)
    ax.tick_params(axis="x", length=0)
    ax.set_ylim(min(0.7, float(result["coverage_low"].min()) - 0.05), 1.02)
    ax.set(ylabel=f"Intervals that hold the truth\n(share of {sets} data sets)")
    ax.set_xlabel("Parameter (a dot each, sorted)")
    ax.legend(loc="lower right")
    ax.set_title(f"Coverage of {100 * level:.0f} % intervals")


def _quantiles(ax: Axes, result: xr.Dataset) -> None:
    limit = 3.4
    ax.plot([-limit, limit], [-limit, limit], color=TRUTH, ls="--", lw=0.8)
    for name, colour in zip(KINDS, COLOURS, strict=False):
        z = result["z"].values[:, result["kind"].values == name]
        z = np.sort(z[np.isfinite(z)])
        if len(z):
            at = norm.ppf((np.arange(len(z)) + 0.5) / len(z))
            ax.plot(at, z, ".", ms=2.5, color=colour, label=f"{name} (SD {z.std():.2f})")
    ax.set(xlim=(-limit, limit), xlabel="Quantile of the normal", ylabel="Error / standard error")
    ax.legend(loc="upper left", handletextpad=0.1, markerscale=2.5, borderaxespad=0)
    ax.set_title("Errors in standard errors")


def _intervals(ax: Axes, result: xr.Dataset) -> None:
    one = result.isel(oscillator=0).sortby("frequency")
    value, half = one["frequency"].values, Z * one["frequency_sd"].values
    true = float(one["frequency_true"])
    held = np.abs(value - true) < half
    place = np.arange(len(value))
    for some, colour, name in ((held, NULL, "hold it"), (~held, COLOURS[1], "miss it")):
        label = f"{int(some.sum())} {name}"
        ax.errorbar(
            value[some], place[some], xerr=half[some], fmt="o", ms=2, lw=0.8, color=colour,
            label=label,
        )  # fmt: skip
    ax.axvline(true, color=TRUTH, ls="--", lw=0.8)
    ax.set(xlabel="Frequency of oscillator 1 (Hz)", ylabel="Data set (sorted by estimate)")
    ax.legend(loc="lower right", handletextpad=0.3, handlelength=1, borderaxespad=0)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(f"Intervals and the truth ({true:g} Hz)")
