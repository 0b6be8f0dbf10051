"""Parameter-expanded EM for linear stochastic oscillators with loadings on many channels.

The model (Matsuda & Komaki 2017, Neural Computation 29:332, equations 9-12, with one loading per
channel and oscillator) is

    x_k,t = a_k R(w_k) x_k,t-1 + sqrt(1 - a_k^2) noise,    x_k two-dimensional, variance 1
    s_j,t = b_j s_j,t-1 + sqrt(1 - b_j^2) noise,           variance 1
    y_t   = sum_k Re(c_k z_k,t) + B s_t + e_t,             z = x_1 + i x_2, e diagonal.

The M-step leaves each factor's stationary variance free and afterwards moves its square root into
the loadings (parameter expansion; Liu, Rubin & Wu 1998, Biometrika 85:755), without which EM stalls
long before the damping is right. With the exact E-step the likelihood never falls.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from driftwave.inference.kalman import (
    Filtered,
    Gains,
    StateSpace,
    filter_gains,
    run_filter,
    run_smoother,
)

BLOCK = 8192
NOISE_FLOOR = 1e-6
LARGEST_DAMPING = 1 - 1e-6


@dataclass(frozen=True)
class Oscillators:
    """Parameters of the model.

    Attributes
    ----------
    angle : ndarray (oscillator,)
        w, radian per sample.
    damping : ndarray (oscillator,)
        a, the factor by which an oscillation shrinks in one sample.
    slow_damping : ndarray (slow,)
        b.
    loading : ndarray (channel, state)
        Columns Re c_1, -Im c_1, Re c_2, ..., then B.
    noise : ndarray (channel,) or (channel, channel)
        Variance of e, independent between channels, or its full covariance.
    """

    angle: np.ndarray
    damping: np.ndarray
    slow_damping: np.ndarray
    loading: np.ndarray
    noise: np.ndarray

    @property
    def complex_loading(self) -> np.ndarray:
        """c, complex (oscillator, channel)."""
        pairs = self.loading[:, : 2 * len(self.angle)]
        return (pairs[:, 0::2] - 1j * pairs[:, 1::2]).T

    @property
    def slow_loading(self) -> np.ndarray:
        """B' (slow, channel)."""
        return self.loading[:, 2 * len(self.angle) :].T

    @property
    def count(self) -> int:
        """Number of free parameters."""
        dynamics = 2 * len(self.angle) + len(self.slow_damping)
        gauge, channels = len(self.angle), len(self.loading)
        noise = channels if self.noise.ndim == 1 else channels * (channels + 1) // 2
        return dynamics + self.loading.size + noise - gauge

    def state_space(self) -> StateSpace:
        """Transition, noise and information of the model."""
        oscillators, states = len(self.angle), self.loading.shape[1]
        transition = np.zeros((states, states))
        for k, (a, w) in enumerate(zip(self.damping, self.angle, strict=True)):
            pair = slice(2 * k, 2 * k + 2)
            cosine, sine = a * np.cos(w), a * np.sin(w)
            transition[pair, pair] = [[cosine, -sine], [sine, cosine]]
        slow = np.arange(2 * oscillators, states)
        transition[slow, slow] = self.slow_damping
        squares = np.concatenate([np.repeat(self.damping, 2), self.slow_damping]) ** 2
        information = self.loading.T @ self.weights()
        return StateSpace(transition, np.diag(1 - squares), np.eye(states), information)

    def weights(self) -> np.ndarray:
        """R^-1 C (channel, state): reduces observations."""
        if self.noise.ndim == 1:
            return self.loading / self.noise[:, None]
        return np.linalg.solve(self.noise, self.loading)

    def noise_log_determinant(self) -> float:
        """log det R."""
        if self.noise.ndim == 1:
            return float(np.log(self.noise).sum())
        return float(np.linalg.slogdet(self.noise)[1])

    def noise_energy(self, energy: np.ndarray) -> float:
        """Sum of y_t' R^-1 y_t from the data's energy (shaped as ``noise``)."""
        if self.noise.ndim == 1:
            return float((energy / self.noise).sum())
        return float(np.trace(np.linalg.solve(self.noise, energy)))

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by name, to be saved."""
        return asdict(self)


@dataclass(frozen=True)
class Bounds:
    """What the M-step may choose.

    Attributes
    ----------
    angle : tuple of float
        Lowest and highest w, radian per sample.
    least_damping : float
        Smallest a: an oscillation broader than this belongs to the background.
    """

    angle: tuple[float, float]
    least_damping: float


@dataclass(frozen=True)
class Moments:
    """Expected sufficient statistics of the fitted stretch, and the likelihood.

    Attributes
    ----------
    squares, lagged : ndarray (state, state)
        Sum of E[x_t x_t'] over all t, and of E[x_t x_{t-1}'] over t >= 2.
    first, last : ndarray (state, state)
        E[x_t x_t'] of the first and last sample.
    crossed : ndarray (channel, state)
        Sum of y_t E[x_t]'.
    mean_squares : ndarray (state, state)
        Sum of E[x_t] E[x_t]'.
    energy : ndarray (channel,) or (channel, channel)
        Sum of y_t^2, or of y_t y_t'.
    samples : int
    fitted, validation : float
        Log-likelihood (nats) of the fitted stretch, and of the validation stretch given it.
    """

    squares: np.ndarray
    lagged: np.ndarray
    first: np.ndarray
    last: np.ndarray
    crossed: np.ndarray
    mean_squares: np.ndarray
    energy: np.ndarray
    samples: int
    fitted: float
    validation: float


def reduce_observations(data: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """b_t = C' R^-1 y_t (time, state) in float64 from data (time, channel) of any precision."""
    weights = weights.astype(data.dtype)
    reduced = np.empty((len(data), weights.shape[1]))
    for start in range(0, len(data), BLOCK):
        reduced[start : start + BLOCK] = data[start : start + BLOCK] @ weights
    return reduced


def _crossed(data: np.ndarray, mean: np.ndarray) -> np.ndarray:
    total = np.zeros((data.shape[1], mean.shape[1]))
    for start in range(0, len(mean), BLOCK):
        stop = min(start + BLOCK, len(mean))
        total += data[start:stop].T @ mean[start:stop].astype(data.dtype)
    return total


def _energies(data: np.ndarray, full: bool) -> np.ndarray:
    channels = data.shape[1]
    total = np.zeros((channels, channels) if full else channels)
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK].astype(np.float64)
        total += block.T @ block if full else np.square(block).sum(0)
    return total


