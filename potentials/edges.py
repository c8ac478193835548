"""The edges a network sees: distances of interacting pairs, their vectors, and a sum over neighbours.

A network never asks where the edges came from. For a small molecule in vacuum they are all pairs,
in a static order: no neighbour list, no masks, and every radial filter computed once a pair. In a
periodic box they come from a neighbour list (`potentials.neighbours`), whose empty places are edges
longer than the cutoff. So there is no mask to apply: whatever a network makes of an edge must vanish
from its cutoff on, with its slope, as it does for smooth forces anyhow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike


class Edges(NamedTuple):
    """The interacting pairs of one configuration, in two forms; a network uses either.

    Attributes:
      distances: [E], Å.
      sum_neighbours: (filters [E, F], features [N, F]) -> [N, F], the continuous-filter
        convolution Σ_j features_j ∘ filters_ij over the neighbours j of each atom.
      vectors: [D, 3], Å, one for each ordered pair, from the receiver to the sender.
      senders, receivers: [D], atoms.
    """

    distances: Array
    sum_neighbours: Callable[[Array, Array], Array]
    vectors: Array
    senders: Array
    receivers: Array


def nearest_image(steps: Array, cell: ArrayLike) -> Array:
    """Vectors [..., 3] (Å) between atoms, moved by lattice vectors, the rows of cell [3, 3], to the
    rounded fractional coordinates: the nearest image of any that has one within half the distance of
    opposite faces; other vectors come out no shorter than that. The cell is no tracer.
    """
    images = jnp.round(_times(steps, np.linalg.inv(np.asarray(cell, float))))
    return steps - _times(images, np.asarray(cell))


def wrapped(positions: Array, cell: ArrayLike) -> Array:
    """Positions [..., 3] (Å), each moved by lattice vectors, the rows of cell [3, 3], into the cell."""
    turns = jnp.floor(_times(positions, np.linalg.inv(np.asarray(cell, float))))
    return positions - _times(turns, np.asarray(cell))


def _times(rows: Array, matrix: np.ndarray) -> Array:
    # In full precision, where the default on an accelerator is less than float32.
    return jnp.matmul(rows, matrix.astype(rows.dtype), precision=jax.lax.Precision.HIGHEST)


def largest_radius(cell: ArrayLike) -> float:
    """Half the smallest distance between opposite faces of a cell [3, 3] (Å): within it the nearest
    image is the only one."""
    cell = np.asarray(cell, dtype=float)
    return float(0.5 / np.linalg.norm(np.linalg.inv(cell), axis=0).max())


def dense_edges(n_atoms: int) -> Callable[[Array], Edges]:
    """All pairs of a molecule in vacuum, in a static order.

    Args:
      n_atoms: N, at least 1.

    Returns:
      positions [N, 3] -> `Edges` with E = N(N−1)/2, ring by ring: row (k−1)N + i is the pair of i and
      (i + k) mod N; and D = N(N−1), receiver by receiver.
    """
    rings, opposite = (n_atoms - 1) // 2, n_atoms // 2 if n_atoms % 2 == 0 else 0
    receivers, senders = np.nonzero(~np.eye(n_atoms, dtype=bool))

    # Distances and sums by slices, forwards and backwards: a gather by pair is a scatter in the gradient, on
    # CPUs a loop over its rows.
    def sum_neighbours(filters: Array, features: Array) -> Array:
        ring = filters[: rings * n_atoms].reshape(rings, n_atoms, features.shape[-1])
        sums = jnp.sum(ring * _rings(features, rings), axis=0) + _sum_rings(ring * features)
        if opposite:  # the pairs of i and i + N/2, both ways
            last = filters[rings * n_atoms :]
            sums += jnp.concatenate([last * features[opposite:], last * features[:opposite]])
        return sums

    def edges(positions: Array) -> Edges:
        steps = (positions - _rings(positions, rings)).reshape(rings * n_atoms, 3)
        if opposite:
            steps = jnp.concatenate([steps, positions[:opposite] - positions[opposite:]])
        vectors = positions[senders] - positions[receivers]
        return Edges(safe_norm(steps), sum_neighbours, vectors, senders, receivers)

    return edges


def _rings(rows: Array, count: int) -> Array:
    """[N, F] -> [count, N, F]: row i of ring k = 1 .. count is that of (i + k) mod N."""
    n, width = rows.shape
    # Row k(N + 1) + i of the repeated rows is row (i + k) mod N.
    repeated = jnp.tile(rows, (count + 2, 1))[n + 1 : (count + 1) * (n + 1)]
    return repeated.reshape(count, n + 1, width)[:, :n]


def _sum_rings(rings: Array) -> Array:
    """[K, N, F] -> [N, F]: to atom (i + k) mod N the sum of rows i of rings k; the transpose of `_rings`."""
    count, n, width = rings.shape
    repeated = jnp.pad(rings, ((0, 0), (0, 1), (0, 0))).reshape(count * (n + 1), width)
    repeated = jnp.pad(repeated, ((n + 1, n - 1 - count), (0, 0)))
    return jnp.sum(repeated.reshape(count + 2, n, width), axis=0)


def safe_norm(vectors: Array) -> Array:
    """Euclidean norm over the last axis whose gradient is 0, not NaN, at the zero vector."""
    squares = jnp.sum(vectors**2, axis=-1)
    coincident = squares == 0
    return jnp.where(coincident, 0.0, jnp.sqrt(jnp.where(coincident, 1.0, squares)))
