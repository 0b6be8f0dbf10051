"""From parameters and a recording to the lattice, the dynamics and the network of a fit."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.utils import parametrize

from driftwave.errors import InputError
from driftwave.inference.coupled_network import CoupledNetwork, SiteInputs, angles
from driftwave.inference.coupled_reading import SiteReading, dense_basis, spatial_basis
from driftwave.inference.coupled_start import start_frequencies
from driftwave.inference.lattice_dynamics import CoupledOscillators
from driftwave.inference.lattice_geometry import (
    Lattice,
    Topology,
    build_lattice,
    electrode_positions,
    lies_on_ring,
    unit_positions,
)
from driftwave.inference.lattice_readout import DenseReadout, SpatialReadout
from driftwave.inference.sequential_data import Observed
from driftwave.inference.spike_network import Sizes

if TYPE_CHECKING:
    from driftwave.models.coupled_oscillators import Params, Resolved

NAME = "coupled_oscillators"
# Share of the Nyquist frequency of the bins that a band may start at.
HIGHEST = 0.9

# The frequencies' steps are this much smaller than other parameters': they start at spectral peaks,
# and an error of 0.01 rad per bin is one of 1 rad at the end of 100 bins.
FREQUENCY_PACE = 0.05

Places = tuple[tuple[float, float], ...]


def places_of(
    recording: xr.DataTree, params: Params, observed: Observed, good: np.ndarray
) -> tuple[Places, Places]:
    """Positions of units and of good electrodes, mm; empty where a dense readout has none.

    Raises
    ------
    InputError
        Positions missing for a spatial readout or a graph; fewer than three different ones.
    """
    nowhere = np.zeros((0, 2))
    try:
        found = (
            nowhere if observed.counts is None else unit_positions(recording, NAME),
            nowhere if observed.field is None else electrode_positions(recording, NAME)[good],
        )
    except InputError:
        if params.readout == "spatial" or params.topology == "graph":
            raise
        return (), ()
    everywhere = np.unique(np.concatenate(found), axis=0)
    least = 3
    if len(everywhere) < least:
        raise InputError(
            file=str(recording.attrs["session"]),
            field="units/x, y" if observed.counts is not None else "field/x, y",
            found=f"{len(everywhere)} different positions",
            expected=f"at least {least}, to lay a lattice over them",
            fix="Choose more units or electrodes in the layout",
        )
    units, electrodes = (tuple((float(x), float(y)) for x, y in part) for part in found)
    return units, electrodes


def topology_of(params: Params, places: Places, session: str) -> Topology:
    """The topology asked for; ``auto`` takes a ring where the positions lie on one.

    Raises
    ------
    InputError
        If a ring is asked for and the positions determine no circle.
    """
    points = np.array(places).reshape(-1, 2)
    if params.topology == "auto":
        return "ring" if not places or lies_on_ring(points) else "lattice"
    straight = len(points) and np.linalg.matrix_rank(points - points.mean(0), tol=1e-6) < 2
    if params.topology == "ring" and straight:
        raise InputError(
            file=session,
            field=f"{NAME}.params.topology",
            found="a ring, and positions on one line",
            expected="positions that determine a circle",
            fix="Set `topology: lattice`",
        )
    return params.topology


def lattice_of(params: Resolved) -> Lattice:
    """The lattice of a fit, shuffled if that is asked for; of pitch 1 without positions."""
    points = np.array(params.unit_position + params.electrode_position).reshape(-1, 2)
    pitch = params.pitch
    if not len(points):
        side = math.isqrt(params.sites) - 1
        turn = 2 * np.pi * np.arange(params.sites) / params.sites
        circle = np.column_stack([np.cos(turn), np.sin(turn)]) * params.sites / (2 * np.pi)
        points = circle if params.topology == "ring" else np.array([[0, 0], [side, side]])
    lattice = build_lattice(points, params.topology, sites=params.sites, pitch=pitch)
    return lattice.shuffled(params.seed) if params.adjacency == "shuffled" else lattice


def good_electrodes(recording: xr.DataTree) -> np.ndarray:
    """Which electrodes are good (electrode,); none without a field."""
    if "field" not in recording.children:
        return np.zeros(0, bool)
    field = recording["field"].to_dataset()
    every = np.ones(field.sizes["electrode"], bool)
    return field["good"].values.astype(bool) if "good" in field.coords else every


def check_electrodes(recording: xr.DataTree, found: int, expected: int) -> None:
    """Refuse a recording with another number of good electrodes than the fit had.

    Raises
    ------
    InputError
    """
    if found != expected:
        raise InputError(
            file=str(recording.attrs["session"]),
            field="field/good",
            found=f"{found} good electrodes",
            expected=f"{expected}, as in the fit",
            fix="Infer on the recording the model was fitted to, or fit it again",
        )


def frequencies_of(params: Params, observed: Observed, session: str) -> tuple[float, ...]:
    """Frequencies (Hz) at which the bands start: those given, or spectral peaks in training.

    Raises
    ------
    InputError
        Frequencies that the bins cannot carry.
    """
    width = observed.bin_width
    if not params.frequency:
        parts = []
        if observed.counts is not None:
            parts.append(observed.counts[observed.train].astype(float))
        if observed.field is not None:
            parts.append(observed.field[observed.train].astype(float))
        return start_frequencies(np.concatenate(parts, -1), width, params.bands)
    highest = HIGHEST / (2 * width)
    too_high = [f for f in params.frequency if f >= highest]
    if too_high:
        raise InputError(
            file=session,
            field=f"{NAME}.params.frequency",
            found=f"{too_high[0]:g} Hz",
            expected=f"frequencies below {highest:.3g} Hz, which bins of {1e3 * width:g} ms carry",
            fix="Lower `frequency`, or take narrower bins in the layout",
        )
    return tuple(sorted(params.frequency))


def fit_key(params: Resolved, observed: Observed, seed: int) -> str:
    """Digest of all that decides a fit: parameters, seed and the trials it may use."""
    digest = hashlib.sha256(f"{NAME} {params.model_dump_json()} {seed} {observed.sizes}".encode())
    chosen = observed.train | observed.valid
    for part in (observed.counts, observed.field):
        if part is not None:
            digest.update(np.ascontiguousarray(part[chosen]).tobytes())
    digest.update(observed.train.tobytes())
    return digest.hexdigest()


def build_network(params: Resolved, sizes: Sizes, mean: Tensor, law: Tensor) -> CoupledNetwork:
    """The network of these parameters, with weights from torch's default generator."""
    lattice = lattice_of(params)
    electrodes = len(params.field_sd)
    dynamics = CoupledOscillators(
        lattice.neighbour,
        bands=params.bands,
        variant=params.variant,
        coupling=params.coupling,
        bin_width=params.bin_width,
    )
    dynamics.set_frequency(params.frequency)
    _hold_back_frequency(dynamics)
    readout: SpatialReadout | DenseReadout
    if params.readout == "spatial":
        places = [np.reshape(p, (-1, 2)) for p in (params.unit_position, params.electrode_position)]
        free = params.preferred_phase == "free"
        readout = SpatialReadout(lattice, *places, bands=params.bands, free_phase=free)
    else:
        readout = DenseReadout(sizes.units_out + electrodes, dynamics.width)
    angle = angles(params.frequency, params.bin_width)
    loading = _loading(readout, params, sizes, law)
    start, innovations = _readings(dynamics, lattice, loading, angle, params)
    site_inputs = SiteInputs(
        params.bands,
        lattice.sites,
        params.inputs,
        innovations=params.innovations,
        noise=params.noise * math.sqrt(params.bin_width),
    )
    return CoupledNetwork(
        sizes,
        mean,
        law,
        dynamics,
        readout,
        angle=angle,
        start_reading=start,
        innovation_reading=innovations,
        site_inputs=site_inputs,
        electrodes=electrodes,
        hidden=params.hidden,
        dropout=params.dropout,
    )


