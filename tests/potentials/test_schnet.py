"""SchNet: symmetries, derivatives, cutoff, odd inputs."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from potentials import Potential, energy_and_forces, make_system, schnet
from potentials.schnet import cosine_cutoff, gaussian_expansion, shifted_softplus

SMALL = {"n_features": 16, "n_filters": 16, "n_interactions": 2, "n_gaussians": 12}


@pytest.fixture(scope="module")
def network(ethanol):
    """SchNet on ethanol, its params, a distorted geometry and jitted energy and forces."""
    system, positions = ethanol
    potential = build(system)
    params = potential.init(jax.random.key(1))
    positions = positions + np.random.default_rng(0).normal(0.0, 0.05, positions.shape)
    return potential, params, positions.astype(np.float32), jax.jit(energy_and_forces(potential))


def build(system, **settings):
    """A small network whose functions are each compiled once."""
    return Potential(*map(jax.jit, schnet(system, **{**SMALL, **settings})[:4]))


def pair_energy(**settings):
    """(distance) -> energy of a C–O pair."""
    potential = build(make_system([6, 8], [[0, 0, 0], [1.2, 0, 0]], 300.0), **settings)
    params = potential.init(jax.random.key(2))

    def energy(distance):
        return potential.energy(params, jnp.zeros((2, 3)).at[1, 0].set(distance))

    return energy


@pytest.mark.parametrize("determinant", [1, -1])
def test_rotations_reflections_and_translations(network, determinant):
    _, params, positions, function = network
    energy, forces = function(params, positions)
    turn = determinant * Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    moved = (positions @ turn.T + [0.7, -1.1, 0.4]).astype(np.float32)
    energy_moved, forces_moved = function(params, moved)
    assert np.abs(forces).max() > 0.1  # otherwise equivariance would say nothing
    assert energy_moved == pytest.approx(float(energy), abs=1e-5)
    np.testing.assert_allclose(forces_moved, forces @ turn.T, atol=1e-4)
    assert np.abs(forces_moved - forces).max() > 0.1


def test_permutation_of_like_atoms(network, ethanol):
    potential, params, positions, function = network
    numbers = ethanol[0].numbers
    rng = np.random.default_rng(4)
    order = np.arange(9)
    for element in (1, 6, 8):
        order[numbers == element] = rng.permutation(order[numbers == element])
    energy, forces = function(params, positions)
    energy_permuted, forces_permuted = function(params, positions[order])
    assert energy_permuted == pytest.approx(float(energy), abs=1e-5)
    np.testing.assert_allclose(forces_permuted, forces[order], atol=1e-4)
    carbon, oxygen = np.argmax(numbers == 6), np.argmax(numbers == 8)
    order = np.arange(9)
    order[[carbon, oxygen]] = oxygen, carbon
    assert abs(float(potential.energy(params, positions[order]) - energy)) > 1e-3


def test_forces_against_finite_differences():
    # In float64, with the network built there: two independent derivatives agree to 1e-6.
    with jax.enable_x64(True):
        atoms = molecule("H2O")
        potential = build(make_system(atoms.numbers, atoms.positions, 300.0))
        params = jax.tree.map(lambda a: a.astype(jnp.float64), potential.init(jax.random.key(5)))
        positions = atoms.positions + np.random.default_rng(6).normal(0.0, 0.05, (3, 3))
        energy = partial(potential.energy, params)
        _, forces = jax.jit(energy_and_forces(potential))(params, jnp.asarray(positions))
        assert forces.dtype == jnp.float64
        h = 1e-4
        numeric = np.zeros((3, 3))
        for i, k in np.ndindex(3, 3):
            shift = np.zeros((3, 3))
            shift[i, k] = h
            numeric[i, k] = -(energy(positions + shift) - energy(positions - shift)) / (2 * h)
        np.testing.assert_allclose(forces, numeric, atol=1e-6)
        np.testing.assert_allclose(jnp.sum(forces, axis=0), 0.0, atol=1e-12)
        assert np.abs(forces).max() > 0.1


def test_atomic_energies_sum_to_the_energy(network):
    potential, params, positions, function = network
    atomic = potential.atomic_energies(params, positions)
    assert atomic.shape == (9,)
    assert len(np.unique(atomic)) > 3
    assert float(jnp.sum(atomic)) == pytest.approx(float(function(params, positions)[0]), abs=1e-5)


def test_smooth_and_zero_at_the_cutoff():
    cutoff = 3.0
    energy = pair_energy(cutoff=cutoff)
    outside = float(energy(cutoff + 2.0))
    slope = jax.jit(jax.grad(energy))
    assert float(energy(cutoff)) == outside
    assert float(slope(cutoff)) == 0.0 == float(slope(cutoff + 0.1))
    assert abs(float(energy(1.5)) - outside) > 1e-2
    near, nearer = (abs(float(slope(cutoff - d))) for d in (0.02, 0.002))
    assert 0 < nearer < 0.15 * near  # the slope vanishes linearly, hence the energy quadratically


def test_envelope_and_expansion():
    r = np.array([0.0, 1.0, 2.5, 4.999, 5.0, 7.0])
    expected = np.where(r < 5, 0.5 * (np.cos(np.pi * r / 5) + 1), 0)
    np.testing.assert_allclose(cosine_cutoff(jnp.asarray(r), 5.0), expected, atol=1e-6)
    expansion = gaussian_expansion(jnp.asarray([1.25]), 5, 5.0)  # on the second centre, spacing 1.25
    np.testing.assert_allclose(expansion[0], np.exp(-0.5 * np.array([1, 0, 1, 4, 9])), rtol=1e-6)


def test_fragments_beyond_the_cutoff_add_up():
    water = molecule("H2O")
    one = build(make_system(water.numbers, water.positions, 300.0), cutoff=4.0)
    params = one.init(jax.random.key(7))
    squeezed = water.positions * 0.9
    both = np.concatenate([water.positions, squeezed + np.array([20.0, 0, 0])])
    two = build(make_system(np.tile(water.numbers, 2), both, 300.0), cutoff=4.0)
    parts = one.energy(params, water.positions) + one.energy(params, squeezed)
    assert float(two.energy(params, both)) == pytest.approx(float(parts), abs=1e-5)
    together = np.concatenate([water.positions, squeezed + np.array([2.0, 0, 0])])
    assert abs(float(two.energy(params, together) - parts)) > 1e-3


def test_coincident_atoms_give_numbers(network):
    _, params, positions, function = network
    positions = positions.copy()
    positions[1] = positions[0]
    energy, forces = function(params, positions)
    assert np.isfinite(energy) and np.isfinite(forces).all()


def test_a_single_atom():
    potential = build(make_system([8], [[0, 0, 0]], 300.0))
    params = potential.init(jax.random.key(8))
    energy, forces = jax.jit(energy_and_forces(potential))(params, jnp.ones((1, 3)))
    assert np.isfinite(energy)
    np.testing.assert_array_equal(forces, 0.0)


def test_shifted_softplus_against_jax():
    x = jnp.array([-90.0, -20.0, -3.0, -1e-3, 0.0, 1e-3, 0.5, 4.0, 30.0, 90.0])

    def reference(x):
        return jax.nn.softplus(x) - np.log(2.0)

    ours, theirs = shifted_softplus, reference
    assert float(ours(0.0)) == 0.0
    for order in range(3):
        np.testing.assert_allclose(
            jax.vmap(ours)(x), jax.vmap(theirs)(x), rtol=1e-5, atol=1e-6, err_msg=f"derivative {order}"
        )
        ours, theirs = jax.grad(ours), jax.grad(theirs)


def test_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="atomic number 79 needs n_elements above it"):
        schnet(make_system([79], [[0, 0, 0]], 300.0), n_elements=79)
