"""Response tensors: mean rate or activation by unit, stimulus, direction and time."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.readouts.features import check_latents
from driftwave.recording import forward_bins, require
from driftwave.tuning.design import Design, design_of
from driftwave.tuning.spikes import BLOCK, SpikeTrains, trains_of, trial_counts, unit_blocks

DIMS = ("unit", "stimulus", "direction", "time")
# Bandwidths (s) that are tried where each unit has its own.
BANDWIDTHS = (0.01, 0.014, 0.02, 0.028, 0.04, 0.05)
FOLDS = 5
FINEST = 0.005  # s; half of the narrowest bandwidth
# Share of a unit's mean rate in the rate that held-out spikes are judged by: no rate is 0.
FLOOR = 0.05


def response_tensor(
    recording: xr.DataTree,
    latents: xr.Dataset | None = None,
    *,
    bandwidth: float | Literal["auto"] = "auto",
    activation: str | None = None,
    trials: np.ndarray | None = None,
    design: Design | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Mean response of every unit to every stimulus and direction.

    Spike times are smoothed by a Gaussian kernel normalised to its mass within the trial, so that
    rates do not fall off at the ends:

    .. math:: \hat\lambda(t) = \frac{\sum_i K_h(t - t_i)}{R \int_0^T K_h(t - s) \, ds}

    over the spikes of the cell's R trials; then means over the recording's bins. Recordings
    without spike times are smoothed from their bins. Models give the mean of their rates, and
    activations their mean minus each unit's least value, as factors must not be negative.

    Parameters
    ----------
    recording : DataTree
    latents : Dataset or None
        ``rate (trial, time, unit)`` in Hz, or activations (attribute ``activations``).
    bandwidth : float or "auto"
        Standard deviation h, s; "auto" takes for each unit the one of 10 to 50 ms that gives its
        held-out trials the largest Poisson likelihood (five folds), 50 ms where every cell has
        but one trial.
    activation : str, optional
        The one of several activations; default all of them, one behind the other.
    trials : ndarray of bool (trial,), optional
        Trials averaged; default all of the design. Cells without any are NaN.
    design : Design, optional
        Default :func:`design_of` the recording.
    seed : int
        Of the folds.

    Returns
    -------
    Dataset
        ``response (unit, stimulus, direction, time)``; ``trials (stimulus, direction)``;
        ``bandwidth (unit)`` in s, NaN where nothing was smoothed; coord ``population`` (unit).

    Raises
    ------
    InputError
        No spikes; a model without rates; an activation that is not there.
    """
    require(recording, "spikes", "the response tensor")
    design = design_of(recording) if design is None else design
    chosen = design.used if trials is None else design.used & trials
    cells = np.where(chosen, design.cell, -1)
    shape = len(design.stimulus), len(design.direction)
    if latents is None:
        values, width = _of_spikes(recording, cells, shape, bandwidth, seed)
        names = recording["spikes"].dataset["unit"].values
        population, unit = np.full(len(names), "recording"), "Hz"
    else:
        data, names, population, unit = model_activity(recording, latents, activation)
        seen = data.shape[1] - forward_bins(recording)
        values = _of_activity(data[:, :seen], cells, shape)
        width = np.full(len(values), np.nan)
        if unit != "Hz":
            least = np.nanmin(values, axis=(1, 2, 3), keepdims=True)
            values = values - least
    time = recording["spikes"].dataset["time"].values[: values.shape[-1]]
    return xr.Dataset(
        {
            "response": (DIMS, values, {"units": unit, "long_name": "mean response"}),
            "trials": (("stimulus", "direction"), design.counts(trials), {"units": "trials"}),
            "bandwidth": ("unit", width, {"units": "s"}),
        },
        coords={
            "unit": names,
            "population": ("unit", population),
            "stimulus": design.stimulus,
            "direction": ("direction", design.direction, {"units": design.direction_unit}),
            "time": ("time", time, {"units": "s"}),
        },
        attrs=design.notes | {"direction_column": design.direction_name, "period": design.period},
    )


