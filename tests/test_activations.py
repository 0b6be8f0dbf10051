"""Hidden units: hooks against torch, models against their own parts, files against series."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
import torch
import xarray as xr
from torch import nn

from conftest import make_recording
from driftwave import registry
from driftwave.activations.dataset import activations_dataset, variable_name
from driftwave.activations.hooks import record_modules
from driftwave.activations.write import read_activations
from driftwave.errors import InputError
from driftwave.inference.data import spike_arrays
from driftwave.inference.spike_network import input_law, log_mean_count, sizes_of
from driftwave.manifolds import pca, topology
from driftwave.readouts.features import features_of
from driftwave.store import open_dataset, verify_store, write_tree

SEEN = 25
GIVERS = [
    name
    for name, known in registry.plugins("models").items()
    if known.constants.get("GIVES_ACTIVATIONS")
]
MODULES = {
    "langevinflow": {"h": 16, "z": 8, "v": 8},
    "lfads": {"encoder": 32, "controller_encoder": 32, "generator": 24},
    "ndt": {"layers_0": 16, "layers_1": 16},
}
SMALL: dict[str, dict[str, Any]] = {"langevinflow": {"latents": 8, "hidden": 16, "samples": 2}}


@cache
def fitted(name: str, **options: Any) -> Any:
    """A fit with the weights it starts from: what is read off it does not depend on training."""
    module, arrays = registry.load("models", name), spike_arrays(make_recording(), name)
    params = module.Params(**(getattr(module, "QUICK", {}) | SMALL.get(name, {}) | options))
    params = params.resolved() if hasattr(params, "resolved") else params
    sizes = sizes_of(arrays)
    torch.manual_seed(0)
    network = module.Fit.build(params, sizes, log_mean_count(arrays), input_law(arrays))
    return module.Fit(params, sizes, arrays.held_in, 1, network)


class Toy(nn.Module):
    """A GRU, then two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.9))
        self.spare = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0])


def test_hooks_give_what_modules_gave() -> None:
    model, x = Toy().train(), torch.randn(6, 7, 3)
    found = record_modules(model, ["gru", "head.0"], lambda: [model(part) for part in x.split(4)])
    states = model.gru(x)[0]
    np.testing.assert_allclose(found["gru"], states.detach(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["head.0"], model.head[0](states).detach(), atol=1e-6)
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())


def test_hooks_run_without_dropout_and_leave_modes_alone() -> None:
    model, x = Toy().train(), torch.randn(2, 3, 3)
    model.head.eval()
    found = record_modules(model, ["head.0", "head"], lambda: model(x))
    np.testing.assert_array_equal(found["head"], found["head.0"])
    assert model.gru.training
    assert not model.head.training


def test_hooks_say_what_is_wrong() -> None:
    model, x = Toy(), torch.randn(2, 3, 3)
    with pytest.raises(InputError, match=r"no such module, expected some of \['gru', 'head'"):
        record_modules(model, ["gru.1"], lambda: model(x))
    with pytest.raises(InputError, match="did not run"):
        record_modules(model, ["spare"], lambda: model(x))
    with pytest.raises(InputError, match="one shape in all runs"):
        record_modules(model, ["gru"], lambda: (model(x), model(x[:, :2])))
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("name", GIVERS)
def test_a_models_activations_are_features(name: str, tmp_path: Path) -> None:
    recording = make_recording()
    found = fitted(name).activations(recording)
    assert found.attrs["activations"].split(",") == list(MODULES[name])
    for module, width in MODULES[name].items():
        assert found[module].dims == ("trial", "time", f"{module}_unit")
        assert found[module].sizes["time"] >= SEEN
        assert found.sizes[f"{module}_unit"] == width
        assert found[module].attrs["units"] == "activation"
        assert float(found[module].std("trial").mean()) > 0
    features = features_of(
        recording, found, smoothing=0.05, units="all", rate_transform="sqrt", needed_by="a test"
    )
    assert list(features) == list(MODULES[name])
    np.testing.assert_array_equal(features[module], found[module].values[:, :SEEN])
    write_tree(found, tmp_path / "a.zarr")
    assert verify_store(tmp_path / "a.zarr") == []
    # A user may hand in such a store again.
    again = read_activations(recording, path=tmp_path / "a.zarr")
    for module in MODULES[name]:
        np.testing.assert_array_equal(again[module], found[module])


@pytest.mark.parametrize("name", GIVERS)
def test_activations_of_a_saved_fit_are_the_same(name: str, tmp_path: Path) -> None:
    recording = make_recording()
    fitted(name).save(tmp_path)
    again = read_activations(recording, fit=tmp_path, plugin=name)
    first = fitted(name).activations(recording)
    xr.testing.assert_identical(first, again)


@pytest.mark.parametrize("name", GIVERS)
def test_activations_do_not_see_what_is_hidden(name: str) -> None:
    recording, other = make_recording(), make_recording()
    other["spikes/counts"].values[:, SEEN:] = 9
    other["spikes/counts"].values[:, :, recording["units/held_out"].values] = 9
    fit = fitted(name)
    xr.testing.assert_identical(fit.activations(recording), fit.activations(other))


