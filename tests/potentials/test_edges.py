"""All pairs of a molecule: distances, vectors and sums over neighbours against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from potentials.edges import dense_edges


def ring_by_ring(n):
    """Pairs (i, i + k mod N) in the order of the docstring."""
    rows = n * (n - 1) // 2
    return [(row % n, (row % n + row // n + 1) % n) for row in range(rows)]


def plain_sum(n, filters, features):
    sums = np.zeros_like(features)
    for row, (i, j) in enumerate(ring_by_ring(n)):
        sums[i] += filters[row] * features[j]
        sums[j] += filters[row] * features[i]
    return sums


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 21])
def test_every_pair_once_and_every_neighbour(n):
    rng = np.random.default_rng(n)
    pairs = ring_by_ring(n)
    assert {frozenset(pair) for pair in pairs} == {frozenset((i, j)) for i in range(n) for j in range(i)}
    positions = rng.normal(size=(n, 3))
    edges = dense_edges(n)(jnp.asarray(positions))
    expected = [np.linalg.norm(positions[i] - positions[j]) for i, j in pairs]
    assert_allclose(edges.distances, np.reshape(expected, len(pairs)), rtol=1e-6)
    assert_allclose(edges.vectors, positions[edges.senders] - positions[edges.receivers], rtol=1e-5)
    filters, features = rng.normal(size=(len(pairs), 5)), rng.normal(size=(n, 5))
    expected = plain_sum(n, filters, features)
    assert_allclose(edges.sum_neighbours(jnp.asarray(filters), jnp.asarray(features)), expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8])
def test_the_gradients_are_those_of_the_plain_sum(n):
    # With y = Σ_ij c_i w_ij h_j: dy/dw_ij = c_i h_j + c_j h_i, and dy/dh is the sum over neighbours of c.
    rng = np.random.default_rng(n)
    pairs = ring_by_ring(n)
    filters, features, weights = rng.normal(size=(len(pairs), 3)), *rng.normal(size=(2, n, 3))
    edges = dense_edges(n)(jnp.asarray(rng.normal(size=(n, 3))))

    def total(filters, features):
        return jnp.sum(weights * edges.sum_neighbours(filters, features))

    of_filters, of_features = jax.grad(total, argnums=(0, 1))(jnp.asarray(filters), jnp.asarray(features))
    expected = [weights[i] * features[j] + weights[j] * features[i] for i, j in pairs]
    assert_allclose(of_filters, np.reshape(expected, (len(pairs), 3)), atol=1e-5)
    assert_allclose(of_features, plain_sum(n, filters, weights), atol=1e-5)


def test_second_derivatives_under_vmap_in_float64():
    # What training on forces needs: forces of a batch, and their slopes in the parameters.
    n, rng = 7, np.random.default_rng(0)
    first, second = np.transpose(ring_by_ring(n))
    features, frames = rng.normal(size=(n, 3)), rng.normal(size=(4, n, 3))

    def ours(scale, positions):
        edges = dense_edges(n)(positions)
        filters = jnp.exp(-scale * edges.distances[:, None] * jnp.arange(1.0, 4.0))
        return jnp.sum(jnp.tanh(edges.sum_neighbours(filters, jnp.asarray(features))))

    def plain(scale, positions):
        distances = jnp.linalg.norm(positions[first] - positions[second], axis=1)
        filters = jnp.exp(-scale * distances[:, None] * jnp.arange(1.0, 4.0))
        sums = jnp.zeros((n, 3)).at[first].add(filters * features[second])
        return jnp.sum(jnp.tanh(sums.at[second].add(filters * features[first])))

    with jax.enable_x64(True):
        batch = jnp.asarray(frames)
        for of in (
            lambda f: jax.jacrev(jax.grad(f, argnums=1), argnums=0),
            lambda f: jax.hessian(f, argnums=1),
        ):
            found, expected = (jax.jit(jax.vmap(of(f), (None, 0)))(0.4, batch) for f in (ours, plain))
            assert found.dtype == jnp.float64 and np.abs(expected).max() > 0.01
            assert_allclose(found, expected, atol=1e-12)
