"""Configuration, session table and layouts: strict schemas, and errors that name the key."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from driftwave.address import REMOTE_MEGABYTES, shown, table_fault
from driftwave.analysis_settings import (
    ActivationsConfig,
    ConnectomeConfig,
    DecoderConfig,
    GroupConfig,
    NamedAnalysisConfig,
)
from driftwave.dask_settings import DaskConfig
from driftwave.errors import DriftwaveError, InputError
from driftwave.layout import Layout
from driftwave.reading import check_extent, plain, read_text, read_yaml
from driftwave.search.settings import SearchConfig
from driftwave.strict import NAME_PATTERN, Name, PathText, Strict, WorkflowPath

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

    results: WorkflowPath = Field("results", description="Folder for all outputs.")
    data_root: PathText = Field(
        ".", description="Folder that relative NWB paths of the session table start from."
    )
    sessions: PathText = Field("config/sessions.tsv", description="Session table.")
    absent: Literal["stop", "skip"] = Field(
        "stop",
        description="Sessions whose NWB file is not there: stop before the first job, or leave "
        "them out and list them in the summary.",
    )
    remote: Literal["auto", "ranges", "whole"] = Field(
        "auto",
        description="How NWB files on the web and on DANDI are read: whole if a checksum is "
        "stated, else in ranges (auto); in ranges, DANDI's checksum unchecked; or whole.",
    )
    cache: PathText | None = Field(
        None,
        description="Folder of whole copies of remote files; default that of the environment "
        "variable DRIFTWAVE_CACHE, or driftwave in the user's cache folder.",
    )
    layouts: PathText = Field("config/layouts", description="Folder of layouts.")
    seed: int = 0
    seeds: int = Field(
        1, ge=1, description="Fits of each model, with seeds `seed`, `seed` + 1 and so on."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
        description="auto, cpu, cuda or cuda:N.",
    )
    threads: int = Field(1, ge=1, description="Threads of one fit or analysis job.")
    dask: DaskConfig = Field(
        DaskConfig(), description="Where the tasks of one large job run; default its threads."
    )
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
    nwb: PathText = Field(
        description="NWB file: a path, relative ones from data_root; an http(s) address; or "
        "dandi:DANDISET[@VERSION]/PATH."
    )
    layout: PathText = Field(description="Layout name or path of a YAML file.")
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
    megabytes: float | None = Field(
        None,
        gt=0,
        description="Size of a remote NWB file, MB, from which jobs' memory and time are reckoned; "
        f"default {REMOTE_MEGABYTES:g}.",
    )

    @field_validator("models", "stages", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()] or None
        return value

    @field_validator("nwb")
    @classmethod
    def _usable_address(cls, value: str) -> str:
        fault = table_fault(value)
        if fault:
            raise ValueError(fault)
        return value

    @field_validator("sha256", "bin_width", "megabytes", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None


def _explain(error: ValidationError, file: str | Path, prefix: str = "") -> InputError:
    """One sentence for the first of pydantic's complaints, with a count of the others."""
    # Defaults that follow from a field that is wrong are no problems of their own.
    told = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
    first, *others = told
    key = plain(".".join([prefix, *map(str, first["loc"])]).strip(".")) or "top level"
    more = f" ({len(others)} more problems follow in this file)" if others else ""
    given = first.get("input")
    found = shown(given) if isinstance(given, str) else given  # an address may hold a password
    return InputError(
        file=file,
        field=key,
        found="nothing" if first["type"] == "missing" else plain(repr(found), 120),
        expected=plain(first["msg"][0].lower() + first["msg"][1:]),
        fix=(
            "Remove the key or mend its spelling"
            if first["type"] == "extra_forbidden"
            else f"Set {key} accordingly"
        )
        + more,
    )


def parse_config(content: Mapping[str, Any], file: str | Path = "config") -> Config:
    """Validate a configuration mapping (as Snakemake hands it over)."""
    check_extent(content, file)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise _explain(error, file) from error


def load_config(path: str | Path) -> Config:
    """Read and validate a configuration file."""
    return parse_config(read_yaml(path), path)


def parse_layout(content: Mapping[str, Any], file: str | Path = "layout") -> Layout:
    """Validate a layout mapping."""
    check_extent(content, file)
    try:
        return Layout.model_validate(content)
    except ValidationError as error:
        raise _explain(error, file) from error


def find_layout(name: str, folder: str | Path = "config/layouts") -> Path:
    """Path of a layout: as given, by name in ``folder``, or from another package's entry points."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    path = Path(folder) / f"{name}.yaml"
    # Any other name would reach out of the folder; a layout elsewhere is given by its path.
    if re.match(NAME_PATTERN, name) and path.exists():
        return path
    from driftwave.registry import layout_paths

    offered = layout_paths()
    if name in offered:
        return offered[name]
    known = sorted({p.stem for p in Path(folder).glob("*.yaml")} | set(offered))
    raise InputError(
        file=path,
        field="layout",
        found=f"no layout named {plain(name, 100)!r}",
        expected=f"one of {known}",
        fix="Mend the name, or write a first one with `driftwave inspect FILE --write-layout PATH`",
    )


def load_layout(name: str, folder: str | Path = "config/layouts") -> Layout:
    """Read and validate a layout by name or path."""
    path = find_layout(name, folder)
    return parse_layout(read_yaml(path), path)


def load_sessions(path: str | Path) -> list[Session]:
    """Read and validate the tab-separated session table; lines starting with ``#`` are skipped.

    Raises
    ------
    InputError
        Naming the row and column at fault, or a session named twice.
    """
    rows: list[Session] = []
    for number, row in _table_rows(path):
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
    twice = sorted(name for name, n in Counter(row.session for row in rows).items() if n > 1)
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


def _table_rows(path: str | Path) -> Iterator[tuple[int, dict]]:
    """Rows of a tab-separated table by their line, comments and empty lines left out."""
    text = read_text(
        path,
        expected="a tab-separated session table",
        missing="Mend `sessions` in the configuration",
    )
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    table = csv.DictReader(lines, delimiter="\t", strict=True)
    try:
        heads = list(table.fieldnames or ())
        twice = sorted({plain(name, 60) for name in heads if heads.count(name) > 1})
        if twice:
            raise InputError(
                file=path,
                field="first row",
                found=f"columns {twice} more than once",
                expected="each column once",
                fix="Rename or remove a column",
            )
        yield from enumerate(table, start=2)
    except csv.Error as error:
        raise InputError(
            file=path,
            field=f"row {table.line_num}",
            found=f"what is no row of a table ({plain(error)})",
            expected="cells separated by tabs, quotes in pairs",
            fix="Mend that line",
        ) from error


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
