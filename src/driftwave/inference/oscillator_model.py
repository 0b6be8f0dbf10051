"""Parameters of linear stochastic oscillators with loadings on many channels.

The model (Matsuda & Komaki 2017, Neural Computation 29:332, equations 9-12, with one loading per
channel and oscillator) is

    x_k,t = a_k R(w_k) x_k,t-1 + sqrt(1 - a_k^2) noise,    x_k two-dimensional, variance 1
    s_j,t = b_j s_j,t-1 + sqrt(1 - b_j^2) noise,           variance 1
    y_t   = sum_k Re(c_k z_k,t) + B s_t + e_t,             z = x_1 + i x_2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from driftwave.errors import InputError
from driftwave.inference.kalman_steady import StateSpace


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

    def state_space(self, information: np.ndarray) -> StateSpace:
        """Transition and noise of the model, with what a sample tells about the state."""
        oscillators, states = len(self.angle), self.loading.shape[1]
        transition = np.zeros((states, states))
        for k, (a, w) in enumerate(zip(self.damping, self.angle, strict=True)):
            pair = slice(2 * k, 2 * k + 2)
            cosine, sine = a * np.cos(w), a * np.sin(w)
            transition[pair, pair] = [[cosine, -sine], [sine, cosine]]
        slow = np.arange(2 * oscillators, states)
        transition[slow, slow] = self.slow_damping
        squares = np.concatenate([np.repeat(self.damping, 2), self.slow_damping]) ** 2
        return StateSpace(transition, np.diag(1 - squares), np.eye(states), information)

    def noise_of(self, seen: np.ndarray) -> np.ndarray:
        """Noise covariance (seen, seen) of the channels seen."""
        if self.noise.ndim == 1:
            return np.diag(self.noise[seen])
        return self.noise[np.ix_(seen, seen)]

    def weights(self, seen: np.ndarray | None = None) -> np.ndarray:
        """R_oo^-1 C_o (channel, state): reduces observations; zero for channels not seen."""
        if self.noise.ndim == 1:
            weights = self.loading / self.noise[:, None]
            return weights if seen is None else weights * seen[:, None]
        if seen is None or seen.all():
            return np.linalg.solve(self.noise, self.loading)
        weights = np.zeros_like(self.loading)
        weights[seen] = np.linalg.solve(self.noise_of(seen), self.loading[seen])
        return weights

    def noise_log_determinant(self, seen: np.ndarray) -> float:
        """log det R_oo of the channels seen."""
        if self.noise.ndim == 1:
            return float(np.log(self.noise[seen]).sum())
        return float(np.linalg.slogdet(self.noise_of(seen))[1])

    def noise_energy(self, energy: np.ndarray, seen: np.ndarray) -> float:
        """Sum of y_o' R_oo^-1 y_o from the data's energy (shaped as ``noise``)."""
        if self.noise.ndim == 1:
            return float((energy[seen] / self.noise[seen]).sum())
        part = energy[np.ix_(seen, seen)]
        return float(np.trace(np.linalg.solve(self.noise_of(seen), part)))

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


def refuse_unstable(model: Oscillators, file: Path) -> None:
    """Raise InputError where stored parameters are no stationary process."""
    variance = model.noise if model.noise.ndim == 1 else np.linalg.eigvalsh(model.noise)
    dampings = np.concatenate([model.damping, model.slow_damping])
    checks = (
        ("damping", dampings, (dampings >= 0) & (dampings < 1), "from 0 to below 1"),
        ("angle", model.angle, (model.angle > 0) & (model.angle < np.pi), "between 0 and pi"),
        ("noise", variance, variance > 0, "positive (all eigenvalues)"),
        ("loading", model.loading, np.isfinite(model.loading), "finite"),
    )
    for name, values, allowed, expected in checks:
        if not allowed.all():
            raise InputError(
                file=file,
                field=f"model_{name}",
                found=f"{values[~allowed][0]:.6g}",
                expected=expected,
                fix="Fit the model again",
            )
