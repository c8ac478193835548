"""The Ziegler–Biersack–Littmark screened nuclear repulsion, as a short-range prior."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from jax import Array

from potentials.edges import dense_edges
from potentials.system import System

COULOMB = 14.399645
"""e²/(4πε₀), eV·Å."""

_SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))


def zbl(system: System, *, reach: float = 1.0) -> Callable[[Array], Array]:
    """Half of each pair's ZBL repulsion on each of its atoms, smoothly zero beyond the bond.

    V(r) = Z_i Z_j e²/(4πε₀ r) φ(r/a), a = 0.46850 Å/(Z_i^0.23 + Z_j^0.23), times the envelope
    (1 − (r/r_c)²)³ for r < r_c = `reach` × (sum of covalent radii), so that value, slope and
    curvature vanish at r_c and bonds near their equilibrium lengths are the network's affair.

    Args:
      system: the molecule.
      reach: r_c in units of the sum of the two covalent radii (Cordero et al. 2008).

    Returns:
      positions [N, 3] (Å) -> atomic energies [N] (eV).

    Source: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter
    (1985).
    """
    first, second = np.triu_indices(len(system.numbers), 1)
    charges = system.numbers.astype(np.float64)
    length = 0.46850 / (charges[first] ** 0.23 + charges[second] ** 0.23)
    strength = (COULOMB * charges[first] * charges[second]).astype(np.float32)
    radii = covalent_radii[system.numbers]
    edge = (reach * (radii[first] + radii[second])).astype(np.float32)
    decay = np.stack([b / length for _, b in _SCREENING]).astype(np.float32)  # [4, E]
    weight = np.array([c for c, _ in _SCREENING], np.float32)[:, None]
    edges = dense_edges(len(system.numbers))

    def atomic_energies(positions: Array) -> Array:
        distances = edges(positions).distances
        # Kept off r = 0, where two coincident atoms would give 0/0 instead of a large energy.
        r = jnp.maximum(distances, 1e-3)
        screening = jnp.sum(weight * jnp.exp(-decay * r), axis=0)
        envelope = jnp.maximum(1.0 - (r / edge) ** 2, 0.0) ** 3
        pair = 0.5 * strength / r * screening * envelope
        return jnp.zeros(len(charges), positions.dtype).at[first].add(pair).at[second].add(pair)

    return atomic_energies
