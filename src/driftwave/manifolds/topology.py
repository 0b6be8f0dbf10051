"""Persistent homology of population states with a shift null, and circular coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from driftwave.compute import generator
from driftwave.errors import InputError
from driftwave.geometry.circular_coordinates import circular_coordinate
from driftwave.geometry.topology import (
    PRIME,
    Homology,
    Null,
    Verdict,
    homology,
    judge,
    shifted_homology,
)
from driftwave.geometry.topology_angles import (
    UNMATCHED,
    AngleMatch,
    circular_features,
    match_angle,
)
from driftwave.geometry.topology_points import Recipe, choose_landmarks
from driftwave.readouts.features import features_of, seen_bins
from driftwave.recording import held_out_units, trial_mask

PAPER = "Chaudhuri et al. 2019, Nat. Neurosci.; Gardner et al. 2022, Nature; de Silva et al. 2011"

QUICK = {"shuffles": 20, "points": 60, "angle_shuffles": 20, "rows": 600}

FEWEST_POINTS = 10
SHOWN = 3  # principal components kept for drawing


class Params(BaseModel):
    """Parameters of the analysis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    degree: Literal[0, 1, 2] = Field(
        1, description="Highest degree: 0 components, 1 loops, 2 voids (a torus; costs more)."
    )
    points: int = Field(
        300, ge=20, description="Landmarks; the cost of degree 1 grows with their cube."
    )
    void_points: int = Field(
        140, ge=20, description="Landmarks, the first ones, of which degree 2 is computed."
    )
    shuffles: int = Field(100, ge=20, description="Circular shifts of the null.")
    level: float = Field(
        0.05, gt=0, lt=1, description="Chance of any false bar in a degree of the Betti numbers."
    )
    components: int = Field(6, ge=2, description="Principal components kept.")
    neighbours: int = Field(
        20, ge=1, description="Bins averaged to denoise each one, and to judge density by."
    )
    sparsest: float = Field(
        0.02, ge=0, lt=0.5, description="Share of the bins, the most isolated ones, left out."
    )
    rows: int = Field(5000, ge=50, description="Bins, evenly spaced, that enter the cloud at most.")
    smoothing: float = Field(
        0.2, ge=0, description="Standard deviation (s) of the Gaussian that smooths the counts."
    )
    units: Literal["held_in", "all"] = Field(
        "held_in", description="Units of the counts; held-in units are what models see."
    )
    region: str | None = Field(
        None, description="Only units of this region (counts and rates); default all."
    )
    standardise: bool = Field(
        False, description="Give every unit or latent the same variance first."
    )
    classes: int = Field(
        2, ge=1, description="Circular coordinates at most, of the longest significant loops."
    )
    angle_shuffles: int = Field(
        1000, ge=20, description="Shifts in time of the null of decoded against measured angles."
    )
    bars: int = Field(50, ge=2, description="Bars kept per degree, the longest ones.")


@dataclass(frozen=True)
class Topology:
    """What is found for one set of features.

    Attributes
    ----------
    homology : Homology
    null : Null
    verdict : Verdict
    cloud : ndarray (trial, time, component)
        Every bin, in units of the cloud's radius.
    angles : list of ndarray (trial, time)
        Of each significant loop, rad.
    matches : list of dict of str to AngleMatch
        By circular feature, of each loop.
    """

    homology: Homology
    null: Null
    verdict: Verdict
    cloud: np.ndarray
    angles: list[np.ndarray]
    matches: list[dict[str, AngleMatch]]


def analyse(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params, *, seed: int
) -> xr.Dataset:
    """Barcodes, Betti numbers against chance, and the angle round each significant loop.

    Bins (square-root smoothed counts, a model's square-root rates, latents, activations) are
    projected on principal components, denoised, and thinned to landmarks; ripser gives their
    barcode. The null shifts every unit circularly by itself and does all of it again: only a bar
    longer than nearly all of the null's longest ones counts as a hole. The angle round each
    significant loop is extended to every bin and compared with circular behaviour: rotation and
    direction are chosen on train and valid trials, the error is that of test trials. Seen bins and
    used trials only.

    Parameters
    ----------
    recording : DataTree
        With spikes and trials.
    latents : Dataset or None
        A model's output, or activations.
    params : Params
    seed : int

    Returns
    -------
    Dataset
        ``birth``, ``death`` (features_from, degree, bar) in units of the cloud's root mean square
        radius, longest first, without the component that never dies; ``longest_lifetime``,
        ``lifetime_ratio`` (longest over second), ``p_value``, ``p_value_ratio``,
        ``lifetime_threshold`` and ``betti`` (features_from, degree), ``null_longest_lifetime`` and
        ``null_lifetime_ratio`` (features_from, degree, shuffle); ``angle`` (features_from, loop,
        trial, time), NaN for loops that are not significant; ``behaviour_angle``
        (circular_feature, trial, time); ``circular_correlation``, ``angular_error`` (deg), their
        ``p_value_correlation`` and ``p_value_angular_error``, ``angle_rotation`` and
        ``angle_direction`` (features_from, loop, circular_feature); ``projection``
        (features_from, trial, time, component).

    Raises
    ------
    InputError
        No spikes; a region without units; latents without trials; activity that does not vary or
        visits too few states.
    """
    used = trial_mask(recording, "train", "valid", "test")
    sources = _sources(recording, latents, params)
    behaviour = circular_features(recording, used)
    test = trial_mask(recording, "test")[used]
    found = {
        name: _topology(
            recording.attrs["session"],
            name,
            features[used],
            behaviour,
            test,
            params,
            generator(seed, "topology", name),
        )
        for name, features in sources.items()
    }
    return _dataset(recording, found, behaviour, used, params, seed)


