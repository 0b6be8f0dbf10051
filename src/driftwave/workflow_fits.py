"""Which models a configuration fits to which session, and what each analysis can run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from driftwave import registry
from driftwave.address import is_remote
from driftwave.config import (
    Config,
    Session,
    find_layout,
    load_layout,
    load_sessions,
    parse_config,
)
from driftwave.layout import Layout
from driftwave.seeds import Member, ensemble_of, members_of

RECORDING = "recording"  # the source that is the recording itself, not a model
SIMULATED = "simulated"  # folder of simulated files, beside those of the sessions
EXPERIMENTS = "experiments"  # folder of what experiments find
GROUPS = "groups"  # folder of what compares sessions
RESERVED = {
    SIMULATED: "simulated files are kept",
    EXPERIMENTS: "results of experiments are kept",
    GROUPS: "comparisons of sessions are kept",
}
SIGNALS = ("spikes", "field")  # what models observe


@dataclass(frozen=True)
class Job:
    """One command of the workflow.

    Attributes
    ----------
    session : str
        Session, or the folder of what is no single session's: ``simulated``, ``experiments``,
        ``groups``.
    stage : str
        Subcommand.
    name : str
        Model, source, figure or simulation; empty where a session has one such job.
    outputs, inputs : tuple of str
        Paths.
    log : str
    """

    session: str
    stage: str
    name: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    log: str


@dataclass
class FitPlan:
    """The sessions of a configuration and what is fitted to each.

    Parameters
    ----------
    config : Config
    sessions : dict of str to Session
    left_out : dict of str to str
        Sessions left out because their NWB file is not there (``absent: skip``), and that file.
    """

    config: Config
    sessions: dict[str, Session]
    left_out: dict[str, str] = field(default_factory=dict)
    _layouts: dict[str, Layout] = field(default_factory=dict)
    _fits: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, content: Mapping[str, Any], file: str | Path = "config") -> Self:
        """Read the session table that a configuration mapping names.

        Raises
        ------
        InputError
            If the configuration or the table breaks its schema.
        """
        config = parse_config(content, file)
        plan = cls(config, {row.session: row for row in load_sessions(config.sessions)})
        if config.absent == "skip":
            plan._leave_out_absent()
        return plan

    def _leave_out_absent(self) -> None:
        made = {Path(self.path(SIMULATED, f"{name}.nwb")) for name in self.config.simulations}
        for session in list(self.sessions):
            if not self.nwb_files(session):  # whether an address answers, its ingest finds out
                continue
            path = Path(self.nwb(session))
            if path not in made and not path.is_file():
                self.left_out[session] = str(path)
                del self.sessions[session]

    def layout(self, session: str) -> Layout:
        """The session's layout."""
        name = self.sessions[session].layout
        if name not in self._layouts:
            self._layouts[name] = load_layout(name, self.config.layouts)
        width = self.sessions[session].bin_width
        layout = self._layouts[name]
        return layout.model_copy(update={"bin_width": width}) if width else layout

    def layout_path(self, session: str) -> str:
        """Path of the session's layout file."""
        return str(find_layout(self.sessions[session].layout, self.config.layouts))

    def nwb(self, session: str) -> str:
        """Path or address of the session's NWB file."""
        named = self.sessions[session].nwb
        return named if is_remote(named) else str(Path(self.config.data_root) / named)

    def nwb_files(self, session: str) -> list[str]:
        """The session's NWB file if it is a local one."""
        return [] if is_remote(self.sessions[session].nwb) else [self.nwb(session)]

    def remote_options(self, session: str) -> list[str]:
        """Options that say how a remote NWB file is read; none for a local one."""
        if self.nwb_files(session):
            return []
        cache = ["--cache", self.config.cache] if self.config.cache else []
        return ["--remote", self.config.remote, *cache]

    @cached_property
    def members(self) -> dict[str, Member]:
        """The fits of all configured models by name: one of each, or one for each of its seeds."""
        every = (m for model in self.config.models for m in members_of(self.config, model))
        return {member.name: member for member in every}

    @cached_property
    def ensembles(self) -> dict[str, list[str]]:
        """Ensembles by name, each with the names of the fits it averages."""
        found: dict[str, list[str]] = {}
        for model in self.config.models:
            name = ensemble_of(self.config, model)
            if name and "spikes" in self.observes_of.get(model, ()):
                found[name] = self.fits_of(model)
        return found

    def fits_of(self, model: str) -> list[str]:
        """Names of the fits of a configured model."""
        if model not in self._fits:
            self._fits[model] = [member.name for member in members_of(self.config, model)]
        return list(self._fits[model])

    def model_of(self, name: str) -> str:
        """Configured model of a fit, or the model itself."""
        return self.members[name].model if name in self.members else name

    def plugin_of(self, name: str) -> str:
        """Plug-in of a configured model or of one of its fits."""
        model = self.model_of(name)
        return self.config.models[model].plugin or model

    def params_of(self, name: str) -> dict[str, Any]:
        """Parameters of a fit."""
        return self.config.models[self.model_of(name)].params

    @cached_property
    def observes_of(self) -> dict[str, frozenset[str]]:
        """Signals each configured model observes: spikes, field or both.

        They are the plug-in's ``OBSERVES`` unless its parameter ``observations`` says otherwise.
        """
        known = registry.plugins("models")
        found = {}
        for model, entry in self.config.models.items():
            plugin = known.get(self.plugin_of(model))
            if plugin is not None:
                named = str(entry.params.get("observations", plugin.observes))
                found[model] = frozenset(SIGNALS if named == "both" else {named})
        return found

    def models(self, session: str, observes: str = "") -> list[str]:
        """Models fitted to a session, of one kind of signal or of all."""
        row, groups = self.sessions[session], self.layout(session).groups()
        if not self.wants(session, "fit"):
            return []
        wanted = self.config.models if row.models is None else row.models
        seen = {model: self.observes_of.get(model, frozenset({""})) for model in wanted}
        return [m for m in wanted if seen[m] <= groups and (not observes or observes in seen[m])]

    def fits(self, session: str, observes: str = "") -> list[str]:
        """Fits of a session: its models, or each of their seeds."""
        return [name for model in self.models(session, observes) for name in self.fits_of(model)]

    def averages(self, session: str) -> list[str]:
        """Ensembles of a session."""
        names = (ensemble_of(self.config, model) for model in self.models(session, "spikes"))
        return [name for name in names if name in self.ensembles]

    def shown(self, session: str, observes: str = "") -> list[str]:
        """What stands for each model where not all seeds are wanted: first seed and ensemble."""
        first = [self.fits_of(model)[0] for model in self.models(session, observes)]
        return first + (self.averages(session) if observes == "spikes" else [])

    def seeds(self, session: str) -> dict[str, list[str]]:
        """The session's models of spikes that have several seeds, and their fits."""
        fits = {model: self.fits_of(model) for model in self.models(session, "spikes")}
        return {model: names for model, names in fits.items() if len(names) > 1}

    def can(self, session: str, stage: str) -> bool:
        """Whether a session's layout yields what an analysis needs."""
        layout = self.layout(session)
        groups = layout.groups()
        if stage == "decode":
            return "spikes" in groups and bool(groups & {"behavior", "stimulus"})
        if stage == "manifold":
            return "spikes" in groups
        if stage == "encode":
            return "spikes" in groups and layout.trials is not None
        if stage == "connectome":
            return bool(groups & {"spikes", "imaging"})
        return self.has_positions(session) or bool(self._travelling(session))

    def has_positions(self, session: str) -> bool:
        """Whether the recording itself holds what waves can be seen in."""
        layout = self.layout(session)
        signal = layout.wave_signal()
        return signal is not None and (signal != "spikes" or layout.waves is not None)

    def waves_of(self, name: str) -> str:
        """Kind of waves a source gives: field, loadings, decoded, lattice, ring, or none.

        That of the recording is its field's; that of a model its plug-in's ``GIVES_WAVES``.
        """
        if name == RECORDING:
            return "field"
        plugin = registry.plugins("models").get(self.plugin_of(name))
        return "" if plugin is None else str(plugin.constants.get("GIVES_WAVES", ""))

    def wants(self, session: str, stage: str) -> bool:
        """Whether the session's row of the table asks for a stage, by name or by naming none."""
        wanted = self.sessions[session].stages
        return wanted is None or stage in wanted

    def _travelling(self, session: str) -> list[str]:
        """First fits of the session's models that give waves of their own."""
        first = [self.fits_of(model)[0] for model in self.models(session)]
        loaded = set(self.shown(session, "field")) if self.has_positions(session) else set()
        kinds = {name: self.waves_of(name) for name in first}
        return [n for n, kind in kinds.items() if kind and (kind != "loadings" or n in loaded)]

    def sources(self, session: str, stage: str) -> list[str]:
        """What an analysis runs on: the recording and each model of the right signal.

        Of a model with several seeds, decoding takes each and the ensemble, other analyses the
        first seed and the ensemble.
        """
        if not self.can(session, stage) or not self.wants(session, stage):
            return []
        if stage == "decode":
            return [RECORDING, *self.fits(session, "spikes"), *self.averages(session)]
        if stage == "waves":
            recorded = [RECORDING] if self.has_positions(session) else []
            return recorded + self._travelling(session)
        return [RECORDING, *self.shown(session, "spikes")]

    def path(self, session: str, *parts: str) -> str:
        """A path below the session's folder of results."""
        return "/".join([self.config.results, session, *parts])

    def recording(self, session: str) -> str:
        """Path of the session's recording store."""
        return self.path(session, f"{RECORDING}.zarr")

    def store(self, session: str, result: str, name: str) -> str:
        """Path of a result of a source or model: latents, scores, or that of an analysis stage."""
        if result == "latents":
            return self.path(session, "models", name, "latents.zarr")
        if result == "scores":
            return self.path(session, "scores", f"{name}.tsv")
        folder = {"decode": "decoding", "encode": "encoding"}.get(result, result)
        return self.path(session, folder, f"{name}.zarr")

    def _job(
        self, session: str, stage: str, name: str, outputs: list[str], inputs: list[str]
    ) -> Job:
        log = self.path(session, "logs", f"{stage}.{name}.log" if name else f"{stage}.log")
        return Job(session, stage, name, tuple(outputs), tuple(inputs), log)