class Observations:
    """Data with the sums that do not change between iterations.

    Parameters
    ----------
    data : ndarray (time, channel)
        Zero-mean; float32 halves memory and time.
    fitted : int
        Leading samples that are fitted; the rest is the validation stretch.
    full : bool
        Whether noise has a full covariance between channels.
    """

    def __init__(self, data: np.ndarray, fitted: int, *, full: bool = False) -> None:
        self.data = data
        self.fitted = fitted
        self.energy = _energies(data[:fitted], full)
        self.validation_energy = _energies(data[fitted:], full)

    def _log_likelihood(
        self, energies: np.ndarray, data_energy: np.ndarray, model: Oscillators
    ) -> float:
        channels = self.data.shape[1] * np.log(2 * np.pi) + model.noise_log_determinant()
        total = len(energies) * channels + model.noise_energy(data_energy) + energies.sum()
        return float(-0.5 * total)

    def filter(self, model: Oscillators) -> tuple[StateSpace, Gains, Filtered, float, float]:
        """Filter the data; also the log-likelihoods of the fitted and validation stretches."""
        space = model.state_space()
        gains = filter_gains(space, len(self.data), tolerance=1e-9, longest=1000)
        filtered = run_filter(reduce_observations(self.data, model.weights()), space, gains)
        early, late = filtered.energy[: self.fitted], filtered.energy[self.fitted :]
        fitted = self._log_likelihood(early, self.energy, model)
        validation = self._log_likelihood(late, self.validation_energy, model)
        return space, gains, filtered, fitted, validation

    def moments(self, model: Oscillators) -> Moments:
        """E-step."""
        space, gains, filtered, fitted, validation = self.filter(model)
        smoothed = run_smoother(filtered.mean[: self.fitted], space, gains)
        mean = smoothed.mean
        mean_squares = mean.T @ mean
        return Moments(
            squares=mean_squares + smoothed.covariance_sum,
            lagged=mean[1:].T @ mean[:-1] + smoothed.lagged_sum,
            first=np.outer(mean[0], mean[0]) + smoothed.first,
            last=np.outer(mean[-1], mean[-1]) + smoothed.last,
            crossed=_crossed(self.data, mean),
            mean_squares=mean_squares,
            energy=self.energy,
            samples=self.fitted,
            fitted=fitted,
            validation=validation,
        )


