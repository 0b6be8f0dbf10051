r"""What a fitted Langevin model's potential says: couplings, normal modes and a slice of U.

The force is linearised as it acts on the states that were inferred: its Jacobian is averaged over
them, which for a Gaussian law of states is the linear force closest to it in mean square
(Stein's lemma; Roberts and Spanos 1990, "Random Vibration and Statistical Linearization").
Modes are those of the model's own one-bin step, so that their frequencies are those at which the
discrete dynamics turn, not those of the equation it discretises.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from driftwave.inference.langevin import CHANNELS, LatticePotential, released_gradient
from driftwave.inference.langevin_networks import Driftwave, Released

STATES = 256  # inferred states the Jacobian is averaged over
SLICE = 41  # points along each axis of the slice
REACH = 3.0  # sd of the inferred positions that the slice reaches


@dataclass(frozen=True)
class Linearised:
    """Dynamics about the inferred states, in steps of one bin.

    Attributes
    ----------
    jacobian : ndarray (latent, latent)
        Mean derivative of the force after position, per bin^2.
    step : ndarray (2 latent, 2 latent)
        Map of (position, velocity) over one bin without noise.
    to_step : ndarray (2 latent, 2 latent)
        From stored states to those ``step`` acts on.
    friction : ndarray (latent,)
        gamma per bin.
    """

    jacobian: np.ndarray
    step: np.ndarray
    to_step: np.ndarray
    friction: np.ndarray


def baoab_step(
    along: np.ndarray, across: np.ndarray, keep: np.ndarray, dt: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    r"""One BAOAB step of a linear force :math:`J_z z + J_v v`, noise apart.

    The two half kicks between steps use one force, so that the step is taken from just before a
    bin's second half kick to just before the next bin's: whole kick, half drift,
    :math:`v \leftarrow a v`, half drift. It has the eigenvalues of the step between bins.

    Parameters
    ----------
    along, across : ndarray (latent, latent)
        :math:`J_z` and :math:`J_v`.
    keep : ndarray (latent,)
        a = exp(-gamma dt).

    Returns
    -------
    step : ndarray (2 latent, 2 latent)
    before_kick : ndarray (2 latent, 2 latent)
        From (z, v) of a bin to the state before its second half kick.
    """
    one, none = np.eye(len(keep)), np.zeros((len(keep), len(keep)))
    drift = np.block([[one, 0.5 * dt * one], [none, one]])
    damp = np.block([[one, none], [none, np.diag(keep)]])
    kick = np.block([[one, none], [dt * along, one + dt * across]])
    half = np.block([[one, none], [0.5 * dt * along, one + 0.5 * dt * across]])
    return drift @ damp @ drift @ kick, np.linalg.inv(half)


def linearise(network: Driftwave | Released, states: np.ndarray) -> Linearised:
    """Average the dynamics over inferred states (state, 2 latent)."""
    latents = network.latents
    if isinstance(network, Released):
        jacobian = -_released(network).numpy()
        keep, one = 1.0 - network.friction, np.eye(latents)
        step = np.block([[one, network.STEP * one], [keep * network.STEP * jacobian, keep * one]])
        friction = np.full(latents, network.friction)
        return Linearised(network.STEP**2 * jacobian, step, np.eye(2 * latents), friction)
    tensor = torch.from_numpy(np.ascontiguousarray(states)).float()
    position, velocity = tensor.split(latents, -1)
    if isinstance(network.dynamics, LatticePotential):
        along = -_mean_hessian(network.dynamics, position)
        across = np.zeros_like(along)
    else:
        along, across = _force_jacobians(network.dynamics.force(), position, velocity)
    friction = network.log_friction.detach().exp().double().numpy()
    step, to_step = baoab_step(along, across, np.exp(-friction))
    return Linearised(along, step, to_step, friction)


def _released(network: Released) -> Tensor:
    """Matrix G of the released potential's gradient."""
    kernel = functional.normalize(network.kernel.detach(), dim=-1)
    return released_gradient(kernel, network.latents).double()


