"""GemNet-T against its equations: bases against SciPy, angles, the bilinear layer as a plain sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from scipy.special import eval_legendre, spherical_jn

from potentials import make_system
from potentials.edges import dense_edges
from potentials.gemnet import Dense, GemNetT, Triplets, make_graph
from potentials.neighbours import box_edges
from potentials.spherical_bessel import legendre, radial_coefficients, radial_functions, roots
from tests.potentials.plain_gemnet import plain_gemnet
from tests.potentials.test_neighbours import CELLS, CUTOFF, liquid

ETHANOL = molecule("CH3CH2OH")


def test_the_radial_functions_are_spherical_bessels_that_end_at_the_cutoff():
    z = roots(7, 6)
    np.testing.assert_allclose(z[0], np.pi * np.arange(1, 7))
    for order in range(7):
        np.testing.assert_allclose(spherical_jn(order, z[order]), 0, atol=1e-12)
        x = np.linspace(1e-3, z[order, -1] - 1e-3, 20_000)
        assert np.sum(np.diff(np.sign(spherical_jn(order, x))) != 0) == 5  # none is left out
    r = np.linspace(0.0, 5.5, 111)
    expected = np.zeros((len(r), 7, 6))
    for order in range(7):
        for n in range(6):
            norm = np.sqrt(2) / abs(spherical_jn(order + 1, z[order, n]))
            expected[:, order, n] = norm * spherical_jn(order, z[order, n] * np.minimum(r / 5.0, 1))
    found = radial_functions(jnp.asarray(r, jnp.float32), 5.0, radial_coefficients(7, 6))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_legendre_polynomials_are_scipys():
    x = np.linspace(-1, 1, 21)
    with jax.enable_x64(True):
        found = legendre(jnp.asarray(x), 6)
    expected = np.stack([np.sqrt(2 * order + 1) * eval_legendre(order, x) for order in range(6)], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_angles_are_those_of_ase_and_back_is_the_other_direction():
    with jax.enable_x64(True):
        edges = dense_edges(9)(jnp.asarray(ETHANOL.positions))
        graph = make_graph(edges, 9, jnp.zeros((72, 3)), 3, 10.0)
    for atom, first, second in ((0, 2, 5), (8, 0, 7), (4, 1, 3)):
        c, b = np.asarray(graph.senders)[atom, [first, second]]
        cosine = np.cos(np.radians(ETHANOL.get_angle(c, atom, b)))
        assert float(graph.angular[atom, first, second, 1]) == pytest.approx(np.sqrt(3) * cosine, abs=1e-9)
        assert not np.any(graph.angular[atom, first, first])
        x = ETHANOL.get_distance(c, atom) / 10.0
        j_0 = np.sqrt(2) * np.pi * np.sin(np.pi * x) / (np.pi * x)
        envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
        assert float(graph.circular[atom, first, 0, 0]) == pytest.approx(0.5 * 10**-0.5 * j_0 * envelope)
    flat = np.asarray(graph.back).reshape(-1)
    np.testing.assert_array_equal(np.asarray(edges.senders)[flat], edges.receivers)
    np.testing.assert_array_equal(np.asarray(edges.receivers)[flat], edges.senders)


def test_back_is_the_other_direction_in_a_box_too():
    numbers, positions = liquid(CELLS["triclinic"])
    system = make_system(numbers, positions, 300.0, cell=CELLS["triclinic"])
    edges, full = box_edges(system, CUTOFF).edges(jnp.asarray(positions, jnp.float32), 20)
    assert not full
    n_atoms = len(numbers)
    flat = np.asarray(make_graph(edges, n_atoms, jnp.zeros((20 * n_atoms, 1)), 2, CUTOFF).back).reshape(-1)
    near = np.linalg.norm(edges.vectors, axis=1) < CUTOFF
    assert 0 < near.sum() < len(near)
    np.testing.assert_allclose(np.asarray(edges.vectors)[flat[near]], -edges.vectors[near], atol=1e-5)


def test_the_bilinear_layer_is_the_plain_sum_over_triplets():
    rng = np.random.default_rng(0)
    n, k, width = 4, 3, 5
    x, basis = rng.normal(size=(n, k, width)), rng.normal(size=(n, k, 2))
    circular = rng.normal(size=(n, k, 3, 4))
    layer = Triplets(size=6, n_bilinear=7, n_neighbours=2.0)
    with jax.enable_x64(True):
        positions = jnp.asarray(rng.normal(size=(n, 3)))
        graph = make_graph(dense_edges(n)(positions), n, jnp.zeros((n * k, 2)), 3, 10.0)
        params = layer.init(jax.random.key(0), x, basis, circular, graph)
        found = np.asarray(layer.apply(params, x, basis, circular, graph))

        weights = params["params"]

        def dense(number, value, **kwargs):
            own = weights[f"Dense_{number}"]
            size = own["Dense_0"]["kernel"].shape[1]
            return np.asarray(Dense(size, **kwargs).apply({"params": own}, value))

        down = dense(0, dense(1, x) * dense(2, basis, linear=True))
        out = np.zeros((n, k, 7))
        for a in range(n):
            for c in range(k):
                for b in range(k):
                    if b != c:  # W of the whole basis of (r_ca, angle), eq. of the bilinear layer
                        whole = np.einsum("si,s->i", circular[a, c], graph.angular[a, c, b])
                        out[a, c] += np.einsum("t,i,tio->o", down[a, b], whole, weights["bilinear"]) / 2
        swapped = dense(3, out).reshape(-1, width)[np.asarray(graph.back)]
        expected = (dense(4, out) + swapped) / np.sqrt(2)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("cutoff", [10.0, 2.6])  # all pairs, and a part of them
def test_the_network_is_its_equations_written_out(cutoff):
    sizes = {"n_blocks": 2, "n_residual": 2, "n_neighbours": 4.0, "cutoff": cutoff}
    network = GemNetT(3, 7, 6, 5, 4, 3, 4, 3, **sizes)
    kinds = np.unique(ETHANOL.numbers, return_inverse=True)[1]
    with jax.enable_x64(True):
        edges = dense_edges(9)(jnp.asarray(ETHANOL.positions))
        params = network.init(jax.random.key(0), jnp.eye(3)[kinds], edges)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        found = network.apply(params, jnp.eye(3)[kinds], edges)
        weights = jax.tree.map(np.asarray, params["params"])
    expected = plain_gemnet(weights, kinds, ETHANOL.positions, **sizes)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_the_size_published_with_stable_training():
    # 1.89 M with its table of 93 elements; here there are as many rows as elements.
    edges = dense_edges(9)(jnp.asarray(ETHANOL.positions, jnp.float32))
    network = GemNetT(n_elements=93)
    shapes = jax.eval_shape(lambda key: network.init(key, jnp.eye(93)[:9], edges), jax.random.key(0))
    size = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert size == pytest.approx(1.89e6, abs=5e3)
