"""Which figures the report holds: what each is drawn from, and of which sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from driftwave import registry

# Order of the report's subcategories.
REPORT_STAGES = (
    "recording",
    "models",
    "scores",
    "decoding",
    "manifold",
    "encoding",
    "alignment",
    "connectome",
    "waves",
)
# Results of which there is one per configured entry (and source), and the constant that names the
# plug-ins whose results are drawn.
_PLUGINS = {"detectors": "DETECTOR", "decoders": "DECODER", "geometry": "GEOMETRY"}


@dataclass(frozen=True)
class FigureKind:
    """What a figure is drawn from and where the report shows it, as its module's constants say.

    Attributes
    ----------
    stage : str
        ``STAGE``: subcategory in the report.
    results : str
        ``RESULTS``: what the figure takes, once per source or model: ``decode``, ``manifold``,
        ``encoding``, ``waves``, ``latents``, ``scores``; once per detector of ``plugins``:
        ``detectors``; once per entry of ``plugins`` and source: ``decoders``, ``geometry``; one
        of a session: ``agreement``, ``spike_waves``, ``connectome``, ``both_sides``; one of a
        group of sessions: ``group``; or nothing.
    plugins : frozenset of str
        ``DETECTOR``, ``DECODER`` or ``GEOMETRY``: plug-ins, separated by spaces, whose results
        are drawn.
    each : bool
        ``EACH``: one figure per source or model, instead of one that holds them all.
    observes : str
        ``OBSERVES``: only for models of this kind of signal.
    curves : bool
        ``CURVES``: only for models that give training curves; then of every seed.
    ensembles : bool
        ``ENSEMBLES``: takes an ensemble, which has rates but no latents, in its seeds' place.
    waves : frozenset of str
        ``WAVES``: kinds of waves it shows, separated by spaces; only for sources that give one of
        them (:meth:`driftwave.workflow_fits.FitPlan.waves_of`). Empty for any source.
    forward : bool
        ``FORWARD``: only for sessions with forward bins.
    """

    stage: str
    results: str = ""
    each: bool = False
    observes: str = ""
    curves: bool = False
    ensembles: bool = False
    waves: frozenset[str] = frozenset()
    forward: bool = False
    plugins: frozenset[str] = frozenset()

    @property
    def stage_drawn(self) -> str:
        """Stage whose results the figure takes, where it is that of an analysis."""
        return "encode" if self.results == "encoding" else self.results

    @property
    def wildcards(self) -> tuple[str, ...]:
        """What tells the figures of this kind in a session apart, as wildcards of their paths."""
        if self.results in ("decoders", "geometry"):
            return ("entry", "source")
        return ("source",) if self.each or self.results == "detectors" else ()

    @property
    def of(self) -> str:
        """What the figure shows, for the report's table."""
        if self.wildcards:
            return ", ".join(f"{{{name}}}" for name in self.wildcards)
        if self.results in ("", "spike_waves", "connectome", "both_sides"):
            return "recording"
        if self.results == "agreement":
            return "all detectors"
        return "all models" if self.results in ("latents", "scores") else "all sources"


def _plugins_of(figure: registry.Plugin) -> frozenset[str]:
    constant = _PLUGINS.get(str(figure.constants.get("RESULTS", "")), "")
    return frozenset(str(figure.constants.get(constant, "")).split())


def figure_kinds() -> dict[str, FigureKind]:
    """Figures of the report by name: the figure plug-ins that name a ``STAGE``."""
    kinds = {
        name: FigureKind(
            stage=str(plugin.constants["STAGE"]),
            results=str(plugin.constants.get("RESULTS", "")),
            each=bool(plugin.constants.get("EACH", False)),
            observes=plugin.observes,
            curves=bool(plugin.constants.get("CURVES", False)),
            ensembles=bool(plugin.constants.get("ENSEMBLES", False)),
            waves=frozenset(str(plugin.constants.get("WAVES", "")).split()),
            forward=bool(plugin.constants.get("FORWARD", False)),
            plugins=_plugins_of(plugin),
        )
        for name, plugin in registry.plugins("figures").items()
        if "STAGE" in plugin.constants
    }
    rank = {stage: place for place, stage in enumerate(REPORT_STAGES)}
    return dict(sorted(kinds.items(), key=lambda item: rank.get(item[1].stage, len(rank))))


def group_figures(kinds: Mapping[str, FigureKind]) -> dict[str, str]:
    """Figures of groups of sessions, with what follows the group's name in their files' names."""
    names = [name for name, kind in kinds.items() if kind.results == "group"]
    return {name: f".{name}" if len(names) > 1 else "" for name in names}


FIGURES = figure_kinds()
GROUP_FIGURES = group_figures(FIGURES)
