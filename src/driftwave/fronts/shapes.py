"""Plane or cone: which shape predicts the times of electrodes that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.fronts.slowness import HUBER, huber, robust_scale, spanned

FOLDS = 6
MARGIN = 0.25
ACROSS = 12
IMPROVEMENT = 0.95
STEPS = 10
SHAPES = ("none", "planar", "radial_out", "radial_in")


@dataclass(frozen=True)
class Cones:
    """Candidate centres of a layout.

    Attributes
    ----------
    centre : ndarray (candidate, 2)
        mm; up to a quarter of the array's extent beside it.
    distance : ndarray (candidate, electrode)
        mm.
    closest : float
        Below this distance (mm) a cone is rounded off.
    """

    centre: np.ndarray
    distance: np.ndarray
    closest: float

    @classmethod
    def of(cls, position: np.ndarray, pitch: float) -> Cones:
        """Candidates for electrodes at ``position`` (electrode, 2) in mm."""
        low, high = position.min(axis=0), position.max(axis=0)
        step = max(pitch, float((high - low).max()) / ACROSS)
        axes = []
        for a, b in zip(low, high, strict=True):
            ends = a - MARGIN * (b - a), b + MARGIN * (b - a)
            axes.append(np.linspace(*ends, int(np.ceil((ends[1] - ends[0]) / step)) + 1))
        centre = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
        away = np.linalg.norm(centre[:, None] - position[None], axis=-1)
        return cls(centre, away, pitch / 4)

    def explained(self, time: np.ndarray, counts: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Signed share of variance that each cone explains (fit, candidate).

        Positive where time grows with distance. ``time`` and ``counts`` are (fit, electrode),
        ``which`` the electrodes of the wave.
        """
        distance = self.distance[:, which]
        total = counts.sum(axis=1, keepdims=True)
        late = time - (counts * time).sum(axis=1, keepdims=True) / total
        mean = counts @ distance.T / total
        spread = counts @ (distance**2).T / total - mean**2
        covariance = (counts * late) @ distance.T / total
        power = (counts * late**2).sum(axis=1, keepdims=True) / total
        size = covariance**2 / np.maximum(spread * power, np.finfo(float).tiny)
        return np.sign(covariance) * np.where(spread > 1e-12, size, 0)

    def fit(
        self,
        position: np.ndarray,
        time: np.ndarray,
        counts: np.ndarray,
        which: np.ndarray,
        sign: np.ndarray,
    ) -> np.ndarray:
        """Best cone t = t0 + s |r - c|, per weighting (fit, electrode) with s of ``sign`` (fit,).

        From the best candidate by Gauss-Newton steps with Huber's weights.

        Returns
        -------
        ndarray (fit, 4)
            t0, s, and the centre's x and y; see :meth:`at`.
        """
        late = np.broadcast_to(time, counts.shape)
        score = sign[:, None] * self.explained(late, counts, which)
        parameter = np.zeros((len(counts), 4))
        parameter[:, 2:] = self.centre[np.argmax(score, axis=1)]
        low, high = self.centre.min(axis=0), self.centre.max(axis=0)
        weight = counts.astype(float)
        away, distance = self._away(position, parameter)
        for step in range(STEPS):
            design = np.ones((*distance.shape, 4 if step else 2))
            design[..., 1] = distance
            if step:
                design[..., 2:] = -parameter[:, 1, None, None] * away / distance[..., None]
            current = parameter[:, :1] + parameter[:, 1:2] * distance
            moved = _solve(design, time - current, weight, damping=1e-3)
            parameter[:, : moved.shape[1]] += moved
            parameter[:, 2:] = np.clip(parameter[:, 2:], low, high)
            parameter[:, 1] = sign * np.maximum(sign * parameter[:, 1], 0)
            away, distance = self._away(position, parameter)
            residual = np.abs(time - parameter[:, :1] - parameter[:, 1:2] * distance)
            bound = HUBER * robust_scale(residual, counts)[:, None]
            weight = counts * np.minimum(1, bound / np.maximum(residual, 1e-15))
        return parameter

    def _away(self, position: np.ndarray, parameter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = position[None] - parameter[:, None, 2:]
        return away, np.sqrt(away[..., 0] ** 2 + away[..., 1] ** 2 + self.closest**2)

    def at(self, position: np.ndarray, parameter: np.ndarray) -> np.ndarray:
        """Times (fit, electrode) of cones ``parameter`` (fit, 4) at ``position``, s."""
        return parameter[:, :1] + parameter[:, 1:2] * self._away(position, parameter)[1]


def _solve(
    design: np.ndarray, residual: np.ndarray, weight: np.ndarray, damping: float
) -> np.ndarray:
    """Damped least squares per fit; design (fit, electrode, column) -> (fit, column)."""
    weighted = (design * weight[..., None]).swapaxes(1, 2)
    left, right = weighted @ design, (weighted @ residual[..., None])[..., 0]
    diagonal = np.diagonal(left, axis1=1, axis2=2)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True)
    left = left + np.eye(left.shape[-1]) * np.maximum(damping * diagonal, floor)[:, None]
    return np.linalg.solve(left, right[..., None])[..., 0]


