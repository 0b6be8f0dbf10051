"""Activations of a recording's trials, from a fitted model or from a file."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from driftwave import registry
from driftwave.activations.dataset import activations_dataset
from driftwave.activations.files import read_modules
from driftwave.errors import InputError
from driftwave.models.run import load_fit


def read_activations(
    recording: xr.DataTree,
    *,
    fit: Path | None = None,
    plugin: str | None = None,
    path: Path | None = None,
) -> xr.Dataset:
    """Hidden units of a fitted model in a recording's trials, or those of a user's file.

    Parameters
    ----------
    recording : DataTree
        With spikes cut into trials.
    fit : path, optional
        Folder of a fitted model, with the ``plugin`` it was fitted by.
    plugin : str, optional
    path : path, optional
        In place of these: a zarr store or an NWB file, as
        :func:`driftwave.activations.files.read_modules` takes it.

    Returns
    -------
    Dataset
        A variable (trial, time, <module>_unit) for each module, named in ``attrs["activations"]``.

    Raises
    ------
    InputError
        Neither or both sources; a model plug-in that gives no activations; no such fit; a file
        that cannot be used.
    """
    session = str(recording.attrs.get("session", "recording"))
    if (path is None) == (fit is None or plugin is None):
        raise InputError(
            file=session,
            field="activations",
            found=f"fit {fit}, plugin {plugin}, path {path}",
            expected="a fit and its plug-in, or else a path",
            fix="Give one of the two",
        )
    if path is not None:
        path = Path(path)
        return activations_dataset(recording, read_modules(recording, path), source=str(path))
    assert fit is not None  # for mypy: refused above
    assert plugin is not None
    module = registry.load("models", plugin)
    if not hasattr(module.Fit, "activations"):
        givers = [
            name
            for name, known in registry.plugins("models").items()
            if known.constants.get("GIVES_ACTIVATIONS")
        ]
        raise InputError(
            file=session,
            field=f"model {plugin}",
            found="a plug-in whose fits give no activations",
            expected=f"one of {givers}",
            fix="Use such a model, or give activations as zarr or NWB",
        )
    return load_fit(fit, plugin).activations(recording)
