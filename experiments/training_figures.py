"""Figure of the training logs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.figure_style import (
    Style,
    draw_average,
    handle,
    legend,
    log_axis,
    panels_of,
    plain_text,
    styled,
)
from experiments.runs import UNIT_SUFFIX, Run, unit

_SHARES = ("_fraction", "acceptance")  # endings of names


def logged_quantities(runs: Sequence[Run]) -> list[str]:
    """Columns worth a panel, in order of first appearance: those with a number in any run; the loss only
    where it is the same function in all of them."""
    objectives = {run.metrics.get("objective") for run in runs if "loss" in run.log}
    left_out = {"step", "seconds"} | ({"loss"} if len(objectives) > 1 else set())
    columns = dict.fromkeys(name for run in runs for name in run.log if name not in left_out)
    return [
        name
        for name in columns
        if not name.endswith("_stderr")
        and any(np.isfinite(run.log[name]).any() for run in runs if name in run.log)
    ]


def training_curves(runs: Sequence[Run]) -> Figure:
    """One panel per logged quantity; a column `<name>_stderr` becomes the band of `<name>`. The steps of a
    run that started from another of the runs follow that one's, after a thin line."""
    columns = logged_quantities(runs)
    figure, axes = panels_of(len(columns), 3 if len(columns) > 6 else 2, 2.1)
    shown: dict[str, Style] = {}
    for axis, name in zip(axes, columns, strict=True):
        positive = True
        for run, style in styled(runs):
            values = run.log.get(name, np.empty(0))
            kept = np.isfinite(values)
            if not kept.any():
                continue
            before = _steps_before(run, runs)
            steps, values = before + run.log["step"][kept], values[kept]
            positive &= bool((values > 0).all())
            if f"{name}_stderr" in run.log:
                draw_average(axis, steps, values, run.log[f"{name}_stderr"][kept], style)
            else:
                axis.plot(steps, values, color=style.colour, linestyle=style.dash, linewidth=1.2)
            if before:
                axis.axvline(before, color="0.4", linewidth=0.7)
            shown[run.label] = style
        title = UNIT_SUFFIX.sub("", name).replace("_", " ").replace("mae", "MAE")
        title += f" ({unit(name)})" if unit(name) else ""
        axis.set(xlabel="Step", ylabel=plain_text(textwrap.fill(title, 18)))
        axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        # Losses and errors fall by decades; a quantity that may be negative or is a share does not.
        if positive and not name.endswith(_SHARES):
            log_axis(axis)
    legend(figure, [handle(*item) for item in shown.items()])
    return figure


def _steps_before(run: Run, runs: Sequence[Run]) -> float:
    """Steps of those of the runs that this one started from, one after another."""
    left = {other.folder: other for other in runs if other.folder}
    steps = 0.0
    while parent := left.pop(run.parent, None):
        steps += float(np.max(parent.log.get("step", 0), initial=0))
        run = parent
    return steps