def _sources(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params
) -> dict[str, np.ndarray]:
    sources = features_of(
        recording,
        latents,
        smoothing=params.smoothing,
        units=params.units,
        rate_transform="sqrt",
        needed_by="the topology",
    )
    sources.pop("counts", None)  # bins of single spikes lie on the corners of a cube
    if params.region is None:
        return sources
    every = np.ones(recording["spikes"].sizes["unit"], bool)
    if latents is None and params.units == "held_in":
        every = ~held_out_units(recording)
    chosen = _of_region(recording, params.region)[every]
    for name in {"smoothed_counts", "rates"} & sources.keys():
        sources[name] = sources[name][..., chosen]
    return sources


def _of_region(recording: xr.DataTree, region: str) -> np.ndarray:
    units = recording["units"].to_dataset()
    regions = units["region"].values.astype(str) if "region" in units else np.array([], str)
    if region not in regions.tolist():
        raise InputError(
            file=recording.attrs["session"],
            field="units/region",
            found=f"regions {sorted(set(regions.tolist()))}" if len(regions) else "no regions",
            expected=f"{region!r}, which `region` of the topology asks for",
            fix="Name another region, or leave `region` out for all units",
        )
    return regions == region


def _topology(
    session: str,
    name: str,
    features: np.ndarray,
    behaviour: Mapping[str, np.ndarray],
    test: np.ndarray,
    params: Params,
    rng: np.random.Generator,
) -> Topology:
    """Everything for features (trial, time, dim) of the trials used."""
    varies = np.ptp(features, axis=(0, 1)) > 0 if features.size else np.zeros(0, bool)
    rows = features.reshape(-1, features.shape[-1])[:, varies]
    states = len(np.unique(rows, axis=0)) if varies.sum() > 1 else 1
    if states < FEWEST_POINTS:
        raise InputError(
            file=session,
            field=name,
            found=f"{int(varies.sum())} dims that vary, {states} different states",
            expected=f"at least 2 dims and {FEWEST_POINTS} states",
            fix="Check region, alignment and window, or leave the topology out for this source",
        )
    if params.standardise:
        rows = rows / rows.std(axis=0)
    recipe = Recipe(
        params.components, params.rows, params.neighbours, params.sparsest, params.points
    )
    homology_found = homology(
        choose_landmarks(rows, recipe),
        params.degree,
        void_points=params.void_points,
        cocycles=True,
    )
    null = shifted_homology(
        rows,
        recipe,
        params.degree,
        void_points=params.void_points,
        shuffles=params.shuffles,
        rng=rng,
    )
    verdict = judge(homology_found, null, params.level)
    cloud = homology_found.landmarks.place(rows)
    angles = _angles(homology_found, verdict, cloud, params.classes)
    scored = np.repeat(test, features.shape[1])
    matches = [
        {
            feature: match_angle(
                angle, true.ravel(), scored, shuffles=params.angle_shuffles, rng=rng
            )
            for feature, true in behaviour.items()
        }
        for angle in angles
    ]
    shape = features.shape[:2]
    return Topology(
        homology_found,
        null,
        verdict,
        cloud.reshape(*shape, -1),
        [angle.reshape(shape) for angle in angles],
        matches,
    )


def _angles(found: Homology, verdict: Verdict, cloud: np.ndarray, classes: int) -> list[np.ndarray]:
    """Angle (row,) round each significant loop; NaN where the class does not lift to integers."""
    if len(found.bars) < 2:
        return []
    angles = []
    for index in range(min(int(verdict.betti[1]), classes)):
        birth, death = found.bars[1][index]
        coordinate = circular_coordinate(
            found.landmarks.position, found.cocycles[index], birth, death, PRIME
        )
        angles.append(
            np.full(len(cloud), np.nan) if coordinate is None else coordinate.angle(cloud)
        )
    return angles


