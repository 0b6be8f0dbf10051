"""Linear oscillators: their recursion, the patterns of their loadings, their table of truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.signal import lfilter

from driftwave.ingest.simulate._episodes import Episode


class Oscillator(BaseModel):
    """One oscillator and its loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frequency: float = Field(gt=0, description="Hz.")
    damping: float = Field(gt=0, lt=1, description="Factor a by which z shrinks per sample.")
    kind: Literal["planar", "radial", "rotating", "standing", "random"] = Field(
        "planar",
        description="Phase of the loadings; standing: a real cosine; random: a smooth complex map.",
    )
    direction: float = Field(
        0.0, description="Of a planar wave, or across a standing one, degrees from +x."
    )
    speed: float = Field(
        200.0, gt=0, description="mm/s; of a standing wave, that of either of its two waves."
    )
    sign: Literal[-1, 1] = Field(1, description="+1 outward or counter-clockwise.")
    centre: tuple[float, float] | None = Field(
        None, description="Of a radial or rotating wave, mm; default the array's."
    )
    amplitude: float = Field(10.0, gt=0, description="RMS over channels of its signal, microvolt.")


DEFAULT = (
    Oscillator(frequency=6, damping=0.985, direction=30, speed=150),
    Oscillator(frequency=11, damping=0.98, direction=-100, speed=250),
    Oscillator(frequency=21, damping=0.96, kind="rotating", sign=1),
    Oscillator(frequency=35, damping=0.93, kind="radial", speed=400, centre=(1.0, 1.2)),
)


def pattern(one: Oscillator, position: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Complex pattern (electrode,) of a loading, up to its size.

    Parameters
    ----------
    position : ndarray (electrode, 2)
        mm.
    random : ndarray, complex (electrode,)
        The smooth map of the kind random.
    """
    if one.kind == "random":
        return random
    middle = (position.min(0) + position.max(0)) / 2
    wave = Episode(
        start=0.0,
        stop=1.0,
        kind="planar" if one.kind == "standing" else one.kind,
        frequency=one.frequency,
        direction=one.direction,
        speed=one.speed,
        sign=one.sign,
        centre=one.centre or (float(middle[0]), float(middle[1])),
    )
    if one.kind == "standing":
        return wave.spatial(position - middle).real.astype(complex)
    return wave.spatial(position)


def recursion(pole: np.ndarray, drive: np.ndarray, before: np.ndarray) -> np.ndarray:
    """x_t = pole x_{t-1} + drive_t of each column, from the state before the first row."""
    out = np.empty_like(drive)
    for column, (p, x) in enumerate(zip(pole, before, strict=True)):
        out[:, column] = lfilter([1], [1, -p], drive[:, column], zi=[p * x])[0]
    return out


def oscillator_table(
    ones: Sequence[Oscillator], position: np.ndarray, loading: np.ndarray, *, still: bool
) -> dict[str, tuple[str, np.ndarray]]:
    """Columns of the table of oscillators as name: (description, values).

    Parameters
    ----------
    position : ndarray (electrode, 2)
        mm.
    loading : ndarray, complex (oscillator, electrode)
        microvolt.
    still : bool
        Whether this is the twin without lags.
    """
    middle = (position.min(0) + position.max(0)) / 2

    def given(name: str, *kinds: str) -> np.ndarray:
        return np.array(
            [getattr(o, name) if o.kind in kinds and not still else np.nan for o in ones]
        )

    turning = [o.kind in ("radial", "rotating") and not still for o in ones]
    centre = np.array(
        [
            (o.centre or middle) if t else (np.nan, np.nan)
            for o, t in zip(ones, turning, strict=True)
        ]
    )
    return {
        "frequency": ("Hz.", np.array([o.frequency for o in ones])),
        "damping": ("Factor per sample.", np.array([o.damping for o in ones])),
        "kind": (
            "planar, radial, rotating, standing or random; zero_lag in the twin.",
            np.array(["zero_lag" if still else o.kind for o in ones]),
        ),
        "direction": (
            "Degrees counter-clockwise from +x; NaN unless planar.",
            given("direction", "planar"),
        ),
        "speed": ("mm/s; NaN unless planar or radial.", given("speed", "planar", "radial")),
        "sign": (
            "+1 outward or counter-clockwise, -1 the opposite, 0 for the others.",
            np.array([o.sign if t else 0 for o, t in zip(ones, turning, strict=True)]),
        ),
        "centre_x": ("mm, as rel_x; NaN unless radial or rotating.", centre[:, 0]),
        "centre_y": ("mm, as rel_y; NaN unless radial or rotating.", centre[:, 1]),
        "loading_re": ("Real part of the loading on each electrode, microvolt.", loading.real),
        "loading_im": ("Imaginary part, microvolt.", loading.imag),
    }
