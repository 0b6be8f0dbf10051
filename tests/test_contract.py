"""What every plug-in keeps, whoever wrote it: the registry says which there are."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import annotated_types
import numpy as np
import pydantic
import pytest
import xarray as xr
import yaml

from conftest import ROOT, make_field_recording, make_recording
from driftwave import registry
from driftwave.compute import blas_threads, dask_threads
from driftwave.errors import DriftwaveError
from driftwave.store import open_dataset, verify_store, write_tree
from driftwave.workflow_figures import FIGURES, REPORT_STAGES

# What makes a plug-in quick, where its module holds no QUICK: least values of such parameters.
CHEAP = {
    "steps": 12,
    "iterations": 3,
    "samples": 2,
    "shuffles": 1,
    "classifier_shuffles": 1,
    "surrogates": 1,
    "bootstrap": 1,
}
ANALYSES = ("decoding", "manifolds", "encoding", "waves")
# What a figure may take.
RESULTS = {"", "latents", "scores", "decode", "manifold", "encoding", "waves", "detectors"}
RESULTS |= {"decoders", "geometry", "agreement", "spike_waves", "connectome", "both_sides", "group"}


def names(*kinds: str) -> list[Any]:
    """Every plug-in of these kinds, as parameters of a test."""
    return [
        pytest.param(kind, name, id=f"{kind}-{name}")
        for kind in kinds
        for name in registry.plugins(kind)
    ]


def models(observes: str) -> list[str]:
    return [n for n, found in registry.plugins("models").items() if found.observes == observes]


def quick_params(module: ModuleType) -> Any:
    """The plug-in's cheapest parameters."""
    if hasattr(module, "QUICK"):
        return module.Params(**module.QUICK)
    chosen = {}
    for name in CHEAP.keys() & module.Params.model_fields.keys():
        bounds = [m.ge for m in module.Params.model_fields[name].metadata if _is_bound(m)]
        chosen[name] = max([CHEAP[name], *bounds])
    return module.Params(**chosen)


def _is_bound(metadata: Any) -> bool:
    return isinstance(metadata, annotated_types.Ge)


def fit(name: str, recording: xr.DataTree, checkpoint: Path | None = None) -> Any:
    module = registry.load("models", name)
    options = {"seed": 3, "device": "cpu", "progress": None, "checkpoint": checkpoint}
    with blas_threads(1):
        return module.fit(recording, quick_params(module), **options)


@cache
def spikes() -> xr.DataTree:
    return make_recording()


@cache
def field() -> xr.DataTree:
    return make_field_recording()


@cache
def fitted(name: str) -> Any:
    """A model fitted to the recording of its kind, once for all tests."""
    return fit(name, spikes() if name in models("spikes") else field())


def altered(recording: xr.DataTree, where: np.ndarray) -> xr.DataTree:
    """A copy whose counts are others where the mask (trial, time, unit) says so."""
    copy = recording.copy(deep=True)
    counts = copy["spikes/counts"].values
    other = np.random.default_rng(9).poisson(5.0, counts.shape)
    copy["spikes/counts"][:] = np.where(where, other, counts)
    return copy


def in_split(recording: xr.DataTree, split: str) -> np.ndarray:
    mask = recording["trials/split"].values == split
    return np.broadcast_to(mask[:, None, None], recording["spikes/counts"].shape)


def without_units(dataset: xr.Dataset) -> list[str]:
    """Numeric variables that do not say their unit."""
    return [
        str(name)
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "fc"
        and name in dataset.data_vars
        and not variable.attrs.get("units")
    ]


@pytest.mark.parametrize(("kind", "name"), names(*registry.KINDS))
def test_a_plugin_says_what_it_is(kind: str, name: str) -> None:
    summary = registry.plugin(kind, name).summary
    assert summary.endswith(".")
    assert 10 < len(summary) <= 100
    function = getattr(registry.load(kind, name), registry.KINDS[kind][1])
    assert inspect.getdoc(function)


@pytest.mark.parametrize(("kind", "name"), names("models", *ANALYSES, "simulators", "experiments"))
def test_parameters_are_described_checked_and_have_defaults(kind: str, name: str) -> None:
    params = registry.load(kind, name).Params
    for field_name, info in params.model_fields.items():
        assert info.description, f"{field_name} has no description"
        assert not info.is_required(), f"{field_name} has no default"
    assert params.model_config.get("extra") == "forbid"
    assert params.model_config.get("frozen")
    with pytest.raises(pydantic.ValidationError):
        params(no_such_parameter=1)
    again = params.model_validate_json(params().model_dump_json())
    assert again == params()


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_a_model_says_what_it_observes(name: str) -> None:
    assert registry.plugin("models", name).observes in ("spikes", "field")


