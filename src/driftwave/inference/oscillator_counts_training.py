"""EM of oscillators seen through spikes, judged on units left out of inference, and resumable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from driftwave.inference.data import SpikeArrays
from driftwave.inference.em_run import EmRun
from driftwave.inference.oscillator_counts_em import Observed, em_iterations
from driftwave.inference.oscillator_counts_model import CountsModel
from driftwave.inference.oscillator_model import Bounds
from driftwave.inference.readout import poisson_cost
from driftwave.inference.selection import View
from driftwave.progress import Progress

CHECK_EVERY = 5
# A look counts as better if it gains this much, nats per spike.
LEAST_GAIN = 1e-4
PENALTY = 1.0


@dataclass(frozen=True)
class Judged:
    """What a fit is judged on.

    Attributes
    ----------
    arrays : SpikeArrays
    field : ndarray (trial, seen bin, electrode) or None
        Visible standardised field of all trials.
    views : list of View
        What validation predicts from what.
    """

    arrays: SpikeArrays
    field: np.ndarray | None
    views: list[View]

    def cost(self, model: CountsModel) -> float:
        """Cost of units predicted from other units and the visible field, nats per entry.

        All bins of the validation trials; forward bins are predicted from the seen ones.
        """
        valid, bins = self.arrays.valid, self.arrays.counts.shape[1]
        seen = self.arrays.visible[valid]
        field = None if self.field is None else self.field[valid]
        units = np.flatnonzero(self.arrays.held_in)
        total = 0.0
        for view in self.views:
            posterior = model.infer(
                seen[..., view.sources],
                units[view.sources],
                field=field,
                bins=bins,
                tolerance=1e-3,
            )
            loadings = model.loadings.of(view.targets)
            log_rate = loadings.log_rate(posterior.mean, posterior.covariance)
            counts = self.arrays.counts[valid][..., view.targets]
            # A forecast beyond any rate must count as bad, not as infinite.
            total += view.targets.size * poisson_cost(np.minimum(log_rate, 20.0), counts)
        return total / sum(view.targets.size for view in self.views)

    @property
    def least_gain(self) -> float:
        """Gain per entry that counts as one."""
        return LEAST_GAIN * max(float(self.arrays.counts[self.arrays.valid].mean()), 1e-6)


@dataclass(frozen=True)
class Schedule:
    """How long EM runs.

    Attributes
    ----------
    iterations : int
        At most so many, with a look at the validation trials after every fifth.
    patience : int
        EM stops after so many iterations without a lower validation cost.
    """

    iterations: int
    patience: int

    @property
    def looks(self) -> int:
        """Looks at the validation trials, at most."""
        return -(-self.iterations // CHECK_EVERY)


class Run(EmRun[CountsModel]):
    """One EM run."""

    MODEL = CountsModel
    WHAT = "oscillators"
    FIX = "lower oscillators or slow_factors"

    def settled(self, patience: int, least_gain: float) -> bool:
        """Whether the last ``patience`` iterations gained nothing to speak of."""
        looks = max(1, -(-patience // CHECK_EVERY))
        loss = np.array(self.valid_loss)
        if loss.size <= looks:
            return False
        return bool(loss[-looks:].min() > loss[:-looks].min() - least_gain)


def run_em(
    start: CountsModel,
    observed: Observed,
    judged: Judged,
    bounds: Bounds,
    schedule: Schedule,
    bar: Progress,
    *,
    checkpoint: Path | None,
    key: str,
) -> Run:
    """EM from ``start`` until validation no longer gains; ``bar`` advances by ``schedule.looks``.

    A run with a checkpoint of the same key goes on from there and ends with the same numbers.
    """
    run = Run.resume(checkpoint, key) if checkpoint else None
    if run is None:
        run = Run(start, start, [], [])
    if run.valid_loss:
        bar.step(len(run.valid_loss))
    while len(run.valid_loss) < schedule.looks and not run.settled(
        schedule.patience, judged.least_gain
    ):
        left = schedule.iterations - len(run.valid_loss) * CHECK_EVERY
        model, evidence = em_iterations(
            observed, run.model, min(left, CHECK_EVERY), bounds, penalty=PENALTY
        )
        run.judge(model, -evidence, judged.cost(model))
        if checkpoint:
            run.save(checkpoint, key)
        bar.step(loss=-evidence, valid=run.valid_loss[-1])
    bar.step(schedule.looks - len(run.valid_loss))
    return run
