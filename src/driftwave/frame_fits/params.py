"""Parameters that all detectors of this folder share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from driftwave.phase.band import Band


class DetectorParams(BaseModel):
    """Which signal is looked at, in which band, against how many surrogates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Literal["auto", "field", "imaging", "spikes"] = Field(
        "auto", description="Signal of the recording that waves are looked for in."
    )
    band: Band = Field((5.0, 40.0), description="Pass band, Hz.")
    phase: Literal["generalized", "narrowband"] = Field(
        "generalized",
        description="generalized for a wide band; narrowband, plain analytic phase, for a narrow "
        "one.",
    )
    chunk: float = Field(60.0, gt=0, description="Length of a stretch handled at once, s.")
    surrogates: int = Field(39, ge=9, description="Number of zero-lag surrogates.")

    @property
    def middle(self) -> float:
        """Geometric mean frequency of the band, Hz."""
        return float(self.band[0] * self.band[1]) ** 0.5


class CycleParams(DetectorParams):
    """Parameters of detectors that fit one pattern per cycle."""

    smoothing: float = Field(
        2.0, gt=0, description="SD of the Gaussian that smooths the phase gradient, in pitches."
    )
    threshold: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Quantile of the surrogates' correlation above which a cycle counts.",
    )
    link: float = Field(
        2.0, gt=0, description="Largest shift of the centre from one cycle to the next, in pitches."
    )
    shortest: int = Field(
        3, ge=1, description="Fewest cycles (of the band's geometric mean frequency) of an event."
    )