@pytest.mark.parametrize("name", registry.plugins("decoding"))
def test_a_decoder_says_what_it_decodes(name: str) -> None:
    constants = registry.plugin("decoding", name).constants
    assert constants.get("DECODES") in ("behaviour", "continuous", "discrete", "both")


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_names_results_and_plugins_that_there_are(name: str) -> None:
    kind = FIGURES[name]
    assert kind.stage in REPORT_STAGES
    assert kind.results in RESULTS
    plugins = {"decoders": "decoding", "geometry": "manifolds", "detectors": "waves"}
    if kind.results in plugins:
        assert kind.plugins
        assert kind.plugins <= set(registry.plugins(plugins[kind.results]))


@pytest.mark.parametrize(
    ("kind", "name"), names("models", *ANALYSES, "figures", "simulators", "experiments")
)
def test_a_plugin_keeps_its_signature(kind: str, name: str) -> None:
    function = getattr(registry.load(kind, name), registry.KINDS[kind][1])
    found = inspect.signature(function).parameters
    expected = {
        "models": ["recording", "params", "seed", "device", "progress", "checkpoint"],
        "figures": ["recording", "results"],
        "simulators": [None, "params", "seed"],
        "experiments": ["params", "seed"],
    }.get(kind, ["recording", "latents", "params", "seed"])
    assert len(found) == len(expected)
    for wanted, have in zip(expected, found, strict=True):
        assert wanted in (None, have)
    keywords = {n for n, p in found.items() if p.kind is p.KEYWORD_ONLY}
    assert keywords == {"seed", "device", "progress", "checkpoint"} & set(found)


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
    assert not without_units(first)
    assert module.draw(first).axes


@pytest.mark.parametrize("name", models("spikes"))
def test_rates_are_of_every_unit_and_bin(name: str) -> None:
    result = fitted(name).infer(spikes())
    counts = spikes()["spikes/counts"]
    rate = result["rate"]
    assert rate.dims == counts.dims
    assert rate.shape == counts.shape
    assert rate.attrs["units"] == "Hz"
    assert np.isfinite(rate).all()
    assert (rate > 0).all()
    for coordinate in counts.dims:
        np.testing.assert_array_equal(result[coordinate], counts[coordinate])
    latent = result["latent"]
    assert latent.dims == ("trial", "time", "latent")
    assert np.isfinite(latent).all()
    assert result.attrs["bin_width"] == spikes()["spikes"].attrs["bin_width"]
    assert without_units(result) == []


@pytest.mark.parametrize("name", models("spikes"))
def test_rates_are_in_hertz(name: str) -> None:
    """Their mean is about that of the recording, even after a short fit."""
    rate = float(fitted(name).infer(spikes())["rate"].mean())
    assert rate == pytest.approx(float(spikes()["spikes/counts"].mean()) / 0.02, rel=0.35)


@pytest.mark.parametrize("name", models("spikes"))
def test_a_fit_is_reproducible_and_blind_to_the_test_trials(name: str) -> None:
    other = fit(name, altered(spikes(), in_split(spikes(), "test")))
    first, second = fitted(name).infer(spikes()), other.infer(spikes())
    xr.testing.assert_identical(first["rate"], second["rate"])
    xr.testing.assert_identical(first["latent"].variable, second["latent"].variable)


@pytest.mark.parametrize("name", models("spikes"))
def test_a_fit_is_not_blind_to_the_training_trials(name: str) -> None:
    """Or the test above would prove nothing."""
    other = fit(name, altered(spikes(), in_split(spikes(), "train")))
    difference = fitted(name).infer(spikes())["rate"] - other.infer(spikes())["rate"]
    assert float(np.abs(difference).max()) > 0.1


@pytest.mark.parametrize("name", models("spikes"))
def test_inference_does_not_see_what_is_hidden(name: str) -> None:
    hidden = np.zeros(spikes()["spikes/counts"].shape, dtype=bool)
    hidden[:, 25:] = True
    hidden[:, :, spikes()["units/held_out"].values] = True
    first = fitted(name).infer(spikes())
    second = fitted(name).infer(altered(spikes(), hidden))
    xr.testing.assert_identical(first["rate"], second["rate"])
    xr.testing.assert_identical(first["latent"].variable, second["latent"].variable)
    seen = fitted(name).infer(altered(spikes(), ~hidden))
    assert float(np.abs(first["rate"] - seen["rate"]).max()) > 0.1


