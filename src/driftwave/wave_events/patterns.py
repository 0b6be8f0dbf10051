"""Families of wave patterns of a layout, with candidates, and measures of a pattern."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from driftwave.phase.electrodes import Electrodes
from driftwave.phase.gradient import wrap
from driftwave.wave_events.plane import plane_candidates, plane_phase
from driftwave.wave_events.resultant import Theta, ascend, best_of, objective

CLASSES = (
    "synchronous",
    "standing",
    "planar",
    "radial_out",
    "radial_in",
    "rotating_ccw",
    "rotating_cw",
    "spiral_out",
    "spiral_in",
    "none",
)
CENTRED = ("radial", "rotating", "spiral")
MARGIN = 0.5
LEAST_ARM = np.pi / 4


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


def spiral_phase(
    parameters: np.ndarray,
    position: np.ndarray,
    *,
    charge: int | np.ndarray,
    closest: float = 1e-3,
) -> tuple[np.ndarray, np.ndarray]:
    """theta = -q angle(r - c) - kappa |r - c| with parameters (x, y, kappa).

    Radial for q = 0; ``charge`` may differ between fits, (fit,).
    """
    theta, slope = radial_phase(parameters, position, closest=closest)
    q = np.broadcast_to(charge, len(parameters))
    some = q != 0
    turning, turn = rotating_phase(parameters[some], position, charge=1, closest=closest)
    theta[some] += q[some, None] * turning
    slope[some, :2] += q[some, None, None] * turn
    return theta, slope


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
    """The pattern families of a layout; positions are relative to its centroid.

    Attributes
    ----------
    position : ndarray (electrode, 2)
        mm.
    centroid : ndarray (2,)
        mm.
    families : tuple of Pattern
        Of one phase each, with candidates to start from.
    closest : float
        mm; nearer to a centre than this, derivatives are bounded.
    prepared : dict
        Whitenings of the noise covariances met so far.
    """

    position: np.ndarray
    centroid: np.ndarray
    families: tuple[Pattern, ...]
    closest: float
    prepared: dict = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, name: str) -> Pattern:
        return next(family for family in self.families if family.name == name)

    def __contains__(self, name: str) -> bool:
        return any(family.name == name for family in self.families)


def patterns_of(electrodes: Electrodes) -> Patterns:
    """Candidates for a layout; centres lie up to half its extent beside it.

    On a single line of electrodes there are planes along it, and no centres.
    """
    centroid = electrodes.position.mean(axis=0)
    position = electrodes.position - centroid
    planes = plane_candidates(position, electrodes.nyquist)
    closest = electrodes.pitch / 4
    if getattr(electrodes, "linear", False):
        along = np.linalg.svd(position, full_matrices=False)[2][0]
        sizes = np.unique(np.hypot(*planes.T).round(9))
        planes = np.concatenate([-sizes[:0:-1], sizes])[:, None] * along
        table: list[tuple[str, Theta, np.ndarray]] = [
            ("synchronous", _synchronous_phase, np.zeros((1, 1))),
            ("planar", plane_phase, planes),
        ]
    else:
        table = _table(electrodes, position, planes, closest)
    return Patterns(
        position,
        centroid,
        tuple(_pattern(name, theta, start, position) for name, theta, start in table),
        closest,
    )


def _table(
    electrodes: Electrodes, position: np.ndarray, planes: np.ndarray, closest: float
) -> list[tuple[str, Theta, np.ndarray]]:
    low, high = position.min(axis=0), position.max(axis=0)
    step = max(electrodes.pitch, electrodes.extent / 12)
    inside = _centres(low - step, high + step, step)
    sparse = _centres(low, high, 2 * step)
    around = _centres(low - MARGIN * (high - low), high + MARGIN * (high - low), 2 * step)
    rings = np.unique(np.hypot(*planes.T).round(9))[1:]

    def with_rings(centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [np.column_stack([centres, np.full(len(centres), ring)]) for ring in sizes]
        )

    radial, coarse = with_rings(around, rings[::2]), with_rings(sparse, rings[::2])

    def turning(charge: int) -> Theta:
        return lambda p, r: rotating_phase(p, r, charge=charge, closest=closest)

    def outward(charge: int) -> Theta:
        return lambda p, r: spiral_phase(p, r, charge=charge, closest=closest)

    table: list[tuple[str, Theta, np.ndarray]] = [
        ("synchronous", _synchronous_phase, np.zeros((1, 1))),
        ("planar", plane_phase, planes),
        ("radial_out", outward(0), radial),
        ("radial_in", outward(0), radial * [1, 1, -1]),
        ("rotating_ccw", turning(1), inside),
        ("rotating_cw", turning(-1), inside),
    ]
    for charge, turn in ((1, "ccw"), (-1, "cw")):
        table.append((f"spiral_out_{turn}", outward(charge), coarse))
        table.append((f"spiral_in_{turn}", outward(charge), coarse * [1, 1, -1]))
    return table


def _pattern(name: str, theta: Theta, start: np.ndarray, position: np.ndarray) -> Pattern:
    low, high = start.min(axis=0), start.max(axis=0)
    if name.startswith("radial"):
        low[2], high[2] = min(low[2], 0), max(high[2], 0)
    elif name.startswith("spiral"):
        # Any less of a radial phase over the layout, and it is a rotation.
        least = LEAST_ARM / float(np.ptp(position, axis=0).max())
        low[2], high[2] = (min(low[2], -least), -least) if low[2] < 0 else (least, high[2])
    dictionary = np.exp(-1j * theta(start, position)[0]).astype(np.complex64)
    return Pattern(name, theta, start, dictionary, (low, high))


def _centres(low: np.ndarray, high: np.ndarray, step: float) -> np.ndarray:
    axes = [
        np.linspace(a, b, max(2, int(np.ceil((b - a) / step)) + 1))
        for a, b in zip(low, high, strict=True)
    ]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)


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
