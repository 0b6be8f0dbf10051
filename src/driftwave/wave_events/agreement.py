"""Whether detectors agree: the event tables of one recording against each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from driftwave.compute import generator

STILL = ("none", "synchronous", "standing")
STEP = 0.1
SHIFTS = 499
FEWEST_SHIFTS = 19
WHOLE = 0.9
LEVEL = 0.05
PAIRED = {
    "jaccard": "1",
    "kappa": "1",
    "direction_agreement": "1",
    "direction_null": "1",
    "direction_p": "1",
    "speed_ratio": "1",
    "class_agreement": "1",
    "joint_seconds": "s",
    "planar_seconds": "s",
}


@dataclass(frozen=True)
class Course:
    """What a detector says with time, on bins common to all.

    Attributes
    ----------
    heading : ndarray, complex (bin,)
        Direction of planar events as a unit vector, weighted by their time in the bin; NaN without.
    speed : ndarray (bin,)
        mm/s of planar events, NaN without.
    name : ndarray of str (bin,)
        Class of the travelling event that takes most of the bin, "" for none.
    whole : bool
        Whether it is a single event that spans the recording.
    """

    heading: np.ndarray
    speed: np.ndarray
    name: np.ndarray
    whole: bool

    @property
    def active(self) -> np.ndarray:
        """Bins in which something travels."""
        return self.name != ""

    @property
    def planar(self) -> np.ndarray:
        """Bins with a direction."""
        return np.isfinite(self.heading)


def claimed(table: xr.Dataset) -> xr.Dataset:
    """Events a detector stands by: those with q up to its level, where it gives q."""
    if "q" not in table:
        return table
    level = float(table.attrs.get("level", LEVEL))
    return table.isel(event=np.flatnonzero(table["q"].values <= level))


def course_of(table: xr.Dataset, edges: np.ndarray) -> Course:
    """Lay an event table out on bins with ``edges`` (bin + 1,) in s."""
    events = claimed(table)
    count = len(edges) - 1
    start, stop = events["start"].values.astype(float), events["stop"].values.astype(float)
    names = events["class"].values.astype(str)
    direction = _column(events, "direction")
    speed = _column(events, "speed")
    most, name = np.zeros(count), np.full(count, "", dtype="<U16")
    heading, moving = np.zeros(count, complex), np.zeros(count)
    logarithm, timed = np.zeros(count), np.zeros(count)
    for number in np.flatnonzero(~np.isin(names, STILL)):
        first = int(np.searchsorted(edges, start[number], side="right")) - 1
        last = int(np.searchsorted(edges, stop[number], side="left"))
        bins = np.arange(max(first, 0), min(max(last, first + 1), count))
        share = np.minimum(edges[bins + 1], stop[number]) - np.maximum(edges[bins], start[number])
        # A front that passes between two samples has no duration, but it was there.
        share = np.maximum(share, 1e-6)
        longer = share > most[bins]
        most[bins[longer]], name[bins[longer]] = share[longer], names[number]
        if names[number] == "planar" and np.isfinite(direction[number]):
            heading[bins] += share * np.exp(1j * np.deg2rad(direction[number]))
            moving[bins] += share
        if names[number] == "planar" and 0 < speed[number] < np.inf:
            logarithm[bins] += share * np.log(speed[number])
            timed[bins] += share
    size = np.abs(heading)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where((moving > 0) & (size > 1e-9 * np.maximum(moving, 1e-12)), heading, np.nan)
        unit = unit / np.where(size > 0, size, 1)
        mean = np.where(timed > 0, np.exp(logarithm / np.maximum(timed, 1e-12)), np.nan)
    span = edges[-1] - edges[0]
    whole = (
        table.sizes["event"] == 1
        and float(table["stop"].values[0] - table["start"].values[0]) > WHOLE * span
    )
    return Course(unit, mean, name, bool(whole))


def _column(events: xr.Dataset, name: str) -> np.ndarray:
    if name not in events:
        return np.full(events.sizes["event"], np.nan)
    return events[name].values.astype(float)


def agree(
    tables: dict[str, xr.Dataset],
    *,
    span: tuple[float, float] | None = None,
    step: float = STEP,
    shifts: int = SHIFTS,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the event tables of one recording's detectors, pair by pair.

    Parameters
    ----------
    tables : dict of str to Dataset
        Event tables by detector. Of a table with ``q`` only events with q up to its level count.
    span : (start, stop), optional
        Of the recording, s; default from the first event's start to the last one's stop.
    step : float
        Length of the bins of the common time base, s. Something travels in a bin that an event of a
        class other than none, synchronous and standing touches.
    shifts : int
        Circular shifts in time for the null of directions.
    seed : int

    Returns
    -------
    Dataset
        Dims ``detector`` and ``other``: ``jaccard`` (time both / either), ``kappa`` (Cohen),
        ``direction_agreement`` (mean cosine between directions over bins where both are planar),
        ``direction_null`` and ``direction_p`` (the same after shifting the other in time; NaN for a
        whole-recording detector, which is compared with the mean direction of the other),
        ``speed_ratio`` (median of detector / other over the same bins), ``class_agreement`` (share
        of the bins where both travel), ``joint_seconds``, ``planar_seconds``. Dim ``detector``:
        ``events`` (those that count), ``seconds``, ``speed_kind``. Dim ``event``, all events for a
        raster: ``event_detector``, ``event_start``, ``event_stop``, ``event_class``,
        ``event_direction``, ``event_speed``, ``event_claimed``.

    Notes
    -----
    Consecutive bins are not independent, so that kappa and the cosine carry no interval; the shifts
    keep each detector's own persistence. Where directions hardly change, shifting changes nothing
    and p stays large however well detectors agree: ``direction_null`` then equals the agreement.
    """
    low, high = _span(tables) if span is None else span
    count = max(1, int(np.ceil((high - low) / step - 1e-9)))
    edges = low + step * np.arange(count + 1)
    names = list(tables)
    courses = {name: course_of(table, edges) for name, table in tables.items()}
    found = {key: np.full((len(names), len(names)), np.nan) for key in PAIRED}
    for a, one in enumerate(names):
        for b, other in enumerate(names):
            pair = _pair(courses[one], courses[other], step)
            if a != b:
                rng = generator(seed, "agreement", one, other)
                pair |= _directions(courses[one], courses[other], shifts, rng)
            for key, value in pair.items():
                found[key][a, b] = value
    dims = ("detector", "other")
    table = xr.Dataset(
        {key: (dims, found[key], {"units": unit}) for key, unit in PAIRED.items()},
        coords={"detector": names, "other": names},
        attrs={"step": step, "start": low, "stop": high, "shifts": shifts},
    )
    claims = [claimed(tables[name]).sizes["event"] for name in names]
    seconds = [courses[name].active.sum() * step for name in names]
    kinds = [str(tables[name].attrs.get("speed_kind", "phase")) for name in names]
    table["events"] = ("detector", np.array(claims, dtype=np.int64), {"units": "1"})
    table["seconds"] = ("detector", np.array(seconds, dtype=float), {"units": "s"})
    table["speed_kind"] = ("detector", np.array(kinds, dtype="<U8"))
    return table.merge(_raster(tables))


