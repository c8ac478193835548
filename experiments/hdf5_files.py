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

from experiments.frames import MD17_KEYS, RMD17_KEYS

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
    "MD17": Layout(MD17_KEYS, "kcal/mol", "angstrom", False),
    "rMD17": Layout(RMD17_KEYS, "kcal/mol", "angstrom", False),
}
_OPTIONAL = "old_indices"
# What h5py raises on damaged files.
_UNREADABLE = (OSError, KeyError, RuntimeError, TypeError, AttributeError)


class Hdf5Frames(NamedTuple):
    """Arrays of one molecule under the file's own names, `old_indices` among them where it is there; the
    names of the four in their order, and the file's units."""

    arrays: dict[str, NDArray]
    keys: tuple[str, str, str, str]
    energy_unit: str
    length_unit: str
    force_unit: str


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
      ValueError: no such group, several to choose from, a missing array, or a damaged file.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path}: HDF5 needs h5py: pip install 'boltzfit[hdf5]'") from error
    try:
        with h5py.File(path, "r") as file:
            groups = [name for name, node in file.items() if isinstance(node, h5py.Group)]
            node = file if not group and _layout(file) else _molecule(path, file, groups, group)
            name = _layout(node)
            if not name:
                raise ValueError(f"{path}: {_missing(node)}")
            layout = LAYOUTS[name]
            names = [*layout.keys, *({_OPTIONAL} & set(node))]
            arrays = {key: np.asarray(node[key][()]) for key in names}
            if layout.gradient:
                arrays[layout.keys[3]] = -arrays[layout.keys[3]]
            units = [_text(node[key].attrs.get("units", "")) for key in layout.keys]
    except _UNREADABLE as error:
        raise ValueError(f"{path}: no readable HDF5 file ({error})") from error
    _, length, energy, force = units
    energy, length = energy or layout.energy_unit, length or layout.length_unit
    return Hdf5Frames(arrays, layout.keys, energy, length, force or f"{energy}/{length}")


def _layout(node: Mapping[str, Any]) -> str:
    """The layout all of whose arrays are there; empty for none."""
    return next((name for name, layout in LAYOUTS.items() if set(layout.keys) <= set(node)), "")


def _molecule(path: Path, file: Mapping[str, Any], groups: list[str], group: str) -> Mapping[str, Any]:
    """The group asked for, or the only one."""
    if group and group not in groups:
        raise ValueError(f"{path}: no group '{group}'; {_some(groups)}")
    if not group and len(groups) > 1:
        raise ValueError(f"{path}: several molecules; expected dataset.group to name one: {_some(groups)}")
    return file[group or groups[0]] if groups else file


def _some(groups: list[str]) -> str:
    shown = ", ".join(groups[:8]) or "none"
    return f"{len(groups)} there: {shown}{', …' if len(groups) > 8 else ''}"


def _missing(node: Mapping[str, Any]) -> str:
    """What lacks of the layout that comes nearest."""
    best = max(LAYOUTS, key=lambda name: sum(key in node for key in LAYOUTS[name].keys))
    lacking = [key for key in LAYOUTS[best].keys if key not in node]
    known = "; ".join(f"{name}: {', '.join(layout.keys)}" for name, layout in LAYOUTS.items())
    what = f"key '{lacking[0]}' is missing" if len(lacking) < 4 else "of no known layout"
    return f"{what} (found: {', '.join(node) or 'none'}; expected {known})"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
