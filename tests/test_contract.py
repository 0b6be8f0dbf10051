"""What every plug-in keeps, whoever wrote it: the registry says which there are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from conftest import ROOT, make_recording
from driftwave import registry
from driftwave.compute import dask_threads
from driftwave.contract.analyses import ANALYSES, AnalysisContract
from driftwave.contract.common import (
    check_parameters,
    check_signature,
    check_summary,
    check_units,
    quick_params,
)
from driftwave.contract.figures import check_figure
from driftwave.contract.layouts import check_layout
from driftwave.contract.models import ModelContract
from driftwave.store import open_dataset, verify_store, write_tree
from driftwave.workflow_figures import FIGURES


def names(*kinds: str) -> list[Any]:
    """Every plug-in of these kinds, as parameters of a test."""
    return [
        pytest.param(kind, name, id=f"{kind}-{name}")
        for kind in kinds
        for name in registry.plugins(kind)
    ]


def models(observes: str) -> list[str]:
    return [n for n, found in registry.plugins("models").items() if found.observes == observes]


@cache
def model(name: str) -> ModelContract:
    """A model, fitted once for all tests."""
    return ModelContract(registry.load("models", name))


@pytest.mark.parametrize(("kind", "name"), names(*registry.KINDS))
def test_a_plugin_says_what_it_is(kind: str, name: str) -> None:
    check_summary(registry.load(kind, name), kind)


@pytest.mark.parametrize(("kind", "name"), names("models", *ANALYSES, "simulators", "experiments"))
def test_parameters_are_described_checked_and_have_defaults(kind: str, name: str) -> None:
    check_parameters(registry.load(kind, name))


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_a_model_says_what_it_observes(name: str) -> None:
    assert registry.plugin("models", name).observes in ("spikes", "field")


@pytest.mark.parametrize(("kind", "name"), names(*ANALYSES))
def test_an_analysis_says_what_it_is(kind: str, name: str) -> None:
    AnalysisContract(registry.load(kind, name), kind).says_what_it_is()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_names_results_and_plugins_that_there_are(name: str) -> None:
    kind = FIGURES[name]
    plugins = {"decoders": "decoding", "geometry": "manifolds", "detectors": "waves"}
    if kind.results in plugins:
        assert kind.plugins
        assert kind.plugins <= set(registry.plugins(plugins[kind.results]))


@pytest.mark.parametrize(
    ("kind", "name"), names("models", *ANALYSES, "figures", "simulators", "experiments")
)
def test_a_plugin_keeps_its_signature(kind: str, name: str) -> None:
    check_signature(registry.load(kind, name), kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.plugins("experiments"))
def test_an_experiment_repeats_itself_and_is_drawn(name: str) -> None:
    module = registry.load("experiments", name)
    with dask_threads(1):
        first, again = (module.run(quick_params(module), seed=1) for _ in range(2))
    if getattr(module, "TIMED", False):
        assert list(first.variables) == list(again.variables)
        assert first.sizes == again.sizes
    else:
        xr.testing.assert_identical(first, again)
    check_units(first, name)
    assert module.draw(first).axes


@pytest.mark.parametrize("name", models("spikes"))
def test_rates_are_of_every_unit_and_bin(name: str) -> None:
    model(name).rates_are_of_every_unit_and_bin()


@pytest.mark.parametrize("name", models("spikes"))
def test_rates_are_in_hertz(name: str) -> None:
    model(name).rates_are_in_hertz()


@pytest.mark.parametrize("name", models("spikes"))
def test_a_fit_is_reproducible_and_blind_to_the_test_trials(name: str) -> None:
    model(name).a_fit_is_reproducible_and_blind_to_the_test_trials()


@pytest.mark.parametrize("name", models("spikes"))
def test_a_fit_is_not_blind_to_the_training_trials(name: str) -> None:
    model(name).a_fit_is_not_blind_to_the_training_trials()


@pytest.mark.parametrize("name", models("spikes"))
def test_inference_does_not_see_what_is_hidden(name: str) -> None:
    model(name).inference_does_not_see_what_is_hidden()


@pytest.mark.parametrize("name", models("spikes"))
def test_trials_are_inferred_one_by_one(name: str) -> None:
    model(name).trials_are_inferred_one_by_one()


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_a_saved_model_infers_the_same(name: str, tmp_path: Path) -> None:
    model(name).a_saved_model_infers_the_same(tmp_path)


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_latents_survive_their_store(name: str, tmp_path: Path) -> None:
    model(name).latents_survive_their_store(tmp_path)


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_a_model_refuses_a_recording_without_its_signal(name: str) -> None:
    model(name).refuses_a_recording_without_its_signal()


@pytest.mark.parametrize("name", models("field"))
def test_a_field_model_gives_labelled_oscillators(name: str) -> None:
    model(name).a_field_model_gives_latents_in_time()
    result = model(name).inferred
    assert result["latent_sd"].shape == result["latent"].shape
    assert (result["latent_sd"] >= 0).all()
    assert result["frequency"].attrs["units"] == "Hz"
    for variable in ("loading_amplitude", "loading_phase"):
        assert result[variable].dims == ("oscillator", "electrode")
    assert result["loading_amplitude"].attrs["units"] == "microvolt"
    assert result["loading_phase"].attrs["units"] in ("rad", "radian")
    for coordinate in ("x", "y"):
        assert result[coordinate].attrs["units"] == "mm"


@pytest.mark.parametrize("name", models("field"))
def test_a_field_fit_is_reproducible(name: str) -> None:
    model(name).a_field_fit_is_reproducible()


@pytest.mark.parametrize("of_model", [False, True], ids=["recording", "model"])
@pytest.mark.parametrize(("kind", "name"), names(*ANALYSES))
def test_an_analysis_gives_a_labelled_result(
    kind: str, name: str, of_model: bool, tmp_path: Path
) -> None:
    contract = AnalysisContract(registry.load(kind, name), kind)
    contract.gives_a_labelled_result(tmp_path, of_model=of_model)


@pytest.mark.parametrize(("kind", "name"), names(*ANALYSES))
def test_an_analysis_is_reproducible(kind: str, name: str) -> None:
    AnalysisContract(registry.load(kind, name), kind).is_reproducible()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "layouts").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_layout_is_valid_and_named_like_its_file(path: Path) -> None:
    check_layout(path)


@pytest.mark.parametrize("name", registry.plugins("figures"))
def test_a_figure_has_a_caption(name: str) -> None:
    caption = ROOT / "workflow" / "report" / f"{name}.rst"
    assert caption.is_file()
    text = caption.read_text(encoding="utf-8")
    assert text.strip()
    assert 1 <= text.count(".") <= 20


@pytest.mark.parametrize("name", registry.plugins("figures"))
def test_a_figure_keeps_its_contract_and_refuses_nothing_in_one_sentence(name: str) -> None:
    check_figure(registry.load("figures", name))


TOY_MODEL = '''"""Every unit at its mean training rate."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from driftwave.inference.data import rates_dataset, spike_arrays

