"""All measures of shape of one set of features: values, nulls, standard errors, parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from driftwave.geometry.activity import Activity, Session
from driftwave.geometry.conditions import Conditions
from driftwave.geometry.dimension import (
    circular_shifts,
    isometric,
    participation_ratio,
    principal_components,
)
from driftwave.geometry.jackknife import jackknife, jackknife_groups
from driftwave.geometry.repeats import Repeats, make_repeats, repeats_of
from driftwave.geometry.signal_dimension import (
    SignalSpectrum,
    halved_spectrum,
    participation_of,
    random_halves,
    signal_spectrum,
)
from driftwave.geometry.tangling import (
    QUANTILE,
    SOFTENING,
    Flow,
    flow_of,
    shifted_flow,
    soft_normalised,
    tangling,
    time_step,
)
from driftwave.geometry.trajectories import (
    mean_distance,
    pairwise_distances,
    shuffled_distances,
    signed_root,
    squared_speed,
    unlocked_speeds,
)
from driftwave.geometry.tubularity import in_blocks, radii, raw_tubularity, shuffled_radii
from driftwave.geometry.two_nn import by_scale, mean_two_nn, point_sets
from driftwave.readouts.null import p_value

SCALES = (1.0, 0.5, 0.25, 0.125)
MOST_PAIRS = 64
# A bundle of two curves has its centre line halfway: no thickness of its own.
FEWEST_CURVES = 3
# Shuffles behind each replicate of the tubularity ratio's standard error.
FEW_SHUFFLES = 20
# Latents and activations have no Hz: their range plus this share of the widest range.
SOFTENING_SHARE = 0.05


class Measure(NamedTuple):
    """A measure's unit, and whether small values are the remarkable ones."""

    unit: str
    smaller: bool


MEASURES = {
    "participation_ratio": Measure("dimensions", True),
    "two_nn": Measure("dimensions", True),
    "signal_dimension": Measure("dimensions", False),
    "signal_participation_ratio": Measure("dimensions", False),
    "tangling": Measure("s^-2", True),
    "tubularity_ratio": Measure("1", True),
    "condition_distance": Measure("arbitrary", False),
    "speed": Measure("arbitrary/s", False),
}


@dataclass(frozen=True)
class Settings:
    """Parameters of the plug-in that the measures need; see its ``Params``."""

    components: int
    signal_components: int
    splits: int
    surrogates: int
    shuffles: int
    most_points: int
    gap: float
    resample: str


