"""MACE against its equations: the network written out, the products against sums over Clebsch-Gordan
coefficients, their basis against its symmetries, body orders."""

import itertools

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.spatial.transform import Rotation

from potentials import make_system
from potentials.edges import dense_edges
from potentials.mace import MACE, Products, mace
from tests.potentials.plain_comparison import check_against_plain
from tests.potentials.plain_mace import plain_mace, symmetric_basis
from tests.potentials.plain_tensors import turned

SMALL = {"n_features": 3, "n_bessel": 4, "n_hidden": 8}


@pytest.mark.parametrize("n_layers", [1, 2])
def test_the_network_is_its_equations_written_out(n_layers):
    settings = {"l_max": 2, "hidden_l_max": 1, "correlation": 3, "n_layers": n_layers}
    check_against_plain("mace", plain_mace, {**SMALL, "n_readout": 5}, settings)


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_basis_of_products_is_symmetric_equivariant_and_complete(order, degree):
    basis = symmetric_basis(2, degree, order)
    n_paths = basis.shape[-2]
    for axes in itertools.permutations(range(degree)):
        np.testing.assert_allclose(basis.transpose(*axes, degree, degree + 1), basis, atol=1e-12)
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    for turn in (rotation, -rotation):  # a reflection among them
        found, one = basis, block_diag(*(turned(each, turn) for each in range(3)))
        for _ in range(degree):
            found = np.tensordot(found, one, axes=(0, 1))  # what has turned goes to the end
        found = np.moveaxis(found, (0, 1), (-2, -1)) @ turned(order, turn).T
        np.testing.assert_allclose(found, basis, atol=1e-12)
    flat = np.moveaxis(basis, -2, 0).reshape(n_paths, -1)
    assert np.linalg.matrix_rank(flat) == n_paths

    # As often as L is in them, products of degree ν have one of M = L more than of M = L + 1.
    states = [(each, m) for each in range(3) for m in range(-each, each + 1)]
    products = [np.sum(p, axis=0) for p in itertools.combinations_with_replacement(states, degree)]
    totals = [m for total, m in products if (total - order) % 2 == 0]
    assert n_paths == totals.count(order) - totals.count(order + 1)


def coupled(a, order):
    """Σ C^{L}_{l1 m1, l2 m2} a_{l1 m1} a_{l2 m2} for all l1 ≤ l2 of A [N, K, 1 + 3 + 5] that give L."""
    starts, found = {0: 0, 1: 1, 2: 4}, []
    for first, second in itertools.combinations_with_replacement(starts, 2):
        if abs(first - second) <= order <= first + second and (first + second + order) % 2 == 0:
            one = a[..., starts[first] : starts[first] + 2 * first + 1]
            two = a[..., starts[second] : starts[second] + 2 * second + 1]
            found.append(np.einsum("nki,nkj,ijm->nkm", one, two, e3nn.clebsch_gordan(first, second, order)))
    return found


@pytest.mark.parametrize("order", [0, 1])
def test_products_of_two_span_the_coupled_ones(order):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        a = rng.normal(size=(40, 1, 9))
        irreps = e3nn.Irreps.spherical_harmonics(2)
        target = e3nn.Irreps([(1, (order, (-1) ** order))])
        products = Products(target, correlation=2)
        arguments = (e3nn.IrrepsArray(irreps, jnp.asarray(a)), jnp.ones((40, 1)))
        params = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64), products.init(jax.random.key(0), *arguments)
        )
        leaves, tree = jax.tree.flatten(params)
        names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        pair = next(i for i, name in enumerate(names) if "_2" in name)
        columns = []
        for path in range(leaves[pair].shape[1]):  # each weight alone
            alone = [jnp.zeros_like(leaf) for leaf in leaves]
            alone[pair] = alone[pair].at[0, path].set(1.0)
            columns.append(np.ravel(products.apply(tree.unflatten(alone), *arguments).array))
        ours = np.stack(columns, axis=1)
        theirs = np.stack([np.ravel(g) for g in coupled(a, order)], axis=1)
        assert ours.shape == theirs.shape
        assert np.linalg.matrix_rank(ours) == ours.shape[1]
        fitted = ours @ np.linalg.lstsq(ours, theirs, rcond=None)[0]
        np.testing.assert_allclose(fitted, theirs, atol=1e-10)


def test_products_are_weighed_by_the_kind_of_the_atom():
    a = e3nn.IrrepsArray("0e+1o", jnp.asarray(np.random.default_rng(0).normal(size=(6, 2, 4)), jnp.float32))
    species = jnp.eye(2)[np.array([0, 1, 0, 0, 1, 1])]
    products = Products(e3nn.Irreps("0e+1o"), correlation=3)
    params = products.init(jax.random.key(0), a, species)
    without = jax.tree.map(lambda w: w.at[1].set(0.0), params)
    before, after = (np.asarray(products.apply(p, a, species).array) for p in (params, without))
    np.testing.assert_array_equal(after[[0, 2, 3]], before[[0, 2, 3]])
    assert not after[[1, 4, 5]].any() and before[[1, 4, 5]].all()


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_one_layer_is_of_body_order_one_above_the_correlation(correlation):
    # What is left of an atom's message after all terms of fewer neighbours, by inclusion and exclusion.
    with jax.enable_x64(True):
        n_atoms = correlation + 2
        rng = np.random.default_rng(1)
        positions = rng.normal(size=(n_atoms, 3))
        network = MACE(n_elements=2, n_layers=1, l_max=2, correlation=correlation, n_neighbours=2.0, **SMALL)
        species = np.eye(2)[np.arange(n_atoms) % 2]
        dense = dense_edges(n_atoms)
        params = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64),
            network.init(jax.random.key(0), species, dense(jnp.asarray(positions))),
        )

        @jax.jit
        def messages(x):
            _, seen = network.apply(
                params,
                species,
                dense(x),
                capture_intermediates=lambda module, _: isinstance(module, Products),
                mutable=["intermediates"],
            )
            return jax.tree.leaves(seen)[0]

        def left(size):
            """Of `size` neighbours of atom 0: the others are out of reach."""
            total = 0.0
            for count in range(size + 1):
                for near in itertools.combinations(range(1, size + 1), count):
                    x = positions + 100.0 * np.arange(n_atoms)[:, None]
                    x[[0, *near]] = positions[[0, *near]]
                    total += (-1) ** (size - count) * np.asarray(messages(jnp.asarray(x)))[0]
            return np.abs(total).max()

        assert left(correlation) > 1e-6
        assert left(correlation + 1) < 1e-12


def test_features_of_a_higher_order_than_the_harmonics_are_refused():
    system = make_system([1, 1], [[0, 0, 0], [0, 0, 0.7]], 300.0)
    with pytest.raises(ValueError, match=r"mace.hidden_l_max is 2; expected at most mace.l_max, 1"):
        mace(system, l_max=1, hidden_l_max=2)
