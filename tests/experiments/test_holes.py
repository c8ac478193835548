"""Holes dug by hand into a potential whose minimum is known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.holes import distances, farthest, hole_metrics
from potentials import from_energy
from tests.experiments.small_problem import small_problem

STIFFNESS, WIDTH = 0.5, 0.3  # eV/Å², Å


@pytest.fixture(scope="module")
def case():
    """Springs to the mean test frame, with a Gaussian hole of depth `params` about the same, stretched; ten
    test frames and five configurations on the hole's slope, whose energies are ordinary."""
    problem, _ = small_problem()
    test = np.asarray(problem.test.positions)
    home = test.mean(axis=0)
    away = 1.4 * home

    def energy(depth, positions):
        springs = STIFFNESS * jnp.sum((positions - home) ** 2)
        return springs - depth * jnp.exp(-0.5 * jnp.sum((positions - away) ** 2) / WIDTH**2)

    problem = problem._replace(potential=from_energy(energy, init=lambda key: jnp.float32(0)))
    noise = np.random.default_rng(0).normal(size=(5, *home.shape))
    noise *= 0.45 / np.linalg.norm(noise, axis=(1, 2), keepdims=True)
    found = np.concatenate([test[:10], away + noise]).astype(np.float32)
    climb = STIFFNESS * np.sum((away - home) ** 2)
    return problem, home, found, climb


def judge(case, depth, threshold=-1.0):
    problem, _, found, _ = case
    far = farthest(*distances(problem, found, achiral=True))
    return hole_metrics(
        problem,
        jnp.float32(depth),
        found,
        far,
        mean=problem.energy_shift - 0.1,
        threshold=threshold,
        minimum=0.1,
    )


def test_a_hole_counts_by_where_its_frames_relax_to(case):
    """Energies are counted from 0.1 eV below the springs' minimum."""
    _, _, _, climb = case
    deep = judge(case, climb + 0.8)
    assert deep["negatives_far"] == 5 and deep["n_negatives"] == 15
    assert -0.9 < deep["negatives_minimum_ev"] < -0.5
    assert deep["negatives_in_holes"] == 5, "none of them is below the threshold"
    shallow = judge(case, climb - 0.3)
    assert shallow["negatives_in_holes"] == 0 and shallow["negatives_minimum_ev"] > 0.05


def test_a_frame_below_the_threshold_is_in_a_hole_wherever_it_relaxes_to(case):
    problem, home, found, _ = case
    energies = STIFFNESS * np.sum((found[:10] - home) ** 2, (1, 2)) + 0.1
    metrics = judge((problem, home, found[:10], 0.0), 0.0, threshold=float(np.median(energies)))
    assert metrics["negatives_far"] == 0 and metrics["negatives_in_holes"] == 5
    assert metrics["negatives_minimum_ev"] == pytest.approx(energies.min(), abs=1e-3)
