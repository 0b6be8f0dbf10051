"""What the simulators share: metadata, electrodes, units, intervals and chunked writing in NWB."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import DynamicTableRegion, VectorData, VectorIndex
from hdmf.data_utils import AbstractDataChunkIterator, DataChunk
from pydantic import BaseModel
from pynwb import NWBHDF5IO, NWBFile
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units


def compressed(data: Any, *, chunks: tuple[int, ...] | None = None) -> H5DataIO:
    """Wrap an array, or an iterator over its blocks, to be written gzip-compressed."""
    return H5DataIO(
        data=data, compression="gzip", compression_opts=4, shuffle=True, chunks=chunks or True
    )


def create_file(
    simulator: str,
    params: BaseModel,
    seed: int,
    *,
    session_description: str,
    experiment_description: str,
    keywords: Sequence[str],
    related_publications: Sequence[str] = (),
) -> NWBFile:
    """An NWB file with everything but data; seed and parameters are kept in ``notes``.

    The identifier depends on simulator, seed and parameters alone.
    """
    recipe = f"driftwave simulate {simulator} --seed {seed} --params '{params.model_dump_json()}'"
    file = NWBFile(
        session_description=session_description,
        identifier=str(uuid5(NAMESPACE_URL, recipe)),
        session_id=f"simulated-{simulator}-{seed}",
        session_start_time=datetime(2000, 1, 1, tzinfo=UTC),
        experimenter=["driftwave, simulator"],
        institution="none: simulated",
        lab="none: simulated",
        experiment_description=experiment_description,
        keywords=["simulated", *keywords],
        related_publications=list(related_publications),
        notes=f"Simulated; the start time is a placeholder. Made by: {recipe}",
    )
    file.subject = Subject(
        subject_id=f"simulated-{simulator}",
        species="Simulated population",
        description="No animal: a simulation.",
        sex="U",
        age="P0D",
    )
    return file


def add_electrodes(
    file: NWBFile, position: np.ndarray, columns: Mapping[str, tuple[str, np.ndarray]] | None = None
) -> None:
    """Add one electrode per row of ``position`` (electrode, 2), mm, with rel_x and rel_y in um.

    Parameters
    ----------
    columns : mapping of name to (description, values), optional
        Further columns.
    """
    device = file.create_device(name="array", description="Simulated electrode array.")
    group = file.create_electrode_group(
        name="array", description="All electrodes.", location="simulated", device=device
    )
    for name, (description, _) in (columns or {}).items():
        file.add_electrode_column(name=name, description=description)
    for row, (x, y) in enumerate(position * 1000):
        extra = {name: values[row].item() for name, (_, values) in (columns or {}).items()}
        file.add_electrode(
            rel_x=float(x), rel_y=float(y), location="simulated", group=group, **extra
        )


def electrode_region(file: NWBFile, rows: np.ndarray, description: str) -> DynamicTableRegion:
    """Refer to rows of the electrodes table."""
    return file.create_electrode_table_region(region=rows.tolist(), description=description)


def add_units(
    file: NWBFile,
    spike_times: Sequence[np.ndarray],
    electrode: np.ndarray,
    columns: Mapping[str, tuple[str, np.ndarray]],
    *,
    observed: np.ndarray,
) -> None:
    """Add the Units table column by column, as row-wise adding is slow for many spikes.

    Parameters
    ----------
    spike_times : sequence of ndarray (spike,)
        Ascending times, s, one array per unit.
    electrode : ndarray of int (unit,)
        Electrode row of each unit.
    columns : mapping of name to (description, values)
        Further columns.
    observed : ndarray (interval, 2)
        When the units were observed, s; the same for all units.
    """
    count = len(spike_times)
    times = VectorData(
        name="spike_times",
        description="Spike times, s.",
        data=compressed(np.concatenate(spike_times)),
    )
    ends = np.cumsum([len(one) for one in spike_times])
    sites = DynamicTableRegion(
        name="electrodes",
        description="Electrode that records the unit.",
        data=electrode.astype(int).tolist(),
        table=file.electrodes,
    )
    parts: list[Any] = [
        VectorIndex(name="spike_times_index", data=ends.tolist(), target=times),
        times,
        VectorIndex(name="electrodes_index", data=list(range(1, count + 1)), target=sites),
        sites,
    ]
    intervals = VectorData(
        name="obs_intervals",
        description="When the unit was observed, s.",
        data=compressed(np.tile(observed, (count, 1))),
    )
    last = np.arange(1, count + 1) * len(observed)
    parts += [
        VectorIndex(name="obs_intervals_index", data=last.tolist(), target=intervals),
        intervals,
    ]
    parts += _vector_data(columns)
    with warnings.catch_warnings():
        # The table is in the file, the units only a line later.
        warnings.filterwarnings("ignore", message=".*does not share an ancestor.*")
        units = Units(
            name="units",
            description="Simulated units.",
            columns=parts,
            id=list(range(count)),
            electrode_table=file.electrodes,
            resolution=1e-9,
        )
    file.units = units


def _vector_data(columns: Mapping[str, tuple[str, np.ndarray]]) -> list[VectorData]:
    made = []
    for name, (description, values) in columns.items():
        # hdmf writes lists of text, but cannot tell the type of an empty one.
        text = values.dtype.kind in "UO" and len(values)
        data = values.astype(str).tolist() if text else values
        made.append(VectorData(name=name, description=description, data=data))
    return made


def intervals(
    name: str,
    description: str,
    start: np.ndarray,
    stop: np.ndarray,
    columns: Mapping[str, tuple[str, np.ndarray]],
) -> TimeIntervals:
    """A table of intervals, s, with further columns as name: (description, values)."""
    times = {
        "start_time": ("Start, s.", np.asarray(start, dtype=float)),
        "stop_time": ("Stop, s.", np.asarray(stop, dtype=float)),
    }
    return TimeIntervals(
        name=name,
        description=description,
        columns=_vector_data({**times, **columns}),
        id=list(range(len(start))),
    )


class BlockIterator(AbstractDataChunkIterator):
    """Hand blocks of a (time, channel) series to the HDF5 writer as they are made.

    Parameters
    ----------
    blocks : iterator of ndarray (block, channel)
        Consecutive in time; together ``shape[0]`` rows.
    shape : (int, int)
        Shape of the whole series.
    dtype : numpy dtype
        Of the stored numbers; blocks are already of that type.
    """

    def __init__(self, blocks: Iterator[np.ndarray], shape: tuple[int, int], dtype: Any) -> None:
        self.blocks = blocks
        self.shape = shape
        self.row = 0
        self._dtype = np.dtype(dtype)

    def __iter__(self) -> BlockIterator:
        return self

    def __next__(self) -> DataChunk:
        block = next(self.blocks)
        rows = slice(self.row, self.row + len(block))
        self.row = rows.stop
        return DataChunk(data=block, selection=np.s_[rows, :])

    def recommended_chunk_shape(self) -> tuple[int, int]:
        """About 1 MB, all channels together: readers go through time."""
        rows = max(1, 1_000_000 // (self.shape[1] * self._dtype.itemsize))
        return min(rows, self.shape[0]), self.shape[1]

    def recommended_data_shape(self) -> tuple[int, int]:
        """The final shape."""
        return self.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored numbers."""
        return self._dtype

    @property
    def maxshape(self) -> tuple[int, int]:
        """The final shape."""
        return self.shape


def write_file(file: NWBFile, path: str | Path) -> None:
    """Write to ``path``, whatever its suffix: the caller may rename it once it is whole."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not end in '.nwb'.*")
        with NWBHDF5IO(str(path), mode="w") as io:
            io.write(file)
