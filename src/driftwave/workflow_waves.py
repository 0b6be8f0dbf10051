"""What a configuration asks of a session's waves beside the main analysis.

Detectors on the recording, their agreement, the table of events, spikes against the waves' phase,
and a film of the best events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from driftwave import registry
from driftwave.workflow_fits import RECORDING, FitPlan, Job

# Results of the recording's waves that there is one of, as paths below the session's folder.
AGREEMENT, SPIKE_WAVES = "agreement", "spike_waves"
WAVE_RESULTS = (AGREEMENT, SPIKE_WAVES)


@dataclass
class WavePlan(FitPlan):
    """Which jobs follow from waves in a session's recording."""

    def waves_recorded(self, session: str) -> bool:
        """Whether the waves of the session's recording are analysed."""
        return RECORDING in self.sources(session, "waves")

    def wave_params(
        self, session: str, plugin: str, configured: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Parameters of a wave analysis: what the layout says, overridden by the configuration."""
        known = registry.plugins("waves")
        names = registry.parameter_names(known[plugin].module) if plugin in known else None
        suited = self.layout(session).waves or {}
        own = suited.get(plugin) if plugin in known else None
        shared = {k: v for k, v in suited.items() if k not in known}
        shared = {k: v for k, v in shared.items() if names is None or k in names}
        return {**shared, **(own or {}), **configured}

    def recorded_waves(self, session: str) -> str:
        """Path of the main analysis of the recording's waves."""
        return self.path(session, "waves", f"{RECORDING}.zarr")

    def detectors(self, session: str) -> list[str]:
        """Names of the detectors that run on the session's recording."""
        if not self.waves_recorded(session):
            return []
        suited = self.layout(session).waves or {}
        return [
            n for n in self.config.detectors if suited.get(self.detector_plugin(n), {}) is not None
        ]

    def detector_plugin(self, name: str) -> str:
        """Plug-in of a configured detector."""
        return self.config.detectors[name].plugin or name

    def detector_params(self, session: str, name: str) -> dict[str, Any]:
        """Parameters of a configured detector for a session."""
        params = self.config.detectors[name].params
        return self.wave_params(session, self.detector_plugin(name), params)

    def detector_store(self, session: str, name: str) -> str:
        """Path of what a detector finds."""
        return self.path(session, "detectors", f"{name}.zarr")

    def agreeing(self, session: str) -> dict[str, str]:
        """What the agreement of detectors is computed from: name to path."""
        names = self.detectors(session)
        if not names:
            return {}
        main = {self.config.waves.plugin: self.recorded_waves(session)}
        return main | {name: self.detector_store(session, name) for name in names}

    def wave_result(self, session: str, result: str) -> str:
        """Path of the agreement or of spikes against waves; empty if the session has none."""
        asked = bool(self.agreeing(session)) if result == AGREEMENT else self.locks_spikes(session)
        return self.path(session, f"{result}.zarr") if asked else ""

    def locks_spikes(self, session: str) -> bool:
        """Whether the session has units placed beside the field whose waves are found."""
        layout = self.layout(session)
        placed = layout.spikes is not None and layout.wave_signal() == "field"
        return placed and self.waves_recorded(session)

    def film(self, session: str) -> list[str]:
        """Paths of the film of the recording's best events: gif and mp4."""
        if not self.waves_recorded(session):
            return []
        return [self.path(session, "figures", f"wave_film.{end}") for end in ("gif", "mp4")]

    def _wave_jobs(self, session: str) -> Iterator[Job]:
        """What follows from waves in the recording."""
        recording = self.recording(session)
        for name in self.detectors(session):
            store = self.detector_store(session, name)
            yield self._job(session, "detect", name, [store], [recording])
        if not self.waves_recorded(session):
            return
        waves = self.recorded_waves(session)
        table = self.path(session, "waves", f"{RECORDING}.events.csv")
        yield self._job(session, "wave_table", "", [table], [waves])
        yield self._job(session, "wave_film", "", self.film(session), [waves])
        inputs = {"agreement": list(self.agreeing(session).values())}
        inputs["spike_waves"] = [recording, waves]
        for stage, result in zip(("agree", "spike_waves"), WAVE_RESULTS, strict=True):
            store = self.wave_result(session, result)
            if store:
                yield self._job(session, stage, "", [store], inputs[result])
