"""What a fit of coupled oscillators says of its sites, couplings and readout, labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from driftwave.inference.coupled_setup import lattice_of
from driftwave.inference.lattice_readout import SpatialReadout

if TYPE_CHECKING:
    from driftwave.inference.coupled_network import CoupledNetwork
    from driftwave.models.coupled_oscillators import Resolved

ONE = {"units": "1"}
MM = {"units": "mm"}


def complex_field(state: np.ndarray, bands: int) -> np.ndarray:
    """Field z (..., band, site), complex, of states (..., width)."""
    parts = state.reshape(*state.shape[:-1], bands, -1, 2)
    return parts[..., 0] + 1j * parts[..., 1]


def winding_number(field: np.ndarray) -> np.ndarray:
    """Turns of the phase once round a ring (...) of a complex field (..., site).

    Positive where the phase falls counter-clockwise: a wave of a positive frequency then travels
    counter-clockwise.
    """
    step = np.angle(field * np.roll(field, -1, -1).conj())
    return np.rint(step.sum(-1) / (2 * np.pi)).astype(int)


def field_dataset(params: Resolved, state: np.ndarray, time: np.ndarray) -> xr.Dataset:
    """The decoded field of states (trial, time, width), with the places of its sites.

    Returns
    -------
    Dataset
        ``decoded_re``, ``decoded_im`` (trial, time, band, site); on a ring also ``winding``
        (trial, time, band); coords ``site_x``, ``site_y``.
    """
    lattice = lattice_of(params)
    field = complex_field(state, params.bands)
    dims = ("trial", "time", "band", "site")
    dataset = xr.Dataset(
        {
            "decoded_re": (dims, field.real.astype(np.float32), ONE),
            "decoded_im": (dims, field.imag.astype(np.float32), ONE),
        },
        coords={
            "time": ("time", time, {"units": "s"}),
            "site_x": ("site", lattice.position[:, 0], MM),
            "site_y": ("site", lattice.position[:, 1], MM),
        },
        attrs={"topology": lattice.topology, "pitch": lattice.pitch},
    )
    if lattice.topology == "ring":
        dataset["winding"] = (dims[:3], winding_number(field), ONE)
    return dataset


def describe_couplings(network: CoupledNetwork, params: Resolved) -> xr.Dataset:
    """Frequencies, couplings, lags, noise and readout of a fitted network.

    Returns
    -------
    Dataset
        ``frequency`` (band) Hz, ``mu`` (band), ``kappa_re``, ``kappa_im`` (band, direction) 1/s,
        ``lag`` (band, direction) rad: the phase by which a site follows its neighbour in that
        direction, ``noise`` (band) of each real part and second; of a spatial readout
        ``readout_width`` (band) mm and ``gain`` (band, channel), ``preferred_phase`` (band,
        channel) rad where it is free.
    """
    dynamics, lattice = network.dynamics, lattice_of(params)
    edges = ("band", "direction")
    dataset = xr.Dataset(
        coords={
            "frequency": ("band", dynamics.frequency, {"units": "Hz"}),
            "direction": list(lattice.directions),
        }
    )
    if params.variant != "kuramoto":
        dataset["mu"] = ("band", dynamics.growth_rate, {"units": "1/s"})
    kappa = dynamics.kappa
    dataset["kappa_re"] = (edges, kappa.real, {"units": "1/s"})
    dataset["kappa_im"] = (edges, kappa.imag, {"units": "1/s"})
    dataset["lag"] = (edges, dynamics.lag, {"units": "rad"})
    noise = network.input_map.log_noise if network.inputs else None
    if noise is not None:
        spread = noise.detach().double().exp().cpu().numpy() / np.sqrt(params.bin_width)
        dataset["noise"] = ("band", spread, {"units": "1/s**0.5"})
    readout = network.readout
    if isinstance(readout, SpatialReadout):
        width = readout.width().detach().cpu().numpy() * lattice.pitch
        dataset["readout_width"] = ("band", width, MM)
        dataset["gain"] = (("band", "channel"), readout.gain().detach().cpu().numpy(), ONE)
        if readout.phase is not None:
            turn = np.angle(np.exp(1j * readout.phase.detach().cpu().numpy()))
            dataset["preferred_phase"] = (("band", "channel"), turn, {"units": "rad"})
    return dataset