def test_z_and_v_are_the_latents_and_h_what_the_encoder_gives() -> None:
    recording, fit = make_recording(), fitted("langevinflow")
    found, latent = fit.activations(recording), fit.infer(recording)["latent"].values
    bins = found.sizes["time"]
    np.testing.assert_array_equal(found["z"], latent[:, :bins, :8])
    np.testing.assert_array_equal(found["v"], latent[:, :bins, 8:])
    counts = recording["spikes/counts"].values[:, :SEEN, :9].astype(np.float32)
    with torch.no_grad():
        mean, sd = fit.network.input_law
        states = fit.network.encoder((torch.from_numpy(counts) - mean) / sd)[0]
    np.testing.assert_allclose(found["h"], states[:, :bins], rtol=1e-4, atol=1e-5)


def test_the_released_langevinflow_gives_states_too() -> None:
    fit = fitted("langevinflow", variant="released", samples=2)
    found = fit.activations(make_recording())
    assert {found[name].shape for name in "hzv"} == {(60, 30, 8)}


def test_lfads_factors_are_its_loading_of_the_generator() -> None:
    recording = make_recording()
    for inputs in (2, 0):
        fit = fitted("lfads", inputs=inputs)
        found, factors = fit.activations(recording), fit.infer(recording)["latent"].values
        assert ("controller_encoder" in found) == bool(inputs)
        loading = fit.network.loading.detach().numpy()
        loading = loading / np.linalg.norm(loading, axis=1, keepdims=True)
        wanted = fit.posterior(recording).latent[..., : len(loading)]
        assert found["generator"].sizes["time"] == SEEN  # the encoders have no more
        np.testing.assert_allclose(
            found["generator"].values @ loading.T, wanted[:, :SEEN], rtol=1e-3, atol=1e-4
        )
        np.testing.assert_allclose(factors, wanted, rtol=1e-5)


def test_the_last_layer_of_ndt_normed_is_its_latent() -> None:
    recording, fit = make_recording(), fitted("ndt")
    found = fit.activations(recording)
    with torch.no_grad():
        normed = fit.network.norm(torch.from_numpy(found["layers_1"].values)).numpy()
    np.testing.assert_allclose(normed, fit.infer(recording)["latent"], rtol=1e-3, atol=1e-4)


