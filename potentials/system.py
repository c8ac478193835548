"""The system a potential describes: atoms, masses, bonds, molecules, temperature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class System(NamedTuple):
    """What does not change while a molecule moves. NumPy arrays: static under `jax.jit`.

    Attributes:
      numbers: atomic numbers [N].
      masses: [N], amu.
      cell: [3, 3] in Å, rows are the lattice vectors, or None for a molecule in vacuum.
      bonds: [M, 2], i < j.
      bond_lengths: [M], Å, of the reference.
      molecules: molecule number of each atom [N].
      temperature: K.
    """

    numbers: NDArray[np.int64]
    masses: NDArray[np.float64]
    cell: NDArray[np.float64] | None
    bonds: NDArray[np.int64]
    bond_lengths: NDArray[np.float64]
    molecules: NDArray[np.int64]
    temperature: float


def make_system(
    numbers: ArrayLike,
    positions: ArrayLike,
    temperature: float,
    *,
    cell: ArrayLike | None = None,
    bond_tolerance: float = 1.2,
) -> System:
    """A system from atomic numbers and one reference geometry.

    Two atoms are bonded where their distance is below `bond_tolerance` times the sum of their
    covalent radii (ASE's natural cutoffs; Cordero et al., Dalton Trans. 2008, 2832).
    `bond_lengths` are those of this geometry.

    Args:
      numbers: [N].
      positions: a reference geometry [N, 3], Å; bonds are read off it.
      temperature: K.
      cell: [3, 3] in Å for a periodic box.
      bond_tolerance: factor on the sum of the radii.

    Raises:
      ValueError: shapes that do not fit, or a temperature that is not positive.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    positions = np.asarray(positions, dtype=np.float64)
    if numbers.ndim != 1 or positions.shape != (len(numbers), 3):
        raise ValueError(
            f"numbers have shape {numbers.shape} and positions {positions.shape}; expected [N] and [N, 3]"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature} K; expected a positive number")
    atoms = Atoms(numbers, positions, cell=cell, pbc=cell is not None)
    first, second, distances = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=bond_tolerance))
    once = first < second
    bonds, rows = np.unique(np.stack([first, second], axis=1)[once], axis=0, return_index=True)
    bonds = bonds.reshape(-1, 2)
    return System(
        numbers=numbers,
        masses=atoms.get_masses(),
        cell=None if cell is None else np.asarray(cell, dtype=np.float64),
        bonds=bonds.astype(np.int64),
        bond_lengths=distances[once][rows],
        molecules=_molecules(len(numbers), bonds),
        temperature=float(temperature),
    )


def with_bonds(system: System, bonds: NDArray[np.int64]) -> System:
    """The system with those of its bonds [M, 2] that are given, and the molecules that they make."""
    rows = {tuple(bond): row for row, bond in enumerate(system.bonds.tolist())}
    kept = [rows[bond] for bond in map(tuple, bonds.tolist()) if bond in rows]
    bonds = system.bonds[kept]
    molecules = _molecules(len(system.numbers), bonds)
    return system._replace(bonds=bonds, bond_lengths=system.bond_lengths[kept], molecules=molecules)


def _molecules(n_atoms: int, bonds: NDArray[np.int64]) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    return connected_components(graph, directed=False)[1].astype(np.int64)
