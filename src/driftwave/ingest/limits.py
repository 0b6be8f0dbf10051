"""What a layout may ask of memory and time, checked before anything of that size is made."""

from __future__ import annotations

import math

from driftwave.ingest.file import NwbFile
from driftwave.layout import Layout
from driftwave.memory import check_size

# An even clock through uneven stamps has about as many samples as they; far more means that the
# stamps lie in bursts with vast gaps between.
_MOST_PER_STAMP = 1000
# Working copies of one (trial, bin), bytes, beside the counts themselves.
_WORK = 72


def check_windows(file: NwbFile, number: float, length: float) -> None:
    """Refuse more windows than memory holds the starts of.

    Raises
    ------
    InputError
    """
    check_size(
        (number,),
        10 * 8,
        file=file.path,
        field="windows.length",
        what=f"{number:.4g} windows of {length:.6g} s",
        fix="Lengthen `windows.length`, or narrow `windows.start` and `windows.stop`; check that "
        "the file's times are in seconds",
    )


def check_trials(file: NwbFile, layout: Layout, trials: int, bins: int, units: int) -> None:
    """Refuse counts, or behaviour at the bins, that memory cannot hold.

    Raises
    ------
    InputError
        With the memory needed, and how to need less.
    """
    key = "trials" if layout.trials is not None else "windows"
    narrower = "window" if layout.trials is not None else "length"
    fix = (
        f"Widen `bin_width` (it is {layout.bin_width:.6g} s), shorten `{key}.{narrower}`, or use "
        + ("fewer trials by `trials.where`" if layout.trials is not None else "a shorter stretch")
        + (" or fewer units by `spikes.where`" if units else "")
    )
    of = f"{trials} {key} of {bins} bins"
    if units:
        what = f"counts of {of} and {units} units"
        check_size(
            (trials, bins),
            2 * units + _WORK,
            file=file.path,
            field="spikes",
            what=what,
            fix=fix,
        )
    if layout.behavior:
        # Each series has a column at least, and a few copies while it is brought to the bins.
        what = f"behaviour of {of} and {len(layout.behavior)} series"
        check_size(
            (trials, bins),
            5 * 8 * len(layout.behavior),
            file=file.path,
            field="behavior",
            what=what,
            fix=fix,
        )


def check_even_clock(file: NwbFile, field: str, even: float, stamps: int) -> None:
    """Refuse stamps through which an even clock would have a thousand times their number.

    Raises
    ------
    InputError
    """
    if not (math.isfinite(even) and even <= _MOST_PER_STAMP * stamps):
        raise file.fault(
            f"{field} timestamps",
            f"{stamps} time stamps that an even clock of their median distance would take "
            f"{even:.4g} samples for",
            "time stamps that are roughly even",
            "Use a stretch without vast gaps by `start` and `stop`, or mend the time stamps",
        )


def check_factor(file: NwbFile, field: str, factor: float, samples: int) -> None:
    """Refuse to decimate a signal to fewer than two samples.

    Raises
    ------
    InputError
    """
    if not factor <= samples / 2:
        raise file.fault(
            field,
            f"a rate {factor:.4g} times below that of {samples} samples",
            "a rate at which at least 2 samples remain",
            f"Raise `{field}` in the layout",
        )
