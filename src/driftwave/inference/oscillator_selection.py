"""How many oscillators, and where they start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from driftwave.errors import InputError
from driftwave.inference.field import FieldSource
from driftwave.inference.oscillator_data import Prepared
from driftwave.inference.oscillator_likelihood import Observations
from driftwave.inference.oscillator_model import Bounds, Oscillators
from driftwave.inference.oscillator_start import (
    START_BANDWIDTH,
    first_guess,
    further_frequencies,
    oscillator_columns,
    spectral_peaks,
    spectrum,
)
from driftwave.inference.oscillator_training import Trained

# Held-out likelihoods that differ by fewer standard errors are equally good.
ERRORS = 3.0
BLOCK_SECONDS = 0.5
# Held-out likelihood may dip once before it rises again; after so many dips the search ends.
DIPS = 2


@dataclass(frozen=True)
class Candidates:
    """Fits with different numbers of oscillators.

    Attributes
    ----------
    count : ndarray of int (candidate,)
    fitted, validation : ndarray (candidate,)
        Log-likelihood, nats.
    parameters : ndarray of int (candidate,)
    """

    count: np.ndarray
    fitted: np.ndarray
    validation: np.ndarray
    parameters: np.ndarray


def starting_frequencies(
    prepared: Prepared,
    source: FieldSource,
    *,
    wanted: int | None,
    most: int,
    per_peak: int,
    band: tuple[float, float],
    prominence: float,
) -> np.ndarray:
    """Starting frequencies (Hz), ascending, one per oscillator.

    Raises
    ------
    InputError
        No spectral peak where the number is left to the peaks; fewer channels than oscillators.
    """
    peaks = spectral_peaks(prepared.recorded, band, prominence)
    if wanted is None and not len(peaks):
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"no spectral peak from {band[0]:g} to {band[1]:g} Hz",
            expected=f"one that stands {prominence:g} dB above the 1/f background",
            fix="Set `oscillators` to a number, widen `band` or lower `peak_prominence`, or leave "
            "this model out for the session",
        )
    starts = np.repeat(peaks, per_peak)
    count = min(len(starts), most) if wanted is None else wanted
    refuse_few_channels(source, count)
    starts = starts[:count]
    if len(starts) < count:
        more = further_frequencies(prepared.recorded, band, peaks, count - len(starts))
        starts = np.concatenate([starts, more])
    return np.sort(starts)


def refuse_few_channels(source: FieldSource, count: int) -> None:
    """Raise InputError where there are fewer good electrodes than oscillators."""
    channels = int(source.good.sum())
    if channels >= count:
        return
    raise InputError(
        file=source.session,
        field="field/good",
        found=f"{channels} good electrodes",
        expected=f"at least as many as oscillators ({count})",
        fix="Lower `oscillators`, or mend the electrodes marked bad in the layout",
    )


def select(
    observations: Observations,
    prepared: Prepared,
    source: FieldSource,
    bounds: Bounds,
    train: Callable[[Oscillators, str], Trained],
    *,
    most: int,
    slow: int,
    band: tuple[float, float],
) -> tuple[Trained, Candidates]:
    """Add oscillators one at a time and keep the number that held-out likelihood asks for.

    That is the smallest number whose held-out likelihood is within three standard errors (of the
    paired difference, over blocks of 0.5 s) of the best one: the best of many tries is a little
    better than it should be by luck (after Breiman et al. 1984, Classification and Regression
    Trees, section 3.4.3). Each starts where the innovations of the model so far have the highest
    spectral peak, with the strongest pattern of their cross-spectrum there.

    Parameters
    ----------
    observations, prepared, source, bounds
    train : callable
        Fits from a start; also takes a name for its checkpoint.
    most : int
        Largest number tried.
    slow : int
        Number of slow factors.
    band : tuple of float
        Hz.

    Raises
    ------
    InputError
        If no oscillator predicts the validation stretch better than none.
    """
    most = min(most, int(source.good.sum()))
    blank = max(0, 1 - slow)
    start = _without_oscillators(observations, prepared, source, bounds, slow)
    trained = [train(start, "em-0")]
    parameters = [trained[0].model.count - blank * (1 + len(start.loading))]
    for count in range(1, most + 1):
        begin = _with_one_more(trained[-1].model, observations, source, bounds, band)
        if blank and count == 1:
            begin = replace(begin, slow_damping=np.empty(0), loading=begin.loading[:, :2])
        trained.append(train(begin, f"em-{count}"))
        parameters.append(trained[-1].model.count)
        held_out = [-t.valid_loss[t.best] for t in trained]
        if len(held_out) - 1 - int(np.argmax(held_out)) >= DIPS:
            break
    table = Candidates(
        count=np.arange(len(trained)),
        fitted=np.array([-t.train_loss[t.best] for t in trained]) * observations.values,
        validation=np.array([-t.valid_loss[t.best] for t in trained]) * observations.later_values,
        parameters=np.array(parameters),
    )
    best = _smallest_as_good([t.model for t in trained], observations, source.rate)
    if best == 0:
        raise InputError(
            file=source.session,
            field="field/lfp",
            found="no oscillator that predicts the validation stretch better than none",
            expected=f"an oscillation between {band[0]:g} and {band[1]:g} Hz",
            fix="Set `oscillators` to a number, widen `band`, or leave this model out for the "
            "session",
        )
    return trained[best], table


def held_out_density(model: Oscillators, observations: Observations) -> np.ndarray:
    """Log-density (time,) of each validation sample given all before it, nats."""
    filtered, _, _ = observations.filter(model)
    density = filtered.energy.copy()
    segments = observations.segments
    for part, index in zip(segments.slices(), segments.pattern, strict=True):
        seen = segments.patterns[index]
        if part.start < observations.fitted or not seen.any():
            continue
        data = observations.data[part][:, seen].astype(np.float64)
        weighted = np.linalg.solve(model.noise_of(seen), data.T).T
        density[part] += np.einsum("tn,tn->t", data, weighted)
        density[part] += seen.sum() * np.log(2 * np.pi) + model.noise_log_determinant(seen)
    return -0.5 * density[observations.fitted :]


def _smallest_as_good(models: list[Oscillators], observations: Observations, rate: float) -> int:
    densities = np.stack([held_out_density(model, observations) for model in models])
    best = int(np.argmax(densities.sum(1)))
    length = max(1, round(BLOCK_SECONDS * rate))
    blocks = max(2, densities.shape[1] // length)
    for count in range(best):
        apart = densities[best] - densities[count]
        sums = np.array([part.sum() for part in np.array_split(apart, blocks)])
        if apart.sum() < ERRORS * np.sqrt(blocks) * sums.std(ddof=1):
            return count
    return best


def checkpoint_name(folder: Path | None, name: str) -> Path | None:
    """Where a candidate's iterations are kept."""
    return folder / f"{name}.npz" if folder else None


