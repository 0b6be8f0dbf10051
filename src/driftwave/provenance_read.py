"""Read the record that a result carries, whichever kind of file it is."""

from __future__ import annotations

import html
import json
import re
import struct
from pathlib import Path
from typing import Any

from driftwave.contents import sha256_of
from driftwave.provenance import IN_FOLDER, SIDECAR

FIGURE_KEY = "driftwave"
_SVG_HEAD = 1 << 20
_DESCRIPTION = re.compile(r"<dc:description>(.*?)</dc:description>", re.DOTALL)


def read_record(path: Path) -> dict[str, Any]:
    """Record of a store, folder of a fit, table or figure; empty if it carries none.

    Raises
    ------
    ValueError
        If there is one that cannot be read.
    """
    if path.is_dir():
        return _of_folder(path)
    beside = path.with_name(path.name + SIDECAR)
    if beside.is_file():
        return _of_table(path, beside)
    if path.suffix == ".png" and path.is_file():
        return _of_png(path)
    if path.suffix == ".svg" and path.is_file():
        return _of_svg(path)
    return {}


def _of_folder(path: Path) -> dict[str, Any]:
    for name in (IN_FOLDER, "result.json"):
        if (path / name).is_file():
            content = _mapping((path / name).read_text(encoding="utf-8"), path / name)
            return content if name == IN_FOLDER else content.get("provenance", {})
    root = path / "zarr.json"
    if not root.is_file():
        return {}
    attributes = _mapping(root.read_text(encoding="utf-8"), root).get("attributes", {})
    text = attributes.get("provenance")
    if not text:
        return {}
    return _mapping(text, root) if isinstance(text, str) else dict(text)


def _of_table(path: Path, beside: Path) -> dict[str, Any]:
    record = _mapping(beside.read_text(encoding="utf-8"), beside)
    if path.is_file():
        now = sha256_of(path)
        if now != record.get("id"):
            record |= {"id": now, "changed": True}
    return record


def _of_png(path: Path) -> dict[str, Any]:
    """The ``tEXt`` or ``iTXt`` chunk that :func:`driftwave.figures.style.save_figure` wrote."""
    with path.open("rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return {}
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"IDAT", b"IEND"):
                return {}
            data = file.read(length)
            file.seek(4, 1)
            key, _, rest = data.partition(b"\0")
            if key.decode("latin-1") != FIGURE_KEY:
                continue
            if kind == b"tEXt":
                return _mapping(rest.decode("latin-1"), path)
            if kind == b"iTXt" and rest[:1] == b"\0":
                text = rest[2:].split(b"\0", 2)[2]
                return _mapping(text.decode("utf-8"), path)
    return {}


def _of_svg(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", errors="replace") as file:
        found = _DESCRIPTION.search(file.read(_SVG_HEAD))
    text = html.unescape(found[1]).strip() if found else ""
    return _mapping(text, path) if text.startswith("{") else {}


def _mapping(text: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: its record of provenance is damaged ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: its record of provenance is not a mapping")
    return content
