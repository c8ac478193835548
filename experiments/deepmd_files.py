"""The folders of frames that DeePMD-kit trains on: one composition, one or more sets of arrays.

`type.raw` gives each atom's kind, `type_map.raw` the kinds' symbols, and each `set.*` folder holds
`coord.npy` [F, 3N], `force.npy` [F, 3N], `energy.npy` [F] and `box.npy` [F, 9]; eV and Å. A file `nopbc`
marks molecules in vacuum. Zeng et al., J. Chem. Phys. 159, 054801 (2023). A folder of such folders, of the
same atoms, is read as one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from experiments.frames import Frames, one_cell


def is_deepmd(path: Path) -> bool:
    """Whether this is such a folder, or holds some."""
    return bool(_systems(path))


def _systems(path: Path) -> list[Path]:
    """The folder, if it holds frames itself, or those in it that do."""
    if (path / "type.raw").is_file():
        return [path]
    return [file.parent for file in sorted(path.glob("*/type.raw")) if file.is_file()]


def read_deepmd(path: Path, *, ignore_cell: bool = False) -> tuple[Frames, str, str]:
    """The frames of all sets of all systems, in the order of their names, and the units.

    Args:
      path: the folder, of a system or of systems.
      ignore_cell: read molecules in vacuum.

    Raises:
      ValueError: a file is missing or has another shape, an unknown symbol, systems of other atoms or
        partly without a cell, or cells that differ.
    """
    systems = _systems(path)
    numbers = _numbers(systems[0])
    in_vacuum = _in_vacuum(systems[0])
    sets = []
    for system in systems:
        if not np.array_equal(_numbers(system), numbers):
            raise ValueError(f"{system}: other atoms, or in another order, than in {systems[0]}")
        if _in_vacuum(system) != in_vacuum:
            raise ValueError(f"{path}: some of its systems are marked 'nopbc' and some are not")
        sets += _read_sets(system, len(numbers), periodic=not (ignore_cell or in_vacuum))
    positions, forces, energies, boxes = (np.concatenate(arrays) for arrays in zip(*sets, strict=True))
    frames = Frames(
        numbers, positions, energies, forces, np.arange(len(energies)), one_cell(boxes, str(path))
    )
    return frames, "eV", "angstrom"


def _in_vacuum(system: Path) -> bool:
    return (system / "nopbc").exists()


def _read_sets(system: Path, n_atoms: int, *, periodic: bool) -> list[tuple[NDArray[np.float64], ...]]:
    folders = sorted(folder for folder in system.glob("set.*") if folder.is_dir())
    if not folders:
        raise ValueError(f"{system}: holds no folder 'set.*' of frames")
    for folder in folders:
        if (folder / "real_atom_types.npy").exists():
            raise ValueError(f"{folder}: of mixed types, frames of other molecules; expected one composition")
    return [_read_set(folder, n_atoms, periodic=periodic) for folder in folders]


def _numbers(path: Path) -> NDArray[np.int64]:
    if not (path / "type_map.raw").is_file():
        raise ValueError(f"{path}: 'type_map.raw' is missing; expected the symbols of the kinds in type.raw")
    symbols = (path / "type_map.raw").read_text(encoding="utf-8").split()
    try:
        kinds = np.loadtxt(path / "type.raw", dtype=np.int64, ndmin=1)
    except ValueError as error:
        raise ValueError(f"{path / 'type.raw'}: expected a kind, 0 or more, an atom ({error})") from error
    if not len(kinds) or kinds.min() < 0 or kinds.max() >= len(symbols):
        raise ValueError(f"{path / 'type.raw'}: expected kinds from 0 to {len(symbols) - 1}, one an atom")
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers]
    if unknown:
        raise ValueError(f"{path / 'type_map.raw'}: '{unknown[0]}' is no element's symbol")
    return np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)[kinds]


def _read_set(folder: Path, n_atoms: int, *, periodic: bool) -> tuple[NDArray[np.float64], ...]:
    energies = _array(folder, "energy").reshape(-1)
    count = len(energies)
    positions, forces = (
        _shaped(folder, name, _array(folder, name), (count, n_atoms, 3)) for name in ("coord", "force")
    )
    if not periodic:
        return positions, forces, energies, np.zeros((0, 3, 3))
    return positions, forces, energies, _shaped(folder, "box", _array(folder, "box"), (count, 3, 3))


def _array(folder: Path, name: str) -> NDArray[np.float64]:
    file = folder / f"{name}.npy"
    if not file.is_file():
        raise ValueError(f"{folder}: '{name}.npy' is missing; expected coord, force, energy and box")
    try:
        return np.load(file, allow_pickle=False).astype(np.float64)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file}: no readable array of numbers ({error})") from error


def _shaped(folder: Path, name: str, array: NDArray, shape: tuple[int, ...]) -> NDArray:
    if array.size != np.prod(shape) or (array.ndim and len(array) != shape[0]):
        flat = (shape[0], int(np.prod(shape[1:])))
        raise ValueError(f"{folder / name}.npy has shape {array.shape}, expected {flat}")
    return array.reshape(shape)
