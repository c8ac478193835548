"""Survival and phase figures."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from experiments import figures as figs
from experiments.runs import Run, has_group
from experiments.stability_figures import phases, survival
from objectives.stable import DONE, LEARNING, SIMULATING
from objectives.survival import kaplan_meier

TIMES = np.array([2.0, 5.0, 5.0, 7.0, 10.0, 10.0])
BROKEN = np.array([1, 1, 1, 1, 0, 0], bool)


def make(label="before", times=TIMES, broken=BROKEN, **curves):
    return Run(label, {}, {"stable_time_ps": times, "stable_broken": broken, **curves}, {})


def test_survival_is_the_product_limit_with_its_band():
    (axis,) = survival([make()]).axes
    line, ticks = axis.get_lines()
    assert_allclose(line.get_xdata(), [0, 2, 5, 7, 10])
    assert_allclose(line.get_ydata(), [1, 5 / 6, 3 / 6, 2 / 6, 2 / 6])
    assert_allclose(ticks.get_xdata(), [10, 10])  # censored
    vertices = axis.collections[0].get_paths()[0].vertices
    curve = kaplan_meier(TIMES, BROKEN)
    inside = vertices[(vertices[:, 0] > 5) & (vertices[:, 0] < 7.01), 1]
    assert_allclose([inside.min(), inside.max()], [curve.lower[1:].min(), curve.upper[1]])
    before = vertices[vertices[:, 0] < 1.99, 1]
    assert_allclose([before.min(), before.max()], [curve.first_lower, 1])


def test_runs_that_never_broke_or_all_broke():
    whole = make("after", np.full(6, 10.0), np.zeros(6, bool))
    gone = make("worst", TIMES, np.ones(6, bool))
    (axis,) = survival([make(), whole, gone]).axes
    lines = [line for line in axis.get_lines() if line.get_marker() == "None"]
    assert_allclose(lines[1].get_ydata(), 1)
    assert_allclose(lines[2].get_ydata()[-1], 0)


def test_samplers_without_a_clock_have_a_panel_of_their_own():
    steps = make("ULA", 1000 * TIMES, chain_time_label=np.array("ULA steps"))
    clock, no_clock = survival([make(), steps]).axes
    assert clock.get_xlim()[1] < 20 and no_clock.get_xlim()[1] > 9000
    assert no_clock.get_xlabel() == "ULA steps"


def test_survival_is_left_out_where_nothing_broke():
    run = make(broken=np.zeros(6, bool))
    assert "survival" not in figs.figures([run])
    assert "survival" in figs.figures([run, make("other")])


def test_curves_that_do_not_fit():
    with pytest.raises(ValueError, match="'stable'"):
        has_group(make(times=TIMES[:3]), "stable")


def test_learning_phases_are_shaded():
    phase = np.array([SIMULATING, SIMULATING, LEARNING, LEARNING, SIMULATING, LEARNING, DONE, DONE], float)
    log = {"step": np.arange(1.0, 9), "phase": phase, "unstable_fraction": np.linspace(0, 1, 8)}
    run = Run("StABlE", {}, {}, log)
    (axis,) = phases([run]).axes
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axis.patches]
    assert spans == [(2, 4), (5, 6)]
    assert_allclose(axis.get_lines()[0].get_ydata(), log["unstable_fraction"][:6])  # not DONE
    assert "phases" in figs.figures([run])
    mixed = run._replace(log=log | {"phase": 0.5 * phase})  # rows that are means over two phases
    assert "phases" not in figs.figures([mixed])
