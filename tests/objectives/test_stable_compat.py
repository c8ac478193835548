"""The published choices: each is what it is said to be, and can be undone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from experiments.configs import ethanol as ethanol_config
from objectives import Batch, make_objective
from objectives.averages import make_observables
from objectives.stable_compat import ESTIMATOR_BETA, published_sampler, shifted_distances
from potentials import bonded_molecule
from potentials.units import KB
from samplers import advance, kinetic_temperature


@pytest.fixture(scope="module")
def molecule(ethanol):
    system, geometry = ethanol
    return system, bonded_molecule(system, geometry), jnp.asarray(geometry, jnp.float32)


def start(molecule, **settings):
    system, potential, geometry = molecule
    sampler = published_sampler(potential, system, **settings)
    positions = jnp.tile(geometry, (4000, 1, 1))
    return sampler, sampler.init(jax.random.key(0), potential.init(jax.random.key(1)), positions)


def test_speeds_heat_the_hydrogens_at_the_kinetic_energy_asked_for(molecule):
    system = molecule[0]
    _, state = start(molecule)
    assert_allclose(np.sum(state.momentum, axis=1), 0, atol=1e-4)
    per_atom = np.mean(np.sum(state.momentum**2 / (2 * state.mass), axis=-1), axis=0) / (KB * 500.0)
    assert_allclose(per_atom.sum(), 1.5 * 9, rtol=1e-5)
    # Equal speeds: what is hot is what carries away the mean momentum.
    hydrogen, heavy = per_atom[system.numbers == 1], per_atom[system.numbers > 1]
    assert hydrogen.min() > 1.7 and heavy.max() < 1.2
    _, right = start(molecule, maxwell_speeds=False)
    per_atom = np.mean(np.sum(right.momentum**2 / (2 * right.mass), axis=-1), axis=0) / (KB * 500.0)
    # Without the centre of mass an atom of mass m has 3/2 k_B T (1 − m / M).
    expected = 1.5 * (1 - system.masses / system.masses.sum())
    assert_allclose(per_atom, expected, rtol=4 * np.sqrt(2 / 3 / 4000))


def test_counting_all_degrees_of_freedom_heats(molecule):
    means = []
    for all_of_them in (True, False):
        sampler, state = start(molecule, all_degrees_of_freedom=all_of_them, maxwell_speeds=False)
        state = jax.tree.map(lambda leaf: leaf[:200], state)
        params = molecule[1].init(jax.random.key(1))
        run = jax.jit(lambda s, sampler=sampler, params=params: advance(sampler, params, s, 20)[0])
        values = []
        for _ in range(80):
            state = run(state)
            values.append(np.asarray(kinetic_temperature(state, 24)))
        means.append(np.mean(values[20:], axis=0))
    # A single thermostat takes long to forget a geometry without vibrations, in both runs alike: their
    # ratio is right to what differs in the transient.
    assert np.mean(means[0] / means[1]) == pytest.approx(27 / 24, abs=0.006)


def test_the_shifted_target_is_h_of_r_one_hundredth_of_an_angstrom_off(molecule):
    system, _, geometry = molecule
    observable = make_observables({"distances": 1.0}, system)["distances"][1]
    assert_allclose(shifted_distances(0.0)(geometry), observable(geometry), rtol=1e-5)
    # Moving every distance by the same step is moving the grid the other way.
    pair = jnp.array([[0.0, 0, 0], [1.5, 0, 0]])
    longer = pair.at[1, 0].add(0.01)
    assert_allclose(shifted_distances(0.01)(longer), observable(pair), atol=1e-4)
    assert np.abs(shifted_distances(0.01)(pair) - observable(pair)).max() > 1.0


def test_the_temperature_that_is_left_out_is_that_of_one_kcal_per_mol():
    assert_allclose(1 / (KB * 503.2), ESTIMATOR_BETA, rtol=1e-3)


def small(**changes):
    config = ethanol_config.get_config()
    config.stable.n_replicas, config.stable.n_steps, config.stable.record_every = 4, 40, 5
    config.stable.bond_deviation = 0.02
    config.stable_compat.minibatch = 8
    config.update_from_flattened_dict(changes)
    return config


def test_minibatches_are_estimates_of_their_own(molecule):
    system, potential, geometry = molecule
    lengths = np.linalg.norm(geometry[system.bonds[:, 0]] - geometry[system.bonds[:, 1]], axis=-1)
    system = system._replace(bond_lengths=lengths)
    frames = Batch(geometry[None], jnp.zeros(1), jnp.zeros((1, 9, 3)))
    values = {}
    for name, count in (("whole", 0), ("parts", 8)):
        config = small(**{"stable_compat.minibatch": count})
        objective = make_objective("stable_compat", potential, system, config)
        params = potential.init(jax.random.key(1))
        state = objective.init(jax.random.key(0), params, frames)
        sample = jax.jit(objective.sample)
        for _ in range(2):  # everything breaks in the first window; the second is a learning one
            samples, state = sample(params, state)
        assert samples.rate == 1
        values[name] = jax.jit(objective.loss)(params, frames, samples)[1]["deviation_distances"]
        ensemble = samples.ensemble
    positions = ensemble.positions.reshape(-1, 9, 3)
    assert len(positions) == 32 and bool(ensemble.valid.all())
    observable = make_observables({"distances": 1.0}, system)["distances"][1]
    g = np.asarray(jax.vmap(observable)(positions))
    target = np.asarray(shifted_distances(0.01)(geometry))
    assert_allclose(values["whole"], np.sum((g.mean(axis=0) - target) ** 2), rtol=1e-3)
    parts = [np.sum((part.mean(axis=0) - target) ** 2) for part in g.reshape(4, 8, -1)]
    assert_allclose(values["parts"], np.mean(parts), rtol=1e-3)
    assert values["parts"] > values["whole"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stable_compat.minibatch": 33}, "minibatch is 33; expected at most the samples of a window, 32"),
        ({"stable.f_min": 0.8}, "stable.f_min is 0.8"),
    ],
)
def test_bad_settings(molecule, changes, words):
    system, potential, _ = molecule
    system = system._replace(bond_lengths=np.ones(len(system.bonds)))
    with pytest.raises(ValueError, match=words):
        make_objective("stable_compat", potential, system, small(**changes))
