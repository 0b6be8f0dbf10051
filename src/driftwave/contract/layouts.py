"""The contract of layouts."""

from __future__ import annotations

from pathlib import Path

from driftwave.config import load_layout
from driftwave.contract.common import expect


def check_layout(path: str | Path, nwb: str | Path | None = None) -> None:
    """Check that a layout is valid and named like its file; with ``nwb``, that it ingests that.

    Parameters
    ----------
    path : str or Path
        The YAML file.
    nwb : str or Path, optional
        A recording that it must be able to ingest.

    Raises
    ------
    InputError
        What is wrong with the layout, or with the recording.
    AssertionError
        If the layout has another name than its file.
    """
    layout = load_layout(str(path))
    expect(
        layout.name == Path(path).stem,
        f"{path}: the layout is named {layout.name!r}, its file {Path(path).stem!r}",
    )
    if nwb is not None:
        from driftwave.ingest.nwb import open_nwb, read_recording
        from driftwave.recording import check_recording

        with open_nwb(nwb) as file:
            check_recording(read_recording(file, layout, session="contract"), nwb)
