"""What can be chosen when sessions are compared."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Measure = Literal[
    "cca",
    "procrustes",
    "shape",
    "shape_size",
    "shape_stochastic",
    "rsa",
    "cka",
    "dsa",
    "gromov_wasserstein",
]


class Params(BaseModel):
    """Parameters of the comparison."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: str | None = Field(
        None,
        description="Features compared: smoothed_counts without latents; with latents `latents`, "
        "`rates` or the name of an activation; null takes the first there is.",
    )
    measures: list[Measure] | None = Field(
        None,
        description="Distances computed; null takes every one that the data and libraries allow.",
    )
    dims: int = Field(10, ge=1, description="Principal components each session is reduced to.")
    leading: int = Field(
        4, ge=1, description="Canonical components whose held-out correlation is averaged."
    )
    folds: int = Field(8, ge=3, le=12, description="Most folds over conditions.")
    splits: int = Field(3, ge=1, description="Random divisions of the trials into halves.")
    shuffles: int = Field(1000, ge=19, description="Permutations of the conditions in each null.")
    costly_shuffles: int = Field(
        49,
        ge=19,
        description="Permutations or surrogates, at most `shuffles`, in the nulls of "
        "shape_stochastic and dsa.",
    )
    windows: int = Field(
        4,
        ge=1,
        description="Windows of a trial that are averaged for RSA, CKA, noise and decoding.",
    )
    smoothing: float = Field(
        0.05, ge=0, description="Standard deviation (s) of the Gaussian that smooths the counts."
    )
    rate_transform: Literal["sqrt", "log"] = Field(
        "sqrt", description="Transform of a model's rates."
    )
    condition_independent: Literal["keep", "remove"] = Field(
        "keep",
        description="Whether the time course common to all training conditions is kept or removed "
        "before the held-out alignment.",
    )
    rdm_comparison: Literal["corr_cov", "cosine_cov", "corr", "cosine"] = Field(
        "corr_cov", description="Similarity of two RDMs, as rsatoolbox names it."
    )
    stochastic_restarts: int = Field(
        1,
        ge=1,
        description="Starting rotations of the stochastic shape distance: that of the means, none, "
        "random ones.",
    )
    dsa_delays: int = Field(5, ge=1, description="Delays (bins) in DSA's Hankel matrix.")
    dsa_rank: int = Field(6, ge=2, description="Rank of DSA's linear operator.")
    gromov_units: int = Field(
        100, ge=10, description="Most units of each half whose encoding manifolds are compared."
    )
    gromov_shuffles: int = Field(
        19, ge=19, description="Shuffled manifolds in the null of Gromov-Wasserstein."
    )


QUICK = {"shuffles": 19, "splits": 1, "dims": 4}
