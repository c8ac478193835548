"""The ZBL prior against the published formula."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import units
from ase.data import covalent_radii

from potentials import add_prior, energy_and_forces, make_system, schnet, zbl


def pair_system(first, second):
    return make_system([first, second], [[0, 0, 0], [1.5, 0, 0]], 300.0)


def pair_energy(first, second, **settings):
    """(distance) -> ZBL energy of a pair, eV."""
    prior = zbl(pair_system(first, second), **settings)
    return jax.jit(lambda r: jnp.sum(prior(jnp.zeros((2, 3), jnp.result_type(float)).at[1, 2].set(r))))


def published(z1, z2, r):
    """Ziegler, Biersack and Littmark's potential in ASE's units, without an envelope."""
    a = 0.8854 * units.Bohr / (z1**0.23 + z2**0.23)
    x = r / a
    phi = (
        0.1818 * np.exp(-3.2 * x)
        + 0.5099 * np.exp(-0.9423 * x)
        + 0.2802 * np.exp(-0.4029 * x)
        + 0.02817 * np.exp(-0.2016 * x)
    )
    return units.Hartree * units.Bohr * z1 * z2 / r * phi


@pytest.mark.parametrize(("z1", "z2"), [(1, 1), (1, 6), (6, 8), (8, 8)])
def test_against_the_published_formula(z1, z2):
    edge = covalent_radii[z1] + covalent_radii[z2]
    energy = pair_energy(z1, z2)
    for fraction in (0.02, 0.1, 0.3, 0.5, 0.8):
        r = fraction * edge
        expected = published(z1, z2, r) * (1 - fraction**2) ** 3
        assert float(energy(r)) == pytest.approx(expected, rel=1e-3)
    # Close to the nucleus the envelope is one and the formula stands alone.
    assert float(pair_energy(z1, z2, reach=100.0)(0.2)) == pytest.approx(published(z1, z2, 0.2), rel=1e-3)


def test_value_slope_and_curvature_vanish_at_the_reach():
    with jax.enable_x64(True):
        reach = 0.9
        edge = float(np.float32(reach * 2 * covalent_radii[6]))
        energy = pair_energy(6, 6, reach=reach)
        derivatives = [energy, jax.jit(jax.grad(energy)), jax.jit(jax.grad(jax.grad(energy)))]
        for order, function in enumerate(derivatives):
            scale = abs(float(function(0.5 * edge)))
            assert abs(float(function(edge - 1e-5))) < 1e-3 * scale, order
            for r in (edge, edge + 1e-6, 1.5 * edge):
                assert abs(float(function(r))) < 1e-9 * scale, order


def test_repulsive_everywhere():
    energy = pair_energy(6, 8)
    edge = covalent_radii[6] + covalent_radii[8]
    r = jnp.linspace(0.005, 0.999 * edge, 400)
    slopes = jax.jit(jax.vmap(jax.grad(energy)))(r)
    assert (np.asarray(slopes) < 0).all()
    assert (np.asarray(jax.vmap(energy)(r)) > 0).all()


def test_forces_by_finite_differences(ethanol):
    system, positions = ethanol
    with jax.enable_x64(True):
        prior = zbl(system)
        energy = jax.jit(lambda x: jnp.sum(prior(x)))
        positions = positions * 0.7  # squeezed, so that bonds are within the reach
        gradient = jax.jit(jax.grad(energy))(jnp.asarray(positions))
        assert np.abs(gradient).max() > 10
        for i, k in [(0, 0), (2, 1), (5, 2), (8, 0)]:
            shift = np.zeros((9, 3))
            shift[i, k] = 1e-5
            numeric = (energy(positions + shift) - energy(positions - shift)) / 2e-5
            assert float(gradient[i, k]) == pytest.approx(float(numeric), rel=1e-6, abs=1e-6)


def test_bonds_at_equilibrium_are_left_alone(ethanol):
    system, positions = ethanol
    assert float(jnp.sum(zbl(system, reach=0.85)(jnp.asarray(positions)))) == 0.0


def test_coincident_atoms_give_numbers():
    prior = zbl(pair_system(6, 6))
    energy, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(prior(x))))(jnp.zeros((2, 3)))
    assert energy > 1e4
    assert np.isfinite(gradient).all()


def test_a_prior_adds_its_energy_and_no_params(ethanol):
    system, positions = ethanol
    network = schnet(system, n_features=8, n_filters=8, n_interactions=1)
    prior = zbl(system)
    both = add_prior(network, prior)
    squeezed = jnp.asarray(positions * 0.6)

    @jax.jit
    def evaluate(key):
        params = both.init(key)
        bare, repulsion = network.atomic_energies(params, squeezed), prior(squeezed)
        return params, network.init(key), bare, repulsion, both.atomic_energies(params, squeezed)

    params, bare_params, bare, repulsion, total = evaluate(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, bare_params)
    np.testing.assert_allclose(total, bare + repulsion, rtol=1e-6)
    assert float(jnp.sum(repulsion)) > 10
    energy, forces = jax.jit(energy_and_forces(both))(params, squeezed)
    assert float(energy) == pytest.approx(float(jnp.sum(total)), rel=1e-5)
    assert forces.shape == (9, 3)
