"""EM of Gaussian-process factor analysis and its Poisson readouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from driftwave.errors import DriftwaveError
from driftwave.inference.gaussian_process import (
    GpFactors,
    Smoother,
    em_step,
    log_likelihood,
    smoother,
)
from driftwave.inference.readout import (
    PoissonReadout,
    choose_readout,
    fit_readout,
    flat,
    poisson_cost,
)
from driftwave.inference.selection import View
from driftwave.progress import Progress


@dataclass(frozen=True)
class GpRun:
    """Outcome of EM.

    Attributes
    ----------
    model : GpFactors
        With the highest validation likelihood.
    train_loss, valid_loss : list of float
        Minus the log-likelihood at each look, nats per entry.
    """

    model: GpFactors
    train_loss: list[float]
    valid_loss: list[float]


def run_em(
    start: GpFactors,
    train: np.ndarray,
    valid: np.ndarray,
    bar: Progress,
    *,
    iterations: int,
    check_every: int,
    tolerance: float,
) -> GpRun:
    """EM until the likelihood of the validation trials no longer gains ``tolerance`` a look.

    Parameters
    ----------
    start : GpFactors
    train, valid : ndarray (trial, bin, unit)
    bar : Progress
        Advances by the number of looks.
    iterations, check_every : int
        At most so many iterations, a look at the validation trials after every so many.
    tolerance : float
        nats per entry.

    Raises
    ------
    DriftwaveError
        If a likelihood is not finite.
    """
    best, model = start, start
    train_loss: list[float] = []
    valid_loss: list[float] = []
    looks = -(-iterations // check_every)
    for look in range(looks):
        for _ in range(min(check_every, iterations - look * check_every)):
            model, likelihood = em_step(model, train)
        train_loss.append(-likelihood)
        found = smoother(model, valid.shape[1])
        valid_loss.append(-float(log_likelihood(model, valid, found).sum()) / valid.size)
        if not np.isfinite([train_loss[-1], valid_loss[-1]]).all():
            raise DriftwaveError(
                f"EM of Gaussian-process factor analysis diverged at look {look + 1} (training "
                f"loss {train_loss[-1]}, validation loss {valid_loss[-1]}); lower latents in the "
                "model's params."
            )
        bar.step(loss=train_loss[-1], valid=valid_loss[-1])
        if valid_loss[-1] == min(valid_loss):
            best = model
        if look and valid_loss[-2] - valid_loss[-1] < tolerance:
            break
    bar.step(looks - len(valid_loss))
    return GpRun(best, train_loss, valid_loss)


def segments(values: np.ndarray, longest: int) -> np.ndarray:
    """Trials cut into overlapping pieces of equal length, (trial x piece, bin, unit).

    Parameters
    ----------
    values : ndarray (trial, bin, unit)
    longest : int
        Largest number of bins of a piece.
    """
    bins = values.shape[1]
    pieces = -(-bins // longest)
    length = -(-bins // pieces)
    starts = np.round(np.linspace(0, bins - length, pieces)).astype(int)
    return np.concatenate([values[:, s : s + length] for s in starts])


@dataclass(frozen=True)
class GpReadout:
    """Poisson readout of Gaussian latents: rate = E[exp(w x + b)].

    Attributes
    ----------
    readout : PoissonReadout
        From posterior means to counts, as fitted.
    covariance : ndarray (latent, latent)
        Mean posterior covariance behind the means that it was fitted to. The fitted intercept
        contains its part ``w S w' / 2``.
    """

    readout: PoissonReadout
    covariance: np.ndarray

    def log_rate(self, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Log rate (trial, bin, target) in spikes/bin of latents N(mean, covariance).

        Parameters
        ----------
        mean : ndarray (trial, bin, latent)
        covariance : ndarray (bin, latent, latent)
        """
        readout = self.readout
        weights = readout.weights / readout.scale[:, None]
        more = np.einsum("ku,tkl,lu->tu", weights, covariance - self.covariance, weights)
        drive = (mean - readout.centre) @ weights + readout.intercept + more / 2
        return np.clip(drive, readout.lowest, readout.highest)

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """All arrays under prefixed names, for saving."""
        return self.readout.arrays(prefix) | {f"{prefix}_covariance": self.covariance}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> GpReadout:
        """The inverse of :meth:`arrays`."""
        return cls(PoissonReadout.from_arrays(arrays, prefix), arrays[f"{prefix}_covariance"])


def view_latents(model: GpFactors, values: np.ndarray, view: View) -> tuple[np.ndarray, Smoother]:
    """Latents (trial, bin, latent) inferred from the sources of a view.

    Parameters
    ----------
    values : ndarray (trial, seen bin, unit)
        Of the model's units.
    """
    part = model.of(view.sources)
    found = smoother(part, values.shape[1])
    return found.mean(part.reduced(values[..., view.sources])), found


def fit_readouts(
    model: GpFactors,
    views: list[View],
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    penalties: tuple[float, ...],
) -> tuple[list[GpReadout], float]:
    """A readout for the targets of each view, from latents that have not seen them.

    Latents that have seen a unit's counts follow their noise too, and a readout trained on the same
    counts would reproduce it. Given the others, E[y] = E[exp(w x + b)] holds for the latents'
    posterior, whatever that is conditioned on, so that the weights found this way apply to the
    latents inferred from all units.

    Parameters
    ----------
    train, valid : (values (trial, seen bin, model's unit), counts (trial, seen bin, unit))
    penalties : tuple of float
        Candidate ridge penalties; each view takes its best on validation.

    Returns
    -------
    list of GpReadout
    float
        Validation cost of units predicted without themselves, nats per entry.
    """
    readouts, total = [], 0.0
    for view in views:
        latent, found = view_latents(model, train[0], view)
        latent_valid, _ = view_latents(model, valid[0], view)
        goals = flat(train[1][..., view.targets]), flat(valid[1][..., view.targets])
        if len(penalties) == 1:
            readout = fit_readout(flat(latent), goals[0], penalties[0])
        else:
            pairs = (flat(latent), goals[0]), (flat(latent_valid), goals[1])
            readout = choose_readout(*pairs, penalties)[0]
        cost = poisson_cost(readout.log_rate(flat(latent_valid)), goals[1])
        total += view.targets.size * cost
        readouts.append(GpReadout(readout, found.marginal().mean(0)))
    return readouts, total / sum(view.targets.size for view in views)
