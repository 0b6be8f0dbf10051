"""Units of the columns that event tables share."""

from __future__ import annotations

SPAN = {"start": "s", "stop": "s"}
MOTION = {
    "direction": "degree",
    "direction_low": "degree",
    "direction_high": "degree",
    "speed": "mm/s",
    "speed_low": "mm/s",
    "speed_high": "mm/s",
}
RHYTHM = {"wavelength": "mm", "wavenumber": "rad/mm", "frequency": "Hz"}
CENTRE = {"centre_x": "mm", "centre_y": "mm"}
