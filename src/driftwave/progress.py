"""One progress bar for every long loop: step, loss and time left, in a terminal or a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from driftwave.joblog import log_line


class Progress:
    """A bar in a terminal; elsewhere (a cluster log) a line each tenth of the way.

    Parameters
    ----------
    total : int
        Number of steps.
    label : str or None
        What is being done; None shows nothing.
    """

    def __init__(self, total: int, label: str | None) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self.began = time.perf_counter()
        self.bar = None
        if label and sys.stderr.isatty():
            self.bar = tqdm(total=total, desc=label, unit="step", dynamic_ncols=True, leave=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, count: int = 1, **figures: float) -> None:
        """Advance by ``count`` steps and show the figures (loss, validation loss ...)."""
        before, self.done = self.done, self.done + count
        if self.bar is not None:
            self.bar.set_postfix({k: f"{v:.4g}" for k, v in figures.items()}, refresh=False)
            self.bar.update(count)
        if self.label and (self.done * 10 // self.total > before * 10 // self.total):
            spent = time.perf_counter() - self.began
            left = spent * (self.total - self.done) / self.done
            shown = " ".join(f"{k} {v:.4g}" for k, v in figures.items())
            line = (
                f"{self.label}: {self.done}/{self.total} {shown} [{spent:.0f} s, {left:.0f} s left]"
            )
            if self.bar is None:
                print(line, file=sys.stderr, flush=True)
            else:
                log_line(line)