def _without_oscillators(
    observations: Observations,
    prepared: Prepared,
    source: FieldSource,
    bounds: Bounds,
    slow: int,
) -> Oscillators:
    """The background alone; without slow factors, one that no channel sees."""
    start = first_guess(
        prepared.standard,
        np.empty(0),
        slow=max(1, slow),
        full=observations.full,
        rate=source.rate,
        bounds=bounds,
    )
    if slow:
        return start
    hidden = np.zeros_like(start.loading)
    noise = start.noise if observations.full else np.ones(len(hidden))
    return replace(start, loading=hidden, noise=noise)


def innovations(model: Oscillators, observations: Observations) -> np.ndarray:
    """What the past did not predict of the fitted stretch (time, channel); NaN where missing."""
    filtered, _, _ = observations.filter(model)
    space = model.state_space(np.zeros((model.loading.shape[1],) * 2))
    ahead = np.zeros((observations.fitted, model.loading.shape[1]))
    ahead[1:] = filtered.mean[: observations.fitted - 1] @ space.transition.T
    train = observations.train
    ahead[train.start[train.fresh]] = 0
    data = observations.data[: observations.fitted]
    left = data - (ahead @ model.loading.T).astype(data.dtype)
    for part, pattern in zip(train.slices(), train.pattern, strict=True):
        left[part, ~train.patterns[pattern]] = np.nan
    return left


def _with_one_more(
    model: Oscillators,
    observations: Observations,
    source: FieldSource,
    bounds: Bounds,
    band: tuple[float, float],
) -> Oscillators:
    highest = min(1.5 * band[1], source.rate / 2.2)
    found = spectrum(innovations(model, observations), source.rate, highest)
    frequency = float(further_frequencies(found, band, np.empty(0), 1)[0])
    density = 2 / source.rate * model.noise if observations.full else None
    columns = np.stack(oscillator_columns(found, frequency, density, 1), axis=1)
    edge = 2 * len(model.angle)
    damping = max(np.exp(-np.pi * START_BANDWIDTH / source.rate), bounds.least_damping)
    return replace(
        model,
        angle=np.append(model.angle, np.clip(2 * np.pi * frequency / source.rate, *bounds.angle)),
        damping=np.append(model.damping, damping),
        loading=np.concatenate([model.loading[:, :edge], columns, model.loading[:, edge:]], axis=1),
    )
