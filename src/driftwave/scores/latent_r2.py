"""How well a linear map of log rates gives the true latent state of a simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from driftwave.scores.r_squared import mean_r2

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_LOWEST_LOG_RATE = np.log(1e-9)


def read_out_state(
    rates: np.ndarray,
    state: np.ndarray,
    train: np.ndarray,
    valid: np.ndarray,
    test: np.ndarray,
    penalties: Sequence[float] = PENALTIES,
) -> np.ndarray:
    """Ridge from log rates to the state, fitted on train, penalty chosen on valid.

    Parameters
    ----------
    rates : ndarray (trial, time, unit)
        spikes/bin.
    state : ndarray (trial, time, state_dim)
    train, valid, test : ndarray of bool (trial,)
    penalties : sequence of float
        Relative to the mean variance of the log rates times the number of samples.

    Returns
    -------
    ndarray (test trial, time, state_dim)
    """
    log_rates = np.log(np.maximum(rates, np.exp(_LOWEST_LOG_RATE)))
    features = log_rates[train].reshape(-1, rates.shape[-1])
    goal = state[train].reshape(-1, state.shape[-1])
    centre, level = features.mean(0), goal.mean(0)
    gram = (features - centre).T @ (features - centre)
    drive = (features - centre).T @ (goal - level)
    # Rates that do not vary but for rounding predict nothing.
    unit = max(np.trace(gram) / len(gram), 1e-12 * len(features))
    maps = [np.linalg.solve(gram + p * unit * np.eye(len(gram)), drive) for p in penalties]

    def predict(trials: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return (log_rates[trials] - centre) @ weights + level

    # Without a validation trial the least penalty has to do.
    scores = [
        mean_r2(predict(valid, w), state[valid]) if valid.any() else -p
        for w, p in zip(maps, penalties, strict=True)
    ]
    return predict(test, maps[int(np.argmax(scores))])
