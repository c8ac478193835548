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
from potentials import bonded_molecule, from_energy
from potentials.units import FEMTOSECOND, KB
from samplers import kinetic_temperature


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


@pytest.mark.parametrize(("all_of_them", "expected"), [(True, 562.5), (False, 500.0)])
def test_kinetic_temperature_of_free_atoms(molecule, all_of_them, expected):
    # Without forces a single thermostat oscillates about its target for ever.
    system = molecule[0]
    free = from_energy(lambda positions: 0.0 * jnp.sum(positions))
    sampler = published_sampler(free, system, all_degrees_of_freedom=all_of_them, maxwell_speeds=False)
    state = sampler.init(jax.random.key(0), {}, jnp.tile(molecule[2], (50, 1, 1)))

    def body(state, _):
        state = sampler.step({}, state)
        return state, kinetic_temperature(state, 24)

    temperatures = jax.jit(lambda state: jax.lax.scan(body, state, None, 8000)[1])(state)
    assert np.mean(temperatures) == pytest.approx(expected, rel=5e-3)
    assert np.std(temperatures) > 20


def test_dynamics_conserve_the_energy_of_the_extended_system(molecule):
    # Published as ζ' = (K − K₀)/Q with Q = 2 K₀ τ²: U + K + Q ζ² + 2 K₀ ∫ζ is conserved.
    system, potential, geometry = molecule
    params = potential.init(jax.random.key(1))
    dt, relaxation = 0.1, 50.0
    sampler = published_sampler(potential, system, timestep=dt, relaxation=relaxation, maxwell_speeds=False)
    state = sampler.init(jax.random.key(0), params, geometry[None])
    target = 1.5 * 9 * KB * 500.0
    inertia = 2 * target * (relaxation * FEMTOSECOND) ** 2

    def body(carry, _):
        state, integral = carry
        new = sampler.step(params, state)
        integral += 0.5 * dt * FEMTOSECOND * (state.friction[0] + new.friction[0])
        kinetic = jnp.sum(new.momentum**2 / (2 * new.mass))
        energy = potential.energy(params, new.position[0]) + kinetic
        return (new, integral), (energy, energy + inertia * new.friction[0] ** 2 + 2 * target * integral)

    run = jax.jit(lambda state: jax.lax.scan(body, (state, 0.0), None, 4000)[1])
    energy, conserved = (np.asarray(x, float) for x in run(state))
    assert np.ptp(conserved) < 0.02 * np.ptp(energy)


def test_the_shifted_target_is_h_of_r_one_hundredth_of_an_angstrom_off(molecule):
    system, _, geometry = molecule
    observable = make_observables({"distances": 1.0}, system)["distances"][1]
    assert_allclose(shifted_distances(0.0)(geometry), observable(geometry), rtol=1e-5, atol=1e-6)
    for r, step in ((0.8, 0.008), (4.0, 0.0), (7.2, -0.008)):
        pair = jnp.array([[0.0, 0, 0], [r, 0, 0]])
        longer = pair.at[1, 0].add(step)
        right = observable(pair)
        assert_allclose(shifted_distances(0.01)(longer), right, atol=0.01 * right.max())
    assert np.abs(shifted_distances(0.01)(jnp.array([[0.0, 0, 0], [0.8, 0, 0]])) - observable(pair)).max() > 1


def test_leaving_out_the_temperature_weakens_the_gradient(molecule):
    system, potential, geometry = molecule
    lengths = np.linalg.norm(geometry[system.bonds[:, 0]] - geometry[system.bonds[:, 1]], axis=-1)
    system = system._replace(bond_lengths=lengths)
    frames = Batch(geometry[None], jnp.zeros(1), jnp.zeros((1, 9, 3)))
    sizes = []
    for dropped in (True, False):
        config = small(**{"stable_compat.drop_temperature": dropped, "stable.qm_weight": 0.0})
        objective = make_objective("stable_compat", potential, system, config)
        params = potential.init(jax.random.key(1))
        state = objective.init(jax.random.key(0), params, frames)
        sample = jax.jit(objective.sample)
        for _ in range(2):
            samples, state = sample(params, state)
        slope = jax.jit(jax.grad(lambda p, o=objective, s=samples: o.loss(p, frames, s)[0]))(params)
        sizes.append(float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope)))))
    assert sizes[0] / sizes[1] == pytest.approx(KB * 500.0 * ESTIMATOR_BETA, rel=1e-3)


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
        ({"stable.reference": "targets.npz"}, "target_shift is of targets from the training frames"),
    ],
)
def test_bad_settings(molecule, changes, words):
    system, potential, _ = molecule
    system = system._replace(bond_lengths=np.ones(len(system.bonds)))
    with pytest.raises(ValueError, match=words):
        make_objective("stable_compat", potential, system, small(**changes))
