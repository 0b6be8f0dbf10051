"""The contract of figures."""

from __future__ import annotations

from types import ModuleType

from driftwave.contract.common import check_signature, check_summary, expect
from driftwave.errors import DriftwaveError

# What a figure may take.
RESULTS = {"", "latents", "scores", "decode", "manifold", "encoding", "waves", "detectors"}
RESULTS |= {"decoders", "geometry", "agreement", "spike_waves", "connectome", "both_sides", "group"}


def check_figure(module: ModuleType) -> None:
    """Check what can be told of a figure without data: constants, signature, refusal of nothing.

    Raises
    ------
    AssertionError
        Naming what is broken.
    """
    from driftwave.workflow_figures import REPORT_STAGES

    name = module.__name__.rpartition(".")[2]
    check_summary(module, "figures")
    check_signature(module, "figures")
    stage, results = getattr(module, "STAGE", None), getattr(module, "RESULTS", "")
    expect(
        stage is None or stage in REPORT_STAGES,
        f"{name}: STAGE is {stage!r}, not one of {REPORT_STAGES}",
    )
    expect(results in RESULTS, f"{name}: RESULTS is {results!r}, not one of {sorted(RESULTS)}")
    try:
        module.draw(None, {})
    except DriftwaveError:
        return
    raise AssertionError(f"{name}: draws nothing instead of refusing it with an InputError")
