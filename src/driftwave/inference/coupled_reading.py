"""What the encoder of coupled oscillators reads: filters in time, the same at every site."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from driftwave.inference.lattice_geometry import Lattice

# Widths of the filters in time, in periods of the band; each looks back and ahead.
TIMESCALES = (0.5, 2.0)
KINDS = 2 * len(TIMESCALES)
SLOW_FUTURE = KINDS - 1
# Lengths over which the field is taken to be alike, in multiples of the pitch.
LENGTHS = (1.0, 2.0, 4.0)
# Of LENGTHS: that of the reading a fit starts from.
STARTING = 1


class Demodulator(nn.Module):
    r"""Running Fourier coefficients of each channel, from the past and from the future.

    .. math:: D^\pm_n(t) = \frac{1}{\sqrt{N}} \sum_{t'} e^{-|t-t'| / \tau}
              e^{i\omega (t - t')} x_n(t')

    over t' <= t (+) or t' >= t (-). They are what a Kalman smoother of an oscillation is linear in.
    White noise of unit variance gives coefficients of about unit variance.

    Parameters
    ----------
    angle : Tensor (band,)
        omega, rad per bin.
    bins : int
    """

    filters: Tensor

    def __init__(self, angle: Tensor, bins: int) -> None:
        super().__init__()
        lag = torch.arange(bins)[:, None] - torch.arange(bins)[None]
        parts = []
        for turn in angle.tolist():
            for scale in timescales(turn):
                weight = torch.exp(-lag.abs() / scale)
                carrier = torch.stack([torch.cos(turn * lag), torch.sin(turn * lag)])
                for side in (lag >= 0, lag <= 0):
                    norm = math.sqrt(1 - math.exp(-2 / scale))
                    parts.append(norm * weight * side * carrier)
        shape = (len(angle), KINDS, 2, bins, bins)
        # The frequencies are those the fit starts from: nothing here is learned.
        self.register_buffer("filters", torch.stack(parts).view(shape).float(), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Coefficients (trial, bin, band, kind, part, channel) of values (trial, bin, channel).

        Kinds are (timescale, side), parts real and imaginary.
        """
        seen = values.shape[1]
        filters = self.filters[..., :seen, :seen].flatten(0, 2)
        found = torch.einsum("kts,isc->itkc", filters, values)
        return found.unflatten(2, (-1, KINDS, 2))


class SiteReading(nn.Module):
    r"""A complex number at every site, linear in the channels' Fourier coefficients.

    .. math:: s_j(t) = \sum_k \sum_p c_{kp} \sum_n A_{kpjn} D^k_n(t)

    with the same complex :math:`c` at every site: on a lattice, readings of a few fixed shapes
    (basis) p around each site are weighted by numbers that no site has to itself.

    Parameters
    ----------
    basis : Tensor (band, kind, shape, site, channel)
        A, of :func:`spatial_basis` or :func:`dense_basis`.
    learned : bool
        Whether A is learned too, where there are no positions to fix it.
    start : Tensor (band, kind, shape), complex
        c.
    """

    def __init__(self, basis: Tensor, *, learned: bool, start: Tensor) -> None:
        super().__init__()
        self.basis: Tensor
        if learned:
            self.basis = nn.Parameter(basis.clone())
        else:
            self.register_buffer("basis", basis)
        self.weight = nn.Parameter(torch.view_as_real(start.to(torch.complex64)).contiguous())

    def forward(self, found: Tensor) -> Tensor:
        """Numbers (trial, bin, width) from coefficients (trial, bin, band, kind, part, channel)."""
        re, im = torch.einsum("bkpq,bkpsn->qbksn", self.weight, self.basis)
        # (band, site, part out, kind, part in, channel)
        pairs = torch.stack([torch.stack([re, -im], -2), torch.stack([im, re], -2)], 2)
        matrix = pairs.permute(0, 3, 2, 1, 4, 5).flatten(3).flatten(1, 2)
        stacked = found.flatten(3)
        return torch.einsum("itbf,bwf->itbw", stacked, matrix).flatten(2)


def timescales(turn: float) -> list[float]:
    """Decay times of the filters, bins, at ``turn`` rad per bin."""
    return [max(1.0, periods * 2 * math.pi / turn) for periods in TIMESCALES]


def _sensitivity(turn: float) -> np.ndarray:
    """Expected coefficient (kind,) of Re z, for z = 1 turning at the filters' frequency."""
    norms = [
        0.5 * math.sqrt(1 - math.exp(-2 / s)) / (1 - math.exp(-1 / s)) for s in timescales(turn)
    ]
    return np.repeat(norms, 2)


def wiener(loading: np.ndarray, prior: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Reading (point, channel) of least error of a field seen as ``loading @ z`` + unit noise.

    Parameters
    ----------
    loading : ndarray, complex (channel, site)
    prior : ndarray (site, site)
        Covariance of z.
    target : ndarray (point, site)
        Covariance of what is wanted with z.
    """
    seen = loading @ prior @ loading.conj().T + np.eye(len(loading))
    return np.linalg.solve(seen.T, (target @ loading.conj().T).T).T


def spatial_basis(
    lattice: Lattice, loading: np.ndarray, turns: list[float], power: float
) -> tuple[Tensor, Tensor]:
    """Shapes of reading for channels with positions, and the weights they start with.

    For fields that are alike over each of :data:`LENGTHS`: the estimate of least error at the
    site, and those one pitch away on either side along every axis.

    Parameters
    ----------
    lattice : Lattice
    loading : ndarray, complex (band, channel, site)
        Channel n, in standard deviations of its noise, is Re(sum_j loading_nj z_j).
    turns : list of float
        rad per bin.
    power : float
        Mean square of z.
    """
    places = [lattice.position, *_shifted(lattice)]
    apart = lattice.distance(lattice.position)
    every = []
    for band, turn in enumerate(turns):
        for gain in _sensitivity(turn):
            for length in LENGTHS:
                width = length * lattice.pitch
                prior = power * np.exp(-0.5 * (apart / width) ** 2)
                for place in places:
                    target = power * np.exp(-0.5 * (lattice.distance(place) / width) ** 2)
                    every.append(wiener(gain * loading[band], prior, target).real)
    shapes = len(LENGTHS) * len(places)
    basis = np.reshape(every, (len(turns), KINDS, shapes, *every[0].shape))
    start = torch.zeros(len(turns), KINDS, shapes, dtype=torch.complex64)
    start[:, SLOW_FUTURE, STARTING * len(places)] = 1.0
    return torch.from_numpy(basis).float(), start


def _shifted(lattice: Lattice) -> list[np.ndarray]:
    """Points (site, 2) one pitch before and after every site along each axis."""
    if lattice.topology == "ring":
        away = lattice.position - lattice.centre
        turn = 2 * np.pi / lattice.sites
        turned = []
        for angle in (-turn, turn):
            c, s = np.cos(angle), np.sin(angle)
            turned.append(lattice.centre + away @ np.array([[c, s], [-s, c]]))
        return turned
    steps = lattice.pitch * np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
    return [lattice.position + step for step in steps]


def dense_basis(loading: np.ndarray, turns: list[float], power: float) -> tuple[Tensor, Tensor]:
    """As :func:`spatial_basis` without positions: real and imaginary part of one estimate."""
    every = []
    for band, turn in enumerate(turns):
        for gain in _sensitivity(turn):
            prior = power * np.eye(loading.shape[2])
            found = wiener(gain * loading[band], prior, prior)
            every.append(np.stack([found.real, found.imag]))
    basis = np.reshape(every, (len(turns), KINDS, *every[0].shape))
    start = torch.zeros(len(turns), KINDS, 2, dtype=torch.complex64)
    start[:, SLOW_FUTURE] = torch.tensor([1.0, 1.0j])
    return torch.from_numpy(basis).float(), start
