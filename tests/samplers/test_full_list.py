"""A simulation whose neighbour list runs out of room goes on as if it had had enough from the start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from potentials import make_system, schnet
from potentials.neighbours import SLOTS, with_room
from samplers import baoab, collect, mala, simulate, ula

CELL = np.diag([8.0, 8.5, 9.0])
N_ATOMS = 12
NETWORK = {"n_features": 8, "n_filters": 8, "n_interactions": 1, "n_gaussians": 8, "cutoff": 3.5}


@pytest.fixture(scope="module")
def gas():
    """(system, potential, params, positions of four replicas): argon-like atoms, close at the end."""
    rng = np.random.default_rng(3)
    positions = rng.uniform(size=(4, N_ATOMS, 3)) @ CELL
    system = make_system([18] * N_ATOMS, 20.0 * np.arange(3 * N_ATOMS).reshape(-1, 3), 300.0)._replace(
        cell=CELL
    )
    potential = schnet(system, **NETWORK)
    return system, potential, potential.init(jax.random.key(0)), jnp.asarray(positions, jnp.float32)


@pytest.mark.parametrize(
    "make",
    [
        lambda p, s: baoab(p, s, timestep=5.0, friction=10.0),
        lambda p, s: mala(p, s, step_size=0.02),
    ],
    ids=["baoab", "mala"],
)
def test_a_window_is_made_again_with_more_room(gas, make):
    system, potential, params, positions = gas
    sampler = make(potential, system)

    def run(params):
        state = sampler.init(jax.random.key(1), params, positions)
        windows = simulate(
            sampler, potential, system, params, state, n_steps=80, record_every=5, window_frames=8
        )
        return collect(windows)[0]

    ample = with_room(params, N_ATOMS - 1)
    expected = run(ample)
    assert expected.alive.all()
    start = neighbours(np.asarray(positions))
    assert start < neighbours(expected.positions) <= 2 * start  # otherwise nothing is tested
    found = run({**params, SLOTS: jnp.zeros(start)})
    assert found.alive.all()
    # Another order of summation, and so other roundings, which grow along a trajectory.
    assert_allclose(found.energies, expected.energies, atol=5e-3)
    assert_allclose(found.positions, expected.positions, atol=5e-3)


def test_a_run_that_is_continued_has_the_room_it_had(gas):
    """Where a replica that met the criterion is in want of the room that it was given before."""
    system, potential, params, positions = gas
    start = neighbours(np.asarray(positions))
    params = {**params, SLOTS: jnp.zeros(start)}
    sampler = baoab(potential, system, timestep=5.0, friction=10.0)
    state = sampler.init(jax.random.key(1), params, positions)

    def dense(frames):
        steps = frames[:, :, None] - frames[:, None]
        steps -= jnp.round(steps / CELL.diagonal()) * CELL.diagonal()
        near = jnp.sum(jnp.sum(steps**2, axis=-1) < NETWORK["cutoff"] ** 2, axis=-1)
        return jnp.max(near, axis=-1) - 1 > start

    def run(state, windows, **before):
        settings = {"n_steps": 20 * windows, "record_every": 5, "window_frames": 4, "criterion": dense}
        return list(simulate(sampler, potential, system, params, state, **settings, **before))

    whole = run(state, 4)
    rooms = [window.room for window, _, _ in whole]
    grown = next(i for i, room in enumerate(rooms) if room > start) + 1
    assert grown < 4
    window, state, alive = whole[grown - 1]
    intact = jnp.asarray(window.intact_steps == window.step)
    assert alive.all() and not intact.all()
    rest = run(state, 4 - grown, alive=alive, intact=intact, room=window.room)
    for (expected, _, _), (found, _, _) in zip(whole[grown:], rest, strict=True):
        assert found.alive.all() and found.room == expected.room
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.energies, expected.energies)
        np.testing.assert_array_equal(window.intact_steps + found.intact_steps, expected.intact_steps)


def neighbours(frames):
    """The largest number of neighbours in frames [..., N, 3]."""
    steps = frames[..., :, None, :] - frames[..., None, :, :]
    steps -= np.round(steps / CELL.diagonal()) * CELL.diagonal()
    return ((steps**2).sum(axis=-1) < NETWORK["cutoff"] ** 2).sum(axis=-1).max() - 1


def test_a_network_that_fails_is_not_taken_for_a_full_list(gas):
    system, potential, params, positions = gas
    broken = jax.tree.map(lambda x: x * jnp.nan, with_room(params, N_ATOMS - 1))
    sampler = ula(potential, system, step_size=0.01)
    state = sampler.init(jax.random.key(1), broken, positions)
    windows = simulate(sampler, potential, system, broken, state, n_steps=10, record_every=5, window_frames=2)
    assert not collect(windows)[0].alive.any()
