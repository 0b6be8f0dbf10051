"""The contract of analyses: decoders, manifolds, encoding and waves."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import xarray as xr

from driftwave import registry
from driftwave.compute import dask_threads
from driftwave.contract.common import (
    check_parameters,
    check_signature,
    check_stored,
    check_summary,
    check_units,
    expect,
    quick_params,
)
from driftwave.contract.models import ModelContract

ANALYSES = ("decoding", "manifolds", "encoding", "waves")
DECODED = ("behaviour", "continuous", "discrete", "both")
# The model whose output an analysis is tried on.
_MODEL = {"spikes": "smoothing", "field": "oscillators"}


@cache
def example_model(observes: str) -> ModelContract:
    """A fitted model of this kind of signal, made once."""
    return ModelContract(registry.load("models", _MODEL[observes]))


@dataclass(frozen=True)
class AnalysisContract:
    """Checks of one analysis; each raises an AssertionError where it breaks one.

    Parameters
    ----------
    module : module
        With ``Params`` and ``analyse``; ``QUICK`` holds parameters that make it fast.
    kind : str
        ``decoding``, ``manifolds``, ``encoding`` or ``waves``.
    """

    module: ModuleType
    kind: str

    @property
    def name(self) -> str:
        """Name in messages."""
        return self.module.__name__.rpartition(".")[2]

    def says_what_it_is(self) -> None:
        """Docstring, signature, parameters; of a decoder what it decodes."""
        check_summary(self.module, self.kind)
        check_parameters(self.module)
        check_signature(self.module, self.kind)
        if self.kind == "decoding":
            decodes = getattr(self.module, "DECODES", None)
            expect(decodes in DECODED, f"{self.name}: DECODES is {decodes!r}, not one of {DECODED}")

    def result(self, *, of_model: bool) -> xr.Dataset:
        """What it makes of a small recording, or of a model's output."""
        model = example_model("field" if self.kind == "waves" else "spikes")
        latents = model.inferred if of_model else None
        with dask_threads(1):
            result = self.module.analyse(
                model.recording, latents, quick_params(self.module), seed=0
            )
            return result.compute()

    def gives_a_labelled_result(self, folder: Path, *, of_model: bool) -> None:
        """Variables with units that are the same after they were written and read."""
        result = self.result(of_model=of_model)
        expect(result.data_vars, f"{self.name}: an empty result")
        check_units(result, self.name)
        check_stored(result, folder / "analysis.zarr", result.data_vars)

    def is_reproducible(self) -> None:
        """The same seed gives the same result."""
        xr.testing.assert_identical(self.result(of_model=False), self.result(of_model=False))


def check_analysis(module: ModuleType, kind: str = "manifolds") -> None:
    """Check an analysis against the whole contract.

    Parameters
    ----------
    module : module
        With ``Params`` and ``analyse``; ``QUICK`` holds parameters that make it fast.
    kind : str
        ``decoding``, ``manifolds``, ``encoding`` or ``waves``.

    Raises
    ------
    AssertionError
        Naming what is broken.
    """
    expect(kind in ANALYSES, f"{kind!r} is no kind of analysis; kinds are {ANALYSES}")
    contract = AnalysisContract(module, kind)
    contract.says_what_it_is()
    with tempfile.TemporaryDirectory() as folder:
        for of_model in (False, True):
            place = Path(folder) / str(of_model)
            place.mkdir()
            contract.gives_a_labelled_result(place, of_model=of_model)
    contract.is_reproducible()
