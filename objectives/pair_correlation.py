"""Radial distribution functions g(r) of periodic boxes, by elements."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from objectives.observables import Grid, smeared_density
from potentials.edges import nearest_image, safe_norm
from potentials.system import System


def element_pairs(system: System, first: int, second: int, *, between_molecules: bool = False) -> NDArray:
    """Pairs [P, 2] of an atom of one element and another atom of the other, each pair once.

    Args:
      system: numbers and molecules.
      first, second: atomic numbers, which may be equal.
      between_molecules: leave out pairs within one molecule.

    Raises:
      ValueError: there is no such pair.
    """
    i, j = np.triu_indices(len(system.numbers), k=1)
    a, b = system.numbers[i], system.numbers[j]
    chosen = ((a == first) & (b == second)) | ((a == second) & (b == first))
    if between_molecules:
        chosen &= system.molecules[i] != system.molecules[j]
    if not chosen.any():
        raise ValueError(f"the system has no pair of elements {first} and {second} to observe")
    return np.stack([i[chosen], j[chosen]], axis=1)


def largest_radius(cell: ArrayLike) -> float:
    """Half the smallest distance between opposite faces of a cell [3, 3] (Å): within it the nearest
    image is the only one."""
    cell = np.asarray(cell, dtype=float)
    return float(0.5 / np.linalg.norm(np.linalg.inv(cell), axis=0).max())


def radial_distribution(
    positions: ArrayLike, pairs: ArrayLike, cell: ArrayLike, grid: Grid, width: float
) -> jax.Array:
    """g(r): the density of pair distances over that of an ideal gas, each distance smeared by a Gaussian.

    Args:
      positions: [..., N, 3], Å, wrapped or not.
      pairs: [P, 2], from `element_pairs`.
      cell: [3, 3], Å, rows are the lattice vectors.
      grid: bins in Å, the last edge at most `largest_radius`.
      width: standard deviation of the Gaussian, Å.

    Returns:
      [..., B], dimensionless; 1 for an ideal gas. Bins are averages over their shell.

    Raises:
      ValueError: a grid beyond half the cell, or width ≤ 0.
    """
    limit = largest_radius(cell)
    if float(grid.edges[-1]) > limit * (1 + 1e-6):
        raise ValueError(
            f"the grid of g(r) ends at {float(grid.edges[-1]):.3f} Å; expected at most half the cell, "
            f"{limit:.3f} Å"
        )
    positions, pairs = jnp.asarray(positions), jnp.asarray(pairs, dtype=int)
    matrix = jnp.asarray(cell, positions.dtype)
    steps = positions[..., pairs[:, 0], :] - positions[..., pairs[:, 1], :]
    distances = safe_norm(nearest_image(steps, matrix))
    density = smeared_density(distances, grid, width)
    edges = grid.edges
    shells = 4 / 3 * jnp.pi * (edges[1:] ** 3 - edges[:-1] ** 3) / (edges[1:] - edges[:-1])
    return density * jnp.abs(jnp.linalg.det(matrix)) / shells
