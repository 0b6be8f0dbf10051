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
AXES = ("x", "y")


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


def split_lag(kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Halves of the difference and of the sum of the lags of opposite directions.

    The first makes waves prefer a way. The second, a frustration common to both, shifts the
    frequency of a uniform field as omega does, and is known no better than that.

    Parameters
    ----------
    kappa : ndarray, complex (band, direction)
        Directions in pairs of opposite ones.

    Returns
    -------
    directed, common : ndarray (band, axis)
        rad, from -pi/2 to pi/2; positive ``directed``: waves to the right, the east or the north.
    """
    before, after = kappa[:, 0::2], kappa[:, 1::2]
    return -np.angle(before * after.conj()) / 2, -np.angle(before * after) / 2


def decoded_frequency(field: np.ndarray, width: float) -> np.ndarray:
    r"""Frequency (band,) in Hz of a field (trial, bin, band, site), weighted by its power.

    :math:`\arg \sum z_j(t) \bar z_j(t - 1) / 2 \pi \Delta t` over trials, bins and sites: of the
    field as it is decoded, with all that coupling and drive do to it.
    """
    step = (field[:, 1:] * field[:, :-1].conj()).sum((0, 1, 3))
    return np.angle(step) / (2 * np.pi * width)


def field_dataset(
    params: Resolved, state: np.ndarray, time: np.ndarray, seen_bins: int
) -> xr.Dataset:
    """The decoded field of states (trial, time, width), with the places of its sites.

    Returns
    -------
    Dataset
        ``decoded_re``, ``decoded_im`` (trial, time, band, site); on a ring also ``winding``
        (trial, time, band); ``decoded_frequency`` (band) Hz, of the seen bins; coords ``site_x``,
        ``site_y``.
    """
    lattice = lattice_of(params)
    field = complex_field(state, params.bands)
    dims = ("trial", "time", "band", "site")
    dataset = xr.Dataset(
        {
            "decoded_re": (dims, field.real.astype(np.float32), ONE),
            "decoded_im": (dims, field.imag.astype(np.float32), ONE),
            "decoded_frequency": (
                "band",
                decoded_frequency(field[:, :seen_bins], params.bin_width),
                {"units": "Hz"},
            ),
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
        ``frequency`` (band) Hz, ``mu`` (band), ``kappa_re``, ``kappa_im`` and their modulus
        ``coupling`` (band, direction) 1/s, ``lag`` (band, direction) rad: the phase by which a
        site follows its neighbour in that direction; ``directed_lag`` and ``common_lag`` (band,
        axis) of :func:`split_lag`; ``noise`` (band) of each real part and second;
        ``prediction_gain`` and ``wave_gain`` (band) of
        :mod:`driftwave.inference.coupled_evidence`, with standard errors ``prediction_gain_sd``
        and ``wave_gain_sd``; of a spatial readout ``readout_width`` (band)
        mm and ``gain`` (band, channel), ``preferred_phase`` (band, channel) rad where it is free.
    """
    dynamics, lattice = network.dynamics, lattice_of(params)
    edges = ("band", "direction")
    dataset = xr.Dataset(
        coords={
            "frequency": ("band", dynamics.frequency, {"units": "Hz"}),
            "direction": list(lattice.directions),
            "axis": list(AXES[: len(lattice.directions) // 2]),
        }
    )
    if params.variant != "kuramoto":
        dataset["mu"] = ("band", dynamics.growth_rate, {"units": "1/s"})
    kappa = dynamics.kappa
    dataset["kappa_re"] = (edges, kappa.real, {"units": "1/s"})
    dataset["kappa_im"] = (edges, kappa.imag, {"units": "1/s"})
    dataset["coupling"] = (edges, np.abs(kappa), {"units": "1/s"})
    dataset["lag"] = (edges, dynamics.lag, {"units": "rad"})
    for name, part in zip(("directed_lag", "common_lag"), split_lag(kappa), strict=True):
        dataset[name] = (("band", "axis"), part, {"units": "rad"})
    unit = {"units": "bits/spike" if params.observations != "field" else "1"}
    evidence = network.evidence.double().cpu().numpy()
    for column, suffix in enumerate(("", "_sd")):
        dataset[f"prediction_gain{suffix}"] = ((), evidence[0, column], unit)
        dataset[f"wave_gain{suffix}"] = ("band", evidence[1:, column], unit)
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
