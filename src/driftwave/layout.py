"""The schema of layouts: where a lab's NWB files keep what, and how it is cut and binned."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from driftwave.layout_scores import (
    ProducedIntervalLayout,
    PsthLayout,
    ScoresLayout,
    TruthLayout,
    VelocityLayout,
)
from driftwave.layout_signals import FieldLayout, ImagingLayout, PositionsLayout
from driftwave.strict import Name, Strict

__all__ = [
    "FieldLayout",
    "ImagingLayout",
    "Layout",
    "PositionsLayout",
    "ProducedIntervalLayout",
    "PsthLayout",
    "ScoresLayout",
    "TruthLayout",
    "VelocityLayout",
]


class SpikesLayout(Strict):
    """Where spikes come from."""

    source: str = Field(
        "units",
        description="'units' for the Units table, else the path of another Units table or of a "
        "TimeSeries of counts.",
    )
    where: str | None = Field(
        None, description="Condition on the units table's columns, e.g. \"location == 'ADN'\"."
    )
    region: str | None = Field(
        None,
        description="Units column that names the brain region; columns of the units' electrodes "
        "are named electrode_NAME, e.g. electrode_location.",
    )
    electrode_column: str | None = Field(
        None,
        description="Units column with the id of each unit's electrode, e.g. peak_channel_id, "
        "where the file has no reference.",
    )
    min_observed: float = Field(
        0.8,
        ge=0,
        le=1,
        description="Units observed (obs_intervals) in a smaller share of the trials are left "
        "out; then trials in which a unit that stays was not observed.",
    )
    held_out: float | str = Field(
        0.0,
        description="Share of units a model may not see at evaluation, or a boolean units column.",
    )
    min_rate: float = Field(0.0, ge=0, description="Units below this mean rate (Hz) are left out.")
    positions: PositionsLayout | None = Field(
        None,
        description="Electrode columns that place the units; default those of `field`, if any.",
    )


class WithinLayout(Strict):
    """An interval table around the trials, such as epochs or blocks, whose columns they take on."""

    table: str = Field(description="'trials', 'epochs' or 'intervals/NAME'.")
    prefix: str | None = Field(
        None, description="Put before its columns' names; default the table's name and '_'."
    )
    where: str | None = Field(None, description="Condition on its columns.")


class TrialsLayout(Strict):
    """Trials cut from an interval table."""

    table: str = Field(
        "trials",
        description="'trials', 'intervals/NAME', or the path of another table with times in it.",
    )
    within: list[WithinLayout] = Field(
        default_factory=list,
        description="Interval tables that the alignment event must lie in; trials take on the "
        "columns of the row around them.",
    )
    align: str = Field("start_time", description="Column with the alignment event, s.")
    window: tuple[float, float] = Field(
        description="Start and stop relative to the alignment event, s."
    )
    where: str | None = Field(None, description='Condition on its columns, e.g. "correct == 1".')
    condition: list[str] = Field(
        default_factory=list, description="Columns whose combinations are the conditions."
    )
    on_grid: bool = Field(
        False,
        description="Start each trial at the next whole multiple of the bin width on the session's "
        "clock, as the Neural Latents Benchmark does, instead of at the event itself.",
    )

    @field_validator("window")
    @classmethod
    def _ordered(cls, window: tuple[float, float]) -> tuple[float, float]:
        if window[1] <= window[0]:
            raise ValueError("window must stop after it starts")
        return window


class WindowsLayout(Strict):
    """A continuous recording cut into abutting windows, which then serve as trials."""

    length: float = Field(gt=0, description="Window length, s.")
    start: float | None = Field(None, description="First time used, s; default the first sample.")
    stop: float | None = Field(None, description="Last time used, s; default the last sample.")


class OverlapLayout(Strict):
    """Intervals, or stretches of a series above a level, that trials may overlap."""

    name: Name = Field(description="Trials column that is true for trials that overlap.")
    table: str | None = Field(None, description="'intervals/NAME', 'epochs' or 'trials'.")
    where: str | None = Field(None, description="Condition on the table's columns.")
    series: str | None = Field(
        None, description="Path of a TimeSeries, e.g. an OptogeneticSeries of light power."
    )
    above: float = Field(0.0, description="Level of the series above which it counts.")
    margin: float = Field(0.0, ge=0, description="The intervals are widened by this much, s.")
    action: Literal["leave_out", "mark"] = Field(
        "leave_out",
        description="Leave trials out that overlap, or keep them and say so in the column.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> OverlapLayout:
        if (self.table is None) == (self.series is None):
            raise ValueError("give either table or series")
        if self.where is not None and self.table is None:
            raise ValueError("where is for tables; use above for a series")
        return self


class BehaviorLayout(Strict):
    """One behavioural variable, brought to the bins."""

    name: Name
    series: str = Field(
        description="Path of the TimeSeries in the file; for counts and shares also that of an "
        "interval table."
    )
    binning: Literal["resample", "count", "share", "hold"] = Field(
        "resample",
        description="resample a signal (anti-aliased), count events, take the share of a bin "
        "that intervals cover (IntervalSeries or an interval table), or hold the last value.",
    )
    where: str | None = Field(None, description="Condition on the interval table's columns.")
    missing: list[float] = Field(
        default_factory=list,
        description="Values, in the series' unit, that stand for a missing sample, e.g. [-1].",
    )
    columns: list[int] | None = Field(None, description="Columns used; default all.")
    labels: list[str] | None = Field(None, description="One name per column, e.g. [x, y].")
    kind: Literal["continuous", "circular"] = "continuous"
    lag: float = Field(
        0.0, description="Behaviour is read this long (s) after the bin: neural activity leads."
    )
    at: Literal["centre", "start"] = Field(
        "centre", description="Moment of a bin, plus the lag, that the behaviour is read at."
    )
    unit: str | None = Field(None, description="Unit, where the file leaves it empty.")
    track: list[tuple[float, float]] | None = Field(
        None,
        min_length=2,
        description="Corners of a track, in the series' unit: a position (x, y) becomes the "
        "distance along the track of the nearest point on it.",
    )
    derivative: Literal["velocity", "speed"] | None = Field(
        None, description="Take the rate of change, per column, or its magnitude."
    )
    min_speed: float | None = Field(
        None,
        gt=0,
        description="Bins in which the series changes more slowly (unit per s) count as missing.",
    )
    speed_smoothing: float = Field(
        0.25,
        gt=0,
        le=60,
        description="Standard deviation (s) of the Gaussian the series is smoothed with before "
        "it is differentiated.",
    )

    @model_validator(mode="after")
    def _no_motion_of_angles(self) -> BehaviorLayout:
        if self.kind == "circular" and (self.track or self.derivative or self.min_speed):
            raise ValueError("track, derivative and min_speed are for continuous series")
        signal_only = self.kind == "circular" or self.track or self.derivative or self.min_speed
        if self.binning != "resample" and signal_only:
            raise ValueError("circular, track, derivative and min_speed are for binning: resample")
        if self.track and any(a == b for a, b in zip(self.track, self.track[1:], strict=False)):
            raise ValueError("two corners of the track that follow each other are the same")
        return self


class StimulusLayout(Strict):
    """Trial-table columns that describe the stimulus."""

    columns: list[str]
    circular: dict[str, float] = Field(
        default_factory=dict,
        description="Circular columns and their period, e.g. {direction: 360}.",
    )


class SplitLayout(Strict):
    """How trials are divided into train, valid and test."""

    column: str | None = Field(None, description="Trials column holding train/val(id)/test.")
    words: dict[str, Literal["train", "valid", "test", "unused"]] = Field(
        default_factory=dict,
        description="What words of the column mean where not what they say, e.g. {val: test}.",
    )
    valid: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the column's training trials taken for validation.",
    )
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    by: Literal["trial", "condition", "block"] | None = Field(
        None,
        description="Random trials within condition, whole conditions, or contiguous blocks with a "
        "one-window gap; default trial for trials and block for windows.",
    )
    overlap: Literal["separate", "keep"] | None = Field(
        None,
        description="Trials that overlap in time: separate keeps them on one side of the split or "
        "leaves the training trial out; default, except for a split named by a column: keep.",
    )
    seed: int = 0

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1) > 1e-6 or min(fractions) <= 0:
            raise ValueError("fractions must be positive and sum to 1")
        return fractions


class Layout(Strict):
    """A lab's habits: what in its NWB files is used, and how it is cut and binned."""

    name: Name
    description: str
    bin_width: float = Field(0.02, gt=0, description="Bin width, s.")
    forward: float = Field(
        0.0,
        ge=0,
        description="Length (s) at the end of each trial hidden from models at evaluation.",
    )
    spikes: SpikesLayout | None = None
    trials: TrialsLayout | None = None
    windows: WindowsLayout | None = None
    overlaps: list[OverlapLayout] = Field(
        default_factory=list,
        description="Intervals, such as light or licking, whose trials are left out or marked.",
    )
    invalid_times: Literal["leave_out", "ignore"] = Field(
        "leave_out",
        description="Trials that overlap the file's invalid_times are left out, samples of field "
        "and imaging in them are missing.",
    )
    behavior: list[BehaviorLayout] = Field(default_factory=list)
    stimulus: StimulusLayout | None = None
    field: FieldLayout | None = None
    imaging: ImagingLayout | None = None
    waves: dict[str, Any] | None = Field(
        None,
        description="Parameters of wave analyses that suit this recording, e.g. {band: [0.05, "
        "0.5]}; each analysis takes those it has, then those under its own name, and the "
        "configuration overrides them. A detector named with null does not run. A "
        "recording of spikes alone is searched for waves only if this is given.",
    )
    truth: TruthLayout | None = None
    split: SplitLayout = SplitLayout()
    scores: ScoresLayout | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Layout:
        if self.spikes and not (self.trials or self.windows):
            raise ValueError("spikes need either trials or windows to be cut into")
        if self.trials and self.windows:
            raise ValueError("give either trials or windows, not both")
        if not (self.spikes or self.field or self.imaging):
            raise ValueError("a layout needs spikes, field or imaging")
        return self

    def groups(self) -> set[str]:
        """Names of the recording groups this layout yields."""
        names = ("spikes", "field", "imaging", "behavior", "stimulus", "truth")
        return {name for name in names if getattr(self, name)}

    def wave_signal(self) -> Literal["field", "imaging", "spikes"] | None:
        """The signal with positions that waves are looked for in, if the layout names one.

        As :func:`driftwave.phase.signal.wave_signal` chooses.
        """
        if self.field and self.field.positions:
            return "field"
        if self.imaging and self.imaging.positions:
            return "imaging"
        if self.spikes and (self.spikes.positions or (self.field and self.field.positions)):
            return "spikes"
        return None
