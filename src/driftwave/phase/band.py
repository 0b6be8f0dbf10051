"""A pass band, as parameters hold it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _ordered(band: tuple[float, float]) -> tuple[float, float]:
    if not 0 < band[0] < band[1]:
        raise ValueError("a band must be two positive frequencies, the lower one first")
    return band


Band = Annotated[tuple[float, float], AfterValidator(_ordered)]
