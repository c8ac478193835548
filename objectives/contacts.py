"""Close contacts: atoms without a bond that stand nearer to one another than in most sound samples.

A potential's holes are often such contacts, and g(r) or h(r) of few replicas is for the most part that of the
states they started from.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase.data.vdw_alvarez import vdw_radii
from jax import Array
from numpy.typing import NDArray

from potentials.edges import nearest_image, safe_norm
from potentials.system import System

# In sums of van der Waals radii (Alvarez 2013), each just short of what sound samples reach: of second
# neighbours within a molecule, between molecules, and there of hydrogen bonds (to N, O and F).
REACH_WITHIN, REACH_BETWEEN, REACH_HYDROGEN_BOND = 0.6, 0.7, 0.55
ACCEPTORS = (7, 8, 9)
WIDTH = 0.05  # Å, over which it sets in


class Pairs(NamedTuple):
    """Attributes: atoms [P, 2], without a bond; reach, of their contact, Å; molecules [P, 2], theirs, of
    0 … B − 1; n_molecules, B."""

    atoms: NDArray[np.int64]
    reach: float
    molecules: NDArray[np.int64]
    n_molecules: int


def contact_pairs(system: System) -> list[Pairs]:
    """Pairs of atoms without a bond by their elements, the heavier first, between molecules and within."""
    n_atoms = len(system.numbers)
    apart = np.triu(np.ones((n_atoms, n_atoms), bool), k=1)
    apart[tuple(np.asarray(system.bonds).reshape(-1, 2).T)] = False  # i < j
    atoms = np.argwhere(apart)
    elements = -np.sort(-system.numbers[atoms], axis=1)
    labels, molecule = np.unique(system.molecules, return_inverse=True)
    molecules = molecule[atoms]
    within = molecules[:, 0] == molecules[:, 1]
    found = []
    for kind in combinations_with_replacement(sorted(np.unique(system.numbers), reverse=True), 2):
        bonding = kind[1] == 1 and kind[0] in ACCEPTORS
        between = REACH_HYDROGEN_BOND if bonding else REACH_BETWEEN
        for share, place in ((between, ~within), (REACH_WITHIN, within)):
            own = (elements == kind).all(axis=1) & place
            if own.any():
                reach = share * float(vdw_radii[list(kind)].sum())
                found.append(Pairs(atoms[own], reach, molecules[own], len(labels)))
    return found


def contacts(positions: Array, pairs: Pairs, cell: NDArray | None) -> Array:
    """Close contacts of each molecule, each counted by 1/(1 + exp((r − reach)/width)).

    Args:
      positions: [N, 3], Å.
      pairs: of two elements.
      cell: [3, 3], Å, or None.

    Returns:
      [B]; one between two molecules is one of either.
    """
    steps = positions[pairs.atoms[:, 0]] - positions[pairs.atoms[:, 1]]
    distances = safe_norm(steps if cell is None else nearest_image(steps, cell))
    each = jax.nn.sigmoid((pairs.reach - distances) / WIDTH)
    first, second = pairs.molecules.T
    of_molecules = jnp.zeros(pairs.n_molecules, each.dtype).at[first].add(each)
    return of_molecules.at[second].add(jnp.where(first == second, 0.0, each))
