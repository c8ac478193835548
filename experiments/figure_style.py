"""The look of the figures: colours, panels, legends, averages with their bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from experiments.runs import Array, Run, has_group

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", "-.", ":")
_WIDTH = 7.2  # inches; with fonts of 9 pt and more still legible at half the width of a desktop page


class Style(NamedTuple):
    """Of one line: `colour`, matplotlib `dash`, colour of its `band`, `width` in points."""

    colour: str
    dash: str
    band: str
    width: float = 1.4


# Wider than a run's line, which is drawn over it: both show where they coincide.
REFERENCE = Style("black", "-", "0.5", 3.0)


def styled(runs: Sequence[Run], group: str | None = None) -> list[tuple[Run, Style]]:
    """Runs (that have the group), each with the style its place in the whole list gives it."""
    styles = [Style(colour, dash, colour) for dash in _DASHES for colour in COLOURS]
    return [
        (run, styles[i % len(styles)]) for i, run in enumerate(runs) if group is None or has_group(run, group)
    ]


def plain_text(label: str) -> str:
    """A label as plain text: no mathematics between dollars, not hidden by a leading underscore."""
    return ("\u200b" if label.startswith("_") else "") + label.replace("$", r"\$")


def panels_of(count: int, columns: int, height: float, **options: bool | str) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows of at most `columns`; `height` in inches per row."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(_WIDTH, height * rows + 0.4), dpi=150, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[:count]:
        axis.grid(alpha=0.25, linewidth=0.6)
    return figure, axes[:count]


def legend(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    """One legend above all panels, in as few rows as its labels allow."""
    lengths = [len(str(entry.get_label())) + 7 for entry in handles]
    columns = len(handles) if sum(lengths) < 86 else max(1, 86 // max(lengths))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=10, frameon=False)


def handle(label: str, style: Style) -> Line2D:
    """Entry of a legend."""
    look = {"color": style.colour, "linestyle": style.dash, "linewidth": style.width + 0.5}
    return Line2D([], [], label=plain_text(label), **look)


def draw_average(axis: Axes, x: Array, y: Array, stderr: Array, style: Style) -> None:
    """One average with its band of ±1 standard error."""
    axis.fill_between(x, y - stderr, y + stderr, alpha=0.3, color=style.band, linewidth=0)
    # Dots keep a populated bin visible between two empty ones (NaN), where a line has no segment.
    dots = "." if np.isnan(y).any() else None
    axis.plot(x, y, style.dash, color=style.colour, linewidth=style.width, marker=dots, markersize=4)


def draw_histogram(axis: Axes, edges: Array, density: Array, stderr: Array, style: Style) -> None:
    """One histogram with its band of ±1 standard error; the last value is repeated at the last edge."""
    values, errors = (np.append(a, a[-1]) for a in (density, stderr))
    axis.fill_between(
        edges, values - errors, values + errors, step="post", alpha=0.3, color=style.band, linewidth=0
    )
    axis.step(edges, values, style.dash, where="post", color=style.colour, linewidth=style.width)


def log_axis(axis: Axes) -> None:
    """A logarithmic y axis with plain numbers, at 1, 2, 5 where the range is short."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