def _mean_hessian(potential: LatticePotential, position: Tensor) -> np.ndarray:
    position = position.detach().clone().requires_grad_()
    energy = potential.energy(position)
    if not energy.requires_grad:  # a model without a potential
        return np.zeros((position.shape[1],) * 2)
    slope = torch.autograd.grad(energy.sum(), position, create_graph=True)[0]
    rows = [
        torch.autograd.grad(slope[:, i].sum(), position, retain_graph=True)[0].mean(0)
        for i in range(slope.shape[1])
    ]
    return torch.stack(rows).double().numpy()


def _force_jacobians(
    force: Callable[[Tensor, Tensor], Tensor], position: Tensor, velocity: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Mean derivatives of a learned force after position and velocity."""
    position = position.detach().clone().requires_grad_()
    velocity = velocity.detach().clone().requires_grad_()
    pull = force(position, velocity)
    rows = [
        torch.autograd.grad(pull[:, i].sum(), (position, velocity), retain_graph=True)
        for i in range(pull.shape[1])
    ]
    along, across = (torch.stack([row[k].mean(0) for row in rows]) for k in (0, 1))
    return along.double().numpy(), across.double().numpy()


def modes(step: np.ndarray, states: np.ndarray, bin_width: float) -> xr.Dataset:
    r"""Eigenmodes of a one-bin map, by the share of the inferred positions' variance.

    With eigenvalue :math:`\mu`, damping is :math:`-\ln|\mu| / \Delta` and frequency
    :math:`\arg\mu / (2\pi\Delta)`; of a conjugate pair one is kept.

    Parameters
    ----------
    step : ndarray (2 latent, 2 latent)
        Positions, then velocities.
    states : ndarray (state, 2 latent)
        Inferred states; mode k's share is :math:`\langle |w_k^* x|^2 \rangle |r_{k,z}|^2`, left and
        right eigenvectors w and r, normalised over modes (products of modes are left out).
    bin_width : float
        s.

    Returns
    -------
    Dataset
        ``mode_frequency`` (Hz), ``mode_damping`` (1/s), ``mode_share``; of the positions
        (mode, node) ``mode_amplitude`` (largest 1) and ``mode_phase`` (rad; a greater phase leads).
    """
    value, right = np.linalg.eig(step)
    left = np.linalg.pinv(right)
    loading = right[: len(step) // 2]
    power = np.abs((states - states.mean(0)) @ left.T) ** 2
    share = power.mean(0) * (np.abs(loading) ** 2).sum(0)
    share /= max(share.sum(), np.finfo(float).tiny)
    kept = np.flatnonzero(value.imag > -1e-12)
    share = share * np.where(value.imag > 1e-12, 2.0, 1.0)
    kept = kept[np.argsort(-share[kept], kind="stable")]
    value, share, loading = value[kept], share[kept], loading[:, kept].T
    top = loading[np.arange(len(kept)), np.abs(loading).argmax(1)]
    loading = loading / np.where(top == 0, 1.0, top)[:, None]
    size = np.maximum(np.abs(value), np.finfo(float).tiny)
    return xr.Dataset(
        {
            "mode_frequency": (
                "mode",
                np.abs(np.angle(value)) / (2 * np.pi * bin_width),
                {"units": "Hz"},
            ),
            "mode_damping": ("mode", -np.log(size) / bin_width, {"units": "1/s"}),
            "mode_share": ("mode", share, {"units": "1"}),
            "mode_amplitude": (("mode", "node"), np.abs(loading), {"units": "1"}),
            "mode_phase": (("mode", "node"), np.angle(loading), {"units": "rad"}),
        }
    )


def describe(network: Driftwave | Released, latent: np.ndarray, bin_width: float) -> xr.Dataset:
    """Couplings, modes and a slice of the learned potential, about the inferred states.

    Parameters
    ----------
    network : Driftwave or Released
        On any device; it is not changed.
    latent : ndarray (trial, time, 2 latent)
        Inferred positions, then velocities.
    bin_width : float
        s.

    Returns
    -------
    Dataset
        Dims ``node`` (latent position: channel x site) and ``node_to``, ``mode`` (see
        :func:`modes`), ``slice_1`` and ``slice_2`` (along the two leading principal components
        ``slice_axis`` of the inferred positions, about their mean ``slice_centre``):

        - ``coupling`` (node, node_to), 1/s^2: mean Hessian of U; of a learned force that has no
          potential the symmetric part of its negative mean Jacobian, and ``asymmetry`` in attrs is
          the norm of the other part over that of the whole;
        - ``node_frequency`` (Hz): square root of the diagonal, NaN where that is negative;
        - ``friction`` (1/s);
        - ``slice_energy`` (kT), above its least value; left out where there is no potential;
        - ``slice_force`` (slice_part, slice_1, slice_2), per bin^2.
    """
    network = copy.deepcopy(network).cpu().eval()
    latents = network.latents
    flat = np.asarray(latent, dtype=float).reshape(-1, 2 * latents)
    picked = np.linspace(0, len(flat) - 1, min(STATES, len(flat))).astype(int)
    system = linearise(network, flat[picked])
    table = modes(system.step, flat[picked] @ system.to_step.T, bin_width)
    coupling = -(system.jacobian + system.jacobian.T) / 2
    skew = (system.jacobian - system.jacobian.T) / 2
    whole = max(float(np.linalg.norm(system.jacobian)), np.finfo(float).tiny)
    diagonal = np.diag(coupling)
    own = np.sqrt(np.where(diagonal >= 0, diagonal, np.nan)) / (2 * np.pi * bin_width)
    pair = ("node", "node_to")
    table["coupling"] = (pair, coupling / bin_width**2, {"units": "1/s^2"})
    table["node_frequency"] = ("node", own, {"units": "Hz"})
    table["friction"] = ("node", system.friction / bin_width, {"units": "1/s"})
    sites, index = latents // CHANNELS, np.arange(latents)
    table = table.merge(_slice(network, flat[:, :latents]))
    return table.assign_coords(
        node_channel=("node", index // sites), node_site=("node", index % sites)
    ).assign_attrs(asymmetry=float(np.linalg.norm(skew)) / whole)


def _slice(network: Driftwave | Released, positions: np.ndarray) -> xr.Dataset:
    """U and force over the plane of the two leading principal components of the positions."""
    centre = positions.mean(0)
    _, axes = np.linalg.eigh(np.atleast_2d(np.cov(positions, rowvar=False)))
    axes = axes[:, ::-1][:, :2].T
    spread = ((positions - centre) @ axes.T).std(0)
    steps = [np.linspace(-REACH, REACH, SLICE) * max(float(sd), 1e-6) for sd in spread]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), -1)
    points = torch.from_numpy((centre + grid @ axes).reshape(-1, len(centre))).float()
    energy, force = _energy_and_force(network, points)
    shape = (SLICE, SLICE)
    pull = (force.numpy() @ axes.T).reshape(*shape, 2).transpose(2, 0, 1)
    unit = {"units": "arbitrary"}
    dataset = xr.Dataset(
        {
            "slice_force": (("slice_part", "slice_1", "slice_2"), pull, {"units": "1/bin^2"}),
            "slice_axis": (("slice_part", "node"), axes, {"units": "1"}),
            "slice_centre": ("node", centre, unit),
        },
        coords={"slice_1": ("slice_1", steps[0], unit), "slice_2": ("slice_2", steps[1], unit)},
    )
    if energy is not None:
        above = (energy - energy.min()).reshape(shape).numpy()
        dataset["slice_energy"] = (("slice_1", "slice_2"), above, {"units": "kT"})
    return dataset


def _energy_and_force(
    network: Driftwave | Released, points: Tensor
) -> tuple[Tensor | None, Tensor]:
    """U (point,), None where there is no potential, and the force (point, latent) at rest."""
    if isinstance(network, Released):
        pull = points.double() @ _released(network)
        return 0.5 * (pull * points).sum(-1), -(network.STEP**2) * pull
    with torch.no_grad():
        force = network.dynamics.force()(points, torch.zeros_like(points)).double()
        if not isinstance(network.dynamics, LatticePotential):
            return None, force
        return network.dynamics.energy(points).double(), force
