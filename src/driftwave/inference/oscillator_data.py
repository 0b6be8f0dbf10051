"""From a field to what the oscillators' EM sees: standardised, whitened if asked, split in two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftwave.errors import InputError
from driftwave.inference.field import FieldSource
from driftwave.inference.oscillator_start import Spectrum, background, spectrum
from driftwave.inference.whitening import Whitening

SHORTEST_SECONDS = 5.0


@dataclass(frozen=True)
class Prepared:
    """Data and the numbers that lead back to microvolt.

    Attributes
    ----------
    data : ndarray (time, channel), float32
        Whitened, zero mean and unit variance over the fitted stretch.
    fitted : int
        Leading samples that are fitted.
    offset, deviation : ndarray (channel,)
        Mean and standard deviation before whitening, microvolt.
    scale : ndarray (channel,)
        Standard deviation after whitening, microvolt.
    whitening : Whitening
    recorded, standard : Spectrum
        Before whitening and standardising (microvolt^2/Hz), and after.
    """

    data: np.ndarray
    fitted: int
    offset: np.ndarray
    deviation: np.ndarray
    scale: np.ndarray
    whitening: Whitening
    recorded: Spectrum
    standard: Spectrum


def prepare(
    source: FieldSource,
    *,
    duration: float,
    valid_fraction: float,
    band: tuple[float, float],
    whiten: bool,
) -> Prepared:
    """Read the start of a field and ready it for EM.

    Parameters
    ----------
    source : FieldSource
    duration : float
        At most so much is read, s.
    valid_fraction : float
        Share at the end that is not fitted.
    band : tuple of float
        Hz.
    whiten : bool
        Flatten the 1/f background first.

    Raises
    ------
    InputError
        Too short; a constant signal on a good electrode.
    """
    data = np.concatenate(list(source.blocks(duration)))
    channels = data.shape[1]
    fitted = round((1 - valid_fraction) * len(data))
    _check_length(len(data), fitted, channels, source, whiten)
    offset = data[:fitted].mean(0, dtype=np.float64)
    data -= offset.astype(np.float32)
    deviation = _deviation(data[:fitted])
    _refuse_constant(deviation, offset, source)
    highest = min(1.5 * band[1], source.rate / 2.2)
    recorded = spectrum(data[:fitted], source.rate, highest)
    whitening = Whitening.none(source.rate)
    if whiten:
        whitening = Whitening.of_background(*background(recorded, band), source.rate)
        data = whitening.apply(data)
    scale = _deviation(data[:fitted])
    data /= scale.astype(np.float32)
    standard = spectrum(data[:fitted], source.rate, highest)
    return Prepared(data, fitted, offset, deviation, scale, whitening, recorded, standard)


def _deviation(data: np.ndarray) -> np.ndarray:
    return np.sqrt([np.mean(np.square(column, dtype=np.float64)) for column in data.T])


def _check_length(
    samples: int, fitted: int, channels: int, source: FieldSource, whiten: bool
) -> None:
    least = SHORTEST_SECONDS
    if whiten:
        # A full noise covariance needs well more samples than channels.
        least = max(least, 4 * channels / source.rate * samples / fitted)
    if samples < least * source.rate:
        raise InputError(
            file=source.session,
            field="field/lfp",
            found=f"{samples / source.rate:.3g} s",
            expected=f"at least {least:.3g} s for {channels} electrodes",
            fix="Use a longer stretch of the recording, or raise `max_duration`",
        )


def _refuse_constant(deviation: np.ndarray, offset: np.ndarray, source: FieldSource) -> None:
    flat = ~(deviation > 1e-6 * np.maximum(1e-3, np.abs(offset)))
    if not flat.any():
        return
    labels = [str(label) for label in source.lfp["electrode"].values[source.good][flat]]
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    raise InputError(
        file=source.session,
        field="field/lfp",
        found=f"a constant signal on electrode {', '.join(labels[:5])}{more}",
        expected="a varying signal on every good electrode",
        fix="Add the electrode to `field.bad_electrodes` in the layout",
    )
