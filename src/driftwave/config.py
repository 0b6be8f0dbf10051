"""Configuration, session table and layouts: strict schemas, and errors that name the key."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from driftwave.errors import DriftwaveError, InputError
from driftwave.search.settings import SearchConfig

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_\-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Stage = Literal["fit", "decode", "manifold", "waves"]


class Strict(BaseModel):
    """A mapping whose every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PositionsLayout(Strict):
    """Electrode positions."""

    x: str = "rel_x"
    y: str = "rel_y"
    z: str | None = None
    unit: Literal["m", "mm", "um"] = "um"


class SpikesLayout(Strict):
    """Where spikes come from."""

    source: str = Field(
        "units",
        description="'units' for the Units table, else the path of a TimeSeries of counts.",
    )
    where: str | None = Field(
        None, description="pandas query on the units table, e.g. \"location == 'ADN'\"."
    )
    region: str | None = Field(None, description="Units column that names the brain region.")
    held_out: float | str = Field(
        0.0,
        description="Share of units a model may not see at evaluation, or a boolean units column.",
    )
    min_rate: float = Field(0.0, ge=0, description="Units below this mean rate (Hz) are left out.")
    positions: PositionsLayout | None = Field(
        None,
        description="Electrode columns that place the units; default those of `field`, if any.",
    )


class TrialsLayout(Strict):
    """Trials cut from an interval table."""

    table: str = Field("trials", description="'trials' or 'intervals/NAME'.")
    align: str = Field("start_time", description="Column with the alignment event, s.")
    window: tuple[float, float] = Field(
        description="Start and stop relative to the alignment event, s."
    )
    where: str | None = Field(None, description="pandas query on the trials table.")
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


class BehaviorLayout(Strict):
    """One behavioural variable, resampled (anti-aliased) to the bins."""

    name: Name
    series: str = Field(description="Path of the TimeSeries in the file.")
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
        description="Standard deviation (s) of the Gaussian the series is smoothed with before "
        "it is differentiated.",
    )

    @model_validator(mode="after")
    def _no_motion_of_angles(self) -> BehaviorLayout:
        if self.kind == "circular" and (self.track or self.derivative or self.min_speed):
            raise ValueError("track, derivative and min_speed are for continuous series")
        if self.track and any(a == b for a, b in zip(self.track, self.track[1:], strict=False)):
            raise ValueError("two corners of the track that follow each other are the same")
        return self


class FieldLayout(Strict):
    """An ElectricalSeries: LFP or ECoG."""

    series: str = Field(description="Path of the ElectricalSeries in the file.")
    positions: PositionsLayout | None = PositionsLayout()
    good: str | None = Field(
        None, description="Boolean electrodes column; false marks bad channels."
    )
    bad_electrodes: list[int] = Field(
        default_factory=list, description="Electrode ids to mark bad."
    )
    region: str | None = Field(None, description="Electrodes column that names the region.")
    start: float | None = Field(None, description="First time used, s.")
    stop: float | None = Field(None, description="Last time used, s.")
    rate: float | None = Field(
        None, gt=0, description="Resample to about this rate (Hz), after a low-pass; default as is."
    )
    chunk: float = Field(60.0, gt=0, description="Length of a chunk read at once, s.")


class StimulusLayout(Strict):
    """Trial-table columns that describe the stimulus."""

    columns: list[str]
    circular: dict[str, float] = Field(
        default_factory=dict,
        description="Circular columns and their period, e.g. {direction: 360}.",
    )


class TruthLayout(Strict):
    """Ground truth kept in simulated files."""

    rate: str | None = Field(
        None, description="Path of a TimeSeries of true rates, Hz (time x unit)."
    )
    state: str | None = Field(None, description="Path of a TimeSeries of the true latent state.")
    waves: str | None = Field(None, description="Path of an interval table of true waves.")


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
    seed: int = 0

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1) > 1e-6 or min(fractions) <= 0:
            raise ValueError("fractions must be positive and sum to 1")
        return fractions


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
    where: str | None = Field(None, description="pandas query on the trials used.")


