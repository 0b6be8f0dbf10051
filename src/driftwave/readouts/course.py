"""The start all continuous decoders share: features, targets, folds and the sheet of results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.errors import InputError
from driftwave.readouts.features import features_of, trial_means
from driftwave.readouts.jobs import Job, Scheme, Span, regression_jobs
from driftwave.readouts.params import Params
from driftwave.readouts.results import Results
from driftwave.readouts.targets import (
    Target,
    behaviour_targets,
    stimulus_classes,
    stimulus_targets,
    varies,
)
from driftwave.recording import trial_mask


@dataclass(frozen=True)
class Course:
    """What is decoded from what.

    Attributes
    ----------
    sources : dict of list of ndarray (trial, time, dim)
        Features by name; several of one name differ in their smoothing.
    jobs : list of Job
    classes : list of str
        Discrete stimulus columns, where these are decoded as well.
    results : Results
    """

    sources: dict[str, list[np.ndarray]]
    jobs: list[Job]
    classes: list[str]
    results: Results

    def views(self, name: str, job: Job) -> list[np.ndarray]:
        """The features of one name, bin by bin or one row per trial as the job asks."""
        if job.targets[0].per == "bin":
            return self.sources[name]
        return [trial_means(name, features) for features in self.sources[name]]


def begin(
    recording: xr.DataTree,
    latents: xr.Dataset | None,
    params: Params,
    span: int | Span,
    *,
    seed: int,
    discrete: bool = False,
) -> Course:
    """Features, targets that vary, and folds and labels for those that share their bins.

    Parameters
    ----------
    recording : DataTree
    latents : Dataset or None
    params : Params
    span : int or function
        As of :func:`driftwave.readouts.jobs.regression_jobs`.
    seed : int
    discrete : bool
        Whether discrete stimuli are decoded too.

    Raises
    ------
    InputError
        No spikes; neither behaviour nor stimulus; nothing that varies; too few trials; latents
        without trials; features that are all constant.
    """
    sources = _sources(recording, latents, params)
    targets = behaviour_targets(recording) + stimulus_targets(recording)
    classes = list(stimulus_classes(recording)) if discrete else []
    used = trial_mask(recording, "train", "valid", "test")
    varying = [i for i, target in enumerate(targets) if varies(target, used)]
    if not varying and not classes:
        raise _nothing(recording, targets)
    for name, views in sources.items():
        if all(np.ptp(features[used], axis=(0, 1)).max(initial=0) == 0 for features in views):
            raise InputError(
                file=recording.attrs["session"],
                field=name,
                found=f"{views[0].shape[-1]} units or latents, none of which varies",
                expected="features that vary",
                fix="Leave this source out, or name other `features`",
            )
    scheme = Scheme(params.folds, params.gap, params.shuffles, params.validate_on, seed)
    jobs = list(regression_jobs(recording, targets, varying, span, scheme))
    results = Results(recording, list(sources), targets, params.folds)
    return Course(sources, jobs, classes, results)


def _sources(
    recording: xr.DataTree, latents: xr.Dataset | None, params: Params
) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for width in params.widths:
        features = features_of(
            recording,
            latents,
            smoothing=width,
            units=params.units,
            rate_transform=params.rate_transform,
            needed_by="decoding",
            features=params.features,
        )
        for name, values in features.items():
            if name == "smoothed_counts" or name not in found:
                found.setdefault(name, []).append(values)
    return found


def _nothing(recording: xr.DataTree, targets: list[Target]) -> InputError:
    names = [target.name for target in targets]
    return InputError(
        file=recording.attrs["session"],
        field="behavior, stimulus",
        found=f"only constant or missing values in {names}" if names else "neither",
        expected="behaviour or a stimulus column that varies",
        fix="Name others in the layout, or leave decoding out for this session",
    )