@dataclass(frozen=True)
class Part:
    """Activity with its conditions: all, or without some units or trials.

    Attributes
    ----------
    name : str
    values : ndarray (trial, time, dim)
    conditions : Conditions
    bin_width : float
        s.
    points : list of ndarray of int (point,)
        Sets of bins of the flattened (trial, time) axis that are independent.
    """

    name: str
    values: np.ndarray
    conditions: Conditions
    bin_width: float
    points: list[np.ndarray]

    def of_units(self, kept: np.ndarray) -> Part:
        return replace(self, values=self.values[..., kept])

    def of_trials(self, kept: np.ndarray) -> Part:
        c = self.conditions
        times = self.values.shape[1]
        place = np.cumsum(kept) - 1
        points = [
            place[some // times] * times + some % times
            for some in (at[kept[at // times]] for at in self.points)
        ]
        return replace(
            self,
            values=self.values[kept],
            conditions=Conditions(c.rule, c.labels, c.of[kept], c.circular),
            points=points,
        )

    def reduced(self) -> Part:
        """As many dims as bins at most: all distances stay."""
        rows = isometric(self.values.reshape(-1, self.values.shape[-1]))
        return replace(self, values=rows.reshape(*self.values.shape[:2], -1))


@dataclass
class Shape:
    """What is found for one set of features; NaN or absent where a session cannot have it."""

    value: dict[str, float] = field(default_factory=dict)
    null: dict[str, np.ndarray] = field(default_factory=dict)
    p: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    part: dict[str, np.ndarray] = field(default_factory=dict)


def measure_shape(
    activity: Activity,
    session: Session,
    behaviour: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
) -> Shape:
    """All measures of one set of features.

    Parameters
    ----------
    activity : Activity
    session : Session
    behaviour : ndarray (trial, time, target)
        For the tangling of behaviour itself.
    settings : Settings
    rng : Generator
    """
    spacing = int(np.ceil(settings.gap / session.bin_width)) if session.contiguous else None
    part = Part(
        activity.name,
        activity.values,
        session.conditions,
        session.bin_width,
        point_sets(
            activity.values.shape[:2],
            spacing=None if spacing is None else max(1, spacing),
            most=settings.most_points,
            rng=rng,
        ),
    )
    found = Shape()
    _dimensions(found, part, settings, rng)
    _signal(found, part, settings, rng)
    _tangling(found, part, behaviour, settings, rng)
    _tubularity(found, part, settings, rng)
    _trajectories(found, part, settings, rng)
    found.error = _errors(found, part, settings, rng)
    return found


def _dimensions(found: Shape, part: Part, settings: Settings, rng: np.random.Generator) -> None:
    rows = part.values.reshape(-1, part.values.shape[-1])
    found.value["participation_ratio"] = participation_ratio(rows)
    found.value["two_nn"] = mean_two_nn(rows, part.points)
    found.part["two_nn_by_scale"] = by_scale(rows, part.points, SCALES, rng)
    null = np.array(
        [
            (participation_ratio(shifted.T), mean_two_nn(shifted.T, part.points))
            for shifted in circular_shifts(rows, settings.surrogates, rng)
        ]
    )
    found.null["participation_ratio"], found.null["two_nn"] = null.T


def _signal(found: Shape, part: Part, settings: Settings, rng: np.random.Generator) -> None:
    repeats = repeats_of(part.reduced().values, part.conditions)
    averages = repeats.conditions * repeats.values.shape[1]
    if averages < 3:
        return
    count = min(settings.signal_components, averages - 1)
    spectrum: SignalSpectrum = signal_spectrum(
        repeats, count=count, splits=settings.splits, shuffles=settings.surrogates, rng=rng
    )
    found.value["signal_dimension"] = float(spectrum.dimension)
    found.null["signal_dimension"] = spectrum.null_dimension.astype(float)
    # A count is too coarse a statistic: whether there is any signal is told by the first variance.
    first = p_value(spectrum.variance[:1], spectrum.null[None, :, 0])
    found.p["signal_dimension"] = float(first[0])
    found.value["signal_participation_ratio"] = spectrum.participation
    found.part["signal_variance"] = spectrum.variance
    found.part["noise_limit"] = np.quantile(spectrum.null, 0.95, axis=0)
    found.part["signal_total"] = np.array(spectrum.total)
    rows = repeats.averages().reshape(averages, -1)
    found.part["explained_variance_ratio"] = principal_components(rows, settings.components).ratio


def _trial_repeats(part: Part, fewest: int) -> Repeats | None:
    """Repeats of conditions of trials; None where there are none."""
    if not (part.conditions.labels and part.conditions.by_trial):
        return None
    repeats = repeats_of(part.values, part.conditions, fewest=fewest)
    return repeats if repeats.conditions and repeats.values.shape[1] >= 3 else None


def _flow(part: Part, repeats: Repeats, components: int) -> Flow:
    """Flow of soft-normalised averages; counts and rates in Hz."""
    averages = repeats.averages()
    if part.name in ("smoothed_counts", "rates"):
        softening = SOFTENING
    else:
        softening = SOFTENING_SHARE * float(np.ptp(averages, axis=(0, 1)).max())
    normal = soft_normalised(averages, softening)
    return flow_of(normal, components=components, bin_width=part.bin_width)


def _in_hertz(part: Part) -> Part:
    """Squares of the square roots that features are: rates in Hz."""
    if part.name == "smoothed_counts":
        return replace(part, values=part.values**2 / part.bin_width)
    return replace(part, values=part.values**2) if part.name == "rates" else part


def _tangling(
    found: Shape, part: Part, behaviour: np.ndarray, settings: Settings, rng: np.random.Generator
) -> None:
    # An average of one trial still is a trajectory: no repeats are needed.
    repeats = _trial_repeats(_in_hertz(part), 1)
    if repeats is None:
        return
    flow = _flow(part, repeats, settings.components)
    step = time_step(flow, settings.most_points)
    of_state = tangling(flow, step=step)
    found.value["tangling"] = float(np.quantile(of_state, QUANTILE))
    found.null["tangling"] = np.array(
        [
            np.quantile(tangling(shifted_flow(flow, rng), step=step), QUANTILE)
            for _ in range(settings.shuffles)
        ]
    )
    full = np.full((len(part.conditions.labels), part.values.shape[1]), np.nan)
    full[repeats.kept[:, None], np.arange(0, full.shape[1], step)] = of_state
    found.part["tangling_of_state"] = full
    found.part["tangling_behaviour"] = np.array(_of_behaviour(behaviour, part, settings))


def _of_behaviour(behaviour: np.ndarray, part: Part, settings: Settings) -> float:
    """0.9-quantile of the tangling of behaviour's condition averages; NaN without behaviour."""
    if not behaviour.shape[-1]:
        return np.nan
    there = np.isfinite(behaviour).all(axis=(1, 2))
    repeats = make_repeats(behaviour[there], part.conditions.of[there], fewest=1)
    if not repeats.conditions:
        return np.nan
    averages = repeats.averages()
    averages = averages[..., np.ptp(averages, axis=(0, 1)) > 0]
    if not averages.shape[-1]:
        return np.nan
    normal = soft_normalised(averages, 0.0)
    flow = flow_of(normal, components=settings.components, bin_width=part.bin_width)
    step = time_step(flow, settings.most_points)
    return float(np.quantile(tangling(flow, step=step), QUANTILE))


def _bundles(part: Part, components: int, *, blocks: bool) -> Repeats | None:
    """Single trials along the components of all bins, which know no labels."""
    values = in_blocks(part.values) if blocks else part.values
    rows = values.reshape(-1, values.shape[-1])
    scores = principal_components(rows, components).project(rows)
    scores = scores.reshape(*values.shape[:2], -1)
    repeats = _trial_repeats(replace(part, values=scores), FEWEST_CURVES)
    return repeats if repeats is not None and repeats.conditions > 1 else None


def _tubularity(found: Shape, part: Part, settings: Settings, rng: np.random.Generator) -> None:
    bundles = _bundles(part, settings.components, blocks=True)
    raw = _bundles(part, settings.components, blocks=False)
    if bundles is None or raw is None:
        return
    own, null = radii(bundles), shuffled_radii(bundles, settings.shuffles, rng)
    middle = np.median(null, axis=1)
    found.value["tubularity_ratio"] = float(np.median(own) / middle.mean())
    found.null["tubularity_ratio"] = middle / middle.mean()
    ratio, s_tight = np.full((2, len(part.conditions.labels)), np.nan)
    ratio[bundles.kept] = own / null.mean(axis=0)
    s_tight[raw.kept] = raw_tubularity(raw)
    found.part |= {"tubularity_ratio_of_condition": ratio, "s_tight": s_tight}


def _trajectories(found: Shape, part: Part, settings: Settings, rng: np.random.Generator) -> None:
    repeats = repeats_of(part.reduced().values, part.conditions)
    conditions, times = repeats.conditions, repeats.values.shape[1]
    labels = len(part.conditions.labels)
    if conditions > 1:
        distance = mean_distance(repeats.values, repeats.of, conditions)
        null = shuffled_distances(repeats, settings.shuffles, rng)
        found.value["condition_distance"] = float(signed_root(distance.mean()))
        found.null["condition_distance"] = signed_root(null.mean(axis=1))
        found.part |= {"distance": distance, "null_distance": null}
        if labels <= MOST_PAIRS:
            pairs = np.full((labels, labels, times), np.nan)
            pairs[np.ix_(repeats.kept, repeats.kept)] = pairwise_distances(repeats)
            found.part["pairwise_distance"] = pairs
    if conditions and times >= 3:
        speed = squared_speed(repeats.values, repeats.of, conditions, part.bin_width)
        null = unlocked_speeds(repeats, part.bin_width, settings.shuffles, rng)
        found.value["speed"] = float(signed_root(speed.mean()))
        found.null["speed"] = signed_root(null.mean(axis=1))
        full = np.full((labels, times), np.nan)
        full[repeats.kept] = speed
        found.part |= {"speed": full, "null_speed": null}


def _errors(
    found: Shape, part: Part, settings: Settings, rng: np.random.Generator
) -> dict[str, float]:
    """Standard error of every measure but the signal dimension, a count."""
    seed = int(rng.integers(2**31))
    if settings.resample == "units":
        strata = np.zeros(part.values.shape[-1])
    else:
        c = part.conditions
        strata = c.of if c.labels and c.by_trial else np.zeros(len(part.values))
    groups = jackknife_groups(strata, rng)

    def estimate(kept: np.ndarray) -> dict[str, float]:
        some = part.of_units(kept) if settings.resample == "units" else part.of_trials(kept)
        # The same shuffles each time: their own spread is no error of the measure.
        return _estimates(found, some, settings, np.random.default_rng(seed))

    return jackknife(groups, estimate)


def _estimates(
    found: Shape, part: Part, settings: Settings, rng: np.random.Generator
) -> dict[str, float]:
    reduced = part.reduced()
    rows = reduced.values.reshape(-1, reduced.values.shape[-1])
    out = {
        "participation_ratio": participation_ratio(rows),
        "two_nn": mean_two_nn(rows, reduced.points),
    }
    if "tangling" in found.value:
        repeats = _trial_repeats(_in_hertz(part), 1)
        if repeats is not None:
            flow = _flow(part, repeats, settings.components)
            step = time_step(flow, settings.most_points)
            out["tangling"] = float(np.quantile(tangling(flow, step=step), QUANTILE))
    if "tubularity_ratio" in found.value:
        bundles = _bundles(reduced, settings.components, blocks=True)
        if bundles is not None:
            null = shuffled_radii(bundles, FEW_SHUFFLES, rng)
            middle = np.median(null, axis=1).mean()
            out["tubularity_ratio"] = float(np.median(radii(bundles)) / middle)
    repeats = repeats_of(reduced.values, reduced.conditions)
    if "signal_dimension" in found.value and found.value["signal_dimension"] > 0:
        counted = int(found.value["signal_dimension"])
        halves = random_halves(repeats.of, settings.splits, rng)
        variance, _ = halved_spectrum(
            repeats.values, repeats.of, repeats.conditions, counted, halves
        )
        out["signal_participation_ratio"] = participation_of(variance)
    if "condition_distance" in found.value and repeats.conditions > 1:
        distance = mean_distance(repeats.values, repeats.of, repeats.conditions)
        out["condition_distance"] = float(signed_root(distance.mean()))
    if "speed" in found.value and repeats.conditions:
        speed = squared_speed(repeats.values, repeats.of, repeats.conditions, part.bin_width)
        out["speed"] = float(signed_root(speed.mean()))
    return out