class ProducedIntervalLayout(Strict):
    """Speed of the population against an interval the animal produces (correlation)."""

    column: str = Field(description="Trials column of the produced interval.")
    by: list[str] = Field(
        default_factory=list, description="Trials columns; correlations are within their values."
    )
    where: str | None = Field(None, description="pandas query on the trials used.")


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
    behavior: list[BehaviorLayout] = Field(default_factory=list)
    stimulus: StimulusLayout | None = None
    field: FieldLayout | None = None
    truth: TruthLayout | None = None
    split: SplitLayout = SplitLayout()
    scores: ScoresLayout | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Layout:
        if self.spikes and not (self.trials or self.windows):
            raise ValueError("spikes need either trials or windows to be cut into")
        if self.trials and self.windows:
            raise ValueError("give either trials or windows, not both")
        if not (self.spikes or self.field):
            raise ValueError("a layout needs spikes or field")
        return self

    def groups(self) -> set[str]:
        """Names of the recording groups this layout yields."""
        names = ("spikes", "field", "behavior", "stimulus", "truth")
        return {name for name in names if getattr(self, name)}


class ModelConfig(Strict):
    """One model to fit: a plug-in with parameters."""

    plugin: Name | None = Field(None, description="Model plug-in; default the entry's own name.")
    params: dict[str, Any] = Field(default_factory=dict)
    seeds: int | None = Field(
        None, ge=1, description="Fits with different seeds; default the top-level `seeds`."
    )
    ensemble: bool = Field(
        True,
        description="With several seeds, also average the rates over them (models of spikes).",
    )


class AnalysisConfig(Strict):
    """One analysis: a plug-in with parameters."""

    plugin: Name
    params: dict[str, Any] = Field(default_factory=dict)


class SimulationConfig(Strict):
    """One simulated NWB file, written to <results>/simulated/<name>.nwb."""

    simulator: Name
    seed: int = 0
    params: dict[str, Any] = Field(default_factory=dict)


