"""HDF5 content that lies outside the file that is opened: refused, never followed.

A link, an external storage or a virtual dataset can name any file of the machine, so that a
recording from elsewhere could carry what it finds there into the results.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from driftwave.errors import InputError
from driftwave.reading import plain

_DEEPEST = 64
_FIX = "Copy what it names into the file (pynwb's export with `link_data=False`) and use the copy"


def refuse_outside(h5: h5py.File, path: str | Path) -> None:
    """Refuse a file that refers to other files.

    Parameters
    ----------
    h5 : h5py.File
    path : path
        Its name, for messages.

    Raises
    ------
    InputError
        Naming the first external link, dataset in external storage or virtual dataset.
    """

    def refusal(name: str, found: str) -> InputError:
        expected = "content of this file only"
        return InputError(file=path, field=plain(name), found=found, expected=expected, fix=_FIX)

    def of_link(name: str, link: Any) -> InputError | None:
        if isinstance(link, h5py.ExternalLink):
            return refusal(name, f"a link to another file ({plain(link.filename, 200)!r})")
        if name.count("/") < _DEEPEST:
            return None
        # Readers of HDF5 descend by recursion, in a time that grows as the square.
        return InputError(
            file=path,
            field=plain(name[:60] + "..."),
            found=f"groups nested more than {_DEEPEST} deep",
            expected="an NWB 2 file, which nests a dozen at most",
            fix="Check what wrote the file",
        )

    def of_item(name: str, item: h5py.Group | h5py.Dataset) -> InputError | None:
        if not isinstance(item, h5py.Dataset):
            return None
        settings = item.id.get_create_plist()
        if settings.get_layout() == h5py.h5d.VIRTUAL:
            files = sorted({source.file_name for source in item.virtual_sources()})
            return refusal(name, f"a virtual dataset of {plain(', '.join(map(repr, files)), 200)}")
        if settings.get_external_count():
            stored = settings.get_external(0)[0].decode(errors="replace")
            return refusal(name, f"values stored in another file ({plain(stored, 200)!r})")
        return None

    # A visit ends at what is returned; an exception would not come through libhdf5.
    found = h5.visititems_links(of_link) or h5.visititems(of_item)
    if found is not None:
        raise found
