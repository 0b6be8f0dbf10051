"""What a user writes to ask for a search."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

KINDS = ("choices", "uniform", "log_uniform", "integer")


class ParameterSpace(BaseModel):
    """Values one parameter may take: exactly one of the kinds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: list[Any] | None = Field(None, min_length=1, description="Each equally likely.")
    uniform: tuple[float, float] | None = Field(None, description="Lowest and highest value.")
    log_uniform: tuple[float, float] | None = Field(
        None, description="Lowest and highest value, positive; uniform in the logarithm."
    )
    integer: tuple[int, int] | None = Field(
        None, description="Lowest and highest whole number, both included."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> ParameterSpace:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        if self.choices is not None:
            if len({repr(value) for value in self.choices}) < len(self.choices):
                raise ValueError("choices must differ from each other")
            return self
        low, high = getattr(self, given[0])
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError("the lowest value must be below the highest")
        if self.log_uniform is not None and low <= 0:
            raise ValueError("values of log_uniform must be positive")
        return self

    @property
    def count(self) -> float:
        """Number of values; infinite for a continuous range."""
        if self.choices is not None:
            return len(self.choices)
        return self.integer[1] - self.integer[0] + 1 if self.integer is not None else math.inf


class Budget(BaseModel):
    """The parameter that says how long a fit may train."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameter: str = Field("steps", description="Parameter of the model; a whole number.")
    least: int = Field(ge=1, description="Its value in the first rung, at least.")
    most: int = Field(ge=2, description="Its value in the last rung.")

    @model_validator(mode="after")
    def _ordered(self) -> Budget:
        if self.most <= self.least:
            raise ValueError("least must be below most")
        return self


class SearchConfig(BaseModel):
    """A search over parameters of one configured model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sessions: list[str] | None = Field(
        None, description="Sessions searched, each by itself; default all the model is fitted to."
    )
    strategy: Literal["random", "halving"] = Field(
        "random",
        description="random: every trial with the model's own budget; halving: many trials with a "
        "small budget, the best share 1/eta of them with eta times the budget, and so on.",
    )
    trials: int = Field(32, ge=1, description="Number of parameter sets drawn.")
    eta: int = Field(3, ge=2, description="Factor between rungs of `halving`.")
    budget: Budget | None = Field(None, description="For `halving`: what grows from rung to rung.")
    seed: int = Field(0, ge=0, description="Seed of the draws.")
    space: dict[str, ParameterSpace] = Field(
        min_length=1, description="Parameter of the model: values it may take."
    )

    @model_validator(mode="after")
    def _consistent(self) -> SearchConfig:
        if self.strategy == "halving" and self.budget is None:
            raise ValueError("halving needs a budget: {parameter, least, most}")
        if self.strategy == "random" and self.budget is not None:
            raise ValueError("random search has no budget; set the parameter in the model's params")
        if self.budget is not None and self.budget.parameter in self.space:
            raise ValueError(f"{self.budget.parameter!r} is the budget and cannot be searched")
        different = math.prod(part.count for part in self.space.values())
        if different < self.trials:
            raise ValueError(f"{self.trials} trials of a space of {different} combinations")
        return self
