"""The class of a wave, by the likelihood of electrodes that its fit has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftwave.wave_events.fitting import Point, Shape, Weights, fit
from driftwave.wave_events.heldout import (
    Whitening,
    circular_deviation,
    hold_out,
)
from driftwave.wave_events.patterns import CENTRED, CLASSES, Pattern, Patterns
from driftwave.wave_events.shapes import centred, planes, standing
from driftwave.wave_events.standing import changes_sign, real_map, smooth_basis

# What a family must gain over a plainer one: log-likelihood of all electrodes left out (nats), and
# a share of the prediction error, for noise whose covariance is not known.
GAIN = 4.0
IMPROVEMENT = 0.95
# Held-out log-likelihood against uniform phases (nats) below which there is nothing: four standard
# deviations where it is small.
CHANCE = 8.0
CURVED = (
    "radial_out",
    "radial_in",
    "rotating_ccw",
    "rotating_cw",
    "spiral_out_ccw",
    "spiral_out_cw",
    "spiral_in_ccw",
    "spiral_in_cw",
)
CHARGES = np.array([0, 0, 1, -1, 1, -1, 1, -1])
# Plainest first; of each level the best is compared with the choice so far.
LEVELS = (
    ("synchronous",),
    ("planar", "standing_plane"),
    CURVED[:4],
    (*CURVED[4:], "standing_map"),
)


@dataclass(frozen=True)
class Verdict:
    """How well each class explains a wave.

    Attributes
    ----------
    name : str
        One of :data:`CLASSES`.
    prediction : ndarray (class,)
        Amplitude-weighted mean cosine between the phases of electrodes and their prediction from
        the others, less what noise shared with them tells, in [-1, 1]; NaN for classes that were
        not asked for. Of ``none``, about what chance reaches.
    phase_error : ndarray (class,)
        Circular standard deviation of electrodes' phases about that prediction, degree.
    resultant : ndarray (class,)
        R of the fit to all electrodes, in [0, 1].
    evidence : float
        Held-out von Mises log-likelihood of the class less that of ``synchronous``, nats per
        electrode; 0 for ``synchronous`` itself.
    parameters : dict of str to ndarray
        Fit to all electrodes; centres are in the recording's coordinates, mm. planar: k;
        standing: (k_x, k_y, psi) about the centroid; with a centre: (x, y, kappa), rotating
        ones (x, y).
    patterns : dict of str to ndarray, complex (electrode,)
        What was fitted; real for standing waves.
    charge : int
        Of a spiral, +1 counter-clockwise or -1 clockwise.
    """

    name: str
    prediction: np.ndarray
    phase_error: np.ndarray
    resultant: np.ndarray
    evidence: float
    parameters: dict[str, np.ndarray]
    patterns: dict[str, np.ndarray]
    charge: int


@dataclass(frozen=True)
class Fitted:
    """One family fitted to all electrodes, then to those kept in each fold.

    Attributes
    ----------
    pattern : ndarray, complex (fit, electrode)
    amplitude : ndarray, complex (fit, snapshot)
    power : float
        P of the fit to all electrodes.
    parameters : ndarray (parameter,)
        Of the fit to all electrodes.
    """

    pattern: np.ndarray
    amplitude: np.ndarray
    power: float
    parameters: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """What the fits to one layout in one noise share.

    Attributes
    ----------
    noise : ndarray (electrode, electrode) or None
    whitening : Whitening
    sizes : dict of str to ndarray, float32 (candidate,)
        v^H C^-1 v of each family's candidates.
    basis : ndarray (term, electrode)
        Of smooth maps.
    waves : ndarray (candidate, 2)
        Wavevectors of standing waves to start from.
    pairs : ndarray (candidate, 2, electrode)
        Their cosine and sine.
    roots : ndarray (candidate, 2, 2)
        Inverse Cholesky factors of the pairs' products in C^-1.
    """

    noise: np.ndarray | None
    whitening: Whitening
    sizes: dict[str, np.ndarray]
    basis: np.ndarray
    waves: np.ndarray
    pairs: np.ndarray
    roots: np.ndarray

    @classmethod
    def of(cls, patterns: Patterns, noise: np.ndarray | None) -> Prepared:
        whitening = Whitening.of(noise, patterns.position)
        weights = Weights(whitening.weights.inverse[:1].astype(np.float32))
        sizes = {
            family.name: np.real(
                np.einsum("cn,cn->c", weights(family.dictionary[None])[0], family.dictionary.conj())
            )
            for family in patterns.families
        }
        waves = patterns["planar"].candidates
        waves = waves[(waves[:, 1] > 1e-9) | ((np.abs(waves[:, 1]) <= 1e-9) & (waves[:, 0] > 1e-9))]
        angle = waves @ patterns.position.T
        pairs = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        full = Weights(whitening.weights.inverse[:1])
        gram = np.real(full(pairs[None].astype(complex))[0] @ pairs.swapaxes(1, 2))
        gram += 1e-6 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(2)
        roots = np.linalg.inv(np.linalg.cholesky(gram))
        return cls(noise, whitening, sizes, smooth_basis(patterns.position), waves, pairs, roots)

    def standing(self, weighted: np.ndarray) -> np.ndarray:
        """The candidate (k_x, k_y, psi) of each fit, with the best psi of each wavevector."""
        fits, _, snapshots = weighted.shape
        count = len(self.waves)
        flat = weighted.transpose(1, 0, 2).reshape(weighted.shape[1], -1)
        match = (self.roots @ self.pairs).reshape(2 * count, -1) @ flat
        match = match.reshape(count, 2, fits, snapshots)
        cc, ss = (np.abs(match) ** 2).sum(axis=-1).swapaxes(0, 1)
        cs = np.real(match[:, 0] * match[:, 1].conj()).sum(axis=-1)
        power = (cc + ss) / 2 + np.hypot((cc - ss) / 2, cs)
        best = np.argmax(power, axis=0)
        chosen = best, np.arange(fits)
        turn = np.arctan2(2 * cs[chosen], cc[chosen] - ss[chosen]) / 2
        share = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        cosine, sine = np.einsum("fba,fb->af", self.roots[best], share)
        return np.column_stack([self.waves[best], np.arctan2(-sine, cosine)])


def prepared_for(patterns: Patterns, noise: np.ndarray | None) -> Prepared:
    """What a noise covariance needs, made once."""
    known = patterns.prepared.get(id(noise))
    if known is None or known.noise is not noise:
        known = Prepared.of(patterns, noise)
        patterns.prepared[id(noise)] = known
    return known


def classify(
    patterns: Patterns,
    values: np.ndarray,
    noise: np.ndarray | None = None,
    classes: Sequence[str] = CLASSES,
) -> Verdict:
    """Fit every pattern family and compare them by leave-electrodes-out prediction of phase.

    Parameters
    ----------
    patterns : Patterns
    values : ndarray, complex (electrode, snapshot)
        Snapshots share the pattern, not its amplitude and phase.
    noise : ndarray (electrode, electrode), optional
        Covariance of the noise that electrodes share without lags, any scale; default independent
        noise of equal variance.
    classes : sequence of str
        Those considered.

    Notes
    -----
    In each of six folds a block of neighbouring electrodes is left out, the pattern fitted to the
    others by generalised least squares, and the phases of those left out compared with their
    prediction after taking from both what the kept electrodes tell of the noise. The errors' von
    Mises log-likelihood, at the concentration they have, decides: a family is preferred to a
    plainer one if it gains 4 nats over all electrodes left out and leaves at most 95 % of the
    error. Families with more parameters have no advantage. What turns about a centre that
    electrodes do not surround is not considered. ``none`` is chosen where even the best
    log-likelihood is within 8 nats of that of uniform phases.
    """
    prepared = prepared_for(patterns, noise)
    whitening = prepared.whitening
    scaled = values / whitening.scale[:, None]
    scaled = scaled / max(float(np.sqrt((np.abs(scaled) ** 2).mean())), 1e-300)
    kept = np.broadcast_to(scaled, (whitening.fold.max() + 2, *scaled.shape))
    weighted = whitening.weights(kept.swapaxes(1, 2)).swapaxes(1, 2)
    fits = _fit_all(patterns, prepared, weighted, classes)
    names = list(fits)
    held = hold_out(
        np.stack([fits[name].pattern[1:] for name in names], axis=1),
        np.stack([fits[name].amplitude[1:] for name in names], axis=1),
        scaled,
        whitening,
    )
    score = dict(zip(names, held.prediction, strict=True))
    gained = dict(zip(names, held.likelihood, strict=True))
    seen = [name for name in names if _turns_inside(name, fits[name], patterns)]
    chosen = _choose({name: score[name] for name in seen}, gained)
    at = names.index(chosen)
    deviations = np.sqrt(2 * CHANCE) / max(float(held.deviations[at]), 1e-12)
    chance = float(np.clip(held.prediction[at] * deviations, 0, 1))
    of_class = {name: _best(name, gained) for name in CLASSES}
    energy = float(np.real(scaled.conj() * weighted[0]).sum())
    columns = np.full((3, len(CLASSES)), np.nan)
    for number, name in enumerate(CLASSES):
        family = of_class[name]
        if family is not None:
            error = held.error[names.index(family)]
            columns[:, number] = score[family], error, np.sqrt(fits[family].power / energy)
    last = CLASSES.index("none")
    columns[:2, last] = chance, np.degrees(circular_deviation(np.array(chance)))
    name = _class_of(chosen, fits[chosen])
    if "none" in classes and gained[chosen] < CHANCE:
        name = "none"
    still = name in ("synchronous", "none")
    gain = 0.0 if still else gained[chosen] - gained["synchronous"]
    return Verdict(
        name,
        columns[0],
        columns[1],
        np.minimum(columns[2], 1),
        float(gain / len(values)),
        {
            c: _placed(c, fits[f].parameters, patterns)
            for c, f in of_class.items()
            if f is not None and len(fits[f].parameters)
        },
        {c: fits[f].pattern[0] for c, f in of_class.items() if f is not None},
        -1 if chosen.endswith("_cw") else 1,
    )


def _turns_inside(name: str, fitted: Fitted, patterns: Patterns) -> bool:
    """Whether electrodes surround the centre of what turns; True of all that does not turn.

    Beside the layout no closed loop can tell a rotation from a plane wave that bends.
    """
    if not name.startswith(("rotating", "spiral")):
        return True
    edge = 2 * patterns.closest
    low, high = patterns.position.min(axis=0) + edge, patterns.position.max(axis=0) - edge
    centre = fitted.parameters[:2]
    return bool(((centre >= low) & (centre <= high)).all())


def _best(name: str, likelihood: dict[str, float]) -> str | None:
    """The family of a class that predicts best."""
    prefix = name if name in ("standing", "spiral_out", "spiral_in") else None
    of_it = [f for f in likelihood if f == name or (prefix and f.startswith(prefix + "_"))]
    return max(of_it, key=likelihood.__getitem__) if of_it else None


def _choose(score: dict[str, float], likelihood: dict[str, float]) -> str:
    chosen = "synchronous"
    for level in LEVELS[1:]:
        there = [name for name in level if name in score]
        if not there:
            continue
        best = max(there, key=likelihood.__getitem__)
        gain = likelihood[best] - likelihood[chosen]
        if gain > GAIN and 1 - score[best] < IMPROVEMENT * (1 - score[chosen]):
            chosen = best
    return chosen


def _class_of(family: str, fitted: Fitted) -> str:
    if family.startswith("standing"):
        # A map of one sign is synchrony whose strength differs between electrodes.
        return "standing" if changes_sign(fitted.pattern[0]) else "synchronous"
    return family.removesuffix("_ccw").removesuffix("_cw") if family[0] == "s" else family


def _placed(name: str, parameters: np.ndarray, patterns: Patterns) -> np.ndarray:
    placed = parameters.copy()
    if name.startswith(CENTRED):
        placed[:2] += patterns.centroid
    return placed[:2] if name.startswith("rotating") else placed


def _fit_all(
    patterns: Patterns, prepared: Prepared, weighted: np.ndarray, classes: Sequence[str]
) -> dict[str, Fitted]:
    """Every family of the classes asked for, fitted to all electrodes and to each fold's others."""
    position, weights = patterns.position, prepared.whitening.weights
    fits = _fixed("synchronous", np.ones((len(weighted), len(position))), weights, weighted)
    low, high = (edge[None] for edge in patterns["planar"].bounds)
    if "planar" in classes:
        start = _starts(patterns["planar"], prepared, weighted)[:, None]
        shape = planes(position)
        fits |= _fitted(("planar",), shape, start, weights, weighted, (low, high))
    if "standing" in classes:
        start = prepared.standing(weighted)[:, None]
        ends = np.append(low, -np.inf)[None], np.append(high, np.inf)[None]
        shape = standing(position)
        fits |= _fitted(("standing_plane",), shape, start, weights, weighted, ends)
        smooth = real_map(prepared.basis, weights, weighted)
        fits |= _fixed("standing_map", smooth, weights, weighted)
    curved = [n for n in CURVED if n in patterns and (n in classes or _short(n) in classes)]
    if curved:
        starts = [_starts(patterns[name], prepared, weighted) for name in curved]
        start = np.stack([_with_kappa(one) for one in starts], axis=1)
        limits = [patterns[name].bounds for name in curved]
        low, high = (np.stack([_with_kappa(end[i][None])[0] for end in limits]) for i in (0, 1))
        charge = CHARGES[[CURVED.index(name) for name in curved]]
        shape = centred(position, charge, patterns.closest)
        fits |= _fitted(tuple(curved), shape, start, weights, weighted, (low, high))
    return fits


