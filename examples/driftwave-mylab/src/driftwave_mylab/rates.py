"""What the lab's plug-ins share."""

from __future__ import annotations

import numpy as np


def mean_course(counts: np.ndarray, bin_width: float, lowest: float) -> np.ndarray:
    """Mean rate (time, unit) over trials, Hz, from counts (trial, time, unit).

    Rates below ``lowest`` (Hz) become that.
    """
    return np.maximum(counts.mean(axis=0) / bin_width, lowest)
