"""Criteria of instability: when a replica has left the configurations that a potential is fit for."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from potentials.edges import nearest_image, safe_norm
from potentials.system import System

Criterion = Callable[[Array], Array]
"""(positions [R, N, 3], Å) -> [R], True where a replica is unstable, each by itself. A non-finite
position is for whoever runs the replicas to notice: no criterion needs to."""


def never(positions: Array) -> Array:
    """The criterion that nothing meets."""
    return jnp.zeros(len(positions), bool)


def bond_deviation(
    bonds: ArrayLike, lengths: ArrayLike, threshold: float, cell: ArrayLike | None = None
) -> Criterion:
    """Unstable where max_(i,j) | |r_i − r_j| − b_ij | > Δ over the bonds.

    Args:
      bonds: [M, 2], M ≥ 1.
      lengths: b, mean lengths in the reference [M], Å.
      threshold: Δ, Å; 0.5 in evaluations and 0.25 in training (StABlE, arXiv 2402.13984, A.5, after
        Fu et al., arXiv 2210.07237).
      cell: [3, 3], Å, of a periodic box; a bond is to the nearest image.

    Raises:
      ValueError: no bonds, lengths of another shape, or a threshold that is not positive.
    """
    bonds, lengths = np.asarray(bonds), np.asarray(lengths, np.float32)
    if bonds.ndim != 2 or bonds.shape[1:] != (2,) or not len(bonds) or lengths.shape != bonds.shape[:1]:
        raise ValueError(
            f"bonds {bonds.shape} and lengths {lengths.shape}: expected [M, 2] and [M] with M at least 1"
        )
    _require_positive(threshold, "bond deviation")
    first, second = bonds.T

    def criterion(positions: Array) -> Array:
        steps = positions[:, first] - positions[:, second]
        if cell is not None:
            steps = nearest_image(steps, cell)
        return jnp.any(jnp.abs(safe_norm(steps) - lengths) > threshold, axis=-1)

    return criterion


def minimum_distance(system: System, threshold: float) -> Criterion:
    """Unstable where two atoms that are not bonded are closer than Δ (StABlE, A.5).

    In a box the nearest image counts, which for thresholds far below half the box is that of the
    rounded fractional coordinates.

    Args:
      system: bonds and cell.
      threshold: Δ, Å; 1.2 for water.

    Raises:
      ValueError: no pair without a bond, or a threshold that is not positive.
    """
    n_atoms = len(system.numbers)
    free = ~np.eye(n_atoms, dtype=bool)
    free[tuple(system.bonds.T)] = free[tuple(system.bonds.T[::-1])] = False
    first, second = np.nonzero(np.triu(free))
    if not len(first):
        raise ValueError("a minimum distance needs two atoms without a bond between them")
    _require_positive(threshold, "minimum distance")

    def criterion(positions: Array) -> Array:
        steps = positions[:, first] - positions[:, second]
        if system.cell is not None:
            steps = nearest_image(steps, system.cell)
        return jnp.any(jnp.sum(steps**2, axis=-1) < threshold**2, axis=-1)

    return criterion


def any_of(*criteria: Criterion) -> Criterion:
    """Unstable where one of the criteria says so.

    Raises:
      ValueError: none given.
    """
    if not criteria:
        raise ValueError("any_of: no criteria given")

    def criterion(positions: Array) -> Array:
        return jnp.any(jnp.stack([one(positions) for one in criteria]), axis=0)

    return criterion


def make_criterion(system: System, bond_threshold: float, distance_threshold: float = 0.0) -> Criterion:
    """Both criteria with the system's own bonds; a threshold of 0 (Å) leaves one out.

    Raises:
      ValueError: both are left out, or one that the system has no pairs for.
    """
    criteria = []
    if bond_threshold:
        criteria.append(bond_deviation(system.bonds, system.bond_lengths, bond_threshold, system.cell))
    if distance_threshold:
        criteria.append(minimum_distance(system, distance_threshold))
    if not criteria:
        raise ValueError("stability: every threshold is 0; expected at least one criterion")
    return any_of(*criteria)


def _require_positive(threshold: float, name: str) -> None:
    if not threshold > 0:
        raise ValueError(f"the threshold of the {name} is {threshold} Å; expected a positive number")
