"""Criteria by hand and against ASE, and when a run notices that one is met."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from potentials import from_energy, make_system
from samplers import (
    Sampler,
    any_of,
    bond_deviation,
    collect,
    make_criterion,
    minimum_distance,
    never,
    simulate,
)
from samplers.simulation import advance

WATER = make_system([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], 300.0)


def frames(*oh):
    positions = np.zeros((len(oh), 3, 3), np.float32)
    positions[:, 1, 0] = oh
    positions[:, 2] = [-0.24, 0.93, 0]
    return jnp.asarray(positions)


def test_bond_deviation():
    criterion = bond_deviation(WATER.bonds, WATER.bond_lengths, 0.25)
    np.testing.assert_array_equal(
        criterion(frames(0.96, 1.20, 1.22, 0.72, 0.70, 5.0)), [False, False, True, False, True, True]
    )


def test_reference_lengths_are_those_of_the_geometry():
    np.testing.assert_allclose(WATER.bond_lengths, [0.96, np.hypot(0.24, 0.93)], rtol=1e-12)


def test_minimum_distance_leaves_bonds_out():
    # H–H is the only pair without a bond: 1.52 Å at first.
    criterion = minimum_distance(WATER, 1.2)
    np.testing.assert_array_equal(criterion(frames(0.96, 0.6, 0.2)), [False, False, True])


@pytest.mark.parametrize("cell", [np.diag([6.0, 7.0, 8.0]), [[6.0, 0, 0], [2.0, 6.5, 0], [-1.0, 1.5, 7.0]]])
def test_minimum_distance_in_a_box_against_ase(cell):
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(40):
        positions = rng.uniform(-20, 20, (4, 3))
        system = make_system([18] * 4, np.arange(12.0).reshape(4, 3) * 5, 300.0)._replace(cell=np.array(cell))
        atoms = Atoms("Ar4", positions, cell=cell, pbc=True)
        nearest = atoms.get_all_distances(mic=True)[np.triu_indices(4, k=1)].min()
        got = bool(minimum_distance(system, 2.0)(jnp.asarray(positions[None], jnp.float32))[0])
        assert got == (nearest < 2.0)
        seen.append(got)
    assert 5 < sum(seen) < 35


def test_any_of_and_never():
    criterion = any_of(bond_deviation(WATER.bonds, WATER.bond_lengths, 0.5), minimum_distance(WATER, 1.2))
    np.testing.assert_array_equal(criterion(frames(0.96, 0.2, 1.5)), [False, True, True])
    assert not never(frames(0.96, 9.0)).any()
    np.testing.assert_array_equal(make_criterion(WATER, 0.5)(frames(0.96, 1.5)), [False, True])


class Counting(NamedTuple):
    position: jax.Array
    speed: jax.Array

    def set(self, **changes):
        return self._replace(**changes)


def growing() -> Sampler:
    """One bond that gets longer by its replica's speed at every step."""

    def step(params, state):
        return state.set(position=state.position.at[:, 1, 0].add(state.speed))

    return Sampler(lambda key, params, x: x, step, lambda params, state: state)


def test_a_break_between_two_frames_is_noticed_at_its_step():
    # The bond leaves the range at step 7 and is back before the next frame, at step 10.
    pair = make_system([6, 6], [[0, 0, 0], [1.5, 0, 0]], 300.0)
    criterion = make_criterion(pair, 0.65)
    pair = pair._replace(cell=np.eye(3) * 50)  # positions are not centred: they hold a clock

    def step(params, state):
        up = jnp.where(state.position[:, 0, 1] < 7, 0.1, -0.1) * state.speed
        moved = state.position.at[:, 1, 0].add(up).at[:, :, 1].add(1.0)
        return state.set(position=moved)

    sampler = Sampler(lambda key, params, x: x, step, lambda params, state: state)
    positions = jnp.zeros((3, 2, 3)).at[:, 1, 0].set(1.5)
    state = Counting(positions, jnp.array([1.0, 0.0, 2.0]))
    run = simulate(
        sampler, from_energy(lambda x: jnp.sum(x)), pair, {}, state,
        n_steps=20, record_every=10, window_frames=1, criterion=criterion,
    )  # fmt: skip
    trajectory, _ = collect(run)
    np.testing.assert_array_equal(trajectory.intact_steps, [6, 20, 3])
    assert trajectory.alive.all()  # it runs on


def test_advance_counts_steps_until_the_criterion_or_death():
    pair = make_system([6, 6], [[0, 0, 0], [1.5, 0, 0]], 300.0)
    positions = jnp.zeros((3, 2, 3)).at[:, 1, 0].set(1.5)
    state = Counting(positions, jnp.array([0.1, 0.01, jnp.nan]))
    end, alive, intact = advance(growing(), {}, state, 8, make_criterion(pair, 0.35))
    np.testing.assert_array_equal(intact, [3, 8, 0])
    np.testing.assert_array_equal(alive, [True, True, False])
    np.testing.assert_allclose(end.position[:, 1, 0], [2.3, 1.58, 1.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bond_deviation(np.zeros((0, 2), int), [], 0.5), "M at least 1"),
        (lambda: bond_deviation(WATER.bonds, [1.0], 0.5), r"lengths \(1,\)"),
        (
            lambda: bond_deviation(WATER.bonds, WATER.bond_lengths, 0.0),
            "threshold of the bond deviation is 0",
        ),
        (lambda: minimum_distance(WATER, -1.0), "threshold of the minimum distance is -1"),
        (
            lambda: minimum_distance(make_system([1, 1], [[0, 0, 0], [0.7, 0, 0]], 300.0), 1.0),
            "two atoms without a bond",
        ),
        (lambda: make_criterion(WATER, 0.0), "every threshold is 0"),
        (lambda: any_of(), "no criteria"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
