"""The contrastive term in a periodic box: chains are wrapped, and fall where energies spread wide."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import contrastive
from potentials import from_energy, make_system
from samplers import Sampler, ula
from tests.objectives.pair_well import BETA, TEMPERATURE, unlabelled

KEY = jax.random.key(0)


class Standing(NamedTuple):
    position: jax.Array

    def set(self, position):
        return Standing(position)


def standing(x):
    """A sampler whose chains stand at one place."""

    def init(key, params, positions):
        return Standing(jnp.full_like(positions, x))

    return Sampler(init, lambda params, state: state, lambda params, state: state)


@pytest.mark.parametrize("cell", [None, 1000.0 * np.eye(3)])
@pytest.mark.parametrize("spread", [1.0, 24.0])
def test_how_far_below_the_frames_a_chain_has_fallen(spread, cell):
    # A line of energies in k_B T, as wide as a molecule's or a box of water's.
    potential = from_energy(lambda positions: positions[0, 0] / BETA)
    energies = 500.0 + spread * np.random.default_rng(0).normal(size=200)
    low, high = np.quantile(energies, [0.16, 0.84])
    margin = 2.0 if cell is None else max(2.0, 0.3 * (high - low))
    frames = unlabelled(energies[:, None, None] * np.ones((2, 3)))
    for below, fallen in ((0.95 * margin, False), (1.05 * margin, True)):
        sampler = standing(energies.min() - below)
        settings = {"n_chains": 4, "n_steps": 200}  # all frames are looked at
        objective = contrastive(potential, [sampler], None, [TEMPERATURE], cell=cell, **settings)
        negatives, _ = objective.sample({}, objective.init(KEY, {}, frames))
        assert (np.asarray(negatives.fallen) == fallen).all()


def test_atoms_are_wrapped_into_a_box_between_windows():
    cell = np.array([[6.0, 0, 0], [1.0, 5.0, 0], [0.5, -0.5, 5.5]])

    def energy(positions):
        turns = 2 * np.pi * positions @ np.linalg.inv(cell)
        return 0.2 * jnp.sum(jnp.cos(turns)) - 0.3 * jnp.sum(jnp.cos(turns[1] - turns[0]))

    potential = from_energy(energy)
    system = make_system([18, 18], np.array([[0.5, 0.5, 0.5], [2.0, 2.0, 2.0]]), 3000.0, cell=cell)
    frames = unlabelled(np.random.default_rng(1).uniform(-20, 20, size=(8, 2, 3)))
    sampler = ula(potential, system, step_size=0.02)
    settings = {"n_chains": 8, "n_steps": 40}
    inside, free = (
        contrastive(potential, [sampler], None, [3000.0], cell=box, **settings) for box in (cell, None)
    )
    state, other = (objective.init(KEY, {}, frames) for objective in (inside, free))
    for _ in range(4):
        negatives, state = inside.sample({}, state)
        expected, other = free.sample({}, other)
        fractions = np.asarray(negatives.positions) @ np.linalg.inv(cell)
        assert fractions.min() > -1e-5 and fractions.max() < 1 + 1e-5
        # The same places but for lattice vectors, with the same energies.
        turns = (np.asarray(expected.positions) - negatives.positions) @ np.linalg.inv(cell)
        np.testing.assert_allclose(turns, np.round(turns), atol=2e-3)
        np.testing.assert_allclose(negatives.energies, expected.energies, atol=2e-3)
    assert np.abs(turns).max() > 1
