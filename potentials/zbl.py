"""The Ziegler–Biersack–Littmark screened nuclear repulsion, as a short-range prior."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from ase.data import covalent_radii
from ase.data.vdw_alvarez import vdw_radii
from jax import Array

from potentials.edges import largest_radius, nearest_image, safe_norm
from potentials.system import System

COULOMB = 14.399645
"""e²/(4πε₀), eV·Å."""

_SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))


def zbl(system: System, *, reach: float = 0.8, nonbonded_reach: float = 0.6) -> Callable[[Array], Array]:
    """Half of each pair's ZBL repulsion on each of its atoms, smoothly zero beyond a short reach.

    V(r) = Z_i Z_j e²/(4πε₀ r) φ(r/a), a = 0.46850 Å/(Z_i^0.23 + Z_j^0.23), times the envelope
    (1 − (r/r_c)⁶)³ for r < r_c, so that value, slope and curvature vanish at r_c. For a bonded pair
    r_c is `reach` times the sum of the covalent radii (Cordero et al. 2008), shorter than a bond ever
    is: at 1.0 the steep wall stands within the vibrations, and the force error doubles. For any
    other pair it is `nonbonded_reach` times the sum of the van der Waals radii (Alvarez 2013). The
    default 0.6 is just short of what second neighbours reach in ethanol at 500 K (under 1 meV a
    frame) and makes two hydrogens that are not bonded repel by 1.1 eV at 0.9 Å.

    In a box the pairs are those of nearest images, all of them: a few hundred atoms' at most.

    Args:
      system: the molecule or box; its bonds tell the two kinds of pairs apart.
      reach: r_c of bonded pairs, in sums of covalent radii.
      nonbonded_reach: r_c of all other pairs, in sums of van der Waals radii.

    Returns:
      positions [N, 3] (Å) -> atomic energies [N] (eV).

    Raises:
      ValueError: a box in which an atom would see two images of another within a reach.

    Source: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter
    (1985).
    """
    first, second = np.triu_indices(len(system.numbers), 1)
    charges = system.numbers.astype(np.float64)
    length = 0.46850 / (charges[first] ** 0.23 + charges[second] ** 0.23)
    strength = (COULOMB * charges[first] * charges[second]).astype(np.float32)
    radii = covalent_radii[system.numbers]
    bonded = np.zeros((len(charges), len(charges)), bool)
    bonded[tuple(system.bonds.T)] = True  # i < j, as `first` and `second`
    bonded = bonded[first, second]
    contact = vdw_radii[system.numbers]
    edge = np.where(
        bonded,
        reach * (radii[first] + radii[second]),
        nonbonded_reach * (contact[first] + contact[second]),
    ).astype(np.float32)
    if system.cell is not None and edge.max(initial=0.0) > (limit := largest_radius(system.cell)):
        raise ValueError(
            f"zbl: its reach of {edge.max():.2f} Å is more than half the distance between opposite faces of "
            f"the cell, {limit:.2f} Å; expected a smaller zbl.reach and zbl.nonbonded_reach, or a larger box"
        )
    decay = np.stack([b / length for _, b in _SCREENING]).astype(np.float32)  # [4, E]
    weight = np.array([c for c, _ in _SCREENING], np.float32)[:, None]

    def atomic_energies(positions: Array) -> Array:
        steps = positions[first] - positions[second]
        distances = safe_norm(steps if system.cell is None else nearest_image(steps, system.cell))
        # Kept off r = 0, where two coincident atoms would give 0/0 instead of a large energy.
        r = jnp.maximum(distances, 1e-3)
        screening = jnp.sum(weight * jnp.exp(-decay * r), axis=0)
        envelope = jnp.maximum(1.0 - (r / edge) ** 6, 0.0) ** 3
        pair = 0.5 * strength / r * screening * envelope
        return jnp.zeros(len(charges), positions.dtype).at[first].add(pair).at[second].add(pair)

    return atomic_energies
