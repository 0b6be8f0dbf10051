"""The contract of models."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr

from driftwave.compute import blas_threads
from driftwave.contract.common import (
    check_parameters,
    check_signature,
    check_stored,
    check_summary,
    check_units,
    expect,
    quick_params,
)
from driftwave.contract.recordings import (
    altered,
    in_split,
    make_field_recording,
    make_recording,
)
from driftwave.errors import DriftwaveError
from driftwave.recording import forward_bins, held_out_units

_PICKLES = (".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class ModelContract:
    """Checks of one model; each raises an AssertionError where the model breaks it.

    Parameters
    ----------
    module : module
        With ``Params``, ``fit`` and ``Fit``; ``QUICK`` holds parameters that make it fast.
    """

    module: ModuleType

    @property
    def name(self) -> str:
        """Name in messages."""
        return self.module.__name__.rpartition(".")[2]

    @property
    def observes(self) -> str:
        """Kind of signal."""
        return str(getattr(self.module, "OBSERVES", ""))

    @cached_property
    def recording(self) -> xr.DataTree:
        """What the model is fitted to: a small recording of its kind of signal."""
        return make_field_recording() if self.observes == "field" else make_recording()

    @cached_property
    def other_recording(self) -> xr.DataTree:
        """A recording without the model's signal."""
        return make_recording() if self.observes == "field" else make_field_recording()

    @cached_property
    def fitted(self) -> Any:
        """The model fitted to :attr:`recording`."""
        return self.fit(self.recording)

    @cached_property
    def inferred(self) -> xr.Dataset:
        """What it infers of :attr:`recording`."""
        return self.fitted.infer(self.recording)

    def fit(self, recording: xr.DataTree, checkpoint: Path | None = None) -> Any:
        """Fit with the cheapest parameters, on the CPU."""
        options = {"seed": 3, "device": "cpu", "progress": None, "checkpoint": checkpoint}
        with blas_threads(1):
            return self.module.fit(recording, quick_params(self.module), **options)

    def says_what_it_is(self) -> None:
        """Docstring, signature, parameters, kind of signal."""
        check_summary(self.module, "models")
        check_parameters(self.module)
        check_signature(self.module, "models")
        expect(
            self.observes in ("spikes", "field"),
            f"{self.name}: OBSERVES is {self.observes!r}, not 'spikes' or 'field'",
        )

    def rates_are_of_every_unit_and_bin(self) -> None:
        """Rates (Hz), positive and finite, for held-out units and forward bins as well."""
        counts, result = self.recording["spikes"].dataset["counts"], self.inferred
        rate = result["rate"]
        expect(rate.dims == counts.dims, f"{self.name}: rate has dims {rate.dims}")
        expect(rate.shape == counts.shape, f"{self.name}: rate has shape {rate.shape}")
        expect(rate.attrs["units"] == "Hz", f"{self.name}: rate is not in Hz")
        expect(np.isfinite(rate).all(), f"{self.name}: rates that are not finite")
        expect((rate > 0).all(), f"{self.name}: rates that are not positive")
        for coordinate in counts.dims:
            np.testing.assert_array_equal(result[coordinate], counts[coordinate])
        latent = result["latent"]
        expect(latent.dims == ("trial", "time", "latent"), f"{self.name}: latent has {latent.dims}")
        expect(np.isfinite(latent).all(), f"{self.name}: latents that are not finite")
        width = self.recording["spikes"].attrs["bin_width"]
        expect(result.attrs["bin_width"] == width, f"{self.name}: another bin width")
        check_units(result, self.name)

    def rates_are_in_hertz(self) -> None:
        """Their mean is about that of the recording, even after a short fit."""
        width = float(self.recording["spikes"].attrs["bin_width"])
        expected = float(self.recording["spikes/counts"].mean()) / width
        mean = float(self.inferred["rate"].mean())
        expect(
            abs(mean - expected) <= 0.35 * expected,
            f"{self.name}: the mean rate is {mean:.3g} Hz, that of the recording {expected:.3g}",
        )

    def a_fit_is_reproducible_and_blind_to_the_test_trials(self) -> None:
        """The same seed and other test trials give the same rates of the same trials."""
        other = self.fit(altered(self.recording, in_split(self.recording, "test")))
        second = other.infer(self.recording)
        xr.testing.assert_identical(self.inferred["rate"], second["rate"])
        xr.testing.assert_identical(self.inferred["latent"].variable, second["latent"].variable)

    def a_fit_is_not_blind_to_the_training_trials(self) -> None:
        """Or the check above would prove nothing."""
        other = self.fit(altered(self.recording, in_split(self.recording, "train")))
        difference = self.inferred["rate"] - other.infer(self.recording)["rate"]
        expect(
            float(np.abs(difference).max()) > 0.1,
            f"{self.name}: other training trials give the same rates",
        )

    def inference_does_not_see_what_is_hidden(self) -> None:
        """Held-out units and forward bins change nothing, what is visible does."""
        hidden = np.zeros(self.recording["spikes/counts"].shape, dtype=bool)
        hidden[:, hidden.shape[1] - forward_bins(self.recording) :] = True
        hidden[:, :, held_out_units(self.recording)] = True
        second = self.fitted.infer(altered(self.recording, hidden))
        xr.testing.assert_identical(self.inferred["rate"], second["rate"])
        xr.testing.assert_identical(self.inferred["latent"].variable, second["latent"].variable)
        seen = self.fitted.infer(altered(self.recording, ~hidden))
        expect(
            float(np.abs(self.inferred["rate"] - seen["rate"]).max()) > 0.1,
            f"{self.name}: infers the same rates whatever it sees",
        )

    def trials_are_inferred_one_by_one(self) -> None:
        """Other trials' counts change nothing in a trial's rates (but for rounding in batches)."""
        test = in_split(self.recording, "test")
        second = self.fitted.infer(altered(self.recording, test))
        rest = ~test[:, 0, 0]
        np.testing.assert_allclose(self.inferred["rate"][rest], second["rate"][rest], rtol=1e-4)

    def a_saved_model_infers_the_same(self, folder: Path) -> None:
        """``save`` and ``load`` change nothing, and pickle nothing."""
        self.fitted.save(folder)
        expect(list(folder.iterdir()), f"{self.name}: save writes nothing")
        pickles = [p.name for p in folder.rglob("*") if p.suffix in _PICKLES]
        expect(not pickles, f"{self.name}: save writes the pickles {pickles}")
        second = self.module.Fit.load(folder).infer(self.recording)
        expect(
            set(self.inferred.variables) == set(second.variables),
            f"{self.name}: a loaded fit infers other variables",
        )
        for variable in self.inferred.variables:
            np.testing.assert_array_equal(self.inferred[variable].values, second[variable].values)

    def latents_survive_their_store(self, folder: Path) -> None:
        """What is inferred is the same after it was written and read."""
        check_stored(self.inferred, folder / "latents.zarr", self.inferred.variables)

    def refuses_a_recording_without_its_signal(self) -> None:
        """In one sentence that says what was found and what is expected."""
        try:
            self.fit(self.other_recording)
        except DriftwaveError as error:
            told = all(word in str(error) for word in ("found ", "expected ", "; "))
            expect(told, f"{self.name}: refuses with {str(error)!r}")
        else:
            raise AssertionError(f"{self.name}: fits a recording without {self.observes}")

    def a_field_fit_is_reproducible(self) -> None:
        """The same seed gives the same result."""
        second = self.fit(self.recording).infer(self.recording)
        for variable in self.inferred.variables:
            np.testing.assert_array_equal(self.inferred[variable].values, second[variable].values)

    def a_field_model_gives_latents_in_time(self) -> None:
        """``latent (time, latent)`` within the recording, with units."""
        result, clock = self.inferred, self.recording["field"].dataset["time"].values
        expect(result["latent"].dims == ("time", "latent"), f"{self.name}: dims of latent")
        expect(np.isfinite(result["latent"]).all(), f"{self.name}: latents that are not finite")
        times = result["time"].values
        expect(clock[0] <= times[0] and times[-1] <= clock[-1], f"{self.name}: time goes beyond")
        expect(result.attrs["sampling_rate"] > 0, f"{self.name}: no sampling_rate")
        check_units(result, self.name)


def check_model(module: ModuleType) -> None:
    """Check a model against the whole contract.

    Parameters
    ----------
    module : module
        With ``Params``, ``fit`` and ``Fit``; ``QUICK`` holds parameters that make it fast.

    Raises
    ------
    AssertionError
        Naming what is broken.
    """
    contract = ModelContract(module)
    contract.says_what_it_is()
    if contract.observes == "spikes":
        contract.rates_are_of_every_unit_and_bin()
        contract.rates_are_in_hertz()
        contract.a_fit_is_reproducible_and_blind_to_the_test_trials()
        contract.a_fit_is_not_blind_to_the_training_trials()
        contract.inference_does_not_see_what_is_hidden()
        contract.trials_are_inferred_one_by_one()
    else:
        contract.a_field_model_gives_latents_in_time()
        contract.a_field_fit_is_reproducible()
    contract.refuses_a_recording_without_its_signal()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("fit", "store"):
            (Path(folder) / name).mkdir()
        contract.a_saved_model_infers_the_same(Path(folder) / "fit")
        contract.latents_survive_their_store(Path(folder) / "store")
