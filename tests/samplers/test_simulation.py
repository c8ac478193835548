"""Windows: what they record, what happens to a replica that fails, and where the rest ends up."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from potentials import Potential, bonded_molecule, from_energy, make_system
from potentials.units import KB
from samplers import Sampler, advance, baoab, centre, collect, mala, simulate, ula


class Molecule(NamedTuple):
    system: object
    positions: np.ndarray
    potential: Potential
    params: dict
    sampler: Sampler


@pytest.fixture(scope="module")
def molecule(ethanol):
    system, positions = ethanol
    potential = bonded_molecule(system, positions)
    return Molecule(system, positions, potential, potential.init(None), baoab(potential, system))


def start(m, replicas=3, sampler=None, key=0):
    positions = jnp.asarray(np.broadcast_to(m.positions, (replicas, 9, 3)), jnp.float32)
    return jax.jit((sampler or m.sampler).init)(jax.random.key(key), m.params, positions)


def run(m, state, sampler=None, **settings):
    settings = {"n_steps": 40, "record_every": 4, "window_frames": 5} | settings
    return simulate(sampler or m.sampler, m.potential, m.system, m.params, state, **settings)


def identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def raw(state):
    """Leaves as NumPy arrays, PRNG keys as their data."""

    def leaf(a):
        return jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a

    return jax.tree.map(lambda a: np.asarray(leaf(a)), state)


def test_shapes_and_counts(molecule):
    windows = list(run(molecule, start(molecule)))
    assert [w.step for w, _, _ in windows] == [20, 40]
    for window, _, alive in windows:
        assert window.positions.shape == (5, 3, 9, 3) and window.positions.dtype == np.float32
        for record in (window.energies, window.kinetic_temperatures, window.alive):
            assert record.shape == (5, 3)
        assert window.alive.all() and alive.all()
        assert all(isinstance(record, np.ndarray) for record in window[:4])


def test_steps_are_rounded_up_to_whole_windows(molecule):
    assert [w.step for w, _, _ in run(molecule, start(molecule), n_steps=21)] == [20, 40]
    assert [w.step for w, _, _ in run(molecule, start(molecule), n_steps=1)] == [20]


def test_records_belong_to_their_frames(molecule):
    window, state, _ = next(run(molecule, start(molecule)))
    energies = jax.vmap(jax.vmap(molecule.potential.energy, (None, 0)), (None, 0))(
        molecule.params, window.positions
    )
    np.testing.assert_allclose(window.energies, energies, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(window.positions[-1], state.position)
    assert np.unique(window.energies).size == 15
    twice_kinetic = np.sum(np.asarray(state.momentum) ** 2 / molecule.system.masses[:, None], axis=(1, 2))
    np.testing.assert_allclose(window.kinetic_temperatures[-1], twice_kinetic / (27 * KB), rtol=1e-4)


def test_simulate_is_the_samplers_steps(molecule):
    # A frame every 4 steps: the same as 4 steps by hand and centring.
    window, _, _ = next(run(molecule, start(molecule)))
    step = jax.jit(molecule.sampler.step)
    state = start(molecule)
    for frame in range(3):
        for _ in range(4):
            state = step(molecule.params, state)
        np.testing.assert_allclose(
            centre(state.position, molecule.system.masses), window.positions[frame], atol=2e-4
        )


def test_continuing_equals_not_stopping(molecule):
    whole, end = collect(run(molecule, start(molecule)))
    first, state = collect(run(molecule, start(molecule), n_steps=20))
    second, state = collect(run(molecule, state, n_steps=20))
    identical(whole.positions, np.concatenate([first.positions, second.positions], axis=1))
    identical(raw(end), raw(state))


def test_frames_are_centred(molecule):
    positions = molecule.positions + 50.0
    state = jax.jit(molecule.sampler.init)(
        jax.random.key(0), molecule.params, jnp.asarray(np.broadcast_to(positions, (3, 9, 3)), jnp.float32)
    )
    window, state, _ = next(run(molecule, state))
    weights = molecule.system.masses / molecule.system.masses.sum()
    np.testing.assert_allclose(np.einsum("n,srnk->srk", weights, window.positions), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.einsum("n,rnk->rk", weights, state.position), 0.0, atol=1e-5)


def test_a_box_is_not_centred(molecule):
    boxed = molecule._replace(system=molecule.system._replace(cell=np.eye(3) * 30.0))
    state = jax.jit(molecule.sampler.init)(
        jax.random.key(0), molecule.params, jnp.full((2, 9, 3), 7.0) + jnp.asarray(molecule.positions)
    )
    window, _, _ = next(run(boxed, state))
    assert np.abs(window.positions.mean(axis=(0, 1, 2)) - 7.0).max() < 0.5


def test_centre():
    masses = np.array([1.0, 3.0])
    positions = jnp.array([[[0.0, 0, 0], [4.0, 0, 0]], [[1.0, 1, 1], [1, 1, 1]]])
    expected = [[[-3.0, 0, 0], [1.0, 0, 0]], [[0.0] * 3, [0.0] * 3]]
    np.testing.assert_allclose(centre(positions, masses), expected, atol=1e-6)


def test_a_sampler_without_momenta_records_no_temperature(molecule):
    sampler = ula(molecule.potential, molecule.system, step_size=1e-5)
    window, _, _ = next(run(molecule, start(molecule, sampler=sampler), sampler=sampler))
    assert np.isnan(window.kinetic_temperatures).all()
    assert np.isfinite(window.energies).all() and window.alive.all()


# A pair with a spring, and a domain in its distance: beyond it the force, or only the energy, is NaN.
PAIR = make_system([6, 6], [[0, 0, 0], [1.5, 0, 0]], 300.0)


def pair_distance(positions):
    return jnp.linalg.norm(positions[0] - positions[1])


def broken_force(positions):
    r = pair_distance(positions)
    return 0.5 * (r - 1.5) ** 2 + jnp.sqrt(3.0 - r)


def broken_energy(positions):
    r = pair_distance(positions)
    return 0.5 * (r - 1.5) ** 2 - 0.01 * jnp.log(3.0 - r)


def pair_state(sampler, distances):
    positions = np.zeros((len(distances), 2, 3), np.float32)
    positions[:, 1, 0] = distances
    return jax.jit(sampler.init)(jax.random.key(6), {}, jnp.asarray(positions))


@pytest.mark.parametrize("builder", [baoab, ula])
def test_a_failed_replica_is_frozen_and_the_others_never_notice(builder):
    potential = from_energy(broken_force)
    sampler = builder(potential, PAIR)

    def go(distances):
        state = pair_state(sampler, distances)
        settings = {"n_steps": 24, "record_every": 3, "window_frames": 4}
        return list(simulate(sampler, potential, PAIR, {}, state, **settings))

    good, bad = go([1.5, 1.6, 1.4]), go([1.5, 3.5, 1.4])
    for (window, state, alive), (other, other_state, other_alive) in zip(good, bad, strict=True):
        assert alive.all() and window.alive.all()
        np.testing.assert_array_equal(other_alive, [True, False, True])
        np.testing.assert_array_equal(other.alive, np.broadcast_to([True, False, True], (4, 3)))
        np.testing.assert_array_equal(window.positions[:, ::2], other.positions[:, ::2])
        np.testing.assert_array_equal(window.energies[:, ::2], other.energies[:, ::2])
        identical(
            jax.tree.map(lambda a: a[::2], raw(state)), jax.tree.map(lambda a: a[::2], raw(other_state))
        )
        # The frozen one stays where it last had finite positions.
        frozen = other.positions[:, 1]
        assert np.isfinite(frozen).all()
        assert (frozen == frozen[0]).all()


def test_advance_freezes_at_the_last_finite_state():
    # A counter that fails when it reaches its limit, to see exactly where it stops.
    class State(NamedTuple):
        position: jax.Array
        limit: jax.Array

    def step(params, state):
        new = state.position + 1
        return State(jnp.where(new > state.limit[:, None, None], jnp.nan, new), state.limit)

    counter = Sampler(lambda key, params, x: x, step, lambda params, state: state)
    state = State(jnp.zeros((3, 1, 3)), jnp.array([100.0, 3.0, 6.0]))
    state, alive, intact = jax.jit(lambda s: advance(counter, {}, s, 6))(state)
    np.testing.assert_array_equal(intact, [6, 3, 6])
    np.testing.assert_array_equal(state.position[:, 0, 0], [6.0, 3.0, 6.0])
    np.testing.assert_array_equal(alive, [True, False, True])

    # The same through windows, whose frames lie 2 steps apart: 3 is between two frames.
    system = make_system([6], [[0, 0, 0]], 300.0, cell=np.eye(3))
    potential = from_energy(lambda positions: jnp.sum(positions))
    state = State(jnp.zeros((3, 1, 3)), jnp.array([100.0, 3.0, 6.0]))
    trajectory, _ = collect(
        simulate(counter, potential, system, {}, state, n_steps=10, record_every=2, window_frames=5)
    )
    np.testing.assert_array_equal(
        trajectory.positions[:, :, 0, 0], [[2, 4, 6, 8, 10], [2, 3, 3, 3, 3], [2, 4, 6, 6, 6]]
    )
    np.testing.assert_array_equal(
        trajectory.alive, [[True] * 5, [True] + [False] * 4, [True, True, True, False, False]]
    )


def test_windows_of_the_dead_are_what_they_are_beside_the_living():
    potential = from_energy(broken_force)
    sampler = baoab(potential, PAIR)

    def go(distances):
        made = []
        state = pair_state(sampler, distances)
        settings = {"n_steps": 36, "record_every": 3, "window_frames": 4}
        observed = {"observe": lambda params, state: state.position[:, 1, 0]}
        for window, end, _ in simulate(sampler, potential, PAIR, {}, state, **settings, **observed):
            made.append((window, np.asarray(end.position)))
        return made

    dead, beside = go([3.5, 3.6]), go([3.5, 3.6, 1.5])
    assert len(dead) == len(beside) == 3
    for (window, positions), (other, others) in zip(dead, beside, strict=True):
        assert not window.alive.any() and other.alive[:, 2].all() and window.step == other.step
        np.testing.assert_array_equal(window.intact_steps, other.intact_steps[:2])
        np.testing.assert_array_equal(positions, others[:2])
        for name in ("positions", "energies", "kinetic_temperatures", "observed"):
            np.testing.assert_array_equal(getattr(window, name), getattr(other, name)[:, :2])


@pytest.mark.parametrize("builder", [baoab, mala])
def test_a_non_finite_energy_is_death_too(builder):
    # log of a negative number is NaN, its slope is not: positions alone would look healthy.
    potential = from_energy(broken_energy)
    sampler = builder(potential, PAIR)
    state = pair_state(sampler, [1.5, 3.5])
    runs = simulate(sampler, potential, PAIR, {}, state, n_steps=6, record_every=1, window_frames=3)
    for window, _, alive in runs:
        np.testing.assert_array_equal(window.alive, [[True, False]] * 3)
        np.testing.assert_array_equal(alive, [True, False])


def test_a_dead_replica_stays_dead_when_continued(molecule):
    alive = jnp.array([True, False, True])
    state = start(molecule)
    window, end, after = next(run(molecule, state, alive=alive))
    np.testing.assert_array_equal(window.alive, np.broadcast_to(alive, (5, 3)))
    np.testing.assert_array_equal(after, alive)
    np.testing.assert_array_equal(end.momentum[1], state.momentum[1])
    assert (np.asarray(end.momentum[0]) != np.asarray(state.momentum[0])).all()
    free, _, _ = next(run(molecule, state))
    np.testing.assert_array_equal(window.positions[:, ::2], free.positions[:, ::2])


def test_collect(molecule):
    seen = []
    trajectory, end = collect(run(molecule, start(molecule)), seen.append)
    assert [w.step for w in seen] == [20, 40]
    assert trajectory.positions.shape == (3, 10, 9, 3)
    assert trajectory.energies.shape == trajectory.alive.shape == (3, 10)
    assert trajectory.kinetic_temperatures.shape == (3, 10)
    np.testing.assert_array_equal(trajectory.positions[1, 7], seen[1].positions[2, 1])
    np.testing.assert_array_equal(trajectory.energies[2, 3], seen[0].energies[3, 2])
    np.testing.assert_array_equal(trajectory.positions[:, -1], end.position)


@pytest.mark.parametrize("name", ["n_steps", "record_every", "window_frames"])
def test_errors(molecule, name):
    with pytest.raises(ValueError, match="n_steps, record_every and window_frames must be at least 1"):
        next(run(molecule, start(molecule), **{name: 0}))
