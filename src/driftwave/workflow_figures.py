"""Which figures the report holds: what each is drawn from, and of which sources."""

from __future__ import annotations

from dataclasses import dataclass

from driftwave import registry

# Order of the report's subcategories.
REPORT_STAGES = ("recording", "models", "scores", "decoding", "manifold", "waves")


@dataclass(frozen=True)
class FigureKind:
    """What a figure is drawn from and where the report shows it, as its module's constants say.

    Attributes
    ----------
    stage : str
        ``STAGE``: subcategory in the report.
    results : str
        ``RESULTS``: what the figure takes, once per source or model: ``decode``, ``manifold``,
        ``waves``, ``latents``, ``scores``; once per detector of the plug-in ``detector``:
        ``detectors``; one of a session: ``agreement``, ``spike_waves``; or nothing.
    detector : str
        ``DETECTOR``: plug-in of the detectors that are drawn.
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
    detector: str = ""

    @property
    def of(self) -> str:
        """What one figure that is not drawn once for each shows, for the report's table."""
        if not self.results or self.results == "spike_waves":
            return "recording"
        if self.results == "agreement":
            return "all detectors"
        return "all models" if self.results in ("latents", "scores") else "all sources"


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
            detector=str(plugin.constants.get("DETECTOR", "")),
        )
        for name, plugin in registry.plugins("figures").items()
        if "STAGE" in plugin.constants
    }
    rank = {stage: place for place, stage in enumerate(REPORT_STAGES)}
    return dict(sorted(kinds.items(), key=lambda item: rank.get(item[1].stage, len(rank))))


FIGURES = figure_kinds()
