"""Evidence of waves pooled over those that follow each other.

The delays of a single cycle cannot be told from a chance superposition of two standing patterns,
but chance turns from cycle to cycle: delays averaged over the cycles nearby keep their size only if
the same wave passes again and again.
"""

from __future__ import annotations

import numpy as np

from driftwave.fronts.shapes import Cones, evidence_of
from driftwave.fronts.slowness import spanned
from driftwave.fronts.triggers import Triggers

ROWS = 256


def pooled_evidence(
    waves: list[Triggers], position: np.ndarray, cones: Cones, pool: float
) -> np.ndarray:
    """Evidence that the waves about each one pass the electrodes in the same order (wave,).

    With a ``pool`` (s), the delays of each wave are scaled to a variance of 1 and averaged over the
    waves within ``pool`` of it; the result is the variance of that average which the best plane or
    cone explains, times the number of waves per electrode: about 1 by chance, about their number
    for waves alike. Without, the log likelihood ratio of each wave by itself (nats).

    Parameters
    ----------
    waves : list of Triggers
    position : ndarray (electrode, 2)
        mm.
    """
    if pool <= 0 or not waves:
        alone = [evidence_of(position[w.electrode], w.time, w.electrode, cones) for w in waves]
        return np.array(alone, dtype=float)
    middle = np.array([wave.time.mean() for wave in waves])
    order = np.argsort(middle, kind="stable")
    shape = (len(waves) + 1, len(position))
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    for row, at in enumerate(order.tolist(), start=1):
        wave = waves[at]
        late = wave.time - wave.time.mean()
        total[row, wave.electrode] = late / max(late.std(), 1e-12)
        count[row, wave.electrode] = 1
    np.cumsum(total, axis=0, out=total)
    np.cumsum(count, axis=0, out=count)
    times = middle[order]
    low = np.searchsorted(times, times - pool)
    high = np.searchsorted(times, times + pool, side="right")
    found = np.zeros(len(waves))
    for row in range(0, len(waves), ROWS):
        part = slice(row, row + ROWS)
        number = (count[high[part]] - count[low[part]]).astype(float)
        mean = (total[high[part]] - total[low[part]]) / np.maximum(number, 1)
        found[order[part]] = _explained(mean.astype(float), number, position, cones)
    return found


def _explained(
    delay: np.ndarray, number: np.ndarray, position: np.ndarray, cones: Cones
) -> np.ndarray:
    """Explained variance of delays (row, electrode) weighted by ``number`` (row, electrode)."""
    weight = number.sum(axis=1, keepdims=True)
    late = delay - (number * delay).sum(axis=1, keepdims=True) / weight
    place = (position - position.mean(axis=0)) @ spanned(position)
    square = np.einsum("rn,ni,nj->rij", number, place, place, optimize=True)
    mean = number @ place / weight
    square -= weight[:, :, None] * mean[:, :, None] * mean[:, None, :]
    square += 1e-9 * np.einsum("rii->r", square)[:, None, None] * np.eye(place.shape[1])
    product = (number * late) @ place
    solved = np.linalg.solve(square, product[..., None])[..., 0]
    power = (number * late**2).sum(axis=1)
    cone = np.abs(cones.explained(late, number, np.arange(len(position)))).max(axis=1)
    plane = (product * solved).sum(axis=1)
    return np.maximum(plane, cone * power) / (number > 0).sum(axis=1)