def _span(tables: dict[str, xr.Dataset]) -> tuple[float, float]:
    starts = [float(t["start"].min()) for t in tables.values() if t.sizes["event"]]
    stops = [float(t["stop"].max()) for t in tables.values() if t.sizes["event"]]
    return (min(starts), max(stops)) if starts else (0.0, 0.0)


def _pair(one: Course, other: Course, step: float) -> dict[str, float]:
    """Agreement in time and class."""
    a, b = one.active, other.active
    both, either = (a & b).sum(), (a | b).sum()
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    planar = one.planar & other.planar
    return {
        "jaccard": both / either if either else np.nan,
        "kappa": ((a == b).mean() - chance) / (1 - chance) if chance < 1 else np.nan,
        "class_agreement": (one.name == other.name)[a & b].mean() if both else np.nan,
        "joint_seconds": both * step,
        "planar_seconds": planar.sum() * step,
    }


def _directions(
    one: Course, other: Course, shifts: int, rng: np.random.Generator
) -> dict[str, float]:
    """Agreement of directions and speeds of jointly planar bins, and its null."""
    planar = one.planar & other.planar
    if not planar.any():
        return {}
    ratio = (one.speed / other.speed)[planar]
    ratio = ratio[np.isfinite(ratio)]
    result = {"speed_ratio": float(np.median(ratio)) if len(ratio) else np.nan}
    if one.whole or other.whole:
        a, b = one.heading[planar].mean(), other.heading[planar].mean()
        return result | {"direction_agreement": float(np.cos(np.angle(a * np.conj(b))))}
    observed = _cosine(one.heading, other.heading)
    result["direction_agreement"] = observed
    bins = len(one.heading)
    offsets = rng.permutation(np.arange(1, bins))[:shifts]
    drawn = np.array([_cosine(one.heading, np.roll(other.heading, at)) for at in offsets.tolist()])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) >= FEWEST_SHIFTS:
        result["direction_null"] = float(drawn.mean())
        result["direction_p"] = (1 + (drawn >= observed - 1e-12).sum()) / (len(drawn) + 1)
    return result


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine of the angle between headings where both have one."""
    product = (a * b.conj()).real
    seen = np.isfinite(product)
    return float(product[seen].mean()) if seen.any() else np.nan


def _raster(tables: dict[str, xr.Dataset]) -> xr.Dataset:
    """All events of all detectors along ``event``."""
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("detector", "start", "stop", "class", "direction", "speed", "claimed")
    }
    for name, table in tables.items():
        count = table.sizes["event"]
        columns["detector"].append(np.full(count, name, dtype="<U32"))
        columns["class"].append(table["class"].values.astype("<U16"))
        sure = np.ones(count, bool)
        if "q" in table:
            sure = table["q"].values <= float(table.attrs.get("level", LEVEL))
        columns["claimed"].append(sure)
        for column in ("start", "stop", "direction", "speed"):
            columns[column].append(_column(table, column))
    units = {"start": "s", "stop": "s", "direction": "degree", "speed": "mm/s"}
    return xr.Dataset(
        {
            f"event_{name}": (
                "event",
                np.concatenate(parts) if parts else np.zeros(0),
                {"units": units[name]} if name in units else {},
            )
            for name, parts in columns.items()
        }
    )
