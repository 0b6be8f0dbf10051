"""What every decoder may be told: folds, null, and which features it reads."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Params(BaseModel):
    """Parameters that all decoders share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folds: int = Field(5, ge=3, description="Folds of whole trials, or of contiguous blocks.")
    gap: int = Field(
        1,
        ge=0,
        description="Windows left out of training either side of a held block, if abutting.",
    )
    shuffles: int = Field(1000, ge=1, description="Permutations or shifts of the null.")
    smoothing: float | tuple[float, ...] = Field(
        0.05,
        description="Standard deviation (s) of the Gaussian of the smoothed counts; of several, "
        "the best is chosen inside each training fold.",
    )
    units: Literal["held_in", "all"] = Field(
        "held_in", description="Units whose counts are decoded; held-in units are what models see."
    )
    rate_transform: Literal["log", "sqrt"] = Field(
        "log", description="Transform of a model's rates (log of at least 0.1 Hz)."
    )
    validate_on: Literal["fitting", "all"] = Field(
        "fitting",
        description="Trials that are cross-validated: train and valid, or the test split as well.",
    )
    features: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Sets of features decoded, such as counts, smoothed_counts, rates, latents or "
        "an activation's name; default all there are.",
    )
    halves: int = Field(
        5, ge=0, description="Random halves of the units of the noise ceiling; 0 leaves it out."
    )

    @field_validator("smoothing")
    @classmethod
    def _widths(cls, smoothing: float | tuple[float, ...]) -> float | tuple[float, ...]:
        widths = smoothing if isinstance(smoothing, tuple) else (smoothing,)
        if not widths or min(widths) < 0:
            raise ValueError("smoothing must be at least one width, none below 0")
        return tuple(sorted(set(widths))) if isinstance(smoothing, tuple) else smoothing

    @property
    def widths(self) -> tuple[float, ...]:
        """Widths of the Gaussian that are tried, s."""
        return self.smoothing if isinstance(self.smoothing, tuple) else (self.smoothing,)
