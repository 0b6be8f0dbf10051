"""Configuration, session table and layouts: strict schemas, and errors that name the key."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from driftwave.analysis_settings import (
    ActivationsConfig,
    ConnectomeConfig,
    DecoderConfig,
    GroupConfig,
    NamedAnalysisConfig,
)
from driftwave.errors import DriftwaveError, InputError
from driftwave.layout import Layout
from driftwave.search.settings import SearchConfig
from driftwave.strict import Name, Strict

Stage = Literal["fit", "decode", "manifold", "encode", "connectome", "waves"]


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


class DetectorConfig(Strict):
    """One further detector of waves in recordings."""

    plugin: Name | None = Field(None, description="Waves plug-in; default the entry's own name.")
    params: dict[str, Any] = Field(default_factory=dict)


class SpikeWavesConfig(Strict):
    """How spikes are held against the phase of waves."""

    params: dict[str, Any] = Field(default_factory=dict)


class SimulationConfig(Strict):
    """One simulated NWB file, written to <results>/simulated/<name>.nwb."""

    simulator: Name
    seed: int = 0
    params: dict[str, Any] = Field(default_factory=dict)


class ExperimentConfig(Strict):
    """One question asked of many simulated data sets, to <results>/experiments/<name>.zarr."""

    plugin: Name | None = Field(
        None, description="Experiment plug-in; default the entry's own name."
    )
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
    experiments: dict[Name, ExperimentConfig] = Field(default_factory=dict)
    models: dict[Name, ModelConfig]
    decoding: AnalysisConfig = AnalysisConfig(plugin="ridge")
    manifold: AnalysisConfig = AnalysisConfig(plugin="pca")
    waves: AnalysisConfig = AnalysisConfig(plugin="phase_gradient")
    detectors: dict[Name, DetectorConfig] = Field(
        default_factory=dict,
        description="Further detectors of waves in recordings, whose agreement is reported.",
    )
    spike_waves: SpikeWavesConfig = SpikeWavesConfig()
    decoders: dict[Name, DecoderConfig] = Field(
        default_factory=dict,
        description="Further decoders and analyses of decoding, of the recording and the models.",
    )
    geometry: dict[Name, NamedAnalysisConfig] = Field(
        default_factory=dict,
        description="Further analyses of the decoding manifold, of the recording and the models.",
    )
    encoding: AnalysisConfig | None = Field(
        None, description="Analysis of the encoding manifold; null for none."
    )
    activations: dict[Name, ActivationsConfig] = Field(
        default_factory=dict,
        description="Hidden units as populations: further sources of manifold, geometry, encoding.",
    )
    groups: dict[Name, GroupConfig] = Field(
        default_factory=dict, description="Sessions whose populations are aligned and compared."
    )
    connectome: ConnectomeConfig | None = Field(
        None, description="Dynamic functional connectome of each session; null for none."
    )
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
    # Defaults that follow from a field that is wrong are no problems of their own.
    told = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
    first, *others = told
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
