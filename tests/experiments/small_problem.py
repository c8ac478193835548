"""The package's ethanol with a tiny SchNet, and chains made by hand, for the tests of the evaluation."""

from __future__ import annotations

from functools import cache

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.configs import ethanol
from experiments.distributions import Distributions
from experiments.problem import Problem, make_problem
from experiments.reference_statistics import reference_distributions
from samplers import Trajectory


def small(**changes: object) -> ConfigDict:
    """120 frames of the package, a SchNet of one narrow interaction, six short chains."""
    config = ethanol.get_config()
    config.dataset.train, config.dataset.validation, config.dataset.test = 60, 20, 40
    config.schnet.n_features = config.schnet.n_filters = 8
    config.schnet.n_interactions = 1
    config.training.batch_size = 20
    config.evaluation.n_chains, config.evaluation.n_steps = 6, 50
    config.evaluation.record_every = 1
    config.update_from_flattened_dict(changes)
    return config


@cache
def small_problem() -> tuple[Problem, Distributions]:
    """The problem of `small()` and its reference."""
    problem = make_problem(small())
    return problem, reference_distributions(small(), problem)


def chains(energies: np.ndarray, alive: np.ndarray | None = None, kinetic: float = np.nan) -> Trajectory:
    """Chains [C, T] of these energies (eV, relative to the training mean) at the test frames' geometries."""
    energies = np.asarray(energies, np.float32)
    problem, _ = small_problem()
    frames = np.asarray(problem.test.positions)
    positions = np.stack([np.roll(frames, c, axis=0) for c in range(len(energies))])
    positions = np.resize(positions.swapaxes(0, 1), (energies.shape[1], *positions[:, 0].shape))
    return Trajectory(
        positions.swapaxes(0, 1),
        energies,
        np.full(energies.shape, kinetic, np.float32),
        np.ones(energies.shape, bool) if alive is None else alive,
        np.full(len(energies), energies.shape[1] * small().evaluation.record_every),
    )


def reference_energies(n_chains: int, n_frames: int, seed: int = 0) -> np.ndarray:
    """Independent draws [C, T] from the reference's energies, relative to the training mean, eV."""
    problem, reference = small_problem()
    quantiles = reference.energy_quantiles - problem.energy_shift
    return np.random.default_rng(seed).choice(quantiles, size=(n_chains, n_frames))


def assert_same(one: object, other: object) -> None:
    """Every leaf of two pytrees of one structure is equal, bit for bit."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
