"""Variables that a factorisation of responses leaves in a store."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from driftwave.tensors.features import NeuronFeatures
from driftwave.tensors.permuted import PermutedFactors
from driftwave.tensors.rank import RankCurve


def filled(values: np.ndarray, included: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Rows of the units that were factorised among all units; the others ``empty``."""
    out = np.full((len(included), *values.shape[1:]), empty)
    out[included] = values
    return out


def of_units(
    responses: xr.Dataset,
    included: np.ndarray,
    factors: PermutedFactors,
    features: NeuronFeatures,
) -> dict[str, Any]:
    """Variables along ``unit``: features, factors, coefficients, shifts and peaks."""
    values = responses["response"].values
    peak = values.max(axis=(2, 3))
    shift = filled(features.shift.astype(float), included)
    one = {"units": "1"}
    return {
        "feature": (("unit", "component"), filled(features.feature, included), one),
        "neuron_factor": (("unit", "rank_component"), filled(factors.neuron, included), one),
        "coefficient": (
            ("unit", "rank_component"),
            filled(features.coefficient, included),
            one | {"long_name": "non-negative coefficient on the component"},
        ),
        "residual": (
            "unit",
            filled(features.residual, included),
            one | {"long_name": "share of the response's norm that the components leave"},
        ),
        "shift": (("unit", "stimulus"), shift, {"units": "steps of direction"}),
        "peak": (("unit", "stimulus"), peak, {"units": responses["response"].attrs["units"]}),
    }


def factor_variables(factors: PermutedFactors, features: NeuronFeatures) -> dict[str, Any]:
    """Factors of stimuli and responses, and the restarts they come from."""
    one = {"units": "1"}
    return {
        "stimulus_factor": (("stimulus", "rank_component"), factors.stimulus, one),
        "response_factor": (("direction", "time", "rank_component"), factors.response, one),
        "weight": ("rank_component", factors.weight, one),
        "factor_error": ((), factors.final_error, one | {"long_name": "relative residual norm"}),
        "restart_error": ("restart", factors.error, one),
        "restart_iterations": ("restart", factors.iterations, {"units": "iterations"}),
        "restart_converged": ("restart", factors.converged),
        "restart_similarity": (
            "restart",
            factors.similarity,
            one | {"long_name": "cosine of neuron factors with those kept"},
        ),
        "feature_variance_ratio": ("principal_component", features.variance_ratio, one),
    }


def curve_variables(curve: RankCurve | None) -> dict[str, Any]:
    """Measures along ``rank``; none without a curve."""
    if curve is None:
        return {}
    one = {"units": "1"}
    return {
        "rank_curve_nuclear_norm": ("rank", curve.nuclear_norm, one),
        "rank_curve_error": ("rank", curve.error, one),
        "rank_curve_stability": (("rank", "split"), curve.stability, one),
        "rank_curve_held_out_error": (("rank", "split", "side"), curve.held_out_error, one),
    }
