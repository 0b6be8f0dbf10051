"""A film of the phase over the array in the course of a recording's best waves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from driftwave.figures.event_course import Course, course_of, headline
from driftwave.figures.phase_maps import ARROW_COLOUR, ARROWS, colour_bar
from driftwave.figures.style import CYCLIC, STYLE
from driftwave.figures.wave_field import Example, Map, example_events
from driftwave.store import atomic_path

EVENTS = 3
CYCLES = 2.0
STEPS = 24  # images per cycle
RATE = 12  # images per second
DPI = 110
SIZE = (3.6, 3.6)


def save_film(waves: xr.Dataset, out: Path) -> None:
    """Write ``out``.gif and ``out``.mp4: two cycles in the middle of the clearest events.

    Parameters
    ----------
    waves : Dataset
        What the main analysis wrote, with the dense phase.
    out : Path
        Without suffix.
    """
    images = list(frames(waves))
    with atomic_path(out.with_suffix(".gif")) as path:
        _write_gif(images, path)
    with atomic_path(out.with_suffix(".mp4")) as path:
        _write_mp4(images, path)


def frames(waves: xr.Dataset) -> Iterator[np.ndarray]:
    """Images (row, column, 3), uint8, of the film; one that says why where there is none."""
    chosen = example_events(waves, EVENTS) if waves.sizes.get("event", 0) else []
    with plt.rc_context(STYLE):
        if not chosen:
            yield from _words(
                "no event: nothing above the threshold\nof the zero-lag null for long enough"
            )
        for example in chosen:
            course = course_of(example.waves, example.one, cycles=CYCLES, steps=STEPS)
            if course is None:
                yield from _words("the dense phase was not kept\n(parameter fields)")
                return
            yield from _event(example, course)


def _words(text: str) -> Iterator[np.ndarray]:
    figure, axes = plt.subplots(figsize=(3.2, 1.2), dpi=DPI)
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center")
    yield _image(figure)
    plt.close(figure)


def _event(example: Example, course: Course) -> Iterator[np.ndarray]:
    layout = Map.of(example.waves, ARROWS)
    # All events' pages have one size, as a film must.
    figure, axes = plt.subplots(figsize=SIZE, dpi=DPI, layout="compressed")
    picture = layout.tiles.draw(axes, course.phase[:, 0])
    gradient = course.gradient
    quiver = None if gradient is None else layout.arrows.draw(axes, gradient[:, :, 0])
    colour_bar(figure, [axes])
    slower = 1 / (RATE * float(np.diff(course.time).mean()))
    # Two lines, since one is wider than the film.
    first, _, rest = headline(example.one, example.array).partition(" Hz, ")
    head, _, frequency = first.rpartition(", ")
    axes.set_title(f"{head}\n{frequency} Hz, {rest}\n", fontsize=8)
    clock = axes.text(0.5, 1.01, "", transform=axes.transAxes, ha="center", fontsize=8)
    clock.set_text(_clock(course.time, 0, slower))
    figure.canvas.draw()
    figure.set_layout_engine("none")  # maps that stand still, and nothing to lay out per image
    for moment in range(len(course.time)):
        picture.set_data(layout.tiles.image(course.phase[:, moment]))
        if quiver is not None and gradient is not None:
            quiver.set_UVC(*layout.arrows.vectors(gradient[:, :, moment]).T)
        clock.set_text(_clock(course.time, moment, slower))
        yield _image(figure)
    plt.close(figure)


def _clock(time: np.ndarray, moment: int, slower: float) -> str:
    """Time of a moment, with decimals that tell it from the next, and the film's speed."""
    digits = max(1, int(np.ceil(-np.log10(np.diff(time).mean()))))
    speed = f"{slower:.2g} times slower" if slower >= 1 else f"{1 / slower:.2g} times faster"
    return f"{time[moment]:.{digits}f} s, {speed}"


def _image(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _palette() -> Image.Image:
    """The 256 colours of a gif: the phase's, greys for text, and the arrows' down to black."""
    phase = mpl.colormaps[CYCLIC](np.linspace(0, 1, 192))[:, :3]
    grey = np.repeat(np.linspace(0, 1, 48)[:, None], 3, axis=1)
    arrow = np.linspace(0, 1, 16)[:, None] * to_rgb(ARROW_COLOUR)
    image = Image.new("P", (1, 1))
    image.putpalette(
        (255 * np.concatenate([phase, grey, arrow])).round().astype(np.uint8).tobytes()
    )
    return image


def _write_gif(images: list[np.ndarray], path: Path) -> None:
    """All images share one palette, as a film whose colours flicker misleads."""
    palette = _palette()
    pages = [
        Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE)
        for image in images
    ]
    pages[0].save(
        path, format="GIF", save_all=True, append_images=pages[1:], duration=1000 // RATE, loop=0
    )


def _write_mp4(images: list[np.ndarray], path: Path) -> None:
    """H.264 with even sides, as players want."""
    height = max(image.shape[0] for image in images) // 2 * 2
    width = max(image.shape[1] for image in images) // 2 * 2
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            page = np.full((height, width, 3), 255, np.uint8)
            part = image[:height, :width]
            page[: part.shape[0], : part.shape[1]] = part
            for packet in stream.encode(av.VideoFrame.from_ndarray(page, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
