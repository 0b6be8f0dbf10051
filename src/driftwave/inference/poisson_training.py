"""EM of a Poisson linear dynamical system, judged on units left out of inference and resumable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driftwave.inference.data import SpikeArrays
from driftwave.inference.em_run import EmRun
from driftwave.inference.poisson_em import PoissonLds, em_iterations, woken
from driftwave.inference.readout import poisson_cost
from driftwave.inference.selection import View
from driftwave.progress import Progress


@dataclass(frozen=True)
class EmSchedule:
    """How long EM runs.

    Attributes
    ----------
    iterations, check_every : int
        At most so many iterations, with a look at the validation trials after every so many.
    tolerance : float
        EM stops after two looks in a row that gain less than this, nats per spike.
    penalty : float
        Prior precision of a loading.
    """

    iterations: int
    check_every: int
    tolerance: float
    penalty: float

    @property
    def looks(self) -> int:
        """Looks at the validation trials, at most."""
        return -(-self.iterations // self.check_every)


class LdsRun(EmRun[PoissonLds]):
    """One EM run."""

    MODEL = PoissonLds
    WHAT = "Poisson linear dynamical system"
    FIX = "raise penalty or lower latents"

    def settled(self, least_gain: float) -> bool:
        """Whether neither of the last two looks gained so much on the best before it."""
        loss = np.array(self.valid_loss)
        if loss.size < 3:
            return False
        best_before = np.minimum.accumulate(loss)[-3:-1]
        return bool((best_before - loss[-2:] < least_gain).all())


def run_em(
    start: PoissonLds,
    arrays: SpikeArrays,
    trials: np.ndarray,
    views: list[View],
    schedule: EmSchedule,
    bar: Progress,
    *,
    checkpoint: Path | None,
    key: str,
) -> LdsRun:
    """EM from ``start`` until validation no longer gains.

    Parameters
    ----------
    start : PoissonLds
    arrays : SpikeArrays
    trials : ndarray of int (training trial,)
    views : list of View
        What validation predicts from what.
    schedule : EmSchedule
    bar : Progress
        Advances by ``schedule.looks``.
    checkpoint : Path or None
        File. A run with the same key goes on from there and ends with the same numbers.
    key : str
    """
    counts = arrays.counts[trials]
    run = LdsRun.resume(checkpoint, key) if checkpoint else None
    if run is None:
        run = LdsRun(woken(start, counts), start, [], [])
    least_gain = schedule.tolerance * max(float(arrays.counts[arrays.valid].mean()), 1e-6)
    if run.valid_loss:
        bar.step(len(run.valid_loss))
    while len(run.valid_loss) < schedule.looks and not run.settled(least_gain):
        left = schedule.iterations - len(run.valid_loss) * schedule.check_every
        model, evidence = em_iterations(
            counts, run.model, min(left, schedule.check_every), penalty=schedule.penalty
        )
        run.judge(model, -evidence, valid_cost(model, arrays, views))
        if checkpoint:
            run.save(checkpoint, key)
        bar.step(loss=-evidence, valid=run.valid_loss[-1])
    bar.step(schedule.looks - len(run.valid_loss))
    return run


def valid_cost(model: PoissonLds, arrays: SpikeArrays, views: list[View]) -> float:
    """Validation cost of units predicted without themselves, all bins, nats per entry.

    Forward bins are predicted from the seen ones.
    """
    seen, bins = arrays.visible[arrays.valid], arrays.counts.shape[1]
    units = np.flatnonzero(arrays.held_in)
    total = 0.0
    for view in views:
        shown = seen[..., view.sources]
        posterior = model.infer(shown, units[view.sources], bins=bins, tolerance=1e-3)
        loadings = model.loadings.of(view.targets)
        log_rate = loadings.log_rate(posterior.mean, posterior.covariance)
        counts = arrays.counts[arrays.valid][..., view.targets]
        # A forecast beyond any rate must count as bad, not as infinite.
        total += view.targets.size * poisson_cost(np.minimum(log_rate, 20.0), counts)
    return total / sum(view.targets.size for view in views)


def fit_key(arrays: SpikeArrays, *settings: object) -> str:
    """Digest of the settings and of all trials that a fit may use."""
    digest = hashlib.sha256(f"{settings} {arrays.seen_bins}".encode())
    for part in (arrays.held_in, arrays.counts[arrays.train], arrays.counts[arrays.valid]):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
