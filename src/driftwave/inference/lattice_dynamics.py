r"""Complex oscillators on a graph as latent dynamics: Stuart-Landau, Kuramoto, second order.

Site j of a band holds a complex number z; n(m, j) is the site whose state arrives at j from
direction m, :math:`w_{mj}` a fixed weight, :math:`\kappa_m = K_m e^{-i \alpha_m}` the coupling of
that direction: strength :math:`K_m` (1/s), phase lag :math:`\alpha_m`. With substeps of h seconds
and a drive u per bin (not multiplied by h):

``stuart_landau``
    :math:`\dot z_j = (\mu + i\omega - |z_j|^2) z_j + \sum_m \kappa_m w_{mj} (z_{n(m,j)} - z_j)`,
    stepped as coupling and drive (Euler), then the flow of :math:`\dot z = (\mu - |z|^2) z`, then
    the flow of :math:`\dot z = i \omega z`, the last two exact. So the frequency of a site alone is
    exact for any h; a site alone settles at :math:`|z| = \sqrt\mu` (mu in 1/s) if mu > 0, else
    decays by :math:`e^{\mu h}` while small; and no start, drive or parameter can make the cubic
    term overshoot, as it does in an Euler step where :math:`h |z|^2 > 2`. The part
    :math:`-\kappa_m z_j` damps by Re kappa and shifts the frequency of site j by
    :math:`-\mathrm{Im} \kappa = K \sin\alpha` per neighbour.
``kuramoto``
    Unit modulus. A substep adds :math:`h \sum_m \kappa_m w_{mj} z_{n(m,j)} + u`, projected on the
    tangent of the circle (as AKOrN, Miyato et al. 2025), normalises and rotates: the phase moves
    by :math:`\omega h + \arctan(h S_j + \mathrm{Im}(\bar z_j u_j))`, where

    .. math:: S_j = \sum_m K_m w_{mj} \sin(\theta_{n(m,j)} - \theta_j - \alpha_m)

    is the Kuramoto-Sakaguchi coupling, met up to :math:`(h S)^3 / 3`. A part
    :math:`-\kappa_m z_j` would only add the constant :math:`K \sin\alpha` to omega, by a term
    that depends on the number of neighbours; it is left out, so that omega is the natural
    frequency as the Kuramoto model has it.
``second_order``
    coRNN (Rusch & Mishra 2021, eq. 3) with positions y, and
    :math:`v = -\dot y / \sqrt\gamma` in place of the velocity, so that y + i v turns with +omega
    as the others do:

    .. math::
        \ddot y_j = -\gamma y_j - \epsilon \dot y_j
            + \sqrt\gamma\, F \tanh\Big(\sum_m \kappa_m w_{mj} (y_{n(m,j)} - y_j) / F + b\Big)

    by the same semi-implicit step (velocity first). :math:`\gamma` and :math:`\epsilon` follow
    from the frequency and the damping rate d of the discrete step, without error in h: with
    :math:`\rho = e^{-d h}`, :math:`1 - h\epsilon = \rho^2` and
    :math:`h^2 \gamma = |1 - \rho e^{i \omega h}|^2`. F (1/s) is fixed at the frequency that
    :meth:`CoupledOscillators.set_frequency` gave; couplings are real.

The term of a missing neighbour is left out in every variant.

Parameters are held per bin (mu and kappa in 1/bin, omega in rad/bin), where steps of an optimiser
of one size suit them all; the methods speak in Hz and 1/s. Bounds keep states finite for finite
start, drive and parameters: :math:`|\mu| h < 1`; :math:`h \sum_m w_{mj} |\kappa_m| < 1` at every
site, beyond which an Euler step of the coupling turns over the differences it should even out
(more substeps allow more); :math:`0 < d h < 1`. What is not finite reaches the loss, and
:mod:`driftwave.inference.training` then steps back or ends with an error.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from driftwave.errors import InputError
from driftwave.inference import lattice_scan
from driftwave.inference.lattice_coefficients import FirstOrder, SecondOrder
from driftwave.inference.sequential_vae import LatentDynamics

Variant = Literal["stuart_landau", "kuramoto", "second_order"]
Coupling = Literal["complex", "real", "none"]

# Before anything is known: rates in 1/s, and the band of frequencies (Hz) where bands start.
GROWTH = 5.0
DAMPING = 2.0
COUPLING = 1.0
LOWEST, HIGHEST = 4.0, 25.0
PART_OF_NYQUIST = 0.8


class CoupledOscillators(LatentDynamics):
    """Oscillators on the sites of a graph, in one or several bands, coupled to neighbours.

    Parameters
    ----------
    neighbour : ndarray of int (direction, site)
        Index of the site whose state arrives from each direction; -1 where there is none.
    bands : int
    variant : {"stuart_landau", "kuramoto", "second_order"}
    coupling : {"complex", "real", "none"}
        Couplings of second-order oscillators are real unless there are none.
    bin_width : float
        Seconds.
    weight : ndarray (direction, site), optional
        Fixed, not negative; 1 by default.
    substeps : int
        In each bin.
    shared : bool
        One coupling per band and direction for all sites, or one for every edge.
    site_frequency : bool
        One frequency for every site, or one per band.

    Attributes
    ----------
    width : int
        2 x bands x sites: part b, j, (re, im) of the state at (b x sites + j) x 2 + part.

    Raises
    ------
    InputError
        Where neighbours, weights or sizes are impossible.
    """

    def __init__(
        self,
        neighbour: np.ndarray,
        *,
        bands: int,
        variant: Variant,
        coupling: Coupling,
        bin_width: float,
        weight: np.ndarray | None = None,
        substeps: int = 1,
        shared: bool = True,
        site_frequency: bool = False,
    ) -> None:
        super().__init__()
        neighbour = _checked_neighbours(neighbour)
        linked = _checked_weight(weight, neighbour) * (neighbour >= 0)
        _check_sizes(bands=bands, bin_width=bin_width, substeps=substeps)
        self.variant, self.bands, self.bin_width = variant, bands, float(bin_width)
        self.substeps, self.shared, self.site_frequency = substeps, shared, site_frequency
        self.directions, self.sites = neighbour.shape
        self.coupling: Coupling = (
            "real" if coupling == "complex" and variant == "second_order" else coupling
        )
        self.width = 2 * bands * self.sites
        self.step = self.bin_width / substeps
        self.index: Tensor
        self.weight: Tensor
        # A missing neighbour has weight zero: any site may stand in for it.
        self.register_buffer("index", torch.from_numpy(np.maximum(neighbour, 0)))
        self.register_buffer("weight", torch.from_numpy(linked).float())
        degree = float(linked.sum(0).max(initial=0.0))
        self._reach = 1 / max(degree, 1e-6)
        self._make_parameters()

    def _make_parameters(self) -> None:
        places = (self.bands, self.sites if self.site_frequency else 1)
        edges = (self.bands, self.directions, 1 if self.shared else self.sites)
        self.omega = nn.Parameter(torch.zeros(places))
        if self.variant == "stuart_landau":
            self.mu = nn.Parameter(torch.zeros(self.bands))
        if self.variant == "second_order":
            self.damping = nn.Parameter(torch.zeros(self.bands))
            self.bias = nn.Parameter(torch.zeros(edges[0], edges[2]))
            self.force: Tensor
            self.register_buffer("force", torch.ones(self.bands))
        if self.coupling != "none":
            self.kappa_re = nn.Parameter(torch.zeros(edges))
        if self.coupling == "complex":
            self.kappa_im = nn.Parameter(torch.zeros(edges))
        top = min(HIGHEST, PART_OF_NYQUIST / (2 * self.bin_width))
        low = min(LOWEST, top / 2)
        self.set_frequency(np.geomspace(low, top, self.bands + 2)[1:-1])
        if self.variant != "kuramoto":
            rate = GROWTH if self.variant == "stuart_landau" else -DAMPING
            self.set_growth_rate(math.copysign(min(abs(rate), 0.1 / self.step), rate))
        if self.coupling != "none":
            self.set_kappa(min(COUPLING, 0.1 * self._reach / self.step))

    @property
    def frequency(self) -> np.ndarray:
        """Natural frequency in Hz: (band,), or (band, site) with ``site_frequency``."""
        hertz = _numpy(self.omega) / (2 * np.pi * self.bin_width)
        return hertz if self.site_frequency else hertz[:, 0]

    @property
    def growth_rate(self) -> np.ndarray:
        """mu, or minus the damping rate of second-order oscillators, in 1/s: (band,).

        Phases have none (NaN).
        """
        if self.variant == "kuramoto":
            return np.full(self.bands, np.nan)
        with torch.no_grad():
            return _numpy(self._growth()) / self.step

    @property
    def kappa(self) -> np.ndarray:
        """Complex couplings in 1/s: (band, direction), with a dim of sites if not shared."""
        with torch.no_grad():
            re, im = (_numpy(x) / self.step for x in self._kappa())
        every = re + 1j * im
        return every[..., 0] if self.shared else every

    @property
    def lag(self) -> np.ndarray:
        """Phase lags alpha in rad, of the shape of ``kappa`` = K exp(-i alpha)."""
        return -np.angle(self.kappa)

    def set_frequency(self, hertz: ArrayLike) -> None:
        """Start at these natural frequencies.

        Parameters
        ----------
        hertz : float, (band,) or (band, site)
            Hz.

        Raises
        ------
        InputError
            At the Nyquist frequency of the bins or above.
        """
        wanted = np.asarray(hertz, float)
        nyquist = 0.5 / self.bin_width
        if not (np.isfinite(wanted).all() and (np.abs(wanted) < nyquist).all()):
            raise _error(
                "frequency",
                f"{wanted.tolist()} Hz",
                f"below the Nyquist frequency of the bins, {nyquist:g} Hz",
                "choose lower frequencies or narrower bins",
            )
        if wanted.ndim == 1:
            wanted = wanted[:, None]
        turn = 2 * np.pi * self.bin_width * np.broadcast_to(wanted, (self.bands, self.sites))
        _fill(self.omega, turn if self.site_frequency else turn.mean(1, keepdims=True))
        if self.variant == "second_order":
            largest = np.maximum(np.abs(turn).mean(1), 1e-3)
            self.force.copy_(torch.from_numpy(largest / self.substeps))

    def set_growth_rate(self, rate: ArrayLike) -> None:
        """Start at these mu, or minus damping rates of second-order oscillators (negative).

        Parameters
        ----------
        rate : float or (band,)
            1/s.

        Raises
        ------
        InputError
            Where the variant has none, or a rate is out of bounds.
        """
        if self.variant == "kuramoto":
            raise _error("mu", rate, "none, as phases have no amplitude", "leave it out")
        moved = np.broadcast_to(np.asarray(rate, float) * self.step, (self.bands,))
        second = self.variant == "second_order"
        within = (moved < 0) & (moved > -1) if second else np.abs(moved) < 1
        if not within.all():
            low, high = -1 / self.step, 0.0 if second else 1 / self.step
            raise _error("mu", rate, f"between {low:g} and {high:g} 1/s", "use more substeps")
        if second:
            _fill(self.damping, np.log(-moved / (1 + moved)))
        else:
            _fill(self.mu, np.arctanh(moved) * self.substeps)

    def set_kappa(self, kappa: ArrayLike) -> None:
        """Start at these couplings.

        Parameters
        ----------
        kappa : complex, (band, direction), or (band, direction, site) if not shared
            1/s.

        Raises
        ------
        InputError
            Where there is no such coupling, or it is out of bounds.
        """
        if self.coupling == "none":
            raise _error("kappa", kappa, "none", "choose real or complex couplings")
        wanted = np.asarray(kappa, complex)
        if wanted.ndim == 2:
            wanted = wanted[..., None]
        wanted = np.broadcast_to(wanted, tuple(self.kappa_re.shape)) * self.step
        if not (np.abs(wanted) < self._reach).all():
            limit = self._reach / self.step
            raise _error("kappa", kappa, f"moduli below {limit:g} 1/s", "use more substeps")
        if self.coupling == "real" and wanted.imag.any():
            raise _error("kappa", kappa, "real numbers", "choose complex couplings")
        free = wanted * self.substeps / np.sqrt(1 - np.abs(wanted / self._reach) ** 2)
        _fill(self.kappa_re, free.real)
        if self.coupling == "complex":
            _fill(self.kappa_im, free.imag)

    def start_from(self, free: Tensor) -> Tensor:
        """An allowed start from any: phases are put on the unit circle."""
        if self.variant != "kuramoto":
            return free
        pairs = free.unflatten(-1, (-1, 2))
        return (pairs * torch.rsqrt(pairs.square().sum(-1, keepdim=True) + 1e-12)).flatten(-2)

    def forward(self, start: Tensor, drive: Tensor) -> Tensor:
        """States (trial, bin, width); see :class:`LatentDynamics`."""
        return lattice_scan.scan(start, drive, self.coefficients(), self.index, self.substeps)

    def coefficients(self) -> FirstOrder | SecondOrder:
        """What the scan takes, differentiable by the parameters."""
        weight = self.weight.to(self.omega.dtype)
        pull = [part * weight for part in self._kappa()]
        own = [-part.sum(1) for part in pull]
        turn = (self.omega / self.substeps).expand(self.bands, self.sites)
        if self.variant == "second_order":
            return self._second_order(pull[0], own[0], turn)
        both = torch.stack(pull), torch.stack(own)
        if self.variant == "kuramoto":
            still = torch.ones_like(turn[:, 0])
            return FirstOrder(both[0], torch.zeros_like(both[1]), turn, still, still, phases=True)
        twice = 2 * self._growth()
        decay, bend = torch.exp(-twice), 2 * self.step * _mean_decay(twice)
        return FirstOrder(*both, turn, decay, bend, phases=False)

    def _second_order(self, pull: Tensor, own: Tensor, turn: Tensor) -> SecondOrder:
        force, fall = self.force.to(turn.dtype), self._growth()[:, None]
        spread = force[:, None]
        return SecondOrder(
            pull / spread[..., None],
            own / spread,
            self.bias.expand(-1, self.sites),
            torch.exp(2 * fall).expand_as(turn),
            torch.sqrt(torch.expm1(fall) ** 2 + 4 * torch.exp(fall) * torch.sin(turn / 2) ** 2),
            force,
        )

    def _growth(self) -> Tensor:
        """Growth per substep (band,), within its bounds."""
        if self.variant == "second_order":
            return -torch.sigmoid(self.damping)
        return torch.tanh(self.mu / self.substeps)

    def _kappa(self) -> tuple[Tensor, Tensor]:
        """Real and imaginary couplings per substep (band, direction, 1 or site), within bounds."""
        if self.coupling == "none":
            sites = 1 if self.shared else self.sites
            none = self.omega.new_zeros(self.bands, self.directions, sites)
            return none, none
        re = self.kappa_re / self.substeps
        im = self.kappa_im / self.substeps if self.coupling == "complex" else torch.zeros_like(re)
        scale = torch.rsqrt(1 + (re**2 + im**2) / self._reach**2)
        return re * scale, im * scale


def _mean_decay(x: Tensor) -> Tensor:
    """(1 - exp(-x)) / x, with its limit and gradient at 0."""
    small = x.abs() < 1e-2
    safe = torch.where(small, torch.ones_like(x), x)
    series = 1 - x / 2 + x**2 / 6 - x**3 / 24 + x**4 / 120 - x**5 / 720
    return torch.where(small, series, -torch.expm1(-safe) / safe)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _fill(parameter: nn.Parameter, values: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values, float)))


def _error(field: str, found: object, expected: str, fix: str) -> InputError:
    return InputError(
        file="coupled oscillators", field=field, found=found, expected=expected, fix=fix
    )


def _checked_neighbours(neighbour: np.ndarray) -> np.ndarray:
    neighbour = np.asarray(neighbour)
    shaped = neighbour.ndim == 2 and neighbour.shape[1] > 0 and neighbour.dtype.kind == "i"
    if not shaped or (neighbour < -1).any() or (neighbour >= neighbour.shape[1]).any():
        raise _error(
            "neighbour",
            f"{neighbour.dtype} {neighbour.shape}",
            "integers (direction, site) from -1 to the number of sites less one",
            "give the index of the neighbour of each site in each direction",
        )
    return neighbour.astype(np.int64)


def _checked_weight(weight: np.ndarray | None, neighbour: np.ndarray) -> np.ndarray:
    if weight is None:
        return np.ones(neighbour.shape)
    weight = np.asarray(weight, float)
    if weight.shape != neighbour.shape or not (np.isfinite(weight) & (weight >= 0)).all():
        raise _error(
            "weight",
            f"shape {weight.shape}",
            f"finite numbers >= 0 of shape {neighbour.shape}",
            "give one weight per edge, or none",
        )
    return weight


def _check_sizes(**sizes: Any) -> None:
    for name, value in sizes.items():
        if not value > 0:
            raise _error(name, value, "a number above 0", "correct it")
