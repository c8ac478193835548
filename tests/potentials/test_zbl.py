"""The ZBL prior against the published formula."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms, units
from ase.data import covalent_radii
from ase.data.vdw_alvarez import vdw_radii

from experiments.known_datasets import locate
from potentials import add_prior, energy_and_forces, make_system, schnet, with_bonds, zbl


def pair_system(first, second, *, bonded=True):
    length = (0.9 if bonded else 3.0) * (covalent_radii[first] + covalent_radii[second])
    return make_system([first, second], [[0, 0, 0], [length, 0, 0]], 300.0)


def pair_energy(first, second, *, bonded=True, **settings):
    """(distance) -> ZBL energy of a pair, eV."""
    prior = zbl(pair_system(first, second, bonded=bonded), **settings)
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


def pair_edge(z1, z2, bonded, *, reach, nonbonded_reach):
    """Where the prior ends: covalent radii for bonds, van der Waals radii for all other pairs."""
    if bonded:
        return reach * (covalent_radii[z1] + covalent_radii[z2])
    return nonbonded_reach * (vdw_radii[z1] + vdw_radii[z2])


@pytest.mark.parametrize("bonded", [True, False])
@pytest.mark.parametrize(("z1", "z2"), [(1, 1), (1, 6), (6, 8), (8, 8)])
def test_against_the_published_formula(z1, z2, bonded):
    settings = {"reach": 1.1, "nonbonded_reach": 0.7, "bonded": bonded}
    edge = pair_edge(z1, z2, bonded, reach=1.1, nonbonded_reach=0.7)
    energy = pair_energy(z1, z2, **settings)
    for fraction in (0.02, 0.1, 0.3, 0.5, 0.8):
        r = fraction * edge
        expected = published(z1, z2, r) * (1 - fraction**6) ** 3
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
    edge = pair_edge(6, 8, True, reach=0.8, nonbonded_reach=0.6)
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
    prior = zbl(system, reach=0.85, nonbonded_reach=0.5)
    assert float(jnp.sum(prior(jnp.asarray(positions)))) == 0.0


def test_only_bonded_pairs_have_the_reach_of_bonds(ethanol):
    """Against a sum over the pairs of ethanol's eight bonds and of the 28 others."""
    system, positions = ethanol
    bonds = {tuple(bond) for bond in system.bonds.tolist()}
    assert len(bonds) == 8
    squeezed = positions * 0.8
    for settings in ({"reach": 1.2, "nonbonded_reach": 1e-3}, {"reach": 1e-3, "nonbonded_reach": 0.8}):
        expected = 0.0
        for i in range(9):
            for j in range(i + 1, 9):
                z1, z2 = int(system.numbers[i]), int(system.numbers[j])
                r = np.linalg.norm(squeezed[i] - squeezed[j])
                edge = pair_edge(z1, z2, (i, j) in bonds, **settings)
                expected += published(z1, z2, r) * max(1 - (r / edge) ** 6, 0) ** 3
        assert expected > 0.1
        assert float(jnp.sum(zbl(system, **settings)(jnp.asarray(squeezed)))) == pytest.approx(
            expected, rel=1e-3
        )


def test_nearest_images_in_a_box():
    """Against ASE's distances in a triclinic box; forces across its faces by finite differences."""
    cell = np.array([[7.0, 0, 0], [1.0, 6.5, 0], [0.5, -0.7, 7.5]])
    atoms = Atoms("OHHCHO", np.random.default_rng(3).random((6, 3)) @ cell, cell=cell, pbc=True)
    first, second = np.triu_indices(6, 1)
    distances = atoms.get_all_distances(mic=True)[first, second]
    system = with_bonds(make_system(atoms.numbers, atoms.positions, 300.0, cell=cell), np.array([[0, 1]]))
    settings = {"reach": 1.2, "nonbonded_reach": 0.85}
    expected = 0.0
    for i, j, r in zip(first, second, distances, strict=True):
        z1, z2 = int(atoms.numbers[i]), int(atoms.numbers[j])
        edge = pair_edge(z1, z2, (i, j) == (0, 1), **settings)
        expected += published(z1, z2, r) * max(1 - (r / edge) ** 6, 0) ** 3
    across = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1) - distances > 0.1
    assert expected > 0.1 and across.any()
    with jax.enable_x64(True):
        prior = zbl(system, **settings)
        energy = jax.jit(lambda x: jnp.sum(prior(x)))
        assert float(energy(atoms.positions)) == pytest.approx(expected, rel=1e-3)
        moved = atoms.positions.copy()
        moved[2] += cell[1] - 2 * cell[2]
        assert float(energy(moved)) == pytest.approx(float(energy(atoms.positions)), rel=1e-9)
        gradient = jax.jit(jax.grad(energy))(jnp.asarray(atoms.positions))
        for i, k in np.ndindex(6, 3):
            shift = np.zeros((6, 3))
            shift[i, k] = 1e-5
            numeric = (energy(atoms.positions + shift) - energy(atoms.positions - shift)) / 2e-5
            assert float(gradient[i, k]) == pytest.approx(float(numeric), rel=1e-5, abs=1e-6)


def test_the_default_is_negligible_on_the_reference_frames():
    """Pairs that are not bonded: below 5 meV in 99 of 100 frames of ethanol at 500 K."""
    with np.load(locate("ethanol_gfn2").path) as file:
        numbers, positions = file["numbers"], file["train_positions"]
    prior = zbl(make_system(numbers, positions[0], 500.0), reach=1e-3)
    energies = np.asarray(jax.jit(jax.vmap(lambda x: jnp.sum(prior(x))))(jnp.asarray(positions)))
    assert np.quantile(energies, 0.99) < 0.005
    assert 0 < energies.mean() < 0.001


def test_two_hydrogens_that_are_not_bonded_repel_at_the_default():
    energy = pair_energy(1, 1, bonded=False)
    assert float(energy(0.9)) == pytest.approx(1.15, abs=0.01)
    assert float(pair_energy(1, 1)(0.9)) == 0.0


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
