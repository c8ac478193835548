"""Labelled frames of one molecule or box, and the units they may come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from potentials.units import KCAL_PER_MOL

# Hartree and bohr: CODATA 2018.
ENERGY_UNITS = {
    "eV": 1.0,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KCAL_PER_MOL / 4.184,
    "hartree": 27.211386245988,
}
LENGTH_UNITS = {"angstrom": 1.0, "bohr": 0.529177210903}
# Other spellings, in lower case; sGDML writes 'Ang' and 'Ha'.
_SPELLINGS = {"ang": "angstrom", "å": "angstrom", "ha": "hartree"}


CELL_TOLERANCE = 1e-4  # Å, between the cells of frames of one box


# Arrays of two npz formats, which HDF5 files may hold too: numbers, positions, energies, forces.
RMD17_KEYS = ("nuclear_charges", "coords", "energies", "forces")
MD17_KEYS = ("z", "R", "E", "F")


class Frames(NamedTuple):
    """Frames of one molecule in vacuum or of one periodic box, with labels."""

    numbers: NDArray[np.int64]  # [N] atomic numbers
    positions: NDArray[np.float64]  # [F, N, 3] Å
    energies: NDArray[np.float64]  # [F] eV, absolute as in the file
    forces: NDArray[np.float64]  # [F, N, 3] eV/Å
    indices: NDArray[np.int64]  # [F] frame number in the file; for rMD17 its `old_indices`
    cell: NDArray[np.float64] | None = None  # [3, 3] Å, rows are the lattice vectors; of every frame

    def take(self, rows: NDArray[np.integer]) -> Frames:
        """The frames in these rows, in this order."""
        fields = (self.positions, self.energies, self.forces, self.indices)
        return Frames(self.numbers, *(field[rows] for field in fields), cell=self.cell)

    def nearest(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Vectors [..., 3] (Å) between atoms, in a box to the nearest image."""
        if self.cell is None:
            return steps
        return steps - np.round(steps @ np.linalg.inv(self.cell)) @ self.cell


def one_cell(cells: NDArray[np.float64], source: str) -> NDArray[np.float64] | None:
    """The cell [3, 3] (Å) of all frames, from those of each [F, 3, 3]; None where there are none.

    Raises:
      ValueError, beginning with `source`: they differ.
    """
    if not len(cells):
        return None
    others = np.flatnonzero(np.abs(cells - cells[0]).max(axis=(1, 2)) > CELL_TOLERANCE)
    if len(others):
        raise ValueError(
            f"{source}: frame {others[0]} has another cell than frame 0; expected one cell, of dynamics at"
            " constant volume; dataset.ignore_cell=True reads molecules"
        )
    return np.asarray(cells[0], np.float64)


def same_cell(one: NDArray[np.float64] | None, other: NDArray[np.float64] | None) -> bool:
    """Whether two cells are one, or both None."""
    if one is None or other is None:
        return one is None and other is None
    return bool(np.abs(one - other).max() <= CELL_TOLERANCE)


def join(parts: Sequence[Frames]) -> Frames:
    """The frames of several files of one system, one after the other; where files number theirs alike, each
    from 0, those of the later ones count on."""
    numbers = np.concatenate([part.indices for part in parts])
    if len(np.unique(numbers)) < len(numbers):
        ends = np.cumsum([0, *(part.indices.max(initial=-1) + 1 for part in parts)])
        moved = zip(parts, ends[:-1], strict=True)
        parts = [part._replace(indices=part.indices + end) for part, end in moved]
    names = ("positions", "energies", "forces", "indices")
    fields = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return Frames(parts[0].numbers, *fields, cell=parts[0].cell)


class Splits(NamedTuple):
    """Three disjoint sets of frames of one molecule."""

    train: Frames
    validation: Frames
    test: Frames


def split_units(units: str, what: str) -> tuple[str, str, str]:
    """The units of energy, length and forces in 'energy,length,force'; empty where they are left out.

    Raises:
      ValueError, beginning with `what`: there are more than three.
    """
    parts = [part.strip() for part in units.split(",")]
    if len(parts) > 3:
        raise ValueError(f"{what} '{units}' are {len(parts)}; expected no more than energy,length,force")
    energy, length, force = [*parts, "", ""][:3]
    return energy, length, force


def energy_scale(unit: str, what: str) -> float:
    """One `unit` of energy in eV; ValueError, beginning with `what`, if it is unknown."""
    return _scale(unit, ENERGY_UNITS, what)


def length_scale(unit: str, what: str) -> float:
    """One `unit` of length in Å; ValueError, beginning with `what`, if it is unknown."""
    return _scale(unit, LENGTH_UNITS, what)


def force_scale(unit: str, what: str) -> float:
    """One `unit` of force, energy/length, in eV/Å; ValueError, beginning with `what`, if it is unknown."""
    # The energy may hold a slash itself: kcal/mol/angstrom.
    energy, slash, length = unit.rpartition("/")
    if not slash:
        raise ValueError(f"{what} '{unit}' is not energy/length, such as 'eV/angstrom' or 'hartree/bohr'")
    return energy_scale(energy, what) / length_scale(length, what)


def _scale(unit: str, known: Mapping[str, float], what: str) -> float:
    """What one `unit` is in eV or Å."""
    folded = {name.lower(): value for name, value in known.items()}
    name = unit.strip().lower()
    name = _SPELLINGS.get(name, name)
    if name not in folded:
        raise ValueError(f"{what} '{unit}' is unknown; expected one of {', '.join(known)}")
    return folded[name]
