"""Labelled frames of one molecule, and the units they may come in."""

from __future__ import annotations

from collections.abc import Mapping
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


# Arrays of two npz formats, which HDF5 files may hold too: numbers, positions, energies, forces.
RMD17_KEYS = ("nuclear_charges", "coords", "energies", "forces")
MD17_KEYS = ("z", "R", "E", "F")


class Frames(NamedTuple):
    """Frames of one molecule, with labels."""

    numbers: NDArray[np.int64]  # [N] atomic numbers
    positions: NDArray[np.float64]  # [F, N, 3] Å
    energies: NDArray[np.float64]  # [F] eV, absolute as in the file
    forces: NDArray[np.float64]  # [F, N, 3] eV/Å
    indices: NDArray[np.int64]  # [F] frame number in the file; for rMD17 its `old_indices`

    def take(self, rows: NDArray[np.integer]) -> Frames:
        """The frames in these rows, in this order."""
        return Frames(self.numbers, *(field[rows] for field in self[1:]))


class Splits(NamedTuple):
    """Three disjoint sets of frames of one molecule."""

    train: Frames
    validation: Frames
    test: Frames


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
