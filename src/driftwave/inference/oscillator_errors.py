r"""Standard errors of the oscillators' parameters.

The field is a stationary Gaussian process with spectral density C H(w) C' + R, so that the
information of a long stretch is (Whittle 1953, Arkiv for Matematik 2:423; Dzhaparidze 1986)

    I_ij = T / (2 pi) int_0^pi Re tr(F^-1 F_i F^-1 F_j) dw,   F = C H C' + R,  F_i = dF / d theta_i.

It is taken jointly over dynamics, loadings and noise, so that what is unknown of one widens the
others' intervals. With W = R^-1 C, M = C' W and K = (H^-1 + M)^-1 every integral is one of products
of matrices of the state's size. Of a full noise covariance, each channel's variance and the
directions C G C' are free: the others' information comes from all frequencies alike and hardly
touches that of narrow peaks. The information is singular along each oscillator's phase; its inverse
is taken in the gauge in which the loadings are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from driftwave.inference.oscillator_model import Oscillators

MOST_PATTERNS = 8
CHUNK = 512


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors, NaN where the data do not identify a parameter.

    Attributes
    ----------
    angle, damping : ndarray (oscillator,)
    slow_damping : ndarray (slow,)
    loading : ndarray (channel, state)
    covariance : ndarray (oscillator, part, channel, part, channel)
        Of the errors of Re c and Im c (parts), for each oscillator. What another oscillator or slow
        factor has in common with it by chance goes into all channels' loadings at once.
    """

    angle: np.ndarray
    damping: np.ndarray
    slow_damping: np.ndarray
    loading: np.ndarray
    covariance: np.ndarray


def _frequencies(model: Oscillators) -> tuple[np.ndarray, np.ndarray]:
    """Angles from 0 to pi, dense around every peak, and their weights (trapezoid rule)."""
    tangent = np.tan(np.linspace(-1, 1, 201) * (np.pi / 2 - 0.01))
    centres = [*model.angle, *np.zeros(len(model.slow_damping))]
    widths = 1 - np.concatenate([model.damping, model.slow_damping])
    parts = [np.linspace(0, np.pi, 801)]
    parts += [c + w * tangent for c, w in zip(centres, widths, strict=True)]
    grid = np.unique(np.clip(np.concatenate(parts), 0, np.pi))
    steps = np.diff(grid)
    weight = np.zeros(len(grid))
    weight[:-1] += steps / 2
    weight[1:] += steps / 2
    return grid, weight


