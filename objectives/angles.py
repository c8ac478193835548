"""Angles between bonds, and their distribution (ADF)."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from objectives.observables import Grid, smeared_density, uniform_grid


def find_angles(bonds: ArrayLike) -> NDArray[np.int64]:
    """All pairs of bonds [M, 2] that share an atom, as triples [A, 3] with that atom in the middle."""
    neighbours: dict[int, list[int]] = {}
    for i, j in np.asarray(bonds, dtype=int).reshape(-1, 2).tolist():
        neighbours.setdefault(i, []).append(j)
        neighbours.setdefault(j, []).append(i)
    triples = [
        (first, middle, last)
        for middle in sorted(neighbours)
        for first, last in itertools.combinations(sorted(neighbours[middle]), 2)
    ]
    return np.array(triples, dtype=np.int64).reshape(-1, 3)


def bond_angles(positions: ArrayLike, triples: ArrayLike) -> jax.Array:
    """Angles at the middle atom, atan2(|a × b|, a·b), accurate near 0 and π, unlike arccos.

    Args:
      positions: [..., N, 3], Å.
      triples: atom indices [A, 3].

    Returns:
      Angles [..., A] in [0, π], radians.
    """
    positions, triples = jnp.asarray(positions), jnp.asarray(triples, dtype=int).reshape(-1, 3)
    first, middle, last = (positions[..., triples[:, k], :] for k in range(3))
    a, b = first - middle, last - middle
    normal = jnp.cross(a, b)
    square = jnp.sum(normal**2, axis=-1)
    # The slope of a square root at zero is infinite: a straight angle gets that of 0.
    sine = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return jnp.arctan2(sine, jnp.sum(a * b, axis=-1))


def angle_grid(bins: int = 180) -> Grid:
    """`bins` equal bins over [0, π] radians."""
    return uniform_grid(0.0, float(np.pi), bins)


def angle_distribution(positions: ArrayLike, triples: ArrayLike, grid: Grid, width: float) -> jax.Array:
    """The angular distribution function: density of the angles, each smeared by a Gaussian.

    Args:
      positions: [..., N, 3], Å.
      triples: [A, 3], A ≥ 1.
      grid: in radians.
      width: standard deviation of the Gaussian, radians.

    Returns:
      [..., B], 1/rad; Σ p·Δφ is the share of the smeared angles that lies in the grid.

    Raises:
      ValueError: no angles, or width ≤ 0.
    """
    if not len(np.asarray(triples)):
        raise ValueError("an angle distribution needs at least one angle; these bonds make none")
    return smeared_density(bond_angles(positions, triples), grid, width)
