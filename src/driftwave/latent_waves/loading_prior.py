"""Is a loading a travelling or a standing wave? Marginal likelihoods under Gaussian process priors.

With electrodes at r_n, the loading observed as c_n = true value + e_n, e ~ CN(0, E):

- travelling: c(r) = e^{-i k.r} g(r), g a complex Gaussian process, |k| log-uniform up to the
  spatial Nyquist wavenumber and every direction alike;
- standing: c(r) = e^{i phi} h(r), h a real Gaussian process, phi uniform: any real map.

Both processes have the Matern-3/2 covariance s^2 (1 + a) e^{-a}, a = sqrt(3) |r - r'| / l
(Rasmussen & Williams 2006, equation 4.17), and the same grid of s and l, over which the marginal
likelihoods, of closed form given k or phi, are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import ive, logsumexp

LENGTHS = 3
# Electrodes in the shortest length of the processes.
SHORTEST = 3
VARIANCES = (0.25, 0.5, 1.0, 2.0, 4.0)
# Part of a process's variance that its leading eigenvectors may leave out; as much of the loading's
# power counts as error of single electrodes, which no smooth process can follow.
TRUNCATED = 2e-2
# A wave shorter than this much phase across the array is no wave to be seen, rad.
LEAST_PHASE = 0.3
LEVELS = 9
NEGLIGIBLE = 1e-3
# Numbers held at once.
BATCH = 2_000_000


@dataclass(frozen=True)
class LoadingPrior:
    """c(r) = e^{-i k.r} g(r) with given parameters.

    Attributes
    ----------
    wavevector : ndarray (2,)
        k, rad/mm; the wave moves towards +k.
    variance : float
        s^2 = E|g|^2, in the loading's unit squared.
    length : float
        l, mm.
    """

    wavevector: np.ndarray
    variance: float
    length: float


@dataclass(frozen=True)
class Evidence:
    """What a loading says about travelling against standing.

    Attributes
    ----------
    log_bayes_factor : float
        ln p(c | travelling) - ln p(c | standing), nats.
    wavevector, wavevector_sd : ndarray (2,)
        Posterior mean and standard deviation of k given that it travels, rad/mm.
    best : LoadingPrior
        The most probable k, s^2 and l.
    """

    log_bayes_factor: float
    wavevector: np.ndarray
    wavevector_sd: np.ndarray
    best: LoadingPrior

    @property
    def probability(self) -> float:
        """Posterior probability of travelling at prior odds of one."""
        return float(1 / (1 + np.exp(-np.clip(self.log_bayes_factor, -700, 700))))


def matern(distance: np.ndarray, length: float) -> np.ndarray:
    """Matern-3/2 correlation at a distance (mm), of length ``length`` (mm)."""
    scaled = np.sqrt(3) * np.asarray(distance) / length
    return (1 + scaled) * np.exp(-scaled)


def travelling_evidence(
    position: np.ndarray,
    loading: np.ndarray,
    covariance: np.ndarray,
    *,
    pitch: float,
    nyquist: float,
) -> Evidence:
    """Bayes factor of a travelling against a standing wave, and the wavevector.

    Parameters
    ----------
    position : ndarray (electrode, 2)
        mm.
    loading : ndarray, complex (electrode,)
    covariance : ndarray, complex (electrode, electrode)
        E[e e*] of the loading's error, positive definite.
    pitch : float
        Distance of neighbouring electrodes, mm; the processes' shortest length is three times it.
    nyquist : float
        Largest |k|, rad/mm.

    Returns
    -------
    Evidence
    """
    observed = _Observed.of(position, loading, covariance)
    extent = float(np.ptp(position, axis=0).max())
    lengths = np.geomspace(SHORTEST * pitch, 2 * max(extent, SHORTEST * pitch), LENGTHS)
    moving, still = [], []
    for length in lengths:
        factor = _factor(observed.position, float(length))
        moving.append(_integrate(observed, factor, float(length), extent, nyquist))
        still.append(logsumexp(observed.standing(factor)) - np.log(len(VARIANCES)))
    return _combine(moving, np.array(still), observed, lengths)


def predict_loading(
    position: np.ndarray,
    loading: np.ndarray,
    covariance: np.ndarray,
    where: np.ndarray,
    prior: LoadingPrior,
) -> tuple[np.ndarray, np.ndarray]:
    """Loading at electrodes that were not recorded, from those that were.

    Parameters
    ----------
    position : ndarray (electrode, 2)
        mm.
    loading : ndarray, complex (electrode,)
    covariance : ndarray, complex (electrode, electrode)
        Of the loading's error.
    where : ndarray (place, 2)
        mm.
    prior : LoadingPrior
        :attr:`Evidence.best`, or k = 0 to predict from a smooth map without a wave.

    Returns
    -------
    mean : ndarray, complex (place,)
    variance : ndarray (place,)
        E|c - mean|^2 of the true loading there.
    """

    def prior_covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        apart = one[:, None] - other[None]
        smooth = matern(np.hypot(apart[..., 0], apart[..., 1]), prior.length)
        return prior.variance * smooth * np.exp(-1j * apart @ prior.wavevector)

    across = prior_covariance(np.asarray(where, float), position)
    inside = prior_covariance(position, position) + covariance
    weights = np.linalg.solve(inside, across.conj().T).conj().T
    explained = np.real(np.sum(weights * across.conj(), axis=1))
    return weights @ loading, np.maximum(prior.variance - explained, 0)


@dataclass(frozen=True)
class _Observed:
    """A loading with its errors made white: ``whiten`` E ``whiten``* = I."""

    position: np.ndarray
    whiten: np.ndarray
    white: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, position: np.ndarray, loading: np.ndarray, covariance: np.ndarray) -> _Observed:
        centred = np.asarray(position, float) - np.mean(position, axis=0)
        hermitian = (covariance + covariance.conj().T) / 2
        power = float(np.mean(np.abs(loading) ** 2))
        own = TRUNCATED * power * np.eye(len(loading))
        whiten = np.linalg.inv(np.linalg.cholesky(hermitian + own))
        return cls(centred, whiten, whiten @ loading, power * np.array(VARIANCES))

    def travelling(self, factor: np.ndarray, k: np.ndarray) -> np.ndarray:
        """ln p(c | k, s^2) - ln p(c | no loading), (k, variance); ``factor`` (electrode, rank)."""
        many = max(1, BATCH // factor.size)
        parts = [self._travelling(factor, k[i : i + many]) for i in range(0, len(k), many)]
        return np.concatenate(parts)

    def _travelling(self, factor: np.ndarray, k: np.ndarray) -> np.ndarray:
        wave = np.exp(-1j * (k @ self.position.T))
        basis = self.whiten @ (wave[:, :, None] * factor)
        adjoint = basis.conj().swapaxes(1, 2)
        value, vector = np.linalg.eigh(adjoint @ basis)
        along = vector.conj().swapaxes(1, 2) @ (adjoint @ self.white)[..., None]
        power = np.abs(along[:, None, :, 0]) ** 2
        weight, spread = self._shrink(value)
        return (power * weight).sum(-1) - spread

    def _shrink(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = np.maximum(value, 0)[..., None, :]
        variance = self.variances[:, None]
        return 1 / (1 / variance + value), np.log1p(variance * value).sum(-1)

    def standing(self, factor: np.ndarray) -> np.ndarray:
        """ln p(c | standing, s^2) - ln p(c | no loading), (variance,), phi integrated out.

        With the real map's coordinates made independent, the exponent is a constant plus
        Re(e^{-2 i phi} q), whose average over phi is a Bessel function.
        """
        basis = self.whiten @ factor
        value, vector = np.linalg.eigh(2 * (basis.conj().T @ basis).real)
        along = vector.T @ (basis.conj().T @ self.white)
        weight, spread = self._shrink(value)
        q = np.abs((weight * along**2).sum(-1))
        return (weight * np.abs(along) ** 2).sum(-1) + np.log(ive(0, q)) + q - spread / 2


def _factor(position: np.ndarray, length: float) -> np.ndarray:
    """F (electrode, rank) with F F' the Matern correlation but for a negligible part."""
    apart = position[:, None] - position[None]
    value, vector = np.linalg.eigh(matern(np.hypot(apart[..., 0], apart[..., 1]), length))
    value, vector = value[::-1], vector[:, ::-1]
    rank = int(np.searchsorted(np.cumsum(value), (1 - TRUNCATED) * value.sum())) + 1
    return vector[:, :rank] * np.sqrt(value[:rank])