class Config(Strict):
    """The workflow's configuration."""

    results: str = Field("results", description="Folder for all outputs.")
    data_root: str = Field(
        ".", description="Folder that relative NWB paths of the session table start from."
    )
    sessions: str = Field("config/sessions.tsv", description="Session table.")
    absent: Literal["stop", "skip"] = Field(
        "stop",
        description="Sessions whose NWB file is not there: stop before the first job, or leave "
        "them out and list them in the summary.",
    )
    layouts: str = Field("config/layouts", description="Folder of layouts.")
    seed: int = 0
    seeds: int = Field(
        1, ge=1, description="Fits of each model, with seeds `seed`, `seed` + 1 and so on."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    threads: int = Field(1, ge=1, description="Threads of one fit or analysis job.")
    simulations: dict[Name, SimulationConfig] = Field(default_factory=dict)
    models: dict[Name, ModelConfig]
    decoding: AnalysisConfig = AnalysisConfig(plugin="ridge")
    manifold: AnalysisConfig = AnalysisConfig(plugin="pca")
    waves: AnalysisConfig = AnalysisConfig(plugin="phase_gradient")
    search: dict[Name, SearchConfig] = Field(
        default_factory=dict, description="Model: how its parameters are searched."
    )


class Session(Strict):
    """One row of the session table."""

    session: Name
    nwb: str = Field(description="NWB file; relative paths start at data_root.")
    layout: str = Field(description="Layout name or path of a YAML file.")
    models: list[str] | None = Field(
        None, description="Comma-separated model names; empty for all that fit the layout."
    )
    stages: list[Stage] | None = Field(
        None, description="Comma-separated stages; empty for all that fit the layout."
    )
    sha256: str | None = Field(None, description="Checksum of the NWB file, checked if given.")
    bin_width: float | None = Field(
        None, gt=0, description="Bin width, s; empty for that of the layout."
    )

    @field_validator("models", "stages", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()] or None
        return value

    @field_validator("sha256", "bin_width", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None


def _explain(error: ValidationError, file: str | Path, prefix: str = "") -> InputError:
    """One sentence for the first of pydantic's complaints, with a count of the others."""
    first, *others = error.errors()
    key = ".".join([prefix, *map(str, first["loc"])]).strip(".") or "top level"
    more = f" ({len(others)} more problems follow in this file)" if others else ""
    found = first.get("input")
    return InputError(
        file=file,
        field=key,
        found="nothing" if first["type"] == "missing" else repr(found)[:120],
        expected=first["msg"][0].lower() + first["msg"][1:],
        fix=(
            "Remove the key or mend its spelling"
            if first["type"] == "extra_forbidden"
            else f"Set {key} accordingly"
        )
        + more,
    )


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            file=path,
            field="file",
            found="no such file",
            expected="a YAML file",
            fix="Mend the path",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            file=path,
            field="file",
            found=re.sub(r"\s+", " ", str(error)),
            expected="valid YAML",
            fix="Mend the syntax at that line",
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(
            file=path,
            field="top level",
            found=type(content).__name__,
            expected="a mapping of keys",
            fix="Write it as `key: value` lines",
        )
    return content


def parse_config(content: Mapping[str, Any], file: str | Path = "config") -> Config:
    """Validate a configuration mapping (as Snakemake hands it over)."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise _explain(error, file) from error


def load_config(path: str | Path) -> Config:
    """Read and validate a configuration file."""
    return parse_config(_read_yaml(Path(path)), path)


def parse_layout(content: Mapping[str, Any], file: str | Path = "layout") -> Layout:
    """Validate a layout mapping."""
    try:
        return Layout.model_validate(content)
    except ValidationError as error:
        raise _explain(error, file) from error


def find_layout(name: str, folder: str | Path = "config/layouts") -> Path:
    """Path of a layout: as given, by name in ``folder``, or from another package's entry points."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = Path(folder) / f"{name}.yaml"
    if path.exists():
        return path
    from driftwave.registry import layout_paths

    offered = layout_paths()
    if name in offered:
        return offered[name]
    known = sorted({p.stem for p in Path(folder).glob("*.yaml")} | set(offered))
    raise InputError(
        file=path,
        field="layout",
        found=f"no layout named {name!r}",
        expected=f"one of {known}",
        fix="Mend the name, or write a first one with `driftwave inspect FILE --write-layout PATH`",
    )


def load_layout(name: str, folder: str | Path = "config/layouts") -> Layout:
    """Read and validate a layout by name or path."""
    path = find_layout(name, folder)
    return parse_layout(_read_yaml(path), path)


def load_sessions(path: str | Path) -> list[Session]:
    """Read and validate the tab-separated session table; lines starting with ``#`` are skipped.

    Raises
    ------
    InputError
        Naming the row and column at fault, or a session named twice.
    """
    path = Path(path)
    try:
        lines = [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip() and not line.startswith("#")
        ]
    except FileNotFoundError:
        raise InputError(
            file=path,
            field="file",
            found="no such file",
            expected="a tab-separated session table",
            fix="Mend `sessions` in the configuration",
        ) from None
    rows: list[Session] = []
    for number, row in enumerate(csv.DictReader(lines, delimiter="\t"), start=2):
        extra = row.pop(None, None)
        if extra:
            raise InputError(
                file=path,
                field=f"row {number}",
                found=f"{len(extra)} cells too many",
                expected="one cell per column, separated by tabs",
                fix="Remove them",
            )
        try:
            rows.append(Session.model_validate({k: v or "" for k, v in row.items()}))
        except ValidationError as error:
            raise _explain(error, path, prefix=f"row {number}") from error
    names = [row.session for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            file=path,
            field="session",
            found=f"{twice} more than once",
            expected="each session once",
            fix="Rename or remove a row",
        )
    if not rows:
        raise InputError(
            file=path,
            field="rows",
            found="none",
            expected="at least one session",
            fix="Add a line: session, nwb, layout",
        )
    return rows


def parse_params(module: Any, content: Mapping[str, Any], name: str) -> Any:
    """Validate a plug-in's parameters with its own ``Params``."""
    try:
        return module.Params.model_validate(dict(content))
    except ValidationError as error:
        raise _explain(error, "config", prefix=f"{name}.params") from error
    except AttributeError as error:
        raise DriftwaveError(
            f"{module.__name__} has no class Params; see CONTRIBUTING.md."
        ) from error
