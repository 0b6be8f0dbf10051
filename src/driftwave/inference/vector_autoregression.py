"""Vector autoregression from lagged covariances, and prediction by the Gaussian process it is.

    y_t = sum_k A_k y_{t-k} + e_t,    e ~ N(0, S)

The coefficients solve the multivariate Yule-Walker equations (Lütkepohl 2005, New Introduction to
Multiple Time Series Analysis, section 3.3.4), with ridge on the diagonal: that of the same process
seen through white noise of that variance. From covariances that are positive definite they are
always stable. Covariances are Gamma(l) = E[y_t y_{t-l}'].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

BLOCK = 8192
NARROW = 4  # samples to either side that are used where others are missing


@dataclass(frozen=True)
class Autoregression:
    """A fitted autoregression of standardised data.

    Attributes
    ----------
    coefficients : ndarray (electrode, order * electrode)
        A_1, A_2, ... side by side.
    covariances : ndarray (order + 1, electrode, electrode)
        Gamma(0) with the ridge, Gamma(1), ...
    innovation : ndarray (electrode, electrode)
        S, of the training data.
    """

    coefficients: np.ndarray
    covariances: np.ndarray
    innovation: np.ndarray

    @property
    def order(self) -> int:
        """Number of lags."""
        return len(self.covariances) - 1

    def ahead(self, step: int) -> np.ndarray:
        """Coefficients (electrode, order * electrode) of the forecast ``step`` samples ahead."""
        size = len(self.coefficients)
        current = self.coefficients
        for _ in range(step - 1):
            later = current[:, :size] @ self.coefficients
            later[:, :-size] += current[:, size:]
            current = later
        return current

    def extended(self, lags: int) -> np.ndarray:
        """Gamma(0) to Gamma(lags) (lag, electrode, electrode) of the process."""
        size = len(self.coefficients)
        found = list(self.covariances[: lags + 1])
        blocks = self.coefficients.reshape(size, self.order, size).swapaxes(0, 1)
        while len(found) <= lags:
            recent = found[: -self.order - 1 : -1]
            found.append(sum(a @ g for a, g in zip(blocks, recent, strict=True)))
        return np.array(found)


def lagged_covariances(data: np.ndarray, lags: int) -> np.ndarray:
    """Gamma(0) to Gamma(lags) (lag, electrode, electrode) of zero-mean data (time, electrode).

    Samples with a NaN count as absent. Sums are divided by the number of samples present, whatever
    the lag, which keeps the block Toeplitz matrix of the covariances positive definite.
    """
    there = np.isfinite(data).all(1)
    data = np.where(there[:, None], data, np.float32(0))
    # In double precision: electrodes can be so alike that rounding makes the matrix indefinite.
    total = np.zeros((lags + 1, data.shape[1], data.shape[1]))
    for start in range(0, len(data), BLOCK):
        first = max(0, start - lags)
        block = data[first : start + BLOCK].astype(np.float64)
        own = start - first
        for lag in range(lags + 1):
            late = max(own, lag)
            total[lag] += block[late:].T @ block[late - lag : len(block) - lag]
    return total / there.sum()


def toeplitz(covariances: np.ndarray, count: int) -> np.ndarray:
    """Covariance of ``count`` successive samples: block (i, j) is E[y_{t-i} y_{t-j}']."""
    size = covariances.shape[1]
    matrix = np.empty((count, size, count, size))
    for i in range(count):
        for j in range(count):
            matrix[i, :, j] = covariances[j - i] if j >= i else covariances[i - j].T
    return matrix.reshape(count * size, count * size)


def fit_autoregressions(
    covariances: np.ndarray, order: int, ridges: Sequence[float]
) -> Iterator[Autoregression]:
    """An autoregression of one order for each ridge (in units of the data's variance)."""
    size = covariances.shape[1]
    past = toeplitz(covariances, order)
    crossed = np.concatenate(list(covariances[1 : order + 1]), axis=1)
    values, vectors = np.linalg.eigh(past)
    turned = crossed @ vectors
    for ridge in ridges:
        coefficients = (turned / (np.maximum(values, 0) + ridge)) @ vectors.T
        both = coefficients @ crossed.T
        innovation = covariances[0] - both - both.T + coefficients @ past @ coefficients.T
        innovation += 1e-9 * np.eye(size)
        smooth = covariances[: order + 1].copy()
        smooth[0] += ridge * np.eye(size)
        yield Autoregression(coefficients, smooth, (innovation + innovation.T) / 2)


def surprise(model: Autoregression, data: np.ndarray) -> float:
    """Minus the one-step log-likelihood of data (time, electrode), nats per sample and electrode.

    Samples with a NaN at them or in their past are left out.
    """
    error = data - forecast(model, data, [1], missing="keep")[0]
    error = error[model.order :].astype(np.float64)
    error = error[np.isfinite(error).all(1)]
    root = np.linalg.cholesky(model.innovation)
    size = len(root)
    energy = np.mean(np.sum(np.linalg.solve(root, error.T) ** 2, 0))
    logarithm = 2 * np.log(np.diag(root)).sum() + size * np.log(2 * np.pi)
    return float((energy + logarithm) / (2 * size))


def forecast(
    model: Autoregression, data: np.ndarray, steps: Sequence[int], *, missing: str = "replace"
) -> np.ndarray:
    """E[y_{t+h} | past] at target time t+h, (step, time, electrode), float32.

    Before the first sample the process is taken to be at its mean.

    Parameters
    ----------
    model : Autoregression
    data : ndarray (time, electrode)
        Standardised.
    steps : sequence of int
    missing : {"replace", "keep"}
        Missing samples are replaced one after the other by their expectation given the earlier
        ones and the other electrodes, and then treated as recorded; or make NaN of what they enter.
    """
    data = data.astype(np.float32, copy=False)
    if missing == "replace":
        data = replaced(model, data)
    samples, size = data.shape
    found = np.full((len(steps), samples, size), np.nan, dtype=np.float32)
    for place, step in enumerate(steps):
        if step >= samples:
            continue
        ahead = model.ahead(step).astype(np.float32).reshape(size, model.order, size)
        target = np.zeros((samples - step, size), dtype=np.float32)
        for lag in range(min(model.order, samples - step)):
            target[lag:] += data[: samples - step - lag] @ ahead[:, lag].T
        found[place, step:] = target
    return found


def replaced(model: Autoregression, data: np.ndarray) -> np.ndarray:
    """Data whose missing samples are their expectation given what came before them."""
    gaps = np.flatnonzero(~np.isfinite(data).all(1))
    if not len(gaps):
        return data
    data, size = data.copy(), data.shape[1]
    for t in gaps:
        past = np.zeros((model.order, size))
        recent = data[max(0, t - model.order) : t][::-1]
        past[: len(recent)] = recent
        expected = model.coefficients @ past.ravel()
        gone = ~np.isfinite(data[t])
        seen = ~gone
        if seen.any():
            error = np.linalg.solve(
                model.innovation[np.ix_(seen, seen)], (data[t] - expected)[seen]
            )
            expected = expected + model.innovation[:, seen] @ error
        data[t, gone] = expected[gone]
    return data


def interpolate(model: Autoregression, data: np.ndarray, width: int) -> np.ndarray:
    """Missing values by their expectation given a window of samples around them.

    The linear minimum mean-square interpolator under the covariance of the process: an electrode's
    sample at t from all that is recorded from t - width to t + width (at the ends of the data,
    from the first or last 2 width + 1 samples). The window shrinks to a few samples where an
    electrode that is recorded elsewhere is missing within it.

    Parameters
    ----------
    model : Autoregression
    data : ndarray (time, electrode)
        Standardised; NaN where hidden or missing.
    width : int

    Returns
    -------
    ndarray (time, electrode)
        float32; recorded values as they are.
    """
    there = np.isfinite(data)
    filled = np.where(there, data, 0).astype(np.float32)
    seen = there.any(0)
    width = min(width, (len(data) - 1) // 2)
    hidden = ~seen
    broken = ~there[:, seen].all(1)
    near = np.flatnonzero(np.convolve(broken, np.ones(2 * width + 1), "same") > 0)
    if hidden.any() and seen.any():
        filled[:, hidden] = _from_whole(model, filled, seen, width)
    if broken.any() and seen.any():
        for t, value in _from_parts(model, data, near, min(NARROW, width)):
            filled[t] = np.where(there[t], filled[t], value)
    return filled


def _window(model: Autoregression, count: int) -> np.ndarray:
    """Covariance of ``count`` successive samples, the earliest first."""
    return toeplitz(model.extended(count - 1).swapaxes(1, 2), count)


def _from_whole(
    model: Autoregression, data: np.ndarray, seen: np.ndarray, width: int
) -> np.ndarray:
    """Hidden electrodes (time, hidden) from windows in which all the others are recorded."""
    count, size, samples = 2 * width + 1, data.shape[1], len(data)
    covariance = _window(model, count).reshape(count, size, count, size)
    visible = covariance[:, seen][:, :, :, seen].reshape(count * seen.sum(), -1)
    factor = cho_factor(visible, lower=True)

    def weights(at: int) -> np.ndarray:
        goal = covariance[:, seen][:, :, at][..., ~seen].reshape(len(visible), -1)
        return cho_solve(factor, goal).astype(np.float32).reshape(count, seen.sum(), -1)

    values = data[:, seen]
    found = np.zeros((samples, int((~seen).sum())), dtype=np.float32)
    middle = weights(width)
    inside = samples - 2 * width
    for lag in range(count):
        found[width : width + inside] += values[lag : lag + inside] @ middle[lag]
    for at in range(width):
        found[at] = np.tensordot(values[:count], weights(at), 2)
        late = weights(count - 1 - at)
        found[samples - 1 - at] = np.tensordot(values[samples - count :], late, 2)
    return found


def _from_parts(
    model: Autoregression, data: np.ndarray, rows: np.ndarray, width: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Expectation of the samples named, from what is there of a narrow window around each."""
    count, size = 2 * width + 1, data.shape[1]
    padded = np.pad(data, ((width, width), (0, 0)), constant_values=np.nan)
    covariance = _window(model, count)
    now = slice(width * size, (width + 1) * size)
    known: dict[bytes, np.ndarray] = {}
    for t in rows:
        window = padded[t : t + count].ravel()
        there = np.isfinite(window)
        key = np.packbits(there).tobytes()
        if key not in known:
            among = covariance[np.ix_(there, there)]
            known[key] = (
                np.linalg.solve(among, covariance[there][:, now])
                if there.any()
                else (np.zeros((0, size)))
            )
        yield int(t), window[there] @ known[key]
