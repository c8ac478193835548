"""NequIP, MACE and GemNet-T: symmetries, the cutoff, the radial basis, degenerate geometries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from potentials import POTENTIALS, energy_and_forces, make_system
from potentials.bessel import BesselBasis, polynomial_cutoff

SMALL = {"n_features": 4, "n_layers": 2, "n_bessel": 5, "n_hidden": 8, "cutoff": 3.0}
SMALL_EDGES = {"n_atom": 8, "n_edge": 8, "n_triplet": 6, "n_bilinear": 5, "n_basis": 4, "n_blocks": 2}
NETWORKS = {
    "nequip_l1_parity": ("nequip", {"l_max": 1, "parity": True, **SMALL}),
    "nequip_l2": ("nequip", {"l_max": 2, "parity": False, **SMALL}),
    "mace": ("mace", {"l_max": 2, "hidden_l_max": 1, "correlation": 3, **SMALL}),
    "gemnet_t": ("gemnet_t", {"n_radial": 4, "n_spherical": 4, "cutoff": 3.0, **SMALL_EDGES}),
}
ETHANOL = molecule("CH3CH2OH")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """(system, potential, params, jitted energy and forces in float64)."""
    name, settings = NETWORKS[request.param]
    system = make_system(ETHANOL.numbers, ETHANOL.positions, 500.0)
    with jax.enable_x64(True):
        potential = POTENTIALS[name](system, **settings)
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), potential.init(jax.random.PRNGKey(0)))
        function = jax.jit(energy_and_forces(potential))
        yield system, potential, params, lambda x: jax.tree.map(np.asarray, function(params, jnp.asarray(x)))


def bent(seed=0):
    return ETHANOL.positions + 0.1 * np.random.default_rng(seed).normal(size=(9, 3))


def test_energy_is_invariant_and_forces_turn_with_the_molecule(network):
    *_, call = network
    x = bent()
    energy, forces = call(x)
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    for turn in (rotation, -rotation):  # a reflection among them
        found = call(x @ turn.T + np.array([5.0, -3.0, 1.0]))
        assert found[0] == pytest.approx(energy, rel=1e-9)
        np.testing.assert_allclose(found[1], forces @ turn.T, atol=1e-9)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)
    assert np.abs(forces).max() > 1e-3


def test_atoms_of_a_kind_may_change_places(network):
    *_, call = network
    x = bent()
    energy, forces = call(x)
    hydrogens = np.flatnonzero(ETHANOL.numbers == 1)
    order = np.arange(9)
    order[hydrogens] = np.roll(hydrogens, 1)
    found = call(x[order])
    assert found[0] == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(found[1], forces[order], atol=1e-10)
    swapped = np.arange(9)
    swapped[[0, 2]] = 2, 0  # a carbon for the oxygen
    assert abs(call(x[swapped])[0] - energy) > 1e-4


def test_forces_are_the_slope_of_the_energy_at_the_cutoff_too(network):
    *_, call = network
    h = 1e-5
    x = bent()
    far = np.linalg.norm(x[:, None] - x[None], axis=-1)
    i, j = np.unravel_index(np.argmax(far), far.shape)
    along = (x[j] - x[i]) / far[i, j]
    for distance in (far[i, j], 3.0 - 1e-3, 3.0, 3.0 + 1e-3):
        y = x.copy()
        y[j] = x[i] + distance * along
        forces = call(y)[1]
        for atom in range(9):
            for axis in range(3):
                up, down = y.copy(), y.copy()
                up[atom, axis] += h
                down[atom, axis] -= h
                slope = (call(up)[0] - call(down)[0]) / (2 * h)
                assert forces[atom, axis] == pytest.approx(-slope, rel=1e-6, abs=1e-7)


def test_atomic_energies_sum_to_the_total_and_see_no_farther_than_their_layers(network):
    _, potential, params, call = network
    x = bent()
    atomic = potential.atomic_energies(params, jnp.asarray(x))
    assert atomic.shape == (9,)
    assert float(atomic.sum()) == pytest.approx(float(call(x)[0]), rel=1e-12)
    far = x.copy()
    far[8] += 50.0  # an atom alone
    farther = far.copy()
    farther[8] += 1.0
    np.testing.assert_array_equal(call(far)[1], call(farther)[1])
    assert np.abs(call(far)[1][8]).max() == 0


def test_no_nan_where_atoms_coincide(network):
    *_, call = network
    x = bent()
    x[4] = x[3]
    energy, forces = call(x)
    assert np.isfinite(energy) and np.isfinite(forces).all()


@pytest.mark.parametrize("kind", ["mace", "gemnet_t"])
def test_float32_stays_float32_where_float64_is_enabled(kind):
    name, settings = NETWORKS[kind]
    with jax.enable_x64(True):
        potential = POTENTIALS[name](make_system(ETHANOL.numbers, ETHANOL.positions, 500.0), **settings)
        params = jax.eval_shape(potential.init, jax.random.key(0))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        positions = jax.ShapeDtypeStruct((9, 3), jnp.float32)
        assert jax.eval_shape(potential.energy, params, positions).dtype == jnp.float32


@pytest.mark.parametrize("kind", ["nequip_l1_parity", "mace", "gemnet_t"])
def test_one_atom_has_an_energy(kind):
    name, settings = NETWORKS[kind]
    system = make_system([8], np.zeros((1, 3)), 300.0)
    potential = POTENTIALS[name](system, **settings)
    energy, forces = energy_and_forces(potential)(potential.init(jax.random.PRNGKey(0)), jnp.zeros((1, 3)))
    assert np.isfinite(energy) and not np.any(forces)


def test_the_radial_basis_is_that_of_the_paper():
    basis = BesselBasis(4, 5.0)
    r = np.linspace(0.1, 5.5, 40)
    params = basis.init(jax.random.PRNGKey(0), jnp.asarray(r))
    x = r / 5.0
    envelope = np.where(x < 1, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, 0)
    n = np.arange(1, 5)
    expected = np.sqrt(2 / 5.0) * np.sin(n * np.pi * x[:, None]) / r[:, None] * envelope[:, None]
    np.testing.assert_allclose(basis.apply(params, jnp.asarray(r)), expected, atol=2e-6)
    at_zero = basis.apply(params, jnp.zeros(1))[0]
    np.testing.assert_allclose(at_zero, np.sqrt(2 / 5.0) * n * np.pi / 5.0, rtol=1e-6)
    slopes = [jax.grad(polynomial_cutoff), jax.grad(jax.grad(polynomial_cutoff))]
    with jax.enable_x64(True):
        assert all(abs(slope(5.0 - 1e-6, 5.0)) < 1e-4 for slope in slopes)