def model_activity(
    recording: xr.DataTree, latents: xr.Dataset, activation: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """What a model gives: values (trial, time, unit), names and populations (unit,), their unit.

    Raises
    ------
    InputError
        Rates of other trials or none; an activation that is not there.
    """
    model = str(latents.attrs.get("model", "latents"))
    if "activations" not in latents.attrs:
        check_latents(recording, latents, model, "the encoding manifold")
        if "rate" not in latents:
            raise InputError(
                file=model, field="rate", found=f"variables {list(latents.data_vars)}",
                expected="rate (trial, time, unit), or activations",
                fix="Leave the encoding manifold out for this model",
            )  # fmt: skip
        rate = latents["rate"].transpose("trial", "time", "unit")
        names = recording["spikes"].dataset["unit"].values
        return rate.values, names, np.full(rate.sizes["unit"], model), "Hz"
    known = [name.strip() for name in str(latents.attrs["activations"]).split(",")]
    wanted = known if activation is None else [activation]
    if not set(wanted) <= set(known):
        raise InputError(
            file=model, field="activation", found=repr(activation), expected=f"one of {known}",
            fix="Mend `activation` in the parameters of the encoding manifold",
        )  # fmt: skip
    parts = [latents[name].transpose("trial", "time", ...).values for name in wanted]
    sizes = [part.shape[2] for part in parts]
    values = np.concatenate(parts, axis=2)
    return values, np.arange(values.shape[2]), np.repeat(wanted, sizes), "activation"


def _of_activity(data: np.ndarray, cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Mean over the trials of each cell, (unit, stimulus, direction, time)."""
    out = np.full((shape[0] * shape[1], *data.shape[1:]), np.nan)
    for cell in np.unique(cells[cells >= 0]):
        out[cell] = data[cells == cell].mean(axis=0, dtype=float)
    return np.ascontiguousarray(out.transpose(2, 0, 1)).reshape(
        data.shape[2], *shape, data.shape[1]
    )


def _of_spikes(
    recording: xr.DataTree,
    cells: np.ndarray,
    shape: tuple[int, int],
    bandwidth: float | Literal["auto"],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates (unit, stimulus, direction, time), Hz, and the bandwidth of each unit, s."""
    trains = trains_of(recording)
    units = int(recording["spikes"].sizes["unit"])
    folds = _folds(cells, seed)
    rates, widths = [], []
    for block in unit_blocks(units, BLOCK):
        sums, number, step = _cell_counts(recording, trains, cells, shape, folds, block)
        if bandwidth == "auto":
            width = _best_bandwidths(sums, number, step)
        else:
            width = np.full(sums.shape[-1], float(bandwidth))
        rates.append(_rates(sums.sum(axis=0), number.sum(axis=0), step, width))
        widths.append(width)
    fine = np.concatenate(rates, axis=-1)
    per_bin = round(float(recording["spikes"].attrs["bin_width"]) / step)
    binned = fine.reshape(len(fine), -1, per_bin, units).mean(axis=2)
    return binned.transpose(2, 0, 1).reshape(units, *shape, -1), np.concatenate(widths)


def _folds(cells: np.ndarray, seed: int) -> np.ndarray:
    """Fold of each trial (trial,): the trials of a cell are dealt out evenly, -1 for no cell."""
    rng = generator(seed, "psth folds")
    fold = np.full(len(cells), -1)
    for cell in np.unique(cells[cells >= 0]):
        members = rng.permutation(np.flatnonzero(cells == cell))
        fold[members] = np.arange(len(members)) % FOLDS
    return fold


def _cell_counts(
    recording: xr.DataTree,
    trains: SpikeTrains | None,
    cells: np.ndarray,
    shape: tuple[int, int],
    folds: np.ndarray,
    units: slice,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Counts (fold, cell, fine bin, unit) and trials (fold, cell); width of a fine bin, s."""
    fine = trial_counts(recording, trains, FINEST, units)
    size = FOLDS, shape[0] * shape[1]
    sums = np.zeros((*size, *fine.counts.shape[1:]), np.float32)
    number = np.zeros(size)
    for trial in np.flatnonzero(cells >= 0):
        sums[folds[trial], cells[trial]] += fine.counts[trial]
        number[folds[trial], cells[trial]] += 1
    return sums, number, fine.width


def smoothed(values: np.ndarray, sd: float, axis: int) -> np.ndarray:
    """Gaussian smoothing, ``sd`` in samples, divided by the kernel's mass within the axis."""
    if sd <= 0:
        return values
    shape = [1] * values.ndim
    shape[axis] = values.shape[axis]
    mass = gaussian_filter1d(np.ones(shape), sd, axis=axis, mode="constant")
    return gaussian_filter1d(values.astype(float), sd, axis=axis, mode="constant") / mass


def _rates(sums: np.ndarray, number: np.ndarray, step: float, width: np.ndarray) -> np.ndarray:
    """Rates (cell, fine bin, unit), Hz, of summed counts; NaN for cells without trials."""
    out = np.empty(sums.shape)
    for one in np.unique(width):
        chosen = width == one
        out[..., chosen] = smoothed(sums[..., chosen], one / step, 1)
    return (
        np.where(number[:, None, None] > 0, out / np.maximum(number, 1)[:, None, None], np.nan)
        / step
    )


def _best_bandwidths(sums: np.ndarray, number: np.ndarray, step: float) -> np.ndarray:
    """Bandwidth (unit,) of the largest Poisson likelihood of each fold given the others."""
    units = sums.shape[-1]
    if not ((number > 0).sum(axis=0) > 1).any():
        return np.full(units, BANDWIDTHS[-1])
    score = np.zeros((len(BANDWIDTHS), units))
    total, trials = sums.sum(axis=0), number.sum(axis=0)
    for held, held_trials in zip(sums, number, strict=True):
        rest = trials - held_trials
        judged = (held_trials > 0) & (rest > 0)
        if not judged.any():
            continue
        others = total[judged] - held[judged]
        others /= rest[judged][:, None, None]
        mean = others.mean(axis=(0, 1))
        for k, width in enumerate(BANDWIDTHS):
            rate = (1 - FLOOR) * smoothed(others, width / step, 1) + FLOOR * mean
            log = np.log(np.where(rate > 0, rate, 1))
            expected = rate * held_trials[judged][:, None, None]
            score[k] += (held[judged] * log - expected).sum(axis=(0, 1))
    return np.array(BANDWIDTHS)[score.argmax(axis=0)]
