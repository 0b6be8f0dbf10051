"""What a configuration may ask of populations beside the main analyses: strict schemas."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from driftwave.strict import Name, Strict


class OfSessions(Strict):
    """What runs on every session that it suits, or on some."""

    sessions: list[Name] | None = Field(
        None, min_length=1, description="Sessions; default all that it suits."
    )


class NamedAnalysisConfig(OfSessions):
    """One further analysis of the same kind as a main one."""

    plugin: Name | None = Field(None, description="Plug-in; default the entry's own name.")
    params: dict[str, Any] = Field(default_factory=dict)
    sources: Literal["recording", "all"] = Field(
        "all", description="The recording alone, or every model as well."
    )


class DecoderConfig(NamedAnalysisConfig):
    """One further decoder, or analysis of decoding."""

    activations: bool = Field(
        False, description="Also decode from the activations that the configuration names."
    )

    @model_validator(mode="after")
    def _has_sources(self) -> DecoderConfig:
        if self.activations and self.sources == "recording":
            raise ValueError("activations: true needs sources: all")
        return self


class ActivationsConfig(OfSessions):
    """Hidden units of a model, or responses of any other units to the trials, as populations."""

    model: Name | None = Field(None, description="Configured model whose hidden units they are.")
    path: str | None = Field(
        None,
        description="NWB file or zarr store of activations; relative paths start at data_root, "
        "and {session} stands for the session's name.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> ActivationsConfig:
        if (self.model is None) == (self.path is None):
            raise ValueError("give either model or path")
        if self.path is not None and not self.path.endswith((".nwb", ".zarr")):
            raise ValueError("path must end in .nwb or .zarr")
        if self.path is not None and self.sessions is None and "{session}" not in self.path:
            raise ValueError("path must hold {session}, or sessions must name whose it is")
        return self


class GroupConfig(Strict):
    """Sessions whose populations are compared."""

    sessions: list[Name] = Field(min_length=2)
    source: Name = Field(
        "recording", description="recording, or the model or activations that are compared."
    )
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_once(self) -> GroupConfig:
        if len(set(self.sessions)) < len(self.sessions):
            raise ValueError("sessions must name each session once")
        return self


class ConnectomeConfig(OfSessions):
    """How the communities of a session's time-varying affinities are found."""

    params: dict[str, Any] = Field(default_factory=dict)