@dataclass(frozen=True)
class Shape:
    """What a front looks like.

    Attributes
    ----------
    name : str
        planar, radial_out, radial_in, or none where the mean time predicts as well.
    heldout : dict of str to float
        Mean absolute error of the times of electrodes left out, s, per shape.
    centre : ndarray (2,)
        Of the better cone, mm.
    slope : float
        s/mm of that cone; negative for one that contracts.
    """

    name: str
    heldout: dict[str, float]
    centre: np.ndarray
    slope: float


def shape_of(position: np.ndarray, time: np.ndarray, which: np.ndarray, cones: Cones) -> Shape:
    """Compare shapes by the times of electrodes that each of six folds leaves out.

    A plane or a cone must predict 5 % better than the mean, a cone 5 % better than a plane.

    Parameters
    ----------
    position : ndarray (electrode, 2)
        Of the wave's electrodes, mm.
    time : ndarray (electrode,)
        s.
    which : ndarray of int (electrode,)
        Their numbers among the layout's electrodes.
    cones : Cones
    """
    late = time - np.median(time)
    fold = np.arange(len(time)) % min(FOLDS, len(time))
    kept = np.stack([fold != one for one in range(fold.max() + 1)])
    counts = np.concatenate([np.ones((1, len(time))), kept])
    constant = np.ones((len(time), 1))
    directions = spanned(position)
    plane = np.column_stack([(position - position.mean(axis=0)) @ directions, constant])
    predicted = {
        "none": huber(constant, late, counts) @ constant.T,
        "planar": huber(plane, late, counts) @ plane.T,
    }
    sign = np.repeat((1.0, -1.0), len(counts))
    parameter = cones.fit(position, late, np.concatenate([counts, counts]), which, sign)
    cone = dict(zip(("radial_out", "radial_in"), np.split(parameter, 2), strict=True))
    predicted |= {name: cones.at(position, one) for name, one in cone.items()}
    heldout = {
        name: float(np.abs(late - value[1:])[~kept].mean()) for name, value in predicted.items()
    }
    better = min(cone, key=lambda name: heldout[name])
    chosen = "none"
    for name in ("planar", better):
        if heldout[name] < IMPROVEMENT * heldout[chosen]:
            chosen = name
    return Shape(chosen, heldout, cone[better][0, 2:], float(cone[better][0, 1]))


def explained_by_shape(
    position: np.ndarray, time: np.ndarray, which: np.ndarray, cones: Cones
) -> np.ndarray:
    """Share of variance in time (draw, electrode) that the best plane or cone explains (draw,)."""
    late = time - time.mean(axis=1, keepdims=True)
    centred = (position - position.mean(axis=0)) @ spanned(position)
    basis, _ = np.linalg.qr(centred)
    total = np.maximum((late**2).sum(axis=1), np.finfo(float).tiny)
    plane = ((late @ basis) ** 2).sum(axis=1) / total
    cone = np.abs(cones.explained(late, np.ones_like(late), which)).max(axis=1)
    return np.maximum(plane, cone)


def evidence_of(position: np.ndarray, time: np.ndarray, which: np.ndarray, cones: Cones) -> float:
    """Log likelihood ratio (nats) of the best plane or cone against unordered times (electrode,).

    Unlike the share of variance it grows with the number of electrodes.
    """
    share = float(explained_by_shape(position, time[None], which, cones)[0])
    return -0.5 * len(time) * float(np.log(max(1 - share, 1e-12)))


def permutation_p(
    position: np.ndarray,
    time: np.ndarray,
    which: np.ndarray,
    cones: Cones,
    *,
    permutations: int,
    rng: np.random.Generator,
) -> float:
    """p of the share of variance explained, with times permuted among the wave's electrodes.

    Holds only for electrodes chosen without regard to their times, which grouping does not do.
    """
    drawn = np.stack([time, *(rng.permutation(time) for _ in range(permutations))])
    best = explained_by_shape(position, drawn, which, cones)
    return float((1 + (best[1:] >= best[0] - 1e-12).sum()) / (permutations + 1))
