"""The edges a network sees: distances of interacting pairs and a sum over neighbours.

A network never asks where the edges came from. For a small molecule in vacuum they are all pairs,
with static indices: no neighbour list, no masks, and every radial filter computed once a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray


class Edges(NamedTuple):
    """The interacting pairs of one configuration.

    Attributes:
      distances: [E], Å, one for each undirected pair.
      sum_neighbours: (filters [E, F], features [N, F]) -> [N, F], the continuous-filter
        convolution Σ_j features_j ∘ filters_ij over the neighbours j of each atom.
    """

    distances: Array
    sum_neighbours: Callable[[Array, Array], Array]


def nearest_image(steps: Array, cell: Array) -> Array:
    """Vectors [..., 3] (Å) between atoms, moved by lattice vectors, the rows of cell [3, 3], to the
    rounded fractional coordinates: the nearest image of any that has one within half the distance of
    opposite faces; other vectors come out no shorter than that.
    """
    fractional = steps @ jnp.linalg.inv(cell)
    return (fractional - jnp.round(fractional)) @ cell


def dense_edges(n_atoms: int) -> Callable[[Array], Edges]:
    """All pairs of a molecule in vacuum, with static indices.

    Args:
      n_atoms: N, at least 1.

    Returns:
      positions [N, 3] -> `Edges` with E = N(N−1)/2, in the order of `np.triu_indices(N, 1)`.
    """
    first, second = np.triu_indices(n_atoms, 1)
    pair_of = np.zeros((n_atoms, n_atoms), dtype=int)
    pair_of[first, second] = pair_of[second, first] = np.arange(len(first))
    others = np.array([[j for j in range(n_atoms) if j != i] for i in range(n_atoms)], dtype=int)
    pair_of_other = pair_of[np.arange(n_atoms)[:, None], others]  # [N, N-1]

    def sum_neighbours(filters: Array, features: Array) -> Array:
        return jnp.sum(filters[pair_of_other] * features[others], axis=1)

    def edges(positions: Array) -> Edges:
        return Edges(safe_norm(positions[first] - positions[second]), sum_neighbours)

    return edges


def directed_pairs(n_atoms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(senders, receivers) [N(N−1)] of all ordered pairs of different atoms, receiver by receiver."""
    receivers, senders = np.nonzero(~np.eye(n_atoms, dtype=bool))
    return senders, receivers


def safe_norm(vectors: Array) -> Array:
    """Euclidean norm over the last axis whose gradient is 0, not NaN, at the zero vector."""
    squares = jnp.sum(vectors**2, axis=-1)
    coincident = squares == 0
    return jnp.where(coincident, 0.0, jnp.sqrt(jnp.where(coincident, 1.0, squares)))
