"""A simulated LFP written as an ElectricalSeries: local fields of trials in 1/f noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pynwb import NWBFile
from pynwb.ecephys import LFP, ElectricalSeries

from driftwave.compute import generator
from driftwave.ingest.simulate import _nwbfile
from driftwave.ingest.simulate._noise import band_rms, noise_blocks, power_law_filter
from driftwave.ingest.simulate._trials import STEP

if TYPE_CHECKING:
    from driftwave.ingest.simulate._oscillator_field import FieldParams

BAND = (5.0, 40.0)  # Hz; where the signal-to-noise ratio is defined
RESOLUTION = 0.25  # microvolt per stored step
BLOCK = 10.0  # s held in memory at once


def lfp_blocks(
    params: FieldParams, local: np.ndarray, seed: int, simulator: str
) -> Iterator[np.ndarray]:
    """Yield the LFP (block, electrode), microvolt, at 500 Hz; between trials there is noise only.

    Parameters
    ----------
    local : ndarray, complex (trial, step + 1, electrode)
        Field at each electrode; its real part is the signal.
    """
    electrodes, sampling_rate = local.shape[2], 1 / STEP
    first = np.rint(params.starts() / STEP).astype(int)
    samples = first[-1] + params.steps + round(params.gap / STEP)
    signal = local[:, : params.steps].real
    signal = signal * (params.amplitude / np.sqrt(np.mean(np.square(signal, dtype=float))))
    sections = power_law_filter(params.exponent, sampling_rate)
    level = params.amplitude / params.snr / band_rms(sections, sampling_rate, BAND)
    rng = generator(seed, simulator, "lfp noise")
    block = round(BLOCK * sampling_rate)
    start = 0
    for voltage in noise_blocks(
        sections, level * np.eye(electrodes), samples, block, sampling_rate, rng
    ):
        stop = start + len(voltage)
        for trial in np.flatnonzero((first < stop) & (first + params.steps > start)):
            low, high = max(first[trial], start), min(first[trial] + params.steps, stop)
            part = signal[trial, low - first[trial] : high - first[trial]]
            voltage[low - start : high - start] += part
        yield voltage
        start = stop


def add_lfp(
    file: NWBFile, params: FieldParams, local: np.ndarray, seed: int, simulator: str
) -> None:
    """Write the LFP to ``processing/ecephys/LFP/lfp``, as int16, all electrodes of the file."""
    samples = round((params.starts()[-1] + params.gap) / STEP) + params.steps
    blocks = lfp_blocks(params, local, seed, simulator)
    write_lfp(file, blocks, (samples, local.shape[2]), 1 / STEP)


def write_lfp(
    file: NWBFile,
    blocks: Iterator[np.ndarray],
    shape: tuple[int, int],
    sampling_rate: float,
    *,
    with_gaps: bool = False,
) -> None:
    """Write blocks (block, electrode), microvolt, to ``processing/ecephys/LFP/lfp`` as they come.

    Stored as int16 in steps of 0.25 microvolt; with gaps as float32, missing samples being NaN.
    """
    limit = np.iinfo(np.int16).max
    kind: type = np.float32 if with_gaps else np.int16
    stored: Iterator[np.ndarray] = (
        (block if with_gaps else np.clip(np.rint(block / RESOLUTION), -limit, limit)).astype(kind)
        for block in blocks
    )
    iterator = _nwbfile.BlockIterator(stored, shape, kind)
    series = ElectricalSeries(
        name="lfp",
        description="Simulated local field potential.",
        data=_nwbfile.compressed(iterator, chunks=iterator.recommended_chunk_shape()),
        electrodes=_nwbfile.electrode_region(file, np.arange(shape[1]), "All electrodes."),
        rate=sampling_rate,
        starting_time=0.0,
        conversion=1e-6 if with_gaps else RESOLUTION * 1e-6,
        filtering="none",
    )
    module = file.create_processing_module("ecephys", "Simulated local field potential.")
    lfp = LFP()
    module.add(lfp)
    lfp.add_electrical_series(series)
