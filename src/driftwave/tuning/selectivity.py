"""Selectivity for orientation and direction, with a null by shuffled trials."""

from __future__ import annotations

import numpy as np
import xarray as xr

from driftwave.compute import generator
from driftwave.nulls.multiplicity import benjamini_hochberg
from driftwave.readouts.null import p_value
from driftwave.tuning.design import Design

INDICES = ("osi", "dsi", "osi_vector", "dsi_vector")


def selectivity(rate: xr.DataArray, period: float) -> xr.Dataset:
    r"""Selectivity indices of rates over directions.

    .. math:: \mathrm{OSI} = \frac{(r_p + r_{-p}) - (r_\perp + r_{-\perp})}
              {(r_p + r_{-p}) + (r_\perp + r_{-\perp})}, \qquad
              \mathrm{DSI} = \frac{r_p - r_{-p}}{r_p + r_{-p}}

    with p the direction of the largest rate, -p the opposite one and :math:`\perp` those at right
    angles, linearly interpolated where they were not shown; and as vectors
    :math:`|\sum r e^{2 i \theta}| / \sum r` (1 - circular variance; Mazurek et al. 2014,
    10.3389/fncir.2014.00092) and :math:`|\sum r e^{i \theta}| / \sum r`.

    Parameters
    ----------
    rate : DataArray with a dim ``direction``, in any order of dims
        Not negative; its coordinate ``direction`` gives the angles.
    period : float
        Of the direction, in its own unit.

    Returns
    -------
    Dataset
        ``osi``, ``dsi``, ``osi_vector``, ``dsi_vector`` and ``preferred_direction`` without
        ``direction``; NaN with fewer than 3 directions or no response.
    """
    moved = rate.transpose("direction", ...)
    values, angle = moved.values.astype(float), rate["direction"].values.astype(float)
    rest = moved.isel(direction=0, drop=True)
    found = {
        name: rest.copy(data=v)
        for name, v in _indices(values, angle, period, values.argmax(axis=0)).items()
    }
    out = xr.Dataset(found)
    for name in out.data_vars:
        out[name].attrs = {"units": "1"}
    out["preferred_direction"].attrs["units"] = str(rate["direction"].attrs.get("units", "1"))
    return out


def _indices(
    values: np.ndarray, angle: np.ndarray, period: float, peak: np.ndarray
) -> dict[str, np.ndarray]:
    """Indices of rates (direction, ...) given the position of the preferred direction."""
    if len(angle) < 3 or not period:
        empty = np.full(values.shape[1:], np.nan)
        return dict.fromkeys((*INDICES, "preferred_direction"), empty)
    preferred = np.take_along_axis(values, peak[None], axis=0)[0]
    opposite, left, right = (
        _rate_at(values, angle, period, angle[peak] + turn * period) for turn in (0.5, 0.25, 0.75)
    )
    theta = 2 * np.pi * angle.reshape(-1, *[1] * (values.ndim - 1)) / period
    total = values.sum(axis=0)
    along, across = preferred + opposite, left + right
    return {
        "osi": _ratio(along - across, along + across),
        "dsi": _ratio(preferred - opposite, along),
        "osi_vector": _ratio(np.abs((values * np.exp(2j * theta)).sum(axis=0)), total),
        "dsi_vector": _ratio(np.abs((values * np.exp(1j * theta)).sum(axis=0)), total),
        "preferred_direction": np.where(total > 0, angle[peak], np.nan),
    }


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)


def _rate_at(
    values: np.ndarray, angle: np.ndarray, period: float, wanted: np.ndarray
) -> np.ndarray:
    """Rates at given angles (...), linear between the two neighbours on the circle."""
    wanted = np.mod(wanted, period)
    wrapped = np.concatenate([angle, angle[:1] + period])
    wanted = np.where(wanted < angle[0], wanted + period, wanted)
    low = np.clip(np.searchsorted(wrapped, wanted + 1e-9, side="right") - 1, 0, len(angle) - 1)
    share = (wanted - wrapped[low]) / (wrapped[low + 1] - wrapped[low])
    below = np.take_along_axis(values, low[None], axis=0)[0]
    above = np.take_along_axis(values, ((low + 1) % len(angle))[None], axis=0)[0]
    return (1 - share) * below + share * above