def _short(family: str) -> str:
    return family.rsplit("_", 1)[0] if family.startswith("spiral") else family


def _with_kappa(parameters: np.ndarray) -> np.ndarray:
    """Centres (fit, 2) with a wavenumber of 0 where there is none."""
    missing = 3 - parameters.shape[1]
    return np.pad(parameters, ((0, 0), (0, missing)))


def _starts(family: Pattern, prepared: Prepared, weighted: np.ndarray) -> np.ndarray:
    """The candidate (fit, parameter) of a family with the greatest P."""
    fits, electrodes, snapshots = weighted.shape
    flat = weighted.transpose(1, 0, 2).reshape(electrodes, -1).astype(np.complex64)
    product = family.dictionary @ flat
    power = (product.real**2 + product.imag**2).reshape(-1, fits, snapshots).sum(axis=-1)
    return family.candidates[np.argmax(power / prepared.sizes[family.name][:, None], axis=0)]


def _fitted(
    names: tuple[str, ...],
    shape: Shape,
    start: np.ndarray,
    weights: Weights,
    weighted: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
) -> dict[str, Fitted]:
    parameters, point = fit(shape, start, weights, weighted, bounds)
    pattern = shape(parameters)[:, :, 0]
    return {
        name: Fitted(
            pattern[:, i], point.amplitude[:, i], float(point.power[0, i]), parameters[0, i]
        )
        for i, name in enumerate(names)
    }


def _fixed(
    name: str, pattern: np.ndarray, weights: Weights, weighted: np.ndarray
) -> dict[str, Fitted]:
    """A pattern (fit, electrode) without parameters to search for."""
    point = Point.at(pattern[:, None, None].astype(complex), weights, weighted)
    amplitude, power = point.amplitude[:, 0], float(point.power[0, 0])
    return {name: Fitted(pattern.astype(complex), amplitude, power, np.zeros(0))}
