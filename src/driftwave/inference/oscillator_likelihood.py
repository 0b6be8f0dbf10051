"""Exact likelihood of linear stochastic oscillators: E-step and gradient, with missing data.

The gradient is Fisher's identity: the gradient of log p(y) is the posterior mean of the gradient of
log p(x, y), which the moments of the E-step give (Cappe, Moulines & Ryden 2005, Inference in Hidden
Markov Models, proposition 10.1.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.inference.kalman_segments import (
    FilteredSegments,
    Segments,
    filter_segments,
    smooth_segments,
)
from driftwave.inference.kalman_steady import StateSpace
from driftwave.inference.oscillator_model import Oscillators

BLOCK = 8192


@dataclass(frozen=True)
class Moments:
    """Expected sufficient statistics of the fitted stretch, and the likelihood.

    Attributes
    ----------
    squares, lagged : ndarray (state, state)
        Sum of E[x_t x_t'] over all t, and of E[x_t x_{t-1}'] over steps.
    first, last : ndarray (state, state)
        Sum of E[x_t x_t'] over first and last samples of pieces.
    seen_squares : ndarray (state, state) or (channel, state, state)
        Sum of E[x_t x_t'] over the samples that loadings are regressed on: with independent noise
        those in which the channel is seen, with correlated noise those in which any is.
    crossed : ndarray (channel, state)
        Sum of E[y_t x_t'] over the same.
    energy : ndarray (channel,) or (channel, channel)
        Sum of y_t^2, or of E[y_t y_t'], over the same.
    seen_samples : ndarray (channel,) or float
        Number of the same.
    mean_squares : ndarray (state, state)
        Sum of E[x_t] E[x_t]'.
    samples, pieces : int
        Samples, and pieces that start from the stationary law.
    fitted, validation : float
        Log-likelihood (nats) of the fitted stretch, and of the validation stretch given it.
    """

    squares: np.ndarray
    lagged: np.ndarray
    first: np.ndarray
    last: np.ndarray
    seen_squares: np.ndarray
    crossed: np.ndarray
    energy: np.ndarray
    seen_samples: np.ndarray | float
    mean_squares: np.ndarray
    samples: int
    pieces: int
    fitted: float
    validation: float


def _products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sum of one_t other_t' in blocks of ``one``'s precision, added up in float64."""
    total = np.zeros((one.shape[1], other.shape[1]))
    for start in range(0, len(one), BLOCK):
        stop = start + BLOCK
        total += one[start:stop].T @ other[start:stop].astype(one.dtype)
    return total


def _energies(data: np.ndarray, segments: Segments, full: bool) -> np.ndarray:
    """Sums of y_t^2 (pattern, channel) or y_t y_t' (pattern, channel, channel)."""
    channels = data.shape[1]
    total = np.zeros((len(segments.patterns), channels, *([channels] if full else [])))
    for part, pattern in zip(segments.slices(), segments.pattern, strict=True):
        for start in range(part.start, part.stop, BLOCK):
            block = data[start : min(start + BLOCK, part.stop)].astype(np.float64)
            total[pattern] += block.T @ block if full else np.square(block).sum(0)
    return total


def reduce_observations(data: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """b_t = C' R^-1 y_t (time, state) in float64 from data (time, channel) of any precision."""
    weights = weights.astype(data.dtype)
    reduced = np.empty((len(data), weights.shape[1]))
    for start in range(0, len(data), BLOCK):
        reduced[start : start + BLOCK] = data[start : start + BLOCK] @ weights
    return reduced


def reduce_segments(
    data: np.ndarray, model: Oscillators, segments: Segments
) -> tuple[np.ndarray, list[StateSpace]]:
    """Reduced observations (time, state), and one state space per pattern.

    Parameters
    ----------
    data : ndarray (time, channel)
        Zero where missing.
    model : Oscillators
    segments : Segments
    """
    weights = [model.weights(seen) for seen in segments.patterns]
    spaces = [model.state_space(model.loading.T @ w) for w in weights]
    if model.noise.ndim == 1 or len(weights) == 1:
        # Zeros in place of missing values do what zero weights would.
        whole = model.weights() if model.noise.ndim == 1 else weights[0]
        return reduce_observations(data, whole), spaces
    reduced = np.empty((len(data), model.loading.shape[1]))
    for part, pattern in zip(segments.slices(), segments.pattern, strict=True):
        reduced[part] = reduce_observations(data[part], weights[pattern])
    return reduced, spaces


class Observations:
    """Data with the sums that do not change between iterations.

    Parameters
    ----------
    data : ndarray (time, channel)
        Zero-mean, zero where missing; float32 halves memory and time.
    fitted : int
        Leading samples that are fitted; the rest is the validation stretch.
    full : bool
        Whether noise has a full covariance between channels.
    seen : ndarray of bool (time, channel), optional
        Where data are not missing; None for everywhere.
    fresh : tuple of int
        Samples at which the state starts afresh from its stationary law.
    """

    def __init__(
        self,
        data: np.ndarray,
        fitted: int,
        *,
        full: bool = False,
        seen: np.ndarray | None = None,
        fresh: tuple[int, ...] = (0,),
    ) -> None:
        self.data, self.fitted, self.full = data, fitted, full
        self.segments = Segments.of(seen, *data.shape, cuts=(fitted,), fresh=fresh)
        self.train = self.segments.until(fitted)
        everything = _energies(data, self.segments, full)
        self.energy = _energies(data, self.train, full)
        self.later_energy = everything - self.energy
        self.counts = self.train.samples_of()
        self.later_counts = self.segments.samples_of() - self.counts
        sizes = self.segments.patterns.sum(1)
        self.values = float(self.counts @ sizes)
        self.later_values = float(self.later_counts @ sizes)

    @property
    def seen_samples(self) -> np.ndarray:
        """Fitted samples (channel,) in which each channel is seen."""
        return self.counts @ self.segments.patterns

    def _log_likelihood(
        self, energies: np.ndarray, data_energy: np.ndarray, counts: np.ndarray, model: Oscillators
    ) -> float:
        total = float(energies.sum())
        for energy, count, seen in zip(data_energy, counts, self.segments.patterns, strict=True):
            if count and seen.any():
                total += count * seen.sum() * np.log(2 * np.pi)
                total += count * model.noise_log_determinant(seen)
                total += model.noise_energy(energy, seen)
        return -0.5 * total

    def filter(self, model: Oscillators) -> tuple[FilteredSegments, float, float]:
        """Filter the data; also the log-likelihoods of the fitted and validation stretches."""
        reduced, spaces = reduce_segments(self.data, model, self.segments)
        filtered = filter_segments(reduced, spaces, self.segments, tolerance=1e-9, longest=1000)
        early, late = filtered.energy[: self.fitted], filtered.energy[self.fitted :]
        fitted = self._log_likelihood(early, self.energy, self.counts, model)
        validation = self._log_likelihood(late, self.later_energy, self.later_counts, model)
        return filtered, fitted, validation

    def moments(self, model: Oscillators) -> Moments:
        """E-step."""
        filtered, fitted, validation = self.filter(model)
        smoothed = smooth_segments(filtered, self.train)
        mean = smoothed.mean
        states, patterns = mean.shape[1], self.segments.patterns
        squares = np.zeros((len(patterns), states, states))
        crossed = np.zeros((len(patterns), *model.loading.shape))
        for part, pattern in zip(self.train.slices(), self.train.pattern, strict=True):
            squares[pattern] += mean[part].T @ mean[part]
            crossed[pattern] += _products(self.data[part], mean[part])
        mean_squares = squares.sum(0)
        squares += smoothed.covariance_sum
        sums = self._full_sums if self.full else self._channel_sums
        seen_squares, all_crossed, energy, seen_samples = sums(model, squares, crossed)
        begins, ends = mean[smoothed.begins], mean[smoothed.ends]
        # Products across the border of two pieces are no steps of the process.
        border = mean[smoothed.begins[1:]].T @ mean[smoothed.begins[1:] - 1]
        return Moments(
            squares=squares.sum(0),
            lagged=mean[1:].T @ mean[:-1] - border + smoothed.lagged_sum,
            first=begins.T @ begins + smoothed.first,
            last=ends.T @ ends + smoothed.last,
            seen_squares=seen_squares,
            crossed=all_crossed,
            energy=energy,
            seen_samples=seen_samples,
            mean_squares=mean_squares,
            samples=self.fitted,
            pieces=len(smoothed.begins),
            fitted=fitted,
            validation=validation,
        )

    def _channel_sums(
        self, model: Oscillators, squares: np.ndarray, crossed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        del model
        seen = self.segments.patterns.astype(float)
        by_channel = np.tensordot(seen.T, squares, axes=1)
        return by_channel, crossed.sum(0), self.energy.sum(0), self.seen_samples

    def _full_sums(
        self, model: Oscillators, squares: np.ndarray, crossed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Sums with missing channels in place, by their mean and covariance given the others."""
        total, samples = np.zeros_like(squares[0]), 0.0
        all_crossed, energy = np.zeros_like(crossed[0]), np.zeros_like(self.energy[0])
        for i, seen in enumerate(self.segments.patterns):
            if not self.counts[i] or not seen.any():
                continue
            samples += float(self.counts[i])
            total += squares[i]
            one = crossed[i], self.energy[i]
            if not seen.all():
                one = _completed(model, seen, squares[i], *one, float(self.counts[i]))
            all_crossed += one[0]
            energy += one[1]
        return total, all_crossed, energy, samples


def _completed(
    model: Oscillators,
    seen: np.ndarray,
    squares: np.ndarray,
    crossed: np.ndarray,
    energy: np.ndarray,
    samples: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Expected sums of y x' and y y' of all channels from those of the channels seen.

    Noise of a missing channel, given the noise e_o of those seen, has mean R_mo R_oo^-1 e_o.
    """
    loading, noise = model.loading, model.noise
    missing, part = ~seen, loading[seen]
    regression = np.linalg.solve(noise[np.ix_(seen, seen)], noise[np.ix_(seen, missing)]).T
    left = noise[np.ix_(missing, missing)] - regression @ noise[np.ix_(seen, missing)]
    noise_crossed = crossed[seen] - part @ squares
    noise_energy = energy[np.ix_(seen, seen)] - part @ crossed[seen].T
    noise_energy -= noise_crossed @ part.T
    spread = np.zeros((len(seen), int(seen.sum())))
    spread[seen], spread[missing] = np.eye(spread.shape[1]), regression
    all_crossed = spread @ noise_crossed
    all_energy = spread @ noise_energy @ spread.T
    all_energy[np.ix_(missing, missing)] += samples * left
    mixed = loading @ all_crossed.T
    all_energy += mixed + mixed.T + loading @ squares @ loading.T
    return all_crossed + loading @ squares, all_energy


def gradient(model: Oscillators, moments: Moments) -> Oscillators:
    """Gradient of the log-likelihood of the fitted stretch at the model the moments were made with.

    Returns
    -------
    Oscillators
        Derivatives in the place of the parameters; ``noise`` is the matrix G with
        d log p = trace(G dR), or its diagonal.
    """
    slope, noise = _observation_gradient(model, moments)
    later, earlier = moments.squares - moments.first, moments.squares - moments.last
    steps = moments.samples - moments.pieces
    angle, damping = np.empty(len(model.angle)), np.empty(len(model.angle))
    slow = np.empty(len(model.slow_damping))

    def by_damping(part: slice, a: float, product: float) -> float:
        after, before = np.trace(later[part, part]), np.trace(earlier[part, part])
        left, misfit = 1 - a * a, after - 2 * a * product + a * a * before
        width = part.stop - part.start
        return (steps * width * a + product - a * before) / left - a * misfit / left**2

    for k, (a, w) in enumerate(zip(model.damping, model.angle, strict=True)):
        pair = slice(2 * k, 2 * k + 2)
        lagged = moments.lagged[pair, pair]
        cosine, sine = np.trace(lagged), lagged[1, 0] - lagged[0, 1]
        damping[k] = by_damping(pair, a, cosine * np.cos(w) + sine * np.sin(w))
        angle[k] = a / (1 - a * a) * (sine * np.cos(w) - cosine * np.sin(w))
    for j, b in enumerate(model.slow_damping):
        state = slice(2 * len(angle) + j, 2 * len(angle) + j + 1)
        slow[j] = by_damping(state, b, moments.lagged[state, state].item())
    return Oscillators(angle, damping, slow, slope, noise)


def _observation_gradient(model: Oscillators, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    loading, noise = model.loading, model.noise
    if noise.ndim == 1:
        explained = np.einsum("nsr,nr->ns", moments.seen_squares, loading)
        slope = (moments.crossed - explained) / noise[:, None]
        left = moments.energy + np.einsum("ns,ns->n", loading, explained - 2 * moments.crossed)
        return slope, 0.5 * (left / noise - moments.seen_samples) / noise
    inverse = np.linalg.inv(noise)
    rest = moments.crossed - loading @ moments.seen_squares
    left = moments.energy - loading @ moments.crossed.T - rest @ loading.T
    curved = inverse @ ((left + left.T) / 2) @ inverse
    return inverse @ rest, 0.5 * (curved - moments.seen_samples * inverse)
