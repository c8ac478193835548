"""Holes dug by hand into a potential whose minimum is known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.holes import distances, energies_of, farthest, hole_metrics, with_holes
from experiments.runs import Run
from potentials import from_energy
from tests.experiments.small_problem import small_problem

STIFFNESS, WIDTH = 0.5, 0.3  # eV/Å², Å


@pytest.fixture(scope="module")
def case():
    """Springs to a geometry about which train and test frames scatter, with a Gaussian hole of depth `params`
    about the same, stretched; ten test frames and five configurations on the hole's slope, whose energies are
    ordinary."""
    problem, _ = small_problem()
    home = np.asarray(problem.test.positions)[0]
    rng = np.random.default_rng(0)

    def scattered(batch):
        noise = rng.normal(size=batch.positions.shape, scale=0.05)
        return batch._replace(positions=jnp.asarray(home + noise, jnp.float32))

    problem = problem._replace(train=scattered(problem.train), test=scattered(problem.test))
    test = np.asarray(problem.test.positions)
    away = 1.4 * home

    def energy(depth, positions):
        springs = STIFFNESS * jnp.sum((positions - home) ** 2)
        return springs - depth * jnp.exp(-0.5 * jnp.sum((positions - away) ** 2) / WIDTH**2)

    problem = problem._replace(potential=from_energy(energy, init=lambda key: jnp.float32(0)))
    noise = rng.normal(size=(5, *home.shape))
    noise *= 0.45 / np.linalg.norm(noise, axis=(1, 2), keepdims=True)
    found = np.concatenate([test[:10], away + noise]).astype(np.float32)
    climb = STIFFNESS * np.sum((away - home) ** 2)
    return problem, home, found, climb


def judge(case, depth, threshold=-1.0):
    """Energies are counted from 0.1 eV below the springs' minimum."""
    problem, _, found, _ = case
    far = farthest(*distances(problem, found, achiral=True))
    params, mean = jnp.float32(depth), problem.energy_shift - 0.1
    now = energies_of(problem, params, found, mean)
    return hole_metrics(problem, params, found, now, far, threshold=threshold, mean=mean)


def test_a_hole_counts_by_where_its_frames_relax_to(case):
    _, _, _, climb = case
    deep = judge(case, climb + 0.8)
    assert deep["negatives_far"] == deep["negatives_relaxed"] == 5 and deep["n_negatives"] == 15
    assert -0.9 < deep["negatives_minimum_ev"] < -0.5
    assert deep["negatives_test_minimum_ev"] == pytest.approx(0.1, abs=1e-3)
    assert deep["negatives_in_holes"] == 5, "none of them is below the threshold"
    shallow = judge(case, climb - 0.3)
    assert shallow["negatives_in_holes"] == 0 and shallow["negatives_minimum_ev"] > 0.05


def test_a_hole_without_a_bottom_counts(case):
    problem, _, _, climb = case
    energy = problem.potential.energy

    def pierced(depth, positions):
        u = energy(depth, positions)
        return jnp.where(u < -0.4, jnp.nan, u)

    holed = (problem._replace(potential=from_energy(pierced, init=lambda key: jnp.float32(0))), *case[1:])
    assert judge(holed, climb + 0.8)["negatives_in_holes"] == 5


def test_frames_of_the_basin_are_in_no_hole_however_high_the_threshold(case):
    problem, home, found, _ = case
    energies = STIFFNESS * np.sum((found[:10] - home) ** 2, (1, 2)) + 0.1
    metrics = judge((problem, home, found[:10], 0.0), 0.0, threshold=float(np.median(energies)))
    assert metrics["negatives_far"] == 0 and metrics["negatives_in_holes"] == 0
    assert metrics["negatives_minimum_ev"] == pytest.approx(energies.min(), abs=1e-3)


def test_a_frame_deep_below_is_in_a_hole_though_it_is_near_the_data(case):
    """The same ten frames, five of them lowered by a step too narrow to relax into."""
    problem, _, found, _ = case
    params, near = jnp.float32(0), found[:10]
    now = energies_of(problem, params, near, problem.energy_shift) - 2.0 * (np.arange(10) < 5)
    metrics = hole_metrics(
        problem, params, near, now, np.zeros(0, int), threshold=-1.0, mean=problem.energy_shift
    )
    assert metrics["negatives_in_holes"] == 5


def test_runs_side_by_side_are_judged_by_the_same_negatives(case):
    """Whatever an earlier evaluation said of its own, or could not say."""
    problem, _, found, climb = case
    metrics = {"spurious_threshold_ev": -1.0, "relaxed_energy_ev": None, "n_negatives": 3, "ks_energy": 0.1}
    potentials = [(problem, jnp.float32(climb + above)) for above in (0.8, -0.3)]
    runs = [Run(name, dict(metrics), {}, {}) for name in ("deep", "shallow")]
    judged = with_holes(runs, potentials, found, mean=problem.energy_shift - 0.1, achiral=True)
    assert [run.metrics["negatives_in_holes"] for run in judged] == [5, 0]
    assert [(run.label, run.metrics["n_negatives"], run.metrics["ks_energy"]) for run in judged] == [
        ("deep", 15, 0.1),
        ("shallow", 15, 0.1),
    ]
    assert runs[0].metrics == metrics, "what was given stays"