@dataclass(frozen=True)
class _Cells:
    """Cells of the wavevector's plane with what the loading says about each.

    Attributes
    ----------
    edge : ndarray (cell, 4)
        ln |k| from and to, direction from and to (rad).
    score : ndarray (cell, variance)
        Log likelihood at the centre plus the log of the cell's prior mass.
    """

    edge: np.ndarray
    score: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """Wavevector (cell, 2), rad/mm."""
        size = np.exp(self.edge[:, :2].mean(axis=1))
        angle = self.edge[:, 2:].mean(axis=1)
        return size[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    @property
    def width(self) -> np.ndarray:
        """Along |k| and around it (cell, 2), rad/mm."""
        size = np.exp(self.edge[:, :2].mean(axis=1))
        return size[:, None] * np.diff(self.edge.reshape(-1, 2, 2), axis=2)[..., 0]


def _integrate(
    observed: _Observed, factor: np.ndarray, length: float, extent: float, nyquist: float
) -> _Cells:
    """Cells fine enough to integrate the likelihood over k by the midpoint rule."""
    least = min(LEAST_PHASE / extent, nyquist / 2)
    # The likelihood varies with k on the scale of one over the array or the process's length.
    step = max(np.pi / (2.5 * extent), 0.7 / length)
    mass = 2 * np.pi * np.log(nyquist / least)

    def scored(edge: np.ndarray) -> _Cells:
        prior = np.log(np.prod(edge[:, 1::2] - edge[:, ::2], axis=1) / mass)
        bare = _Cells(edge, np.empty(0))
        return _Cells(edge, observed.travelling(factor, bare.centre) + prior[:, None])

    cells = scored(_polar_cells(least, nyquist, step))
    for _ in range(LEVELS):
        total = logsumexp(cells.score, axis=1)
        share = np.exp(total - logsumexp(total))
        at = share @ cells.centre
        spread = np.sqrt(share @ ((cells.centre - at) ** 2).sum(axis=1))
        coarse = cells.width.max(axis=1) > max(spread, 1e-9) / 2
        split = (share > NEGLIGIBLE) & coarse
        if not split.any():
            break
        finer = scored(_quarters(cells.edge[split]))
        cells = _Cells(
            np.concatenate([cells.edge[~split], finer.edge]),
            np.concatenate([cells.score[~split], finer.score]),
        )
    return cells


def _polar_cells(least: float, largest: float, step: float) -> np.ndarray:
    """Cells (cell, 4) no wider than ``step`` that fill a ring, ln |k| and direction."""
    radii = [least]
    while radii[-1] < largest * (1 - 1e-9):
        radii.append(min(2 * radii[-1], radii[-1] + step, largest))
    cells = []
    for low, high in pairwise(radii):
        count = max(8, int(np.ceil(2 * np.pi * high / step)))
        angle = np.linspace(-np.pi, np.pi, count + 1)
        size = np.broadcast_to(np.log([low, high]), (count, 2))
        cells.append(np.column_stack([size, angle[:-1], angle[1:]]))
    return np.concatenate(cells)


def _quarters(edge: np.ndarray) -> np.ndarray:
    low, high, left, right = edge.T
    size, angle = (low + high) / 2, (left + right) / 2
    sizes, angles = [(low, size), (size, high)], [(left, angle), (angle, right)]
    return np.concatenate([np.stack([*s, *a], axis=1) for s in sizes for a in angles])


def _combine(
    moving: list[_Cells], still: np.ndarray, observed: _Observed, lengths: np.ndarray
) -> Evidence:
    grid = len(VARIANCES) * len(lengths)
    score = [cells.score for cells in moving]
    travelling = logsumexp(np.concatenate([s.ravel() for s in score])) - np.log(grid)
    standing = logsumexp(still) - np.log(len(lengths))
    total = np.concatenate([logsumexp(s, axis=1) for s in score])
    share = np.exp(total - logsumexp(total))
    centre = np.concatenate([cells.centre for cells in moving])
    width = np.concatenate([cells.width for cells in moving])
    mean = share @ centre
    inside = share @ (width**2).mean(axis=1) / 12
    spread = np.sqrt(share @ (centre - mean) ** 2 + inside)
    which = int(np.argmax([_density(cells).max() for cells in moving]))
    cell, variance = np.unravel_index(np.argmax(_density(moving[which])), moving[which].score.shape)
    best = LoadingPrior(
        moving[which].centre[cell],
        float(observed.variances[variance]),
        float(lengths[which]),
    )
    return Evidence(float(travelling - standing), mean, spread, best)


def _density(cells: _Cells) -> np.ndarray:
    """Log posterior density per unit of ln |k| and direction (cell, variance)."""
    area = np.prod(cells.edge[:, 1::2] - cells.edge[:, ::2], axis=1)
    return cells.score - np.log(area)[:, None]
