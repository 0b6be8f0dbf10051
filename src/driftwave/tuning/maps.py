"""Response maps of unit norm, and what the normalisation takes out of them."""

from __future__ import annotations

import numpy as np
import xarray as xr


def normalised_maps(response: xr.DataArray, significant: xr.DataArray) -> xr.Dataset:
    """Divide each (unit, stimulus) map by its L2 norm; set aside those that are not significant.

    Parameters
    ----------
    response : DataArray with dims unit, stimulus, direction and time
    significant : DataArray of bool with dims unit and stimulus

    Returns
    -------
    Dataset
        ``map (unit, stimulus, direction, time)``, of unit norm or zero; ``factorised``, the same
        with zeros for maps that are not significant; ``norm`` and ``relative_peak`` (unit,
        stimulus), the peak over the unit's largest; ``included (unit)``: the response varies, is
        finite, and one of its maps at least is significant; ``constant (unit)``.
    """
    values = response.transpose("unit", "stimulus", "direction", "time").astype(float)
    within = ("direction", "time")
    everything = ("stimulus", *within)
    finite = xr.apply_ufunc(np.isfinite, values).all(everything)
    values = values.where(finite, 0.0)
    constant = (values.max(everything) - values.min(everything)) <= 1e-12
    norm = (values**2).sum(within) ** 0.5
    peak = values.max(within)
    most = peak.max("stimulus")
    map_ = values / norm.where(norm > 0, 1.0)
    kept = significant & (norm > 0)
    found = xr.Dataset(
        {
            "map": map_,
            "factorised": map_.where(kept, 0.0),
            "norm": norm,
            "relative_peak": peak / most.where(most > 0, 1.0),
            "included": finite & ~constant & kept.any("stimulus"),
            "constant": constant,
        }
    )
    for name in ("map", "factorised", "relative_peak"):
        found[name].attrs = {"units": "1"}
    found["norm"].attrs = {"units": response.attrs.get("units", "1")}
    return found