def _loading(
    readout: SpatialReadout | DenseReadout, params: Resolved, sizes: Sizes, law: Tensor
) -> np.ndarray:
    """What the seen channels read (band, channel, site), in standard deviations of their noise."""
    seen = [*params.held_in, *range(sizes.units_out, sizes.units_out + len(params.field_sd))]
    parts = readout.weight().detach().double().numpy()[seen]
    parts = parts.reshape(len(seen), params.bands, -1, 2).transpose(1, 0, 2, 3)
    mean, sd = law.double().numpy()
    scale = np.concatenate([mean / sd, np.ones(len(params.field_sd))])
    return scale[:, None] * (parts[..., 0] - 1j * parts[..., 1])


def _readings(
    dynamics: CoupledOscillators,
    lattice: Lattice,
    loading: np.ndarray,
    angle: Tensor,
    params: Resolved,
) -> tuple[SiteReading, SiteReading]:
    """How the encoder reads the start, and the innovations, which start from nothing."""
    power = (
        max(1.0, float(np.nanmax(dynamics.growth_rate)))
        if params.variant == "stuart_landau"
        else 1.0
    )
    dense = params.readout == "dense"
    basis, start = (
        dense_basis(loading, angle.tolist(), power)
        if dense
        else spatial_basis(lattice, loading, angle.tolist(), power)
    )
    return (
        SiteReading(basis, learned=dense, start=start),
        SiteReading(basis, learned=dense, start=torch.zeros_like(start)),
    )


class _Paced(nn.Module):
    """A parameter as its start plus :data:`FREQUENCY_PACE` times what is learned."""

    start: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().clone())

    def forward(self, free: Tensor) -> Tensor:
        return self.start + FREQUENCY_PACE * free

    def right_inverse(self, value: Tensor) -> Tensor:
        return (value - self.start) / FREQUENCY_PACE


def _hold_back_frequency(dynamics: CoupledOscillators) -> None:
    parametrize.register_parametrization(dynamics, "omega", _Paced(dynamics.omega))
