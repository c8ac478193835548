"""Neighbourhoods of the localized Boltzmann estimator, and which of their states it looks at."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ase import Atoms
from jax import Array
from numpy.typing import NDArray

from potentials.system import System


class Neighbourhoods(NamedTuple):
    """Groups of atoms whose states are samples of their own (StABlE, arXiv 2402.13984, A.2).

    Attributes:
      atoms: indices [B, n].
      n_bins: of the deviations by which `stratified_weights` chooses; 0: every state counts alike.
      per_bin: states chosen from each.
    """

    atoms: NDArray[np.int64]
    n_bins: int = 0
    per_bin: int = 5


def one_molecule_each(system: System, n_bins: int = 0, per_bin: int = 5) -> Neighbourhoods:
    """One neighbourhood a molecule, as the paper has it for water (A.6).

    Raises:
      ValueError: molecules of different kinds, whose states are not of one distribution.
    """
    labels, sizes = np.unique(system.molecules, return_counts=True)
    kinds = {Atoms(system.numbers[system.molecules == label]).get_chemical_formula() for label in labels}
    if len(kinds) > 1:
        raise ValueError(
            f"stable.estimator 'local' takes molecules of one kind as neighbourhoods; the system has "
            f"{', '.join(sorted(kinds))}"
        )
    atoms = np.argsort(system.molecules, kind="stable").reshape(len(labels), sizes[0])
    return Neighbourhoods(atoms, n_bins, per_bin)


def stratified_weights(weights: Array, deviations: Array, n_bins: int, per_bin: int) -> Array:
    """Weights under which the rare states count as much as the common ones.

    The states are sorted into equal bins from 0 to the largest deviation and `per_bin` are drawn from each
    without return (StABlE, A.6: 100 bins, 5 from each); of a bin with fewer, all. Instead of drawing,
    every state gets its chance of being drawn, which is the same on average and adds no noise. Averages
    under these weights are no ensemble averages.

    Args:
      weights: [M], not negative; those of 0 are not there.
      deviations: [M], not negative.
      n_bins, per_bin: 1 or more.

    Returns:
      [M], summing to 1; all zero where nothing is there.
    """
    there = weights > 0
    deviations = jnp.where(there, deviations, 0.0)
    widest = jnp.maximum(jnp.max(deviations), jnp.finfo(deviations.dtype).tiny)
    bins = jnp.minimum((deviations / widest * n_bins).astype(jnp.int32), n_bins - 1)
    counts = jnp.zeros(n_bins).at[bins].add(there.astype(weights.dtype))
    chances = jnp.minimum(1.0, per_bin / jnp.maximum(counts[bins], 1.0))
    chosen = weights * chances
    total = jnp.sum(chosen)
    return chosen / jnp.where(total > 0, total, 1.0)
