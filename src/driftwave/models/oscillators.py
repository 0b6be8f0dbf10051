"""Linear stochastic oscillators seen by electrodes (exact Kalman/RTS and EM), spikes or both.

Each oscillator is a damped rotation z with one complex loading c per electrode, and gives the field
Re(c z); the argument of c over the electrodes is the travelling wave. Slow AR(1) factors carry what
electrodes share below the band. With ``background: factors`` noise is white and independent between
electrodes, as in the paper. With ``whitened`` the 1/f background is first flattened by a zero-phase
filter and the noise has a full covariance between electrodes: only this can tell waves from a
background with spatial correlations of its own, at the price of frequencies up to 1.5 % too high
where the background is steep and the peak broad (the filter tilts the peak).

Bad electrodes (coordinate ``good`` false) are left out of the fit and keep NaN loadings; NaN on
good ones counts as missing. The first 70 % of the recording is fitted (or its training trials); the
next 15 % (or the validation trials) stops the iterations and chooses the number of oscillators; the
rest is never read by the fit. Parameter-expanded EM is followed by a quasi-Newton ascent of the
exact marginal likelihood, which standard errors go with. Everything is deterministic; the seed has
no influence.

Spike counts are Poisson with log rates linear in the oscillators; trials start independently, and
inference is by Gauss-Newton (Laplace) with a variational refinement, without which dampings come
out too high. There the seed draws the units that are left out to judge a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator

from driftwave.inference.oscillator_counts import CountsSettings, fit_counts
from driftwave.inference.oscillator_counts_fit import CountsFit
from driftwave.inference.oscillator_field_fit import FieldFit, fit_field

PAPER = "Matsuda & Komaki 2017, Neural Computation 29:332"
OBSERVES = "field"
GIVES_CURVES = True
GIVES_WAVES = "loadings"

Frequency = Annotated[float, Field(gt=0)]


class Params(BaseModel):
    """Settings of the oscillator model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    observations: Literal["field", "spikes", "both"] = Field(
        "field",
        description="What is observed: the field; spike counts (Poisson) in the recording's trials "
        "and bins; or counts and the field in the same bins, on one state.",
    )
    oscillators: Annotated[int, Field(ge=1)] | Literal["select"] | None = Field(
        None,
        description="Number of oscillators; empty for one per spectral peak found; `select` to add "
        "them one at a time and keep the number with the best held-out likelihood.",
    )
    max_oscillators: int = Field(
        6, ge=1, description="At most so many oscillators where their number is not given."
    )
    per_peak: int = Field(
        1,
        ge=1,
        description="Oscillators started at each peak, with the strongest patterns there; several "
        "where waves of one frequency go different ways.",
    )
    background: Literal["whitened", "factors"] = Field(
        "whitened",
        description="1/f background: flattened by a filter, noise correlated between electrodes; "
        "or left to the slow factors, noise independent.",
    )
    slow_factors: int = Field(
        3,
        ge=0,
        description="Number of slow AR(1) factors for what electrodes share below the band.",
    )
    rate: float = Field(
        250.0, gt=0, description="The field is low-passed and decimated to about this rate, Hz."
    )
    band: tuple[Frequency, Frequency] = Field(
        (3.0, 45.0), description="Frequencies an oscillator may have, Hz."
    )
    peak_prominence: float = Field(
        1.0,
        gt=0,
        description="A spectral peak stands out from the flattened mean spectrum by this much, dB.",
    )
    max_bandwidth: float = Field(
        12.0, gt=0, description="An oscillator's spectral peak is at most this wide (FWHM), Hz."
    )
    iterations: int = Field(300, ge=1, description="At most so many EM iterations.")
    tolerance: float = Field(
        1e-8,
        ge=0,
        description="EM stops once an iteration gains less than this, nats per sample and channel.",
    )
    patience: int = Field(
        30, ge=1, description="EM stops after so many iterations without a better validation loss."
    )
    gradient_steps: int = Field(
        60, ge=0, description="At most so many quasi-Newton steps on the exact likelihood after EM."
    )
    stretches: Literal["recording", "trials"] = Field(
        "recording",
        description="What is fitted: the first 70 % of the recording, the next 15 % validating; "
        "or its training trials, the validation trials validating.",
    )
    max_duration: float = Field(
        600.0, gt=0, description="Only this much of the start of the recording is used, s."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Params:
        if self.band[1] <= self.band[0]:
            raise ValueError("band must end above its start")
        return self


@dataclass(frozen=True)
class Fit:
    """Fitted oscillators.

    Attributes
    ----------
    found : FieldFit or CountsFit
        Of a field alone, or of spike counts with or without the field.
    """

    found: FieldFit | CountsFit

    def infer(self, recording: xr.DataTree) -> xr.Dataset:
        """Latents, loadings and frequencies; of a field what is predicted of it, of spikes rates.

        Raises
        ------
        InputError
            If the recording has other electrodes, units or rates.
        """
        return self.found.infer(recording)

    def fill(self, data: np.ndarray) -> np.ndarray:
        """Posterior mean (time, electrode) of a field with gaps; see :meth:`FieldFit.fill`."""
        return self._of_field().fill(data)

    def forecast(self, data: np.ndarray, steps: Sequence[int]) -> np.ndarray:
        """Forecasts (step, time, electrode) of a field; see :meth:`FieldFit.forecast`."""
        return self._of_field().forecast(data, steps)

    def _of_field(self) -> FieldFit:
        if not isinstance(self.found, FieldFit):
            raise TypeError("only a fit with observations='field' predicts a continuous field")
        return self.found

    def save(self, folder: Path) -> None:
        """Write the fit into a folder."""
        self.found.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        field = (folder / "oscillators.npz").exists()
        return cls(FieldFit.load(folder) if field else CountsFit.load(folder))


def fit(
    recording: xr.DataTree,
    params: Params,
    *,
    seed: int,
    device: str = "cpu",
    progress: str | None = None,
    checkpoint: Path | None = None,
) -> Fit:
    """Fit oscillators to a recording's field, its spikes or both.

    Parameters
    ----------
    recording : DataTree
        With what ``params.observations`` names.
    params : Params
    seed : int
        Of a field recorded only: start and iterations are deterministic.
    device : str
        Not used.
    progress : str, optional
        Label of the progress bar.
    checkpoint : Path, optional
        Folder to resume from.

    Raises
    ------
    InputError
        Of :func:`driftwave.inference.oscillator_field_fit.fit_field` or
        :func:`driftwave.inference.oscillator_counts.fit_counts`.
    """
    del device
    if params.observations == "field":
        return Fit(
            fit_field(recording, params, seed=seed, progress=progress, checkpoint=checkpoint)
        )
    shared = CountsSettings.__dataclass_fields__.keys() & Params.model_fields.keys()
    settings = CountsSettings(**{name: getattr(params, name) for name in shared})
    return Fit(fit_counts(recording, settings, seed=seed, progress=progress, checkpoint=checkpoint))