def _best_damping(
    sums: tuple[float, float, float, float],
    samples: int,
    width: int,
    bounds: tuple[float, float],
    current: float,
) -> tuple[float, float]:
    """Damping and stationary variance that maximise the expected log-likelihood of one factor.

    With x_1 ~ N(0, v I) and x_t ~ N(a R x_{t-1}, v (1 - a^2) I) in ``width`` dimensions, the
    variance has a closed form for each a, which leaves one bounded search.

    Parameters
    ----------
    sums : tuple of float
        Expected |x_1|^2; sums of |x_t|^2 over t >= 2 and over t < T; sum of x_t' R x_{t-1}.
    samples, width : int
    bounds : tuple of float
        Smallest and largest damping.
    current : float
        The damping so far, kept where the search finds nothing better.
    """
    first, later, earlier, product = sums

    def variance(a: float) -> float:
        innovation = (later - 2 * a * product + a * a * earlier) / (1 - a * a)
        return (first + innovation) / (width * samples)

    def cost(a: float) -> float:
        return samples * np.log(variance(a)) + (samples - 1) * np.log1p(-a * a)

    def damping(logit: float) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) / (1 + np.exp(-logit))

    found = minimize_scalar(
        lambda logit: cost(damping(logit)),
        bounds=(-20, 20),
        method="bounded",
        options={"xatol": 1e-9},
    )
    best = float(damping(found.x))
    if bounds[0] <= current <= bounds[1] and cost(current) < found.fun:
        best = current
    return best, variance(best)


def _best_angle(cosine: float, sine: float, bounds: tuple[float, float]) -> float:
    """Angle within bounds that maximises cosine * cos(w) + sine * sin(w)."""
    free = float(np.arctan2(sine, cosine))
    if bounds[0] <= free <= bounds[1]:
        return free
    return max(bounds, key=lambda w: cosine * np.cos(w) + sine * np.sin(w))


def _best_noise(loading: np.ndarray, moments: Moments) -> np.ndarray:
    if moments.energy.ndim == 1:
        left = moments.energy - np.einsum("ns,ns->n", loading, moments.crossed)
        return np.maximum(left, NOISE_FLOOR * moments.energy) / moments.samples
    left = moments.energy - loading @ moments.crossed.T
    floor = NOISE_FLOOR * np.diag(np.diag(moments.energy))
    return ((left + left.T) / 2 + floor) / moments.samples


def maximise(model: Oscillators, moments: Moments, bounds: Bounds) -> Oscillators:
    """M-step: regression for loadings and noise, one bounded search per factor for its dynamics."""
    loading = np.linalg.solve(moments.squares, moments.crossed.T).T
    noise = _best_noise(loading, moments)
    later, earlier = moments.squares - moments.first, moments.squares - moments.last
    angle, damping = model.angle.copy(), model.damping.copy()
    slow_damping, scale = model.slow_damping.copy(), np.empty(loading.shape[1])

    def dynamics(part: slice, product: float, least: float, current: float) -> tuple[float, float]:
        first, after, before = (np.trace(m[part, part]) for m in (moments.first, later, earlier))
        width, bounds = part.stop - part.start, (least, LARGEST_DAMPING)
        sums = (float(first), float(after), float(before), product)
        return _best_damping(sums, moments.samples, width, bounds, current)

    for k in range(len(angle)):
        pair = slice(2 * k, 2 * k + 2)
        lagged = moments.lagged[pair, pair]
        cosine, sine = float(np.trace(lagged)), float(lagged[1, 0] - lagged[0, 1])
        angle[k] = _best_angle(cosine, sine, bounds.angle)
        product = float(cosine * np.cos(angle[k]) + sine * np.sin(angle[k]))
        damping[k], scale[pair] = dynamics(pair, product, bounds.least_damping, damping[k])
    for j in range(len(slow_damping)):
        state = slice(2 * len(angle) + j, 2 * len(angle) + j + 1)
        product = float(moments.lagged[state, state].item())
        slow_damping[j], scale[state] = dynamics(state, product, 0.0, slow_damping[j])
    return Oscillators(angle, damping, slow_damping, loading * np.sqrt(scale), noise)


def fix_gauge(model: Oscillators) -> Oscillators:
    """Order oscillators by frequency and slow factors by time constant; fix phases and signs.

    The phase of an oscillator is free. It is set so that the sum of its loadings, weighted by their
    amplitudes, is real and positive; where that sum nearly vanishes (a rotating wave, a wave of
    many periods) the strongest channel's loading is made real and positive instead.
    """
    order = np.argsort(model.angle, kind="stable")
    loadings = []
    for c in model.complex_loading[order]:
        reference = np.sum(np.abs(c) * c)
        if abs(reference) < 0.1 * np.sum(np.abs(c) ** 2):
            reference = c[np.argmax(np.abs(c))]
        turned = c * np.exp(-1j * np.angle(reference))
        loadings += [turned.real, -turned.imag]
    slow = np.argsort(-model.slow_damping, kind="stable")
    for b in model.slow_loading[slow]:
        loadings.append(b if b.sum() >= 0 else -b)
    return replace(
        model,
        angle=model.angle[order],
        damping=model.damping[order],
        slow_damping=model.slow_damping[slow],
        loading=np.stack(loadings, axis=1) if loadings else model.loading,
    )