def clocked(rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Times of a session and two slow sines sampled at them."""
    recording = make_recording()
    stop = float(recording["spikes/trial_start"].values[-1]) + 2
    times = np.arange(-1, stop, 1 / rate)
    return times, np.stack([np.sin(times), np.cos(2 * times)], axis=1)


def expected(recording: xr.DataTree) -> np.ndarray:
    centre = (
        recording["spikes/trial_start"].values[:, None] + recording["spikes/time"].values + 0.01
    )
    return np.stack([np.sin(centre), np.cos(2 * centre)], axis=-1)


@pytest.mark.parametrize("rate", [23.0, 500.0])
def test_a_continuous_zarr_is_cut_into_trials(rate: float, tmp_path: Path) -> None:
    recording = make_recording()
    times, values = clocked(rate)
    store = xr.Dataset({"block.1": (("time", "neuron"), values)}, coords={"time": times})
    store.to_zarr(tmp_path / "s.zarr", consolidated=False)
    found = read_activations(recording, path=tmp_path / "s.zarr")
    assert found.attrs["activations"] == "block_1"
    assert found["block_1"].attrs["module"] == "block.1"
    np.testing.assert_allclose(found["block_1"], expected(recording), atol=3e-3)


def nwb_file(path: Path, *, module: bool) -> None:
    file = pynwb.NWBFile(
        session_description="activations",
        identifier="a",
        session_start_time=datetime(2024, 1, 1, tzinfo=UTC),
    )
    place = file.create_processing_module("activations", "of a model") if module else None
    for name, rate in (("h", 40.0), ("z", 400.0)):
        times, values = clocked(rate)
        clock = {"timestamps": times} if name == "h" else {"rate": rate, "starting_time": -1.0}
        series = pynwb.TimeSeries(name=name, data=values, unit="a.u.", **clock)
        (file.add_acquisition if place is None else place.add)(series)
    if module:
        file.add_acquisition(pynwb.TimeSeries(name="noise", data=np.zeros(5), unit="V", rate=1.0))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


@pytest.mark.parametrize("module", [True, False], ids=["processing", "acquisition"])
def test_nwb_series_are_modules(module: bool, tmp_path: Path) -> None:
    recording = make_recording()
    nwb_file(tmp_path / "a.nwb", module=module)
    found = read_activations(recording, path=tmp_path / "a.nwb")
    assert found.attrs["activations"] == "h,z"
    for name in "hz":
        np.testing.assert_allclose(found[name], expected(recording), atol=3e-3)


def test_fast_activations_are_not_aliased(tmp_path: Path) -> None:
    """110 Hz would come out as 10 Hz if every bin of 20 ms took the nearest sample."""
    recording = make_recording()
    times, _ = clocked(2000.0)
    store = xr.Dataset(
        {"x": (("time", "neuron"), np.sin(2 * np.pi * 110 * times)[:, None])},
        coords={"time": times},
    )
    store.to_zarr(tmp_path / "s.zarr", consolidated=False)
    found = read_activations(recording, path=tmp_path / "s.zarr")
    assert float(np.abs(found["x"]).max()) < 0.05


def trial_shaped(**changes: Any) -> xr.Dataset:
    recording = make_recording()
    values = np.random.default_rng(0).normal(size=(60, 30, 4))
    coords = {"trial": np.arange(60), "time": recording["spikes/time"].values}
    return xr.Dataset({"x": (("trial", "time", "u"), values)}, coords=coords).assign(**changes)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (trial_shaped().isel(trial=slice(1, None)), "the recording's, from 0 to 59"),
        (trial_shaped().isel(time=slice(0, 20)), r"shape \(60, 20, 4\)"),
        (trial_shaped().assign_coords(time=np.arange(30.0)), "30 labels from 0.0 to 29.0"),
        (trial_shaped().rename(x="rate"), "the name 'rate'"),
        (trial_shaped().rename(u="trial2", time="bin"), "Name the dims so"),
        (trial_shaped().where(trial_shaped()["trial"] != 3), "100 values that are not finite"),
        (trial_shaped().drop_vars("x"), "Name the dims so"),
        (trial_shaped().isel(trial=0, drop=True).drop_vars("time"), "no coordinate `time`"),
        (
            trial_shaped().isel(trial=0, drop=True).isel(time=slice(None, None, -1)),
            "ascending times",
        ),
        (trial_shaped().isel(trial=0, drop=True), "values that are not finite"),
    ],
)
def test_unusable_stores_are_refused(store: xr.Dataset, message: str, tmp_path: Path) -> None:
    store.to_zarr(tmp_path / "s.zarr", consolidated=False)
    with pytest.raises(InputError, match=message):
        read_activations(make_recording(), path=tmp_path / "s.zarr")


def test_unseen_bins_may_be_missing(tmp_path: Path) -> None:
    store = trial_shaped()
    store["x"][:, SEEN:] = np.nan
    store.to_zarr(tmp_path / "s.zarr", consolidated=False)
    found = read_activations(make_recording(), path=tmp_path / "s.zarr")
    assert found.sizes["time"] == SEEN
    np.testing.assert_allclose(found["x"], store["x"][:, :SEEN], rtol=1e-6)


def test_sources_are_one_and_of_a_kind(tmp_path: Path) -> None:
    recording = make_recording()
    for options in ({}, {"fit": tmp_path}, {"path": tmp_path, "fit": tmp_path, "plugin": "ndt"}):
        with pytest.raises(InputError, match="Give one of the two"):
            read_activations(recording, **options)
    with pytest.raises(InputError, match="fits give no activations, expected one of"):
        read_activations(recording, fit=tmp_path, plugin="smoothing")
    with pytest.raises(InputError, match="a fit of ndt"):
        read_activations(recording, fit=tmp_path / "none", plugin="ndt")
    with pytest.raises(InputError, match="no such file"):
        read_activations(recording, path=tmp_path / "none.zarr")
    (tmp_path / "a.csv").write_text("1")
    with pytest.raises(InputError, match=r"ending in '\.csv'"):
        read_activations(recording, path=tmp_path / "a.csv")


def test_names_that_coincide_are_refused() -> None:
    recording = make_recording()
    values = np.zeros((60, 30, 2))
    assert variable_name("a.b/c d") == "a_b_c_d"
    with pytest.raises(InputError, match="a name not yet taken"):
        activations_dataset(recording, {"a.b": values, "a_b": values}, source="test")
    with pytest.raises(InputError, match="found none"):
        activations_dataset(recording, {}, source="test")


@pytest.mark.slow
def test_langevinflows_insides_go_through_the_manifolds(tmp_path: Path) -> None:
    """Two planted oscillators: the encoder's 48 units fill few dims, beyond chance."""
    from driftwave.models import langevinflow

    recording = make_recording(trials=120, units=20, held_out=3)
    params = langevinflow.Params(steps=100, latents=8)
    options = {"seed": 0, "device": "cpu", "progress": None, "checkpoint": None}
    fit = langevinflow.fit(recording, params, **options)
    write_tree(fit.activations(recording), tmp_path / "a.zarr")
    activations = open_dataset(tmp_path / "a.zarr")
    found = pca.analyse(recording, activations, pca.Params(shuffles=100), seed=0)
    assert found["features_from"].values.tolist() == ["h", "z", "v"]
    trials = found.sel(level="trials")
    # Of z and v the null says little: oscillations of one frequency keep their plane if shifted.
    assert float(trials["p_value"].sel(features_from="h")) <= 0.02
    assert (trials["participation_ratio"] < [10, 8, 8]).all()
    holes = topology.analyse(
        recording, activations, topology.Params(shuffles=20, points=60, rows=600), seed=0
    )
    assert holes["features_from"].values.tolist() == ["h", "z", "v"]
    assert np.isfinite(holes["longest_lifetime"]).all()
