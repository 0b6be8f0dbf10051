"""A wave's pattern: planar, radial, rotating or synchronous, judged on unseen electrodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import wrap
from driftwave.wave_events.plane import plane_candidates, plane_phase
from driftwave.wave_events.resultant import Theta, ascend, best_of, normalise, objective

CLASSES = ("synchronous", "planar", "radial_out", "radial_in", "rotating_ccw", "rotating_cw")
FOLDS = 6
# A family is preferred to a plainer one only if it leaves this share of its prediction error: in
# spatially correlated noise an electrode's neighbours let any flexible pattern predict it slightly
# too well.
IMPROVEMENT = 0.95
MARGIN = 0.5


def radial_phase(
    parameters: np.ndarray, position: np.ndarray, *, closest: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """theta = -kappa |r - c| with parameters (x, y, kappa): outward for kappa > 0."""
    away, distance = _from_centre(parameters, position, closest)
    kappa = parameters[:, 2, None]
    slope = np.stack(
        [kappa * away[..., 0] / distance, kappa * away[..., 1] / distance, -distance], axis=1
    )
    return -kappa * distance, slope


def rotating_phase(
    parameters: np.ndarray, position: np.ndarray, *, charge: int, closest: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """theta = -q angle(r - c) with parameters (x, y): counter-clockwise for q = +1."""
    away, distance = _from_centre(parameters, position, closest)
    slope = charge * np.stack([-away[..., 1], away[..., 0]], axis=1) / (distance**2)[:, None]
    return -charge * np.arctan2(away[..., 1], away[..., 0]), slope


def _from_centre(
    parameters: np.ndarray, position: np.ndarray, closest: float
) -> tuple[np.ndarray, np.ndarray]:
    away = position[None] - parameters[:, None, :2]
    # Derivatives grow without bound at the centre, where the phase itself has none.
    return away, np.maximum(np.hypot(away[..., 0], away[..., 1]), closest)


def _synchronous_phase(
    parameters: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(parameters), len(position))), np.zeros((len(parameters), 1, len(position)))


@dataclass(frozen=True)
class Pattern:
    """A family of phase patterns with candidate parameters to start from.

    Attributes
    ----------
    name : str
        One of :data:`CLASSES`.
    theta : callable
        Phase and derivatives of given parameters.
    candidates : ndarray (candidate, parameter)
    dictionary : ndarray, complex64 (candidate, electrode)
        e^{-i theta} of the candidates.
    bounds : (low, high), each (parameter,)
        The candidates' range, down to a wavenumber of 0.
    """

    name: str
    theta: Theta
    candidates: np.ndarray
    dictionary: np.ndarray
    bounds: tuple[np.ndarray, np.ndarray]

    def fit(self, position: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters (fit, parameter) and P (fit,) of values (fit, electrode, snapshot)."""
        start = self.candidates[best_of(self.dictionary, values)]
        if self.name == "synchronous":
            return start, objective(self.theta(start, position)[0], values)
        return ascend(self.theta, start, position, values, bounds=self.bounds)


@dataclass(frozen=True)
class Patterns:
    """The pattern families of a layout; positions are relative to its centroid."""

    position: np.ndarray
    centroid: np.ndarray
    families: tuple[Pattern, ...]

    def __getitem__(self, name: str) -> Pattern:
        return next(family for family in self.families if family.name == name)


def patterns_of(electrodes: Electrodes) -> Patterns:
    """Candidates for a layout; centres lie up to half its extent beside it."""
    centroid = electrodes.position.mean(axis=0)
    position = electrodes.position - centroid
    low, high = position.min(axis=0), position.max(axis=0)
    step = max(electrodes.pitch, electrodes.extent / 12)
    inside = _centres(low - step, high + step, step)
    around = _centres(low - MARGIN * (high - low), high + MARGIN * (high - low), 1.5 * step)
    planes = plane_candidates(position, electrodes.nyquist)
    rings = np.unique(np.hypot(*planes.T).round(9))[1:]
    radial = np.concatenate(
        [np.column_stack([around, np.full(len(around), ring)]) for ring in rings]
    )
    closest = electrodes.pitch / 4

    def outward(p: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return radial_phase(p, r, closest=closest)

    def turning(charge: int) -> Theta:
        return lambda p, r: rotating_phase(p, r, charge=charge, closest=closest)

    table: list[tuple[str, Callable, np.ndarray]] = [
        ("synchronous", _synchronous_phase, np.zeros((1, 1))),
        ("planar", plane_phase, planes),
        ("radial_out", outward, radial),
        ("radial_in", outward, radial * [1, 1, -1]),
        ("rotating_ccw", turning(1), inside),
        ("rotating_cw", turning(-1), inside),
    ]
    return Patterns(
        position,
        centroid,
        tuple(_pattern(name, theta, start, position) for name, theta, start in table),
    )


def _pattern(name: str, theta: Theta, start: np.ndarray, position: np.ndarray) -> Pattern:
    low, high = start.min(axis=0), start.max(axis=0)
    if name.startswith("radial"):
        low[2], high[2] = min(low[2], 0), max(high[2], 0)
    dictionary = np.exp(-1j * theta(start, position)[0]).astype(np.complex64)
    return Pattern(name, theta, start, dictionary, (low, high))


def _centres(low: np.ndarray, high: np.ndarray, step: float) -> np.ndarray:
    axes = [
        np.linspace(a, b, max(2, int(np.ceil((b - a) / step)) + 1))
        for a, b in zip(low, high, strict=True)
    ]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)


