"""Is a decoded angle one that was measured? Correlation and error, against shifts in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.readouts.features import seen_bins
from driftwave.readouts.null import p_value

# Shifts shorter than this share of the recording leave much of a slow angle where it was.
MARGIN = 0.1
FEWEST_BINS = 20


@dataclass(frozen=True)
class AngleMatch:
    """How well a decoded angle follows a measured one.

    Attributes
    ----------
    correlation : float
        Fisher and Lee's, absolute.
    p_correlation : float
    error : float
        Median absolute error in the bins not used to choose rotation and direction, degrees.
    p_error : float
    rotation : float
        Radians to be added once the direction is right.
    direction : float
        1, or -1 if the decoded angle runs the other way round.
    """

    correlation: float
    p_correlation: float
    error: float
    p_error: float
    rotation: float
    direction: float


UNMATCHED = AngleMatch(*[np.nan] * 6)


def circular_features(recording: xr.DataTree, used: np.ndarray) -> dict[str, np.ndarray]:
    """Circular features of the behaviour in the seen bins of the trials used, rad (trial, time)."""
    if "behavior" not in recording.children:
        return {}
    behaviour = recording["behavior"].to_dataset()
    value = behaviour["value"].transpose("feature", "trial", "time").values.astype(float)
    kinds = behaviour["kind"].values.astype(str)
    names = behaviour["feature"].values.astype(str)
    bins = seen_bins(recording)
    return {str(names[i]): value[i][used][:, :bins] for i in np.flatnonzero(kinds == "circular")}


def circular_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    r"""Fisher and Lee's correlation of two angles (..., row), in [-1, 1].

    :math:`\rho_T = \frac{E[\sin(a - a') \sin(b - b')]}
    {\sqrt{E[\sin^2(a - a')] E[\sin^2(b - b')]}}` over independent pairs of rows (Fisher and Lee
    1983, Biometrika 70, equation 2), in sums over rows instead of pairs. It does not change with a
    rotation of either angle; its sign does with a reflection.
    """
    both = np.exp(1j * (first - second)).sum(-1)
    against = np.exp(1j * (first + second)).sum(-1)
    rows = first.shape[-1]
    spread = [rows**2 - np.abs(np.exp(2j * angle).sum(-1)) ** 2 for angle in (first, second)]
    scale = np.sqrt(np.maximum(spread[0] * spread[1], 0))
    difference = np.abs(both) ** 2 - np.abs(against) ** 2
    return np.where(scale > 0, difference / np.where(scale > 0, scale, 1), np.nan)


def match_angle(
    decoded: np.ndarray,
    true: np.ndarray,
    scored: np.ndarray,
    *,
    shuffles: int,
    rng: np.random.Generator,
) -> AngleMatch:
    """Compare two angles of the same bins.

    Rotation and direction are those that bring the angles closest in the bins that are not
    ``scored``; the error is that of those that are. The null shifts the decoded angle circularly in
    time by at least a tenth of the recording, and chooses rotation and direction again.

    Parameters
    ----------
    decoded, true : ndarray (row,)
        Radians, in the order of time; NaN where there is none.
    scored : ndarray of bool (row,)
    shuffles : int
    rng : Generator

    Returns
    -------
    AngleMatch
        All NaN with fewer than ``FEWEST_BINS`` bins to choose by or to score.
    """
    rows = np.flatnonzero(np.isfinite(decoded) & np.isfinite(true))
    test = scored[rows]
    if min(test.sum(), (~test).sum()) < FEWEST_BINS:
        return UNMATCHED
    a, b = decoded[rows], true[rows]
    margin = max(1, int(MARGIN * len(rows)))
    shifts = rng.integers(margin, len(rows) - margin + 1, size=shuffles)
    null = np.array([_compare(np.roll(a, shift), b, test) for shift in shifts])
    correlation, error, rotation, direction = _compare(a, b, test)
    return AngleMatch(
        correlation=correlation,
        p_correlation=float(p_value(np.array(correlation), null[:, 0])),
        error=error,
        p_error=float(p_value(np.array(error), null[:, 1], smaller=True)),
        rotation=rotation,
        direction=direction,
    )


def _compare(a: np.ndarray, b: np.ndarray, test: np.ndarray) -> tuple[float, float, float, float]:
    same = np.exp(1j * (b - a))
    opposite = np.exp(1j * (b + a))
    kept = [part[~test].mean() for part in (same, opposite)]
    best = int(abs(kept[1]) > abs(kept[0]))
    rotation = float(np.angle(kept[best]))
    left = np.angle((same, opposite)[best][test] * np.exp(-1j * rotation))
    error = float(np.degrees(np.median(np.abs(left))))
    correlation = float(abs(circular_correlation(a, b)))
    return correlation, error, rotation % (2 * np.pi), 1.0 - 2.0 * best
