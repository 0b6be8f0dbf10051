"""Response tensors with known non-negative factors and random preferred directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.tensors.steps import Shift, rolled


@dataclass(frozen=True)
class Planted:
    """Factors and the responses made of them.

    Attributes
    ----------
    tensor : ndarray (neuron, stimulus, direction, time)
        Noisy, not negative, in the data's own directions.
    neuron : ndarray (neuron, component)
    stimulus : ndarray (stimulus, component)
    response : ndarray (direction, time, component)
    shift : ndarray of int (neuron, stimulus)
        Rolls each map back onto the model, as in PermutedFactors.
    """

    tensor: np.ndarray
    neuron: np.ndarray
    stimulus: np.ndarray
    response: np.ndarray
    shift: np.ndarray


def response_factors(
    directions: int, times: int, rank: int, rng: np.random.Generator
) -> np.ndarray:
    """Responses (direction, time, component): a tuning curve times a time course, peak 1.

    Von Mises tuning (half width 20 to 35 degrees) to the direction alone or to the orientation,
    about one direction for all components; Gaussian time courses of similar latency and random
    width, half of them with a sustained part. Averaged over directions the components are much
    alike: preferred directions have to be found to tell them apart.
    """
    angle = 2 * np.pi * np.arange(directions) / directions
    time = (np.arange(times) + 0.5) / times
    found = np.empty((directions, times, rank))
    for r in range(rank):
        width, opposite = rng.uniform(4, 10), rng.uniform(0, 1)
        curve = np.exp(width * (np.cos(angle) - 1))
        curve = curve + opposite * np.roll(curve, directions // 2)
        latency, spread = rng.uniform(0.2, 0.4), rng.uniform(0.1, 0.25)
        course = np.exp(-0.5 * ((time - latency) / spread) ** 2)
        if r % 2:
            course = np.maximum(course, 0.4 * (time > latency))
        map_ = curve[:, None] * course[None]
        found[..., r] = map_ / map_.max()
    return found


def planted_factors(
    neurons: int,
    stimuli: int,
    directions: int,
    times: int,
    rank: int,
    *,
    rng: np.random.Generator,
    noise: float = 0.3,
    shift: Shift = "per_stimulus",
) -> Planted:
    """Draw factors, shifts and noise.

    Neuron loadings are gamma (shape 0.5: a few components each), stimulus loadings uniform,
    shifts uniform over the directions.

    Parameters
    ----------
    neurons, stimuli, directions, times, rank : int
    rng : Generator
    noise : float
        Norm of the Gaussian noise over that of the responses; sums below 0 become 0.
    shift : {"per_stimulus", "common", "none"}
        What has a preferred direction of its own.
    """
    neuron = rng.gamma(0.5, 1.0, (neurons, rank))
    stimulus = rng.random((stimuli, rank))
    response = response_factors(directions, times, rank, rng)
    shifts = rng.integers(directions, size=(neurons, stimuli))
    if shift == "common":
        shifts = np.repeat(shifts[:, :1], stimuli, axis=1)
    elif shift == "none":
        shifts = np.zeros_like(shifts)
    clean = np.einsum("nr,sr,dtr->nsdt", neuron, stimulus, response, optimize=True)
    clean = rolled(clean, -shifts)
    scale = noise * np.sqrt(np.mean(clean**2))
    noisy = np.maximum(clean + scale * rng.standard_normal(clean.shape), 0)
    return Planted(noisy, neuron, stimulus, response, shifts)
