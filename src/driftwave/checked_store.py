"""Reading a zarr store with each file checked against the store's own list of contents."""

from __future__ import annotations

import asyncio
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.storage import LocalStore

from driftwave.contents import check_bytes, read_contents

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class CheckedStore(LocalStore):
    """A store on disk, for reading, that never passes a lost chunk off as fill values.

    Zarr takes a missing chunk for one that holds only its fill value, and does not notice a
    flipped bit in metadata or in arrays without a checksum. Here both end in an
    :class:`~driftwave.errors.InputError` that names the store and the file.
    """

    @cached_property
    def contents(self) -> dict[str, str]:
        """SHA-256 of each file by its path."""
        return read_contents(self.root)

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads the list of contents itself.
        state = self.__dict__.copy()
        state.pop("contents", None)
        return state

    def __dask_tokenize__(self) -> tuple[str, str]:
        return type(self).__name__, str(self.root)

    def _checked(
        self, key: str, content: Buffer | None, byte_range: ByteRequest | None
    ) -> Buffer | None:
        if byte_range is None or content is None:
            whole = None if content is None else content.as_numpy_array()
            check_bytes(Path(self.root), self.contents, key, whole)
        return content

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        found = super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._checked(key, found, byte_range)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        # In a thread: reading and checking one chunk must not hold up the others.
        return await asyncio.to_thread(
            self.get_sync, key, prototype=prototype, byte_range=byte_range
        )
