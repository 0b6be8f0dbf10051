"""Persistent homology of population activity, against units shifted in time by themselves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import dask
import numpy as np

from driftwave.geometry.topology_points import Landmarks, Recipe, choose_landmarks
from driftwave.readouts.null import p_value

# Integer coefficients are lifted from those of this field (de Silva et al. 2011, section 2.3).
PRIME = 47


@dataclass(frozen=True)
class Homology:
    """Barcodes of a cloud of landmarks in units of the cloud's root mean square radius.

    Attributes
    ----------
    landmarks : Landmarks
    bars : list of ndarray (bar, 2)
        Birth and death by degree, longest first. Of degree 0 the bar that never dies is left out.
    cocycles : list of ndarray (edge, 3)
        Of degree 1, in the order of the bars: two landmarks and the coefficient, modulo ``PRIME``.
    """

    landmarks: Landmarks
    bars: list[np.ndarray]
    cocycles: list[np.ndarray]

    def lifetimes(self, degree: int) -> np.ndarray:
        """Death minus birth (bar,), longest first."""
        bars = self.bars[degree]
        return bars[:, 1] - bars[:, 0]


def homology(landmarks: Landmarks, degree: int, *, void_points: int, cocycles: bool) -> Homology:
    """Vietoris-Rips persistent homology of landmarks up to a degree.

    Parameters
    ----------
    landmarks : Landmarks
    degree : int
        Highest degree: 0 components, 1 loops, 2 voids.
    void_points : int
        Landmarks, the first ones, of which degree 2 is computed: its cost grows with their
        fourth power.
    cocycles : bool
        Keep representative cocycles of degree 1.
    """
    low, found = _ripser(landmarks.position, min(degree, 1), cocycles)
    if degree == 2:
        low.append(_ripser(landmarks.position[:void_points], 2, cocycles=False)[0][2])
    bars = []
    for dimension, diagram in enumerate(low):
        finite = diagram[np.isfinite(diagram).all(axis=1)].astype(float)
        order = np.argsort(finite[:, 0] - finite[:, 1], kind="stable")
        bars.append(finite[order])
        if dimension == 1 and cocycles:
            alive = np.flatnonzero(np.isfinite(diagram).all(axis=1))[order]
            found = [found[index] for index in alive]
    return Homology(landmarks, bars, found)


def _ripser(
    position: np.ndarray, degree: int, cocycles: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    from ripser import ripser

    with warnings.catch_warnings():
        # It takes fewer points than dimensions for a transposed input.
        warnings.filterwarnings("ignore", message="The input point cloud has more columns")
        warnings.filterwarnings("ignore", message="The input matrix is square")
        found = ripser(position, maxdim=degree, coeff=PRIME, do_cocycles=cocycles)
    return list(found["dgms"]), found["cocycles"][1] if cocycles and degree >= 1 else []


def longest(lifetimes: np.ndarray) -> float:
    """The longest lifetime, 0 without bars."""
    return float(lifetimes[0]) if len(lifetimes) else 0.0


def gap_ratio(lifetimes: np.ndarray) -> float:
    """Longest over second longest lifetime; NaN with fewer than two bars."""
    return float(lifetimes[0] / lifetimes[1]) if len(lifetimes) > 1 else np.nan


@dataclass(frozen=True)
class Null:
    """Longest lifetime and its ratio to the second, (degree, shuffle), of shifted activity."""

    longest: np.ndarray
    ratio: np.ndarray


def shifted_homology(
    rows: np.ndarray,
    recipe: Recipe,
    degree: int,
    *,
    void_points: int,
    shuffles: int,
    rng: np.random.Generator,
) -> Null:
    """The same analysis after a circular shift of each dim by itself, ``shuffles`` times.

    Each dim keeps its distribution and autocorrelation; that they are all functions of one angle
    (or two) goes. Axes, scale, denoising and landmarks are found anew for every shift.

    Parameters
    ----------
    rows : ndarray (row, dim)
        In the order of time.
    """

    def one(shifts: np.ndarray) -> tuple[list[float], list[float]]:
        moved = np.empty_like(rows)
        for dim, shift in enumerate(shifts):
            moved[:, dim] = np.roll(rows[:, dim], shift)
        found = homology(
            choose_landmarks(moved, recipe), degree, void_points=void_points, cocycles=False
        )
        lives = [found.lifetimes(k) for k in range(degree + 1)]
        return [longest(life) for life in lives], [gap_ratio(life) for life in lives]

    shifts = rng.integers(len(rows), size=(shuffles, rows.shape[1]))
    found = dask.compute(*[dask.delayed(one)(each) for each in shifts])
    lengths, ratios = zip(*found, strict=True)
    return Null(np.array(lengths).T, np.array(ratios).T)


@dataclass(frozen=True)
class Verdict:
    """What the null says, by degree.

    Attributes
    ----------
    longest, ratio : ndarray (degree,)
    p, p_ratio : ndarray (degree,)
        Of the longest lifetime, and of its ratio to the second.
    threshold : ndarray (degree,)
        Lifetime that a bar must exceed to be counted.
    betti : ndarray of int (degree,)
        Bars each of which outlives the longest bars of the null at the level; one more in degree
        0, for the component that never dies.
    """

    longest: np.ndarray
    ratio: np.ndarray
    p: np.ndarray
    p_ratio: np.ndarray
    threshold: np.ndarray
    betti: np.ndarray


def judge(found: Homology, null: Null, level: float) -> Verdict:
    """Which bars are longer than chance.

    A bar counts if p = (1 + #{longest null bars at least as long}) / (B + 1) <= level: against
    the longest bar of each shift, so that the chance of any false bar in a degree is ``level``.
    """
    lives = [found.lifetimes(degree) for degree in range(len(found.bars))]
    observed = np.array([longest(life) for life in lives])
    ratio = np.array([gap_ratio(life) for life in lives])
    counts = [
        int((p_value(life, np.broadcast_to(chance, (len(life), len(chance)))) <= level).sum())
        for life, chance in zip(lives, null.longest, strict=True)
    ]
    p_ratio = [
        float(p_value(np.array(value), chance[np.isfinite(chance)]))
        for value, chance in zip(ratio, null.ratio, strict=True)
    ]
    betti = np.array(counts)
    betti[0] += 1
    return Verdict(
        longest=observed,
        ratio=ratio,
        p=p_value(observed, null.longest),
        p_ratio=np.array(p_ratio),
        threshold=_thresholds(null.longest, level),
        betti=betti,
    )


def _thresholds(null: np.ndarray, level: float) -> np.ndarray:
    """Longest lifetime (degree,) that is still within chance; infinite if shifts are too few."""
    shuffles = null.shape[1]
    above = int(np.floor(level * (shuffles + 1))) - 1  # null bars that may be at least as long
    if above < 0:
        return np.full(len(null), np.inf)
    return np.sort(null, axis=1)[:, ::-1][:, min(above, shuffles - 1)]
