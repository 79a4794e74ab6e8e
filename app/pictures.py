"""Figures as PNG: curves of a job, confusions and surest mistakes of a checkpoint, contact sheets.

Draws by matplotlib, one picture at a time, since it is not safe in several threads; knows neither
rows nor files. Imports matplotlib, so it is imported when a picture is drawn.
"""

import io
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from app import fonts

_DOTS = 110  # an inch
_TRAIN, _VAL, _TEST = "#4477aa", "#cc6633", "#228833"
# Of so many classes the cells have their numbers, and each its name.
_NUMBERED, _NAMED = 30, 100
_ACROSS = 5  # mistakes in a row
_GAP, _CAPTION, _MARGIN = 4, 20, 14  # pixels, of a contact sheet
_LEAST_ACROSS = 3  # tiles: names need as much room
_drawing = threading.Lock()


class Curve(NamedTuple):
    """What one epoch measured; None where it is not finite."""

    epoch: int
    train_loss: float | None
    val_loss: float | None
    train_accuracy: float | None
    val_accuracy: float | None


class Shown(NamedTuple):
    """A mistake: its image (H, W, C) uint8, None if it is not there any more, and its words."""

    pixels: NDArray[np.uint8] | None
    label: str
    predicted: str
    probability: float | None


class Row(NamedTuple):
    """A class of a contact sheet: its name, the number of all its images, and tiles (T, T, 3)
    uint8 of some; None for an image that cannot be read.
    """

    label: str
    of_all: int
    tiles: Sequence[NDArray[np.uint8] | None]


def curves(
    rows: Sequence[Curve],
    *,
    name: str | None,
    job_id: str,
    tested: tuple[float | None, float | None],
) -> bytes:
    """Loss and accuracy by epoch; those `tested` on the test part as lines.

    `name` is the job's; where it cannot be written its id stands alone.
    """
    with _drawing:
        families = fonts.families([name or ""])
        title = f"{fonts.short(name, 60)}  ·  {job_id}" if name else job_id
        figure = _figure(10, 4.2)
        figure.suptitle(
            title if fonts.can_write(title, families) else job_id,
            family=families,
            fontsize=10,
            parse_math=False,
        )
        loss, accuracy = figure.subplots(1, 2)
        _lines(loss, "loss", rows, [row.train_loss for row in rows], [row.val_loss for row in rows])
        _lines(
            accuracy,
            "accuracy",
            rows,
            [row.train_accuracy for row in rows],
            [row.val_accuracy for row in rows],
        )
        accuracy.set_ylim(0, 1.02)
        for axes, value in zip((loss, accuracy), tested, strict=True):
            if value is not None:
                axes.axhline(value, color=_TEST, linestyle=":", label=f"test {value:.4g}")
        for axes in (loss, accuracy):
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False)
        return _png(figure)


def confusion(counts: NDArray[np.int64], classes: Sequence[str], *, title: str) -> bytes:
    """Rows are true classes, columns predicted ones; a cell's colour is its share of the row."""
    with _drawing:
        count = len(classes)
        families = fonts.families(classes)
        written = fonts.names(classes, families)
        side = min(max(0.42 * count, 3.6), 14) if count <= _NUMBERED else 14
        figure = _figure(side + 2.4, side + 1.6)
        axes = figure.subplots()
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        # The root of a share: a few confusions among many images can be seen.
        scale = PowerNorm(0.5, vmin=0, vmax=1)
        shown = axes.imshow(shares, cmap="Blues", norm=scale, interpolation="nearest")
        figure.colorbar(shown, ax=axes, label="share of the true class", fraction=0.04, pad=0.02)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_title(title, parse_math=False, fontsize=10)
        _ticks(axes, written, families)
        if count <= _NUMBERED:
            _cells(axes, counts, shares)
        return _png(figure)


