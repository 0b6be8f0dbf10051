"""Layouts that a detector cannot work on."""

from __future__ import annotations

from driftwave.errors import InputError
from driftwave.phase.electrodes import Electrodes


def require_plane(electrodes: Electrodes, session: str, wanted_by: str) -> None:
    """Check that electrodes span a plane, without which nothing can turn about a point.

    Raises
    ------
    InputError
        All electrodes stand on one line.
    """
    if electrodes.linear:
        raise InputError(
            file=session,
            field="field/x, y",
            found="all good electrodes on one line",
            expected=f"positions that span a plane, which {wanted_by} need",
            fix="Leave this detector out for this session",
        )