def _resolvent(model: Oscillators, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(I - A e^{-iw})^-1 (frequency, state, state), the A it belongs to, and Q's diagonal."""
    space = model.state_space(np.zeros((model.loading.shape[1],) * 2))
    identity = np.eye(len(space.transition))
    turned = identity - space.transition * np.exp(-1j * angle)[:, None, None]
    return np.linalg.inv(turned), space.transition, np.diag(space.noise)


def _state_spectra(model: Oscillators, angle: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """H (frequency, state, state) and its derivatives by angles, dampings and slow dampings."""
    inverse, transition, noise = _resolvent(model, angle)
    adjoint = inverse.conj().swapaxes(1, 2)
    spectrum = (inverse * noise) @ adjoint
    delay = np.exp(-1j * angle)[:, None, None]
    count = len(model.angle)

    def derivative(part: slice, by_transition: np.ndarray, by_noise: float) -> np.ndarray:
        moved = np.zeros_like(transition)
        moved[part, part] = by_transition
        kicked = np.zeros(len(noise))
        kicked[part] = by_noise
        turn = (inverse * delay) @ moved @ spectrum
        return turn + turn.conj().swapaxes(1, 2) + (inverse * kicked) @ adjoint

    pairs = [slice(2 * k, 2 * k + 2) for k in range(count)]
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    parts = [derivative(p, quarter @ transition[p, p], 0.0) for p in pairs]
    parts += [
        derivative(p, transition[p, p] / a, -2 * a)
        for p, a in zip(pairs, model.damping, strict=True)
    ]
    for j, b in enumerate(model.slow_damping):
        state = slice(2 * count + j, 2 * count + j + 1)
        parts.append(derivative(state, np.ones((1, 1)), -2 * b))
    return spectrum, parts


def _span_directions(states: int) -> list[np.ndarray]:
    """A basis of the symmetric matrices of the state's size."""
    basis = []
    for i in range(states):
        for j in range(i + 1):
            one = np.zeros((states, states))
            one[i, j] = one[j, i] = 1.0
            basis.append(one)
    return basis


@dataclass
class _Integrals:
    """Integrals over frequency of products of the state's matrices."""

    both: np.ndarray  # K x K, K x conj K, K x Omega: (3, state^2, state^2)
    single: np.ndarray  # K, Omega: (2, state, state)
    dynamics: np.ndarray  # (direction, direction)
    loading: np.ndarray  # (direction, state, state): L H_i M K
    noise: np.ndarray  # (direction, state, state): L H_i L*


def _chunks(model: Oscillators) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    grid, weight = _frequencies(model)
    for start in range(0, len(grid), CHUNK):
        yield grid[start : start + CHUNK], weight[start : start + CHUNK]


def _integrate(model: Oscillators, information: np.ndarray, full: bool) -> _Integrals:
    states = len(information)
    extra = _span_directions(states) if full else []
    count = 2 * len(model.angle) + len(model.slow_damping) + len(extra)
    square = states * states
    total = _Integrals(
        np.zeros((3, square, square)),
        np.zeros((2, states, states)),
        np.zeros((count, count)),
        np.zeros((count, states, states)),
        np.zeros((count, states, states)),
    )
    identity = np.eye(states)
    for angle, weight in _chunks(model):
        spectrum, parts = _state_spectra(model, angle)
        posterior = np.linalg.solve(identity + spectrum @ information, spectrum)
        rest = spectrum - posterior
        left = identity - posterior @ information
        middle = information @ left
        flat, flat_rest = (m.reshape(len(angle), square) for m in (posterior, rest))
        weighted = flat.T * weight
        total.both += np.stack(
            [(weighted @ other).real for other in (flat, flat.conj(), flat_rest)]
        )
        total.single += np.stack([np.tensordot(weight, m, axes=1).real for m in (posterior, rest)])
        derivatives = np.stack(parts, axis=0) if parts else np.empty((0, *spectrum.shape))
        if extra:
            constant = np.broadcast_to(np.stack(extra)[:, None], (len(extra), *spectrum.shape))
            derivatives = np.concatenate([derivatives, constant])
        through = middle @ derivatives
        one = (through * weight[:, None, None]).reshape(count, -1)
        total.dynamics += (one @ through.swapaxes(2, 3).reshape(count, -1).T).real
        weighted_left = left * weight[:, None, None]
        inner = np.einsum("tab,itbc->itac", weighted_left, derivatives, optimize=True)
        total.loading += np.einsum(
            "itab,tbc->iac", inner, information @ posterior, optimize=True
        ).real
        total.noise += np.einsum("itab,tcb->iac", inner, left.conj(), optimize=True).real
    return total


def information_matrix(model: Oscillators, seen: np.ndarray | None = None) -> np.ndarray:
    """Information of one sample about all parameters.

    Parameters
    ----------
    model : Oscillators
    seen : ndarray of bool (channel,), optional
        Channels seen; all by default.

    Returns
    -------
    ndarray (parameter, parameter)
        Angles, dampings, slow dampings, noise within the loadings' span (full noise only), loadings
        (channel by channel), noise variances of the channels.
    """
    channels, states = model.loading.shape
    seen = np.ones(channels, bool) if seen is None else seen
    weights = model.weights(seen)
    precision = np.zeros((channels, channels))
    precision[np.ix_(seen, seen)] = np.linalg.inv(model.noise_of(seen))
    found = _integrate(model, model.loading.T @ weights, model.noise.ndim == 2)
    kk, k_conj, k_rest = (m.reshape((states,) * 4) for m in found.both)
    posterior, rest = found.single
    pairs = np.einsum("na,mb->nmab", weights, weights).reshape(channels, channels, -1)
    size = channels * states

    # (n s), (m r): (W K)_nr (W K)_ms + P_nm Omega_rs.
    wide = kk.transpose(0, 3, 2, 1) - k_rest.transpose(0, 3, 1, 2)
    half = np.tensordot(weights, wide, axes=(1, 0))
    loading = np.einsum("nsbr,mb->nsmr", half, weights, optimize=True)
    loading += np.einsum("nm,rs->nsmr", precision, rest)
    loading = loading.reshape(size, size) / np.pi

    # n, m: |P_nm|^2 / 2.
    squared = precision**2 * np.pi - 2 * precision * (weights @ posterior @ weights.T)
    squared += np.einsum("nmp,pq,nmq->nm", pairs, _paired(k_conj), pairs, optimize=True)
    noise = squared / (2 * np.pi)

    # n, (m s): P_nm (W K)_ns.
    by_noise = np.einsum("nm,ns->nms", precision, weights @ posterior)
    inner = np.einsum("na,nc,abcs->nbs", weights, weights, k_conj, optimize=True)
    by_noise -= np.einsum("nbs,mb->nms", inner, weights, optimize=True)
    by_noise = by_noise.reshape(channels, size) / np.pi

    dynamics = found.dynamics / (2 * np.pi)
    on_loading = np.einsum("na,iab->inb", weights, found.loading).reshape(-1, size) / np.pi
    on_noise = np.einsum("na,iab,nb->in", weights, found.noise, weights, optimize=True)
    on_noise /= 2 * np.pi
    return np.block(
        [
            [dynamics, on_loading, on_noise],
            [on_loading.T, loading, by_noise.T],
            [on_noise.T, by_noise, noise],
        ]
    )


def _paired(k_conj: np.ndarray) -> np.ndarray:
    """K_ab conj(K_cd) with (a, b) and (c, d) as indices of one matrix."""
    states = len(k_conj)
    return k_conj.reshape(states * states, states * states)


def _gauge(model: Oscillators) -> tuple[np.ndarray, np.ndarray]:
    """Per oscillator, how loadings move with its phase, and the slope of what is held at zero."""
    count = len(model.angle)
    moves, slopes = (np.zeros((count, *model.loading.shape)) for _ in range(2))
    for k, c in enumerate(model.complex_loading):
        columns = model.loading[:, 2 * k : 2 * k + 2]
        moves[k, :, 2 * k], moves[k, :, 2 * k + 1] = columns[:, 1], -columns[:, 0]
        size = np.maximum(np.abs(c), 1e-12)
        if abs(np.sum(size * c)) < 0.1 * np.sum(size**2):
            slopes[k, np.argmax(size), 2 * k + 1] = -1.0
        else:
            slopes[k, :, 2 * k] = c.imag * c.real / size
            slopes[k, :, 2 * k + 1] = -(size + c.imag**2 / size)
    return moves.reshape(count, -1), slopes.reshape(count, -1)


def standard_errors(model: Oscillators, counts: np.ndarray, patterns: np.ndarray) -> StandardErrors:
    """Standard errors of a model whose gauge is fixed.

    Parameters
    ----------
    model : Oscillators
        From :func:`driftwave.inference.oscillator_model.fix_gauge`.
    counts : ndarray (pattern,)
        Samples fitted in which each pattern of channels is seen. Beyond the eight patterns with the
        most samples the rest counts as missing, which widens the intervals.
    patterns : ndarray of bool (pattern, channel)
    """
    largest = np.argsort(-counts, kind="stable")[:MOST_PATTERNS]
    known = [i for i in largest if counts[i] and patterns[i].any()]
    total = sum(counts[i] * information_matrix(model, patterns[i]) for i in known)
    covariance = _covariance(model, np.asarray(total))
    variance = np.diag(covariance)
    deviation = np.sqrt(np.where(variance > 0, variance, np.nan))
    size, channels = model.loading.size, len(model.loading)
    k, j = len(model.angle), len(model.slow_damping)
    first = len(deviation) - size - channels
    return StandardErrors(
        angle=deviation[:k],
        damping=deviation[k : 2 * k],
        slow_damping=deviation[2 * k : 2 * k + j],
        loading=deviation[first : first + size].reshape(model.loading.shape),
        covariance=_by_oscillator(covariance[first : first + size, first : first + size], model),
    )


def _by_oscillator(covariance: np.ndarray, model: Oscillators) -> np.ndarray:
    """Of all loadings' covariance (channel by channel) each oscillator's part."""
    channels, states = model.loading.shape
    whole = covariance.reshape(channels, states, channels, states)
    sign = np.array([1.0, -1.0])  # the columns are Re c and -Im c
    signs = sign[:, None, None, None] * sign[None, None, :, None]
    return np.stack(
        [
            whole[:, 2 * k : 2 * k + 2, :, 2 * k : 2 * k + 2].transpose(1, 0, 3, 2) * signs
            for k in range(len(model.angle))
        ]
    )


def _covariance(model: Oscillators, information: np.ndarray) -> np.ndarray:
    """Inverse of the information in the loadings' gauge; NaN if it is not positive definite."""
    diagonal = np.diag(information)
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    size, channels = model.loading.size, len(model.loading)
    first = len(information) - size - channels
    moves, slopes = (np.zeros((len(model.angle), len(information))) for _ in range(2))
    moves[:, first : first + size], slopes[:, first : first + size] = _gauge(model)
    scaled = information * np.outer(scale, scale)
    null = moves / scale
    null /= np.linalg.norm(null, axis=1, keepdims=True)
    try:
        root = np.linalg.cholesky(scaled + null.T @ null)
    except np.linalg.LinAlgError:
        return np.full_like(information, np.nan)
    half = np.linalg.solve(root, np.diag(scale))
    # A move along the phase brings any estimate back to the gauge.
    oblique = np.linalg.solve(slopes @ moves.T, slopes)
    projected = half - (half @ oblique.T) @ moves
    return projected.T @ projected