def _dataset(
    recording: xr.DataTree,
    found: Mapping[str, Topology],
    behaviour: Mapping[str, np.ndarray],
    used: np.ndarray,
    params: Params,
    seed: int,
) -> xr.Dataset:
    spikes = recording["spikes"].to_dataset()
    time = spikes["time"].values[: seen_bins(recording)]
    attrs = {
        "session": recording.attrs["session"],
        "null": "circular shift of each dim by itself",
        "bin_width": float(spikes.attrs["bin_width"]),
        "level": params.level,
        "prime": PRIME,
        "params": params.model_dump_json(),
        "seed": seed,
    }
    coords = {
        "features_from": list(found),
        "degree": np.arange(params.degree + 1),
        "bar": np.arange(1, params.bars + 1),
        "loop": np.arange(1, params.classes + 1),
        "component": np.arange(1, SHOWN + 1),
        "trial": spikes["trial"].values[used],
        "time": ("time", time, {"units": "s"}),
        "split": ("trial", recording["trials"].dataset["split"].values[used].astype(str)),
    }
    everything = list(found.values())
    variables = _bars(everything, params) | _verdicts(everything) | _coordinates(everything, params)
    if behaviour:
        coords["circular_feature"] = list(behaviour)
        variables["behaviour_angle"] = (
            ("circular_feature", "trial", "time"),
            np.stack(list(behaviour.values())).astype(np.float32),
            {"units": "rad"},
        )
        variables |= _matches(everything, list(behaviour), params.classes)
    return xr.Dataset(variables, coords, attrs)


def _bars(everything: list[Topology], params: Params) -> dict[str, Any]:
    bars = np.full((len(everything), params.degree + 1, params.bars, 2), np.nan)
    for i, one in enumerate(everything):
        for degree, found in enumerate(one.homology.bars):
            kept = found[: params.bars]
            bars[i, degree, : len(kept)] = kept
    dims = ("features_from", "degree", "bar")
    radius = {"units": "radius of the cloud"}
    return {"birth": (dims, bars[..., 0], radius), "death": (dims, bars[..., 1], radius)}


def _verdicts(everything: list[Topology]) -> dict[str, Any]:
    dims = ("features_from", "degree")

    def of(name: str) -> np.ndarray:
        return np.array([getattr(one.verdict, name) for one in everything])

    radius, one = {"units": "radius of the cloud"}, {"units": "1"}
    shifted = (*dims, "shuffle")
    return {
        "longest_lifetime": (dims, of("longest"), radius),
        "lifetime_ratio": (dims, of("ratio"), one | {"long_name": "longest over second longest"}),
        "p_value": (dims, of("p"), one | {"long_name": "of the longest lifetime"}),
        "p_value_ratio": (dims, of("p_ratio"), one | {"long_name": "of the lifetime ratio"}),
        "lifetime_threshold": (dims, of("threshold"), radius),
        "betti": (dims, of("betti"), one),
        "null_longest_lifetime": (shifted, np.array([t.null.longest for t in everything]), radius),
        "null_lifetime_ratio": (shifted, np.array([t.null.ratio for t in everything]), one),
    }


def _coordinates(everything: list[Topology], params: Params) -> dict[str, Any]:
    shape = everything[0].cloud.shape[:2]
    angle = np.full((len(everything), params.classes, *shape), np.nan, np.float32)
    projection = np.full((len(everything), *shape, SHOWN), np.nan, np.float32)
    for i, one in enumerate(everything):
        shown = one.cloud[..., :SHOWN]
        projection[i, ..., : shown.shape[-1]] = shown
        for k, found in enumerate(one.angles):
            angle[i, k] = found
    return {
        "angle": (("features_from", "loop", "trial", "time"), angle, {"units": "rad"}),
        "projection": (
            ("features_from", "trial", "time", "component"),
            projection,
            {"units": "radius of the cloud"},
        ),
    }


_MATCHES = {
    "circular_correlation": ("correlation", "1"),
    "p_value_correlation": ("p_correlation", "1"),
    "angular_error": ("error", "deg"),
    "p_value_angular_error": ("p_error", "1"),
    "angle_rotation": ("rotation", "rad"),
    "angle_direction": ("direction", "1"),
}


def _matches(everything: list[Topology], features: list[str], classes: int) -> dict[str, Any]:
    variables = {}
    for name, (field, unit) in _MATCHES.items():
        values = np.full((len(everything), classes, len(features)), np.nan)
        for i, one in enumerate(everything):
            for k, match in enumerate(one.matches):
                values[i, k] = [getattr(match.get(f, UNMATCHED), field) for f in features]
        variables[name] = ("features_from", "loop", "circular_feature"), values, {"units": unit}
    return variables