@pytest.mark.parametrize("name", models("spikes"))
def test_trials_are_inferred_one_by_one(name: str) -> None:
    """Other trials' counts change nothing in a trial's rates (but for rounding in batches)."""
    first = fitted(name).infer(spikes())
    test = in_split(spikes(), "test")
    second = fitted(name).infer(altered(spikes(), test))
    rest = ~test[:, 0, 0]
    np.testing.assert_allclose(first["rate"][rest], second["rate"][rest], rtol=1e-4)


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_a_saved_model_infers_the_same(name: str, tmp_path: Path) -> None:
    recording = spikes() if name in models("spikes") else field()
    fitted(name).save(tmp_path)
    assert list(tmp_path.iterdir())
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".pkl", ".pickle", ".joblib")]
    again = registry.load("models", name).Fit.load(tmp_path)
    first, second = fitted(name).infer(recording), again.infer(recording)
    assert set(first.variables) == set(second.variables)
    for variable in first.variables:
        np.testing.assert_array_equal(first[variable].values, second[variable].values)


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_latents_survive_their_store(name: str, tmp_path: Path) -> None:
    recording = spikes() if name in models("spikes") else field()
    result = fitted(name).infer(recording)
    write_tree(result, tmp_path / "latents.zarr")
    assert verify_store(tmp_path / "latents.zarr") == []
    back = open_dataset(tmp_path / "latents.zarr")
    assert set(result.variables) <= set(back.variables)
    for variable in result.variables:
        np.testing.assert_array_equal(back[variable].values, result[variable].values)


@pytest.mark.parametrize("name", registry.plugins("models"))
def test_a_model_refuses_a_recording_without_its_signal(name: str) -> None:
    wrong = field() if name in models("spikes") else spikes()
    with pytest.raises(DriftwaveError, match=r"found .*, expected .*; "):
        fit(name, wrong)


@pytest.mark.parametrize("name", models("field"))
def test_a_field_model_gives_labelled_oscillators(name: str) -> None:
    result = fitted(name).infer(field())
    assert result["latent"].dims == ("time", "latent")
    assert result["latent_sd"].shape == result["latent"].shape
    assert (result["latent_sd"] >= 0).all()
    assert np.isfinite(result["latent"]).all()
    clock = field()["field/time"].values
    assert clock[0] <= result["time"].values[0]
    assert result["time"].values[-1] <= clock[-1]
    assert result["frequency"].attrs["units"] == "Hz"
    for variable in ("loading_amplitude", "loading_phase"):
        assert result[variable].dims == ("oscillator", "electrode")
    assert result["loading_amplitude"].attrs["units"] == "microvolt"
    assert result["loading_phase"].attrs["units"] in ("rad", "radian")
    for coordinate in ("x", "y"):
        assert result[coordinate].attrs["units"] == "mm"
    assert result.attrs["sampling_rate"] > 0
    assert without_units(result) == []


@pytest.mark.parametrize("name", models("field"))
def test_a_field_fit_is_reproducible(name: str) -> None:
    first, second = fitted(name).infer(field()), fit(name, field()).infer(field())
    for variable in first.variables:
        np.testing.assert_array_equal(first[variable].values, second[variable].values)


def analyse(kind: str, name: str, *, of_model: bool) -> xr.Dataset:
    module = registry.load(kind, name)
    recording, models_of = (
        (field(), models("field")) if kind == "waves" else (spikes(), ["smoothing"])
    )
    latents = fitted(models_of[0]).infer(recording) if of_model else None
    with dask_threads(1):
        return module.analyse(recording, latents, quick_params(module), seed=0).compute()


@pytest.mark.parametrize("of_model", [False, True], ids=["recording", "model"])
@pytest.mark.parametrize(("kind", "name"), names(*ANALYSES))
def test_an_analysis_gives_a_labelled_result(
    kind: str, name: str, of_model: bool, tmp_path: Path
) -> None:
    result = analyse(kind, name, of_model=of_model)
    assert result.data_vars
    assert without_units(result) == []
    write_tree(result, tmp_path / "a.zarr")
    assert verify_store(tmp_path / "a.zarr") == []
    back = open_dataset(tmp_path / "a.zarr")
    for variable in result.data_vars:
        np.testing.assert_array_equal(back[variable].values, result[variable].values)


@pytest.mark.parametrize(("kind", "name"), names(*ANALYSES))
def test_an_analysis_is_reproducible(kind: str, name: str) -> None:
    xr.testing.assert_identical(
        analyse(kind, name, of_model=False), analyse(kind, name, of_model=False)
    )


@pytest.mark.parametrize("name", registry.plugins("figures"))
def test_a_figure_has_a_caption(name: str) -> None:
    caption = ROOT / "workflow" / "report" / f"{name}.rst"
    assert caption.is_file()
    text = caption.read_text(encoding="utf-8")
    assert text.strip()
    assert 1 <= text.count(".") <= 20


@pytest.mark.parametrize("name", registry.plugins("figures"))
def test_a_figure_of_nothing_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(DriftwaveError):
        registry.load("figures", name).draw(None, {})


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
