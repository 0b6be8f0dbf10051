"""Phase and its gradient in the course of one event, and what a reader is told of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from driftwave.figures.wave_panels import class_label


class Course(NamedTuple):
    """Phase at each electrode in the middle of an event.

    Attributes
    ----------
    time : ndarray (moment,)
        s.
    phase : ndarray (electrode, moment)
        rad.
    gradient : ndarray (2, electrode, moment) or None
        rad/mm, averaged over a cycle; NaN where an electrode has too few neighbours. None if
        it was not kept.
    """

    time: np.ndarray
    phase: np.ndarray
    gradient: np.ndarray | None


def course_of(waves: xr.Dataset, one: xr.Dataset, *, cycles: float, steps: int) -> Course | None:
    """Some cycles in the middle of an event, from the dense phase; None if it was not kept.

    Parameters
    ----------
    waves : Dataset
        What the main analysis wrote.
    one : Dataset
        One event of it.
    cycles : float
    steps : int
        Moments per cycle; frames nearest to them are taken.
    """
    if "phase" not in waves:
        return None
    middle = 0.5 * (float(one["start"]) + float(one["stop"]))
    count = max(1, round(cycles * steps))
    moments = middle + (np.arange(count) / steps - cycles / 2) / float(one["frequency"])
    time = waves["time"].values
    frames = np.clip(np.searchsorted(time, moments), 0, len(time) - 1)
    frames = np.unique(frames) if cycles > 1 else frames
    gradient = None
    if "gradient_x" in waves:
        gradient = _gradient(waves, frames, 0.5 / float(one["frequency"]))
    return Course(time[frames], waves["phase"].isel(time=frames).values.T, gradient)


def _gradient(waves: xr.Dataset, frames: np.ndarray, around: float) -> np.ndarray:
    """Gradient (2, electrode, moment) averaged over ``around`` (s) to either side of ``frames``.

    That of single frames is too noisy to look at.
    """
    time = waves["time"].values
    low = np.searchsorted(time, time[frames] - around)
    high = np.searchsorted(time, time[frames] + around, side="right")
    kept = slice(int(low.min()), int(high.max()))
    values = np.stack([waves[f"gradient_{axis}"].isel(time=kept).values for axis in "xy"])
    known = np.isfinite(values)
    start = np.zeros((2, 1, values.shape[2]))
    total = np.concatenate([start, np.cumsum(np.where(known, values, 0), axis=1)], axis=1)
    count = np.concatenate([start, np.cumsum(known, axis=1)], axis=1)
    low, high = low - kept.start, high - kept.start
    number = count[:, high] - count[:, low]
    mean = (total[:, high] - total[:, low]) / np.where(number > 0, number, np.nan)
    return mean.transpose(0, 2, 1)


def headline(one: xr.Dataset, array: str = "") -> str:
    """Class, frequency, speed and q of an event, and its array if there are several."""
    words = [f"array {array}"] if array else []
    words += [class_label(str(one["class"].values)), f"{float(one['frequency']):.3g} Hz"]
    if np.isfinite(float(one["speed"])):
        words.append(f"{float(one['speed']):.3g} mm/s")
    return ", ".join(words) + f", q = {float(one['q']):.2g}"