def mistakes(shown: Sequence[Shown], classes: Sequence[str], *, title: str) -> bytes:
    """The images in rows, each with what it is, what it was taken for, and how surely."""
    with _drawing:
        families = fonts.families(classes)
        names = dict(zip(classes, fonts.names(classes, families), strict=True))
        rows = max(1, math.ceil(len(shown) / _ACROSS))
        figure = _figure(2.1 * _ACROSS, 2.6 * rows + 0.5)
        figure.suptitle(title, parse_math=False, fontsize=10)
        places = list(figure.subplots(rows, _ACROSS, squeeze=False).flat)
        for axes in places:
            axes.set_axis_off()
        for axes, one in zip(places, shown, strict=False):
            _mistake(axes, one, names, families)
        if not shown:
            _say(places[_ACROSS // 2], "there are none")
        return _png(figure)


def sheet(rows: Sequence[Row], *, name: str, title: str) -> bytes:
    """The images of each class side by side below its name, the classes in columns; above them
    `name`, where it can be written, and `title`.
    """
    with _drawing:
        families = fonts.families([*(row.label for row in rows), name])
        style: dict[str, Any] = {"family": families, "fontsize": 8, "parse_math": False}
        grid = _Grid.of(rows)
        figure = _figure(grid.width / _DOTS, grid.height / _DOTS)
        figure.set_layout_engine("none")

        def write(text: str, x: float, y: float) -> None:
            figure.text(x / grid.width, 1 - y / grid.height, text, va="bottom", **style)

        known = f"{fonts.short(name, 60)}  ·  " if fonts.can_write(name, families) else ""
        write(known + title, _MARGIN, _MARGIN + _CAPTION)
        written = fonts.names([row.label for row in rows], families)
        for number, row in enumerate(rows):
            x, y = grid.place(number)
            write(f"{written[number]}  ·  {row.of_all:,}", x, y - _GAP)
            for place, pixels in enumerate(row.tiles):
                left = x + place * (grid.tile + _GAP)
                if pixels is not None:
                    bottom = grid.height - y - grid.tile
                    figure.figimage(pixels, left, bottom, origin="upper")
        return _png(figure)


class _Grid(NamedTuple):
    """Where the classes of a contact sheet are, in pixels from its upper left corner."""

    tile: int
    across: int  # of one class
    down: int
    columns: int
    lines: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """About as wide as high."""
        tile = next((len(t) for row in rows for t in row.tiles if t is not None), 1)
        most = max(_LEAST_ACROSS, *(len(row.tiles) for row in rows))
        across, down = most * (tile + _GAP) + _MARGIN, tile + _GAP + _CAPTION
        columns = max(1, round(math.sqrt(len(rows) * down / across)))
        return cls(tile, across, down, columns, math.ceil(len(rows) / columns))

    @property
    def width(self) -> int:
        return self.columns * self.across + _MARGIN

    @property
    def height(self) -> int:
        return self.lines * self.down + 3 * _MARGIN + _CAPTION

    def place(self, number: int) -> tuple[int, int]:
        """Of the first tile of a class."""
        column, line = divmod(number, self.lines)
        y = 2 * _MARGIN + 2 * _CAPTION + line * self.down
        return _MARGIN + column * self.across, y


def _figure(width: float, height: float) -> Figure:
    """In inches. Never pyplot's, which keeps every figure."""
    figure = Figure(figsize=(width, height), dpi=_DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _say(axes: Axes, words: str) -> None:
    """In place of what would be there."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": "gray"}
    axes.text(0.5, 0.5, words, transform=axes.transAxes, **style)


def _lines(
    axes: Axes,
    title: str,
    rows: Sequence[Curve],
    train: Sequence[float | None],
    val: Sequence[float | None],
) -> None:
    axes.set(xlabel="epoch", ylabel=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    epochs = [row.epoch for row in rows]
    marker = "o" if len(rows) <= 25 else None
    for label, values, colour in (("train", train, _TRAIN), ("validation", val, _VAL)):
        known = [math.nan if value is None else value for value in values]
        if any(map(math.isfinite, known)):
            axes.plot(epochs, known, label=label, color=colour, marker=marker, markersize=3)
    if not axes.lines:
        reason = "not a number in any epoch" if rows else "no epoch has ended yet"
        _say(axes, reason)


def _ticks(axes: Axes, names: Sequence[str], families: Sequence[str]) -> None:
    """A name for each class, or some numbers where there are too many."""
    count = len(names)
    if count > _NAMED:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        return
    size = 9 if count <= _NUMBERED else 6
    style: dict[str, Any] = {"family": list(families), "fontsize": size, "parse_math": False}
    axes.set_xticks(range(count), names, rotation=90, **style)
    axes.set_yticks(range(count), names, **style)


def _cells(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), images in np.ndenumerate(counts):
        if images:
            colour = "white" if shares[row, column] > 0.3 else "black"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "fontsize": 7}
            axes.text(column, row, f"{images}", **style)


def _mistake(axes: Axes, one: Shown, names: Mapping[str, str], families: Sequence[str]) -> None:
    sure = "" if one.probability is None else f" {one.probability:.3f}"
    axes.set_title(
        f"{names[one.label]}\ntaken for {names[one.predicted]}{sure}",
        family=list(families),
        fontsize=8,
        parse_math=False,
    )
    if one.pixels is None:
        _say(axes, "gone")
        return
    grey = one.pixels.shape[2] == 1
    axes.imshow(one.pixels.squeeze(2) if grey else one.pixels, cmap="gray", vmin=0, vmax=255)
