"""Experiments on clustered and continuous populations: areas, planted factors, missing files."""

from __future__ import annotations

import numpy as np
import pytest

from driftwave.compute import dask_threads
from driftwave.errors import InputError
from driftwave.experiments import continuous_or_clustered as contrast
from driftwave.experiments import published_factors as published


def test_the_area_is_the_share_of_pairs_in_order():
    assert contrast.auc(np.array([0.0, 1, 2]), np.array([1.0, 3])) == pytest.approx(4.5 / 6)
    assert contrast.auc(np.array([1.0, 1]), np.array([1.0])) == 0.5


def test_a_quick_contrast_has_areas_and_rejections_of_each_kind():
    params = contrast.Params(**contrast.QUICK)
    with dask_threads(1):
        result = contrast.run(params, seed=3)
    assert result["contrast"].values.tolist() == ["clusters", "all"]
    assert np.isnan(result["auc"].sel(measure="value", statistic="combined")).all()
    found = result["auc"].sel(measure="z", statistic="combined", contrast="clusters")
    z = result["z"].sel(statistic="combined")
    assert float(found) == contrast.auc(z.sel(kind="sheet").values, z.sel(kind="clusters").values)
    assert (result["auc_low"] <= result["auc_high"]).where(result["auc"].notnull(), True).all()


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="unknown kinds of population"):
        contrast.run(contrast.Params(kinds=("sheet", "blob")), seed=0)


def test_features_reach_the_share_of_variance():
    loading = np.random.default_rng(0).gamma(1, size=(200, 9))
    for share in (0.5, 0.8, 1.0):
        points = published.features(loading, share)
        root = np.sqrt(loading)
        whole = root.var(axis=0).sum()
        assert points.var(axis=0).sum() / whole >= share * (1 - 1e-9)
        fewer = points[:, :-1].var(axis=0).sum() / whole
        assert fewer < share


@pytest.mark.slow
def test_planted_factors_get_their_verdicts():
    params = published.Params(factors="planted", surrogates=19, neurons=150, variants=())
    with dask_threads(1):
        result = published.run(params, seed=0)
    assert result.attrs["verdict_continuous"] == "continuous"
    assert result.attrs["verdict_clustered"] == "clustered"
    assert result.sizes["neuron"] == 300


def test_a_missing_file_or_array_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        published.run(published.Params(factors=str(tmp_path / "none.npz")), seed=0)
    np.savez(tmp_path / "half.npz", v1_neuron_factors=np.ones((3, 2)))
    with pytest.raises(InputError, match="v1_lambdas"):
        published.run(published.Params(factors=str(tmp_path / "half.npz")), seed=0)


@pytest.mark.recording
def test_the_published_factors_are_read_with_their_weights(recordings):
    path = recordings / "encoding_manifold_factors.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    source = published._read(path)
    shapes = {name: loading.shape for name, (loading, _) in source.populations.items()}
    assert shapes == {"V1": (641, 17), "retina": (1149, 16)}
    assert source.stimulus_names[0] == "LF-grat"
    with np.load(path) as file:
        # Columns of the file have norm 1: the loadings' norms are the weights.
        np.testing.assert_allclose(
            np.linalg.norm(source.populations["V1"][0], axis=0), file["v1_lambdas"], rtol=1e-6
        )
    points = published.features(source.populations["V1"][0], 0.8)
    assert points.shape == (641, 7)
