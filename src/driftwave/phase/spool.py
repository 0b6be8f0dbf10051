"""Arrays over time on disk: written stretch by stretch, read chunk by chunk, gone with their user.

A plain memory map would do the same, but pages of a map count as memory of the process; these are
read and written by position, so that what stays in memory is one stretch.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import DTypeLike

from driftwave.errors import InputError

CHUNK_BYTES = 32_000_000


class Spool:
    """An array (frame, ...) in an unnamed temporary file, which vanishes with the object.

    Parameters
    ----------
    shape : tuple of int
        Frames first.
    dtype : dtype

    Raises
    ------
    InputError
        No room for it in the folder of temporary files.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._row = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the object)
        size = shape[0] * self._row
        room = os.fstatvfs(self._file.fileno())
        if size > room.f_bavail * room.f_frsize:
            raise InputError(
                file=tempfile.gettempdir(),
                field="temporary files",
                found=f"{room.f_bavail * room.f_frsize / 1e6:.0f} MB free",
                expected=f"{size / 1e6:.0f} MB for one dense field of the waves stage",
                fix="Set TMPDIR to a folder with more room, or ask for fewer `fields`",
            )
        os.ftruncate(self._file.fileno(), size)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __reduce__(self) -> tuple:
        # A file without a name cannot be opened by another process: its values travel instead.
        return np.asarray, (self[:],)

    def write(self, start: int, rows: np.ndarray) -> None:
        """Put ``rows`` (frame, ...) at frame ``start``; stretches may be written at once."""
        left = np.ascontiguousarray(rows, dtype=self.dtype).reshape(-1).view(np.uint8).data
        offset = start * self._row
        while len(left):
            done = os.pwrite(self._file.fileno(), left, offset)
            left, offset = left[done:], offset + done

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames ``start`` to ``stop``."""
        rows = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        left = rows.reshape(-1).view(np.uint8).data
        offset = start * self._row
        while len(left):
            done = os.preadv(self._file.fileno(), [left], offset)
            if not done:
                raise OSError("temporary file shorter than the array it holds")
            left, offset = left[done:], offset + done
        return rows

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        frames, rest = key[0] if key else slice(None), key[1:]
        if isinstance(frames, slice) and frames.step in (None, 1):
            start, stop, _ = frames.indices(self.shape[0])
            return self.read(start, stop)[(slice(None), *rest)]
        return self.read(0, self.shape[0])[key]

    def array(self) -> da.Array:
        """The same as a dask array in chunks of whole frames of about 32 MB."""
        rows = max(1, min(self.shape[0], CHUNK_BYTES // max(1, self._row)))
        return da.from_array(
            self,
            chunks=(rows, *self.shape[1:]),
            name=f"spool-{uuid.uuid4().hex}",
            meta=np.empty((0,) * self.ndim, self.dtype),
            asarray=False,
        )
