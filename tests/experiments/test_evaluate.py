"""Runs beside one another in a report: what they are called, and which are refused."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from experiments.evaluate import evaluate_run
from experiments.evaluation_checks import (
    check_output,
    check_reference,
    folder_names,
    other_run,
    vibrational_temperature,
)
from experiments.weights import potential_of
from tests.experiments.small_problem import small, small_problem


def test_another_run_beside_it(tmp_path):
    problem, reference = small_problem()
    config = small(**{"evaluation.sampler": "ula"})
    params = problem.potential.init(jax.random.PRNGKey(0))
    evaluate_run(config, problem, params, tmp_path / "W0")
    workdir = str(tmp_path / "W0")
    found = other_run(workdir, "W0", "eval", config)
    assert found.label == "mse (W0)" and found.metrics["sampler"] == "ula"
    check_reference(found, reference)
    wide = found.curves | {"energy_edges": found.curves["energy_edges"][::4]}
    check_reference(found._replace(curves=wide), reference)  # bins of a figure are merged
    with pytest.raises(ValueError, match=r"mse \(W0\) was compared with another reference"):
        check_reference(found, reference._replace(energy_mean=reference.energy_mean + 1e-3))
    for changes, words in (
        ({"evaluation.sampler": "baoab"}, "sampler 'ula'; expected 'baoab'"),
        ({"evaluation.temperature": 350.0}, "temperature_k 500.0; expected 350.0"),
        ({"ula.step_size": 1e-4}, "sampler_step_size 0.0004; expected 0.0001"),
    ):
        with pytest.raises(ValueError, match=words):
            other_run(workdir, "W0", "eval", small(**{"evaluation.sampler": "ula"} | changes))


def test_a_run_of_other_atoms_beside_it(tmp_path):
    problem, _ = small_problem()
    (tmp_path / "config.json").write_text(small().to_json())
    numbers = problem.system.numbers[::-1]
    reordered = problem._replace(system=problem.system._replace(numbers=numbers))
    with pytest.raises(ValueError, match=r"--beside=.*: a run of other atoms, or of another order"):
        potential_of(tmp_path, reordered)
    with pytest.raises(ValueError, match="no checkpoint"):  # of these atoms, but never trained
        potential_of(tmp_path, problem)


def test_results_of_other_settings_are_not_replaced(tmp_path):
    problem, _ = small_problem()
    config = small(**{"evaluation.sampler": "ula"})
    evaluate_run(config, problem, problem.potential.init(jax.random.PRNGKey(0)), tmp_path / "W")
    check_output(tmp_path / "W", "eval", config)
    for changes, words in (
        (
            {"evaluation.n_steps": 10},
            r"W/eval holds another evaluation: evaluation\.n_steps is 50 there and 10",
        ),
        (
            {"ula.step_size": 1e-4},
            r"ula\.step_size is 0\.0004 there and 0\.0001 here; expected another --output",
        ),
    ):
        other = small(**{"evaluation.sampler": "ula"} | changes)
        with pytest.raises(ValueError, match=words):
            check_output(tmp_path / "W", "eval", other)
        check_output(tmp_path / "W", "eval_short", other)
    (tmp_path / "W" / "eval" / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"W/eval holds an evaluation of unknown settings"):
        check_output(tmp_path / "W", "eval", config)
    for outside in ("../theirs", str(tmp_path), ".", ""):
        with pytest.raises(ValueError, match=r"expected a folder's name, within the workdir"):
            check_output(tmp_path / "W", outside, config)


def test_where_nose_hoover_chains_from_other_frames_come_to_rest():
    assert vibrational_temperature(9, 500.0, 500.0) == pytest.approx(500.0)
    for stated in (350.0, 700.0):
        vibrations = vibrational_temperature(9, 500.0, stated)
        scale = 2 * vibrations / (stated + 500.0)
        assert 21 * vibrations + 3 * stated * scale**2 == pytest.approx(24 * stated)  # the kinetic energy
    assert vibrational_temperature(9, 500.0, 350.0) == pytest.approx(363.4, abs=0.1)
    assert vibrational_temperature(9, 500.0, 700.0) == pytest.approx(673.9, abs=0.1)


def test_names_of_runs_beside_one_another(tmp_path):
    assert folder_names(["runs/W0", "W1"]) == ["W0", "W1"]
    assert folder_names(["a/W", "b/W/"]) == ["a/W", "b/W"]
    assert folder_names(["."]) == [Path.cwd().name]
    with pytest.raises(ValueError, match=r"each once, got a/W, a/\.\./a/W"):
        folder_names(["a/W", "a/../a/W"])
