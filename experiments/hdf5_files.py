"""Reader for HDF5 files: SPICE's layout, and MD17's or rMD17's keys in HDF5.

SPICE (Eastman et al., Sci. Data 10, 11, 2023) keeps a group a molecule, with `atomic_numbers`,
`conformations`, `dft_total_energy` and `dft_total_gradient` (minus the forces) in hartree and bohr, and
says so in each array's attribute `units`. A file of one molecule may hold its arrays at the top.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Layout(NamedTuple):
    """Names of the arrays in the order numbers, positions, energies, forces."""

    keys: tuple[str, str, str, str]
    energy_unit: str  # where the file names none
    length_unit: str
    gradient: bool  # the last array is minus the forces


LAYOUTS = {
    "SPICE": Layout(
        ("atomic_numbers", "conformations", "dft_total_energy", "dft_total_gradient"), "hartree", "bohr", True
    ),
    "MD17": Layout(("z", "R", "E", "F"), "kcal/mol", "angstrom", False),
    "rMD17": Layout(("nuclear_charges", "coords", "energies", "forces"), "kcal/mol", "angstrom", False),
}


class Hdf5Frames(NamedTuple):
    """Arrays of one molecule under the file's own names, their order, and the file's units."""

    arrays: dict[str, NDArray]
    keys: tuple[str, ...]
    energy_unit: str
    length_unit: str


def is_hdf5(path: Path) -> bool:
    """By the content, not the name."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def read_hdf5(path: Path, group: str = "") -> Hdf5Frames:
    """Reads one molecule's arrays; gradients come out as forces.

    Args:
      path: the file.
      group: of the molecule; empty where the file has only one.

    Raises:
      ImportError: h5py is not installed.
      ValueError: no such group, several to choose from, a missing array, or units at odds.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path}: HDF5 needs h5py: pip install 'boltzfit[hdf5]'") from error
    try:
        with h5py.File(path, "r") as file:
            node = _group(path, file, group, h5py.Group)
            name, layout = _layout(path, node)
            arrays = {key: np.asarray(node[key]) for key in layout.keys}
            units = {key: _text(node[key].attrs.get("units", "")) for key in layout.keys}
    except OSError as error:
        raise ValueError(f"{path}: no readable HDF5 file ({error})") from error
    _, positions, energies, forces = layout.keys
    energy = units[energies] or layout.energy_unit
    length = units[positions] or layout.length_unit
    if units[forces] and units[forces] != f"{energy}/{length}":
        raise ValueError(
            f"{path}: {name} array '{forces}' is in {units[forces]}; expected {energy}/{length}, the units"
            " of the energies and positions"
        )
    if layout.gradient:
        arrays[forces] = -arrays[forces]
    return Hdf5Frames(arrays, layout.keys, energy, length)


def _group(path: Path, file: Any, group: str, kind: type) -> Any:
    groups = [name for name, node in file.items() if isinstance(node, kind)]
    if group:
        if group not in groups:
            raise ValueError(f"{path}: no group '{group}'; {_some(groups)}")
        return file[group]
    if len(groups) > 1:
        raise ValueError(f"{path}: several molecules; expected dataset.group to name one: {_some(groups)}")
    return file[groups[0]] if groups else file


def _some(groups: list[str]) -> str:
    shown = ", ".join(groups[:8]) or "none"
    return f"{len(groups)} there: {shown}{', …' if len(groups) > 8 else ''}"


def _layout(path: Path, node: Mapping[str, Any]) -> tuple[str, Layout]:
    found = {name: sum(key in node for key in layout.keys) for name, layout in LAYOUTS.items()}
    best = max(found, key=found.__getitem__)
    missing = [key for key in LAYOUTS[best].keys if key not in node]
    if not found[best] or missing:
        known = "; ".join(f"{name}: {', '.join(layout.keys)}" for name, layout in LAYOUTS.items())
        what = f"key '{missing[0]}' is missing" if found[best] else "of no known layout"
        raise ValueError(f"{path}: {what} (found: {', '.join(node) or 'none'}; expected {known})")
    return best, LAYOUTS[best]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