OBSERVES = "spikes"


class Params(BaseModel):
    """Parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    scale: float = Field(1.0, gt=0, description="Factor on the rates.")


@dataclass
class Fit:
    rate: np.ndarray

    def infer(self, recording):
        shape = recording["spikes/counts"].shape
        rate = np.broadcast_to(self.rate, shape)
        return rates_dataset(recording, rate, np.zeros((*shape[:2], 1)))

    def save(self, folder: Path) -> None:
        np.savez(folder / "fit.npz", rate=self.rate)

    @classmethod
    def load(cls, folder: Path) -> "Fit":
        with np.load(folder / "fit.npz") as file:
            return cls(file["rate"])


def fit(recording, params, *, seed, device, progress, checkpoint) -> Fit:
    """Fit."""
    arrays = spike_arrays(recording, "toy")
    mean = arrays.counts[arrays.train].mean((0, 1)) / arrays.bin_width
    return Fit(params.scale * mean)
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one file more."""
    folder = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "driftwave", folder / "src" / "driftwave", ignore=ignore)
    (folder / "src" / "driftwave" / "models" / "toy.py").write_text(TOY_MODEL)
    return folder


def driftwave(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    return subprocess.run(
        [sys.executable, "-m", "driftwave.cli", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_toy_model_is_one_file(checkout: Path) -> None:
    write_tree(make_recording(), checkout / "recording.zarr")
    listed = driftwave(checkout, "list", "models")
    assert "toy                      Every unit at its mean training rate." in listed.stdout
    latents, scores = "toy/latents.zarr", "toy/scores.tsv"
    options = ["--params", '{"scale": 1.5}', "--out-fit", "toy/fit", "--out", latents]
    fitting = driftwave(checkout, "fit", "recording.zarr", "--model", "toy", *options)
    assert fitting.returncode == 0, fitting.stderr
    scoring = driftwave(checkout, "score", "recording.zarr", latents, "--out", scores)
    assert scoring.returncode == 0, scoring.stderr
    assert "co_bps" in (checkout / scores).read_text()
    result = open_dataset(checkout / latents)
    recording = make_recording()
    train = recording["trials/split"].values == "train"
    mean = recording["spikes/counts"].values[train].mean((0, 1)) / 0.02
    np.testing.assert_allclose(result["rate"].values[0, 0], 1.5 * mean, rtol=1e-5)
    wrong = driftwave(checkout, "fit", "recording.zarr", "--model", "toy", *options[2:], "--params",
                      '{"scal": 1}')  # fmt: skip
    assert wrong.returncode == 1
    assert "toy.params.scal" in wrong.stderr


def test_a_toy_layout_is_one_file(checkout: Path) -> None:
    from nwb_builder import TASK_LAYOUT, task_file

    task_file().write(checkout / "task.nwb")
    layouts = checkout / "config" / "layouts"
    layouts.mkdir(parents=True)
    (layouts / "toy_lab.yaml").write_text(yaml.safe_dump({**TASK_LAYOUT, "name": "toy_lab"}))
    options = ["--layout", "toy_lab", "--session", "s", "--out", "s.zarr"]
    answer = driftwave(checkout, "ingest", "task.nwb", *options)
    assert answer.returncode == 0, answer.stderr
    assert verify_store(checkout / "s.zarr") == []
