"""Activations in the form that analyses read: one variable per module, on trials and bins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.recording import require

# Names a module cannot have: those that recordings and analyses use for something else.
RESERVED = ("trial", "time", "rate", "latent", "unit")


def variable_name(module: str) -> str:
    """A module's name as a variable: what separates names in lists and paths becomes ``_``."""
    return "".join("_" if c in ".,/ :" else c for c in module.strip()) or "output"


def activations_dataset(
    recording: xr.DataTree, modules: Mapping[str, np.ndarray], *, source: str
) -> xr.Dataset:
    """Label activations of a recording's trials.

    Parameters
    ----------
    recording : DataTree
        With spikes cut into trials.
    modules : mapping of str to ndarray (trial, time, unit)
        By module; all of the recording's trials, and its bins or at least those a model sees.
    source : str
        Where they are from, for errors.

    Returns
    -------
    Dataset
        ``<module> (trial, time, <module>_unit)``, and the names in ``attrs["activations"]``.
        The bins are all there are, or the seen ones if a module has no more.

    Raises
    ------
    InputError
        No module; a name that is taken or comes twice; other trials or too few bins; values that
        are not finite in a bin that is seen.
    """
    spikes = require(recording, "spikes", "activations")
    trials, bins = spikes.sizes["trial"], spikes.sizes["time"]
    seen = bins - int(spikes.attrs.get("forward_bins", 0))
    if not modules:
        raise _fault(source, "modules", "none", "at least one", "Name modules to be read")
    variables: dict[str, tuple] = {}
    length = bins
    for module, array in modules.items():
        name = variable_name(module)
        if name in RESERVED or name in variables:
            raise _fault(
                source, module, f"the name {name!r}", "a name not yet taken", "Rename the module"
            )
        array = np.asarray(array)
        good = array.ndim == 3 and array.shape[0] == trials and seen <= array.shape[1] <= bins
        if not good or not array.shape[2]:
            raise _fault(
                source,
                module,
                f"shape {array.shape}",
                f"({trials} trials, {bins} bins, units), at least the {seen} seen bins in all",
                "Give activations on the recording's trials and bins",
            )
        missing = ~np.isfinite(array[:, :seen])
        if missing.any():
            trial, time, unit = np.argwhere(missing)[0]
            raise _fault(
                source,
                module,
                f"{int(missing.sum())} values that are not finite, the first in trial {trial}, "
                f"bin {time}, unit {unit}",
                "finite values in every bin that is seen",
                "Cover all of the recording's trials, or leave the module out",
            )
        whole = np.isfinite(array[:, seen:]).all()
        length = min(length, array.shape[1] if whole else seen)
        variables[name] = (
            ("trial", "time", f"{name}_unit"),
            array.astype(np.float32),
            {"units": "activation", "module": module},
        )
    return xr.Dataset(
        {n: (dims, values[:, :length], a) for n, (dims, values, a) in variables.items()},
        coords={
            "trial": spikes["trial"].values,
            "time": ("time", spikes["time"].values[:length], {"units": "s"}),
        },
        attrs={
            "activations": ",".join(variables),
            "bin_width": float(spikes.attrs["bin_width"]),
            "session": str(recording.attrs["session"]),
            "source": source,
        },
    )


def _fault(source: str, field: str, found: object, expected: str, fix: str) -> InputError:
    return InputError(file=source, field=field, found=found, expected=expected, fix=fix)
