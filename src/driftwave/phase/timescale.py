"""Windows of time that are seconds for fast rhythms and cycles for slow ones."""

from __future__ import annotations

import math

# Hz. Above it p values were calibrated with windows in seconds; below it these are fewer cycles
# than a window needs, down to none of a retinal wave, which lasts ten seconds.
SLOW = 5.0


def stretch_of(band: tuple[float, float]) -> float:
    """Factor by which windows in seconds are longer for a band (Hz): 1, but below 5 Hz 5 Hz / f.

    f is the band's geometric mean. A window of s seconds thus is the longer one of s seconds and
    5 s cycles.
    """
    return max(1.0, SLOW / math.sqrt(band[0] * band[1]))