def selectivity_with_null(
    activity: xr.DataArray, design: Design, *, shuffles: int = 200, seed: int
) -> xr.Dataset:
    """Selectivity at each unit's preferred stimulus, with its null and its cross-validation.

    Parameters
    ----------
    activity : DataArray (trial, unit)
        Mean rate or activation of each trial; each unit's least value is subtracted if negative.
    design : Design
    shuffles : int
        Shuffles of the directions among a stimulus's trials.
    seed : int

    Returns
    -------
    Dataset
        Along ``unit``: ``preferred_stimulus`` (position) and ``preferred_direction``, those of the
        largest mean; the indices of :func:`selectivity` at that stimulus; ``osi_cv`` and
        ``dsi_cv``, preferred direction from one half of the trials, rates from the other, mean of
        both ways (NaN with one trial per cell); ``osi_p`` and ``dsi_p`` of the vector indices,
        with their false discovery rates ``osi_q`` and ``dsi_q``.
    """
    values = activity.transpose("trial", "unit").values.astype(float)
    values = values - np.minimum(values[design.used].min(axis=0), 0)
    means = _cell_means(values, design, design.used)
    preferred = means.max(axis=1).argmax(axis=0)
    angle, period = design.direction, design.period
    units = np.arange(values.shape[1])
    chosen = means[preferred, :, units].T
    found = _indices(chosen, angle, period, chosen.argmax(axis=0))
    variables = {name: ("unit", v, {"units": "1"}) for name, v in found.items()}
    variables["preferred_direction"][2]["units"] = design.direction_unit
    variables["preferred_stimulus"] = ("unit", preferred, {"units": "position of the stimulus"})
    variables |= _cross_validated(values, design, preferred, seed)
    variables |= _against_shuffles(values, design, preferred, found, shuffles, seed)
    return xr.Dataset(variables, coords={"unit": activity["unit"].values})


def _cell_means(values: np.ndarray, design: Design, trials: np.ndarray) -> np.ndarray:
    """Means (stimulus, direction, unit) over some trials; NaN for cells without any."""
    number = design.counts(trials)
    rows = np.flatnonzero(design.used & trials)
    assigned = np.zeros((number.size, len(rows)))
    assigned[design.cell[rows], np.arange(len(rows))] = 1
    total = (assigned @ values[rows]).reshape(*number.shape, -1)
    return np.where(number[..., None] > 0, total / np.maximum(number, 1)[..., None], np.nan)


def halves_of(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves (boolean trial masks) of every cell's trials, odd ones dealt at random.

    Cells of one trial give it to one half only.
    """
    first = np.zeros(len(design.cell), bool)
    for cell in np.unique(design.cell[design.used]):
        members = rng.permutation(np.flatnonzero(design.cell == cell))
        size = (len(members) + int(rng.integers(2))) // 2
        first[members[:size]] = True
    return first, design.used & ~first


def _cross_validated(
    values: np.ndarray, design: Design, preferred: np.ndarray, seed: int
) -> dict[str, tuple]:
    units = np.arange(values.shape[1])
    empty = np.full(len(units), np.nan)
    found: dict[str, list[np.ndarray]] = {"osi": [], "dsi": []}
    if design.counts().min() > 1:
        halves = halves_of(design, generator(seed, "selectivity halves"))
        rates = [_cell_means(values, design, half)[preferred, :, units].T for half in halves]
        for one, other in ((0, 1), (1, 0)):
            held = _indices(rates[other], design.direction, design.period, rates[one].argmax(0))
            for name, indices in found.items():
                indices.append(held[name])
    return {
        f"{name}_cv": ("unit", np.mean(v, axis=0) if v else empty, {"units": "1"})
        for name, v in found.items()
    }


def _against_shuffles(
    values: np.ndarray,
    design: Design,
    preferred: np.ndarray,
    found: dict[str, np.ndarray],
    shuffles: int,
    seed: int,
) -> dict[str, tuple]:
    """p of the vector indices against directions shuffled among each stimulus's trials."""
    rng = generator(seed, "selectivity null")
    units = np.arange(values.shape[1])
    null = {name: np.empty((len(units), shuffles)) for name in ("osi", "dsi")}
    for b in range(shuffles):
        order = np.arange(len(values))
        for s in range(len(design.stimulus)):
            members = np.flatnonzero(design.of_stimulus == s)
            order[members] = rng.permutation(members)
        rates = _cell_means(values[order], design, design.used)[preferred, :, units].T
        drawn = _indices(rates, design.direction, design.period, rates.argmax(axis=0))
        for name, rows in null.items():
            rows[:, b] = drawn[f"{name}_vector"]
    out: dict[str, tuple] = {}
    for name, rows in null.items():
        p = p_value(found[f"{name}_vector"], rows)
        q, known = np.full(len(p), np.nan), np.isfinite(p)
        q[known] = benjamini_hochberg(p[known])
        out[f"{name}_p"] = ("unit", p, {"units": "1"})
        out[f"{name}_q"] = ("unit", q, {"units": "1"})
    return out
