"""Figures of stability: survival of the evaluation chains, and the phases of StABlE training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.figure_style import handle, legend, panels_of, plain_text, styled
from experiments.runs import Run, time_label
from objectives.stable import DONE, LEARNING, SIMULATING
from objectives.survival import kaplan_meier


def survival(runs: Sequence[Run]) -> Figure:
    """Share of chains still stable against time (Kaplan–Meier) with 95 % bands; ticks are chains that
    were stable when their simulation ended."""
    chosen = styled(runs, "stable")
    labels = {time_label(run): None for run, _ in chosen}
    figure, axes = panels_of(len(labels), 2, 3.2)
    for axis, label in zip(axes, labels, strict=True):  # samplers without a clock on an axis of their own
        for run, style in chosen:
            if time_label(run) != label:
                continue
            times, broken = run.curves["stable_time_ps"], run.curves["stable_broken"].astype(bool)
            curve = kaplan_meier(times, broken)
            knots = np.concatenate([[0.0], curve.times, [times.max()]])
            curves = ((1.0, curve.survival), (curve.first_lower, curve.lower), (1.0, curve.upper))
            share, lower, upper = (
                np.concatenate([[first], values, values[-1:] if len(values) else [first]])
                for first, values in curves
            )
            axis.fill_between(knots, lower, upper, step="post", color=style.band, alpha=0.25, linewidth=0)
            axis.step(knots, share, style.dash, where="post", color=style.colour, linewidth=style.width)
            intact = times[~broken]
            axis.plot(intact, curve.at(intact), "|", color=style.colour, markersize=8)
        axis.set(xlabel=plain_text(label), ylim=(-0.02, 1.04))
        axis.set_xlim(left=0)
    axes[0].set_ylabel("Share of chains still stable")
    legend(figure, [handle(run.label, style) for run, style in chosen])
    return figure


def phases(runs: Sequence[Run]) -> Figure:
    """Share of unstable replicas along StABlE training up to its last phase, a panel a run; learning
    phases are shaded. In a simulation phase the share grows with each replica that breaks and waits; in a
    learning phase it is of those that broke in the window."""
    chosen = [(run, style) for run, style in styled(runs) if has_phases(run)]
    figure, axes = panels_of(len(chosen), 1, 2.2)
    for axis, (run, style) in zip(axes, chosen, strict=True):
        done = run.log["phase"] == DONE
        last = int(np.argmax(done)) if done.any() else len(done)
        steps, share, phase = (run.log[name][:last] for name in ("step", "unstable_fraction", "phase"))
        starts = np.concatenate([[2 * steps[0] - steps[1] if len(steps) > 1 else 0], steps[:-1]])
        for first, end in _spans(phase == LEARNING):
            axis.axvspan(starts[first], steps[end], color="0.85", linewidth=0)
        axis.step(steps, share, where="pre", color=style.colour, linewidth=style.width)
        axis.set(title=plain_text(run.label), ylim=(-0.03, 1.03), ylabel="Unstable share")
        axis.set_xlim(starts[0], steps[-1])
    axes[-1].set_xlabel("Window")
    legend(figure, [Patch(color="0.85", label="learning"), Patch(fill=False, label="simulating")])
    return figure


def has_phases(run: Run) -> bool:
    """Whether the run's log is that of StABlE training, with a row for each window: a mean over windows
    of several phases belongs to none."""
    if not {"unstable_fraction", "phase"} <= run.log.keys():
        return False
    phase = run.log["phase"]
    return len(phase) > 0 and phase[0] != DONE and bool(np.isin(phase, (SIMULATING, LEARNING, DONE)).all())


def has_broken(run: Run) -> bool:
    """Whether a chain of the run's evaluation broke."""
    return bool(np.any(run.curves.get("stable_broken", False)))


def _spans(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
