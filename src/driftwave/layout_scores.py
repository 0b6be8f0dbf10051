"""The schema of layouts: ground truth of simulated files, and scores of a recording's own."""

from __future__ import annotations

from pydantic import Field

from driftwave.strict import Name, Strict


class TruthLayout(Strict):
    """Ground truth kept in simulated files."""

    rate: str | None = Field(
        None, description="Path of a TimeSeries of true rates, Hz (time x unit)."
    )
    state: str | None = Field(None, description="Path of a TimeSeries of the true latent state.")
    waves: str | None = Field(None, description="Path of an interval table of true waves.")
    site_re: str | None = Field(
        None, description="Path of a TimeSeries of the true field's real part (time x site)."
    )
    site_im: str | None = Field(None, description="The same of its imaginary part.")
    sites: str | None = Field(
        None, description="Path of a table of sites, with columns x and y in mm."
    )
    oscillators: str | None = Field(
        None,
        description="Path of a table of true oscillators, with columns frequency, damping, kind, "
        "direction, speed, sign, centre_x, centre_y, loading_re and loading_im.",
    )
    parameters: str | None = Field(
        None, description="Path of a table of one row, whose columns become attributes."
    )


class VelocityLayout(Strict):
    """Behaviour read out of rates by ridge regression (velocity R2)."""

    features: list[str] = Field(
        min_length=1, description="Features of `behavior`, e.g. [hand_vel_x, hand_vel_y]."
    )
    by: str | None = Field(
        None, description="Trials column; each of its values has a decoder, scores are averaged."
    )


class PsthLayout(Strict):
    """Condition means of rates against smoothed spikes (PSTH R2)."""

    sd: float = Field(gt=0, description="Standard deviation of the smoothing Gaussian, s.")
    where: str | None = Field(None, description="Condition on columns of the trials used.")


class ProducedIntervalLayout(Strict):
    """Speed of the population against an interval the animal produces (correlation)."""

    column: str = Field(description="Trials column of the produced interval.")
    by: list[str] = Field(
        default_factory=list, description="Trials columns; correlations are within their values."
    )
    where: str | None = Field(None, description="Condition on columns of the trials used.")


class ScoresLayout(Strict):
    """Scores that need to be told what the recording's behaviour and trials mean."""

    name: Name | None = Field(
        None, description="Name in files of the Neural Latents Benchmark; default the session's."
    )
    start: str | None = Field(
        None, description="Trials column, s: seen bins that start before it are not scored."
    )
    velocity: VelocityLayout | None = None
    psth: PsthLayout | None = None
    produced_interval: ProducedIntervalLayout | None = None
