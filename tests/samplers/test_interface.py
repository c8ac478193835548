"""What all samplers have in common: builders by name, replicas, keys, and new params."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from potentials import bonded_molecule
from samplers import SAMPLERS, baoab, make_sampler, mala, nose_hoover


@pytest.fixture(scope="module")
def molecule(ethanol):
    system, positions = ethanol
    potential = bonded_molecule(system, positions)
    moved = positions + np.random.default_rng(0).normal(0, 0.03, (4, 9, 3))
    return system, potential, potential.init(None), jnp.asarray(moved, jnp.float32)


def test_make_sampler(molecule):
    system, potential, params, positions = molecule
    settings = {"mala": {"step_size": 7e-5}, "ula": {}}
    state = make_sampler("mala", potential, system, settings).init(jax.random.key(0), params, positions)
    np.testing.assert_allclose(state.step_size, 7e-5, rtol=1e-6)
    message = "unknown sampler 'nose-hoover'; nearest: 'nose_hoover'; known: baoab, mala, nose_hoover, ula"
    with pytest.raises(ValueError) as error:
        make_sampler("nose-hoover", potential, system, settings)
    assert str(error.value) == message


@pytest.mark.parametrize("name", SAMPLERS)
def test_replicas_and_keys(molecule, name):
    system, potential, params, positions = molecule
    sampler = SAMPLERS[name](potential, system)
    init, step = jax.jit(sampler.init), jax.jit(sampler.step)

    def positions_after(key, start):
        state = init(jax.random.key(key), params, start)
        assert {leaf.shape[0] for leaf in jax.tree.leaves(state)} == {4}
        assert jax.tree.structure(step(params, state)) == jax.tree.structure(state)
        for _ in range(3):
            state = step(params, state)
        return np.asarray(state.position)

    reference = positions_after(0, positions)
    np.testing.assert_array_equal(positions_after(0, positions), reference)
    assert (np.abs(positions_after(1, positions) - reference).max(axis=(1, 2)) > 1e-4).all()
    # Replicas have keys of their own, and one never sees another.
    same_start = positions_after(0, jnp.broadcast_to(positions[0], positions.shape))
    assert np.abs(same_start[1] - same_start[0]).max() > 1e-4
    np.testing.assert_array_equal(same_start[0], reference[0])


@pytest.mark.parametrize("builder", [baoab, nose_hoover, mala])
def test_refresh_recomputes_what_is_cached(molecule, builder):
    system, potential, params, positions = molecule
    sampler = builder(potential, system)
    other = {"stiffness": 3.0 * params["stiffness"]}
    init = jax.jit(sampler.init)
    old = init(jax.random.key(0), params, positions)
    new = init(jax.random.key(0), other, positions)
    refreshed = jax.jit(sampler.refresh)(other, old)
    assert np.abs(new.force - old.force).max() > 1.0
    np.testing.assert_allclose(refreshed.force, new.force, rtol=1e-5, atol=1e-5)
    if builder is mala:
        np.testing.assert_allclose(refreshed.energy, new.energy, rtol=1e-5)
        assert (np.asarray(refreshed.energy) > 2 * np.asarray(old.energy)).all()
    else:
        np.testing.assert_array_equal(refreshed.momentum, old.momentum)
    np.testing.assert_array_equal(refreshed.position, old.position)


def test_ula_caches_nothing(molecule):
    system, potential, params, positions = molecule
    sampler = SAMPLERS["ula"](potential, system)
    state = jax.jit(sampler.init)(jax.random.key(0), params, positions)
    other = {"stiffness": 3.0 * params["stiffness"]}
    step = jax.jit(sampler.step)
    refreshed = step(other, sampler.refresh(other, state))
    np.testing.assert_array_equal(refreshed.position, step(other, state).position)
    assert np.abs(refreshed.position - step(params, state).position).max() > 1e-4


@pytest.mark.parametrize("name", ["mala", "nose_hoover"])
def test_a_chain_runs_inside_one_scan_with_new_params_each_step(molecule, name):
    # What training does: the params are an argument, so that nothing recompiles when they change.
    system, potential, params, positions = molecule
    sampler = SAMPLERS[name](potential, system)
    state = jax.jit(sampler.init)(jax.random.key(0), params, positions)

    @jax.jit
    def run(state, stiffness):
        def body(state, k):
            params = {"stiffness": k}
            return sampler.step(params, sampler.refresh(params, state)), None

        return jax.lax.scan(body, state, stiffness)[0]

    end = run(state, jnp.linspace(20.0, 10.0, 5))
    assert np.isfinite(end.position).all()
