"""What the analyses of point clouds refuse, said once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from driftwave.errors import InputError


def checked_points(points: ArrayLike, *, least: int) -> np.ndarray:
    """The points as a float matrix (point, feature).

    Raises
    ------
    InputError
        If they are not a matrix, hold NaN or infinity, are fewer than ``least``, or all coincide.
    """
    array = np.asarray(points, dtype=float)
    if array.ndim != 2 or array.shape[1] == 0:
        raise _fault("shape", array.shape, "(point, feature)", "give one row per point")
    if len(array) < least:
        raise _fault(
            "number of points",
            len(array),
            f"at least {least}",
            "use more points or fewer neighbours",
        )
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise _fault(
            "values",
            f"{bad} points with NaN or infinity",
            "finite numbers",
            "leave these points out",
        )
    if (array == array[0]).all():
        raise _fault("spread", "all points alike", "points that differ", "check the features")
    return array


def _fault(field: str, found: object, expected: str, fix: str) -> InputError:
    return InputError(file="points", field=field, found=found, expected=expected, fix=fix)