@dataclass(frozen=True)
class Verdict:
    """How well each pattern explains a wave.

    Attributes
    ----------
    name : str
        The pattern that predicts unseen electrodes best; a plainer one (synchronous, then planar)
        unless the error falls by 5 %.
    prediction : ndarray (class,)
        Coherence between electrodes and their prediction from the others, in [-1, 1].
    resultant : ndarray (class,)
        R of the fit to all electrodes, in [0, 1].
    parameters : dict of str to ndarray
        Fit to all electrodes; centres are in the recording's coordinates, mm.
    """

    name: str
    prediction: np.ndarray
    resultant: np.ndarray
    parameters: dict[str, np.ndarray]


def classify(patterns: Patterns, values: np.ndarray) -> Verdict:
    """Fit every pattern family and compare them by leave-electrodes-out prediction.

    Parameters
    ----------
    patterns : Patterns
    values : ndarray, complex (electrode, snapshot)

    Notes
    -----
    In each of six folds a sixth of the electrodes is left out, the pattern fitted to the others,
    and the phase of the electrodes left out predicted, so that families with more parameters have
    no advantage.
    """
    electrodes = len(values)
    fold = np.arange(electrodes) % min(FOLDS, electrodes)
    kept = np.stack([fold != f for f in range(fold.max() + 1)])
    stacked = np.concatenate([values[None], values[None] * kept[:, :, None]])
    prediction, resultant, parameters = [], [], {}
    for family in patterns.families:
        fitted, power = family.fit(patterns.position, stacked)
        theta, _ = family.theta(fitted, patterns.position)
        prediction.append(_predict(theta[1:], values, kept))
        resultant.append(float(normalise(power, stacked)[0]))
        best = fitted[0].copy()
        if family.name.startswith(("radial", "rotating")):
            best[:2] += patterns.centroid
        parameters[family.name] = best
    name = _choose(1 - np.array(prediction))
    return Verdict(name, np.array(prediction), np.array(resultant), parameters)


def _choose(error: np.ndarray) -> str:
    chosen = 0
    for later in (1, 2 + int(np.argmin(error[2:]))):
        if error[later] < IMPROVEMENT * error[chosen]:
            chosen = later
    return CLASSES[chosen]


def _predict(theta: np.ndarray, values: np.ndarray, kept: np.ndarray) -> float:
    """Mean coherence of each electrode with its prediction from the fold that left it out."""
    aligned = np.exp(-1j * theta)[..., None] * values[None]
    total = (aligned * kept[..., None]).sum(axis=1)
    agreement = np.real(aligned * total[:, None].conj()).sum(axis=-1)
    size = np.sqrt((np.abs(values) ** 2).sum(-1)[None] * (np.abs(total) ** 2).sum(-1)[:, None])
    score = agreement / np.maximum(size, np.finfo(float).tiny)
    return float(score[~kept].mean())


def mean_phase(values: np.ndarray, theta: np.ndarray | None = None) -> np.ndarray:
    """Phase of each electrode relative to the others, rad (electrode,), over snapshots.

    ``theta`` (electrode,) is the pattern that aligns snapshots; default the leading eigenvector.
    """
    if theta is None:
        left, _, _ = np.linalg.svd(values, full_matrices=False)
        return np.angle(left[:, 0])
    total = (np.exp(-1j * theta)[:, None] * values).sum(axis=0)
    return np.angle((values * total.conj()).sum(axis=1))


def circular_linear(phase: np.ndarray, distance: np.ndarray) -> float:
    """Signed circular-linear correlation of phase (rad) with distance (Mardia 1976).

    Positive where the phase falls with distance: a wave that expands. Its customary chi-square p
    value assumes independent electrodes, so that none is given.
    """
    if np.ptp(distance) == 0:
        return 0.0
    cos, sin = np.cos(phase), np.sin(phase)
    c, s = np.corrcoef(cos, distance)[0, 1], np.corrcoef(sin, distance)[0, 1]
    cs = np.corrcoef(cos, sin)[0, 1]
    size = np.sqrt(max(0.0, (c**2 + s**2 - 2 * c * s * cs) / max(1e-12, 1 - cs**2)))
    slopes = np.linspace(-np.pi, np.pi, 201) * 4 / np.ptp(distance)
    fit = np.abs(np.exp(1j * (phase[None] - slopes[:, None] * distance)).mean(axis=1))
    return float(-np.sign(slopes[np.argmax(fit)]) * size)


def charge(
    phase: np.ndarray, position: np.ndarray, centre: np.ndarray, *, inner: float, outer: float
) -> np.ndarray:
    """Winding number of a rotating wave about ``centre``: +1 counter-clockwise, -1 clockwise.

    Sums wrapped phase differences around the electrodes between two radii (mm), in the order of
    their angle; a wave omega t - q angle winds by -q. Two radii and several frames are needed to
    tell a rotation from noise, in which single plaquettes wind everywhere.

    Parameters
    ----------
    phase : ndarray (electrode, frame)
        rad.

    Returns
    -------
    ndarray of int (frame,)
    """
    away = position - centre
    distance = np.hypot(*away.T)
    ring = np.flatnonzero((distance >= inner) & (distance < outer))
    if len(ring) < 4:
        return np.zeros(phase.shape[1], int)
    around = ring[np.argsort(np.arctan2(away[ring, 1], away[ring, 0]))]
    step = wrap(phase[np.roll(around, -1)] - phase[around])
    return -np.round(step.sum(axis=0) / (2 * np.pi)).astype(int)
