"""Readers for files of labelled frames.

A file's format is told by its content, not its name:

- rMD17 npz (Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018, 2020): keys
  `nuclear_charges`, `coords`, `energies`, `forces`, optionally `old_indices`; kcal/mol and Å;
- MD17 npz (Chmiela et al., Sci. Adv. 3, e1603015, 2017; sGDML's data sets): keys `z`, `R`, `E`, `F`;
  kcal/mol and Å unless the file's own `e_unit` and `r_unit` say otherwise;
- the package's npz: `numbers` and, for each of train, validation and test, `{split}_positions`,
  `{split}_energies`, `{split}_forces`; eV and Å;
- HDF5 in SPICE's layout, or with the keys of MD17 or rMD17 (`hdf5_files`);
- whatever ASE reads, extended XYZ first; eV and Å, as ASE gives them.
"""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.io
import numpy as np
from absl import logging
from ase import Atoms
from ase.io.formats import UnknownFileTypeError
from numpy.typing import NDArray

from experiments.frames import (
    MD17_KEYS,
    RMD17_KEYS,
    Frames,
    energy_scale,
    force_scale,
    length_scale,
)
from experiments.hdf5_files import is_hdf5, read_hdf5

SECTIONS = ("train", "validation", "test")
# The keys of each npz format in the order numbers, positions, energies, forces.
_ORIGINAL_KEYS = ("nuclear_charges", "coords", "old_energies", "old_forces")
_PACKAGE_KEYS = ("numbers", *(f"{s}_{k}" for s in SECTIONS for k in ("positions", "energies", "forces")))
# What ASE's many readers raise on files that are not theirs.
_ASE_ERRORS = (UnknownFileTypeError, ValueError, LookupError, OSError, StopIteration, RuntimeError)
_NPZ_FORMATS = {"rMD17": RMD17_KEYS, "MD17": MD17_KEYS, "boltzfit": _PACKAGE_KEYS}


def read_frames(
    path: str | Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    force_unit: str | None = None,
    labels: str = "",
    group: str = "",
) -> Frames:
    """Reads one file of any format above; `check_frames` judges what it holds.

    The package's npz comes out as its three sections one after the other. A cell is ignored: the frames
    are read as isolated molecules, with a logged warning where the file calls them periodic.

    Args:
      path: the file.
      energy_unit: 'eV', 'kcal/mol', 'kJ/mol' or 'hartree'; empty or None for the format's own.
      length_unit: 'angstrom' or 'bohr'; empty or None for the format's own.
      force_unit: energy/length, such as 'kcal/mol/angstrom'; empty or None for the ratio of the two above.
      labels: 'original' for MD17's energies and forces, which rMD17's files carry as `old_energies` and
        `old_forces`; empty for the file's own.
      group: the molecule of an HDF5 file that holds several.

    Returns:
      Frames in eV, Å, eV/Å.

    Raises:
      FileNotFoundError: no such file.
      ValueError: unknown format or unit, missing key, wrong shape, mixed molecules, a frame without labels.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if group and not is_hdf5(path):
        raise ValueError(f"{path}: group '{group}' is asked for, which only HDF5 files hold")
    if zipfile.is_zipfile(path):
        frames, energy_default, length_default = _read_npz(path, labels)
    elif path.suffix == ".npz":
        raise ValueError(f"{path}: not an npz file, though its name says so")
    elif labels:
        raise ValueError(f"{path}: labels '{labels}' are asked for, which only rMD17's npz files hold")
    elif is_hdf5(path):
        found = read_hdf5(path, group)
        frames = _with_indices(path, _frames(path, found.arrays, found.keys), found.arrays)
        energy_default, length_default = found.energy_unit, found.length_unit
        if not (energy_unit or length_unit):
            force_unit = force_unit or found.force_unit
    else:
        frames, energy_default, length_default = _read_ase(path)
    energy = energy_unit or energy_default
    length = length_unit or length_default
    energy_factor = energy_scale(energy, f"{path}: energy unit")
    length_factor = length_scale(length, f"{path}: length unit")
    force_factor = force_scale(force_unit or f"{energy}/{length}", f"{path}: force unit")
    return frames._replace(
        positions=frames.positions * length_factor,
        energies=frames.energies * energy_factor,
        forces=frames.forces * force_factor,
    )


def section_sizes(path: str | Path) -> tuple[int, int, int] | None:
    """Frames in train, validation and test of the package's npz; None for any other file."""
    if not zipfile.is_zipfile(path):
        return None
    with np.load(path, allow_pickle=False) as data:
        if not set(_PACKAGE_KEYS) <= set(data.files):
            return None
        train, validation, test = (len(data[f"{section}_energies"]) for section in SECTIONS)
        return train, validation, test


def read_arrays(path: Path, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray]:
    """Arrays of an npz file by key, those `optional` ones among them that it has.

    Raises:
      ValueError: a key is missing (the message names what comes nearest), or not a plain array.
    """
    arrays = {}
    with np.load(path, allow_pickle=False) as data:
        for key in (*keys, *optional):
            if key in data.files:
                try:
                    arrays[key] = data[key]
                except ValueError as error:
                    raise ValueError(f"{path}: key '{key}' can not be read: {error}") from error
            elif key in keys:
                nearest = _nearest(key, data.files)
                hint = f"; is it called '{nearest}'?" if nearest else ""
                found = ", ".join(sorted(data.files)) or "none"
                raise ValueError(
                    f"{path}: key '{key}' is missing{hint} (found: {found}; expected: {', '.join(keys)})"
                )
    return arrays


def _nearest(key: str, found: Sequence[str]) -> str | None:
    """The found key that is spelt most like this one, case aside."""
    folded = {name.lower(): name for name in found}
    close = difflib.get_close_matches(key.lower(), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def _npz_format(path: Path) -> tuple[str, ...]:
    """The keys of the npz format that the file's keys fit best."""
    with np.load(path, allow_pickle=False) as data:
        found = data.files

    def likeness(keys: tuple[str, ...]) -> float:
        return sum(1.0 if key in found else 0.5 * bool(_nearest(key, found)) for key in keys) / len(keys)

    best = max(_NPZ_FORMATS.values(), key=likeness)
    if likeness(best) == 0:
        formats = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in _NPZ_FORMATS.items())
        raise ValueError(f"{path}: keys {', '.join(found) or 'none'} are of no known format ({formats})")
    return best


def _read_npz(path: Path, labels: str) -> tuple[Frames, str, str]:
    """Frames in the file's own units, and these units."""
    keys = _npz_format(path)
    if labels not in ("", "original"):
        raise ValueError(f"dataset.labels is '{labels}'; expected 'original' or an empty string")
    if labels and keys != RMD17_KEYS:
        raise ValueError(f"{path}: labels '{labels}' are asked for, which only rMD17's npz files hold")
    if labels:
        keys = _ORIGINAL_KEYS
    arrays = read_arrays(path, keys, optional=("old_indices", "e_unit", "r_unit"))
    if keys == _PACKAGE_KEYS:
        sections = [
            _frames(path, arrays, ("numbers", f"{s}_positions", f"{s}_energies", f"{s}_forces"))
            for s in SECTIONS
        ]
        joined = [np.concatenate([section[field] for section in sections]) for field in (1, 2, 3)]
        return Frames(sections[0].numbers, *joined, indices=np.arange(len(joined[1]))), "eV", "angstrom"
    frames = _frames(path, arrays, keys)
    if keys in (RMD17_KEYS, _ORIGINAL_KEYS):
        return _with_indices(path, frames, arrays), "kcal/mol", "angstrom"
    return frames, _text(arrays.get("e_unit"), "kcal/mol"), _text(arrays.get("r_unit"), "angstrom")


def _with_indices(path: Path, frames: Frames, arrays: Mapping[str, NDArray]) -> Frames:
    """The frames with rMD17's `old_indices`, where they are there, for the rows of the file."""
    if "old_indices" not in arrays:
        return frames
    _require_shape(path, "old_indices", arrays["old_indices"], frames.energies.shape)
    return frames._replace(indices=arrays["old_indices"].astype(np.int64))


def _text(value: NDArray | None, default: str) -> str:
    """A string stored in an npz; sGDML stores bytes."""
    if value is None:
        return default
    item = value.item()
    return item.decode() if isinstance(item, bytes) else str(item)


def _require_shape(path: Path, key: str, array: NDArray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{path}: key '{key}' has shape {array.shape}, expected {expected}")


def _frames(path: Path, arrays: Mapping[str, NDArray], keys: tuple[str, ...]) -> Frames:
    """Frames from four arrays whose shapes and types are checked here, with the file's own key names."""
    for key in keys:
        if not np.issubdtype(arrays[key].dtype, np.number):
            raise ValueError(f"{path}: key '{key}' holds {arrays[key].dtype}, expected numbers")
    numbers, positions, energies, forces = (arrays[key] for key in keys)
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise ValueError(f"{path}: key '{keys[1]}' has shape {positions.shape}, expected (frames, atoms, 3)")
    count, atoms = positions.shape[:2]
    if numbers.ndim == 2 and len(numbers) == count > 0:
        differing = np.flatnonzero(np.any(numbers != numbers[0], axis=1))
        if differing.size:
            raise ValueError(
                f"{path}: key '{keys[0]}': frame {differing[0]} is another molecule than frame 0;"
                " expected the same atomic numbers in every frame"
            )
        numbers = numbers[0]
    _require_shape(path, keys[0], numbers, (atoms,))
    if energies.shape == (count, 1):
        energies = energies[:, 0]
    _require_shape(path, keys[2], energies, (count,))
    _require_shape(path, keys[3], forces, (count, atoms, 3))
    return Frames(
        numbers.astype(np.int64),
        positions.astype(np.float64),
        energies.astype(np.float64),
        forces.astype(np.float64),
        np.arange(count),
    )


def _read_ase(path: Path) -> tuple[Frames, str, str]:
    """Frames by way of ASE, in its units."""
    try:
        images = ase.io.read(path, index=":")
    except _ASE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path}: ASE can not read it ({reason}); expected npz, extxyz or a trajectory"
        ) from error
    if not images:
        raise ValueError(f"{path}: holds no frames")
    numbers = images[0].numbers
    for row, atoms in enumerate(images):
        if not np.array_equal(atoms.numbers, numbers):
            raise ValueError(
                f"{path}: frame {row} is another molecule ({atoms.get_chemical_formula()}) than frame 0"
                f" ({images[0].get_chemical_formula()}), or its atoms come in another order"
            )
    if any(atoms.pbc.any() for atoms in images):
        logging.warning("%s: calls itself periodic; read as isolated molecules, its cell ignored", path)
    labels = [_labels(path, row, atoms) for row, atoms in enumerate(images)]
    frames = Frames(
        numbers.astype(np.int64),
        np.stack([atoms.positions for atoms in images]).astype(np.float64),
        np.array([energy for energy, _ in labels], dtype=np.float64),
        np.stack([forces for _, forces in labels]).astype(np.float64),
        np.arange(len(images)),
    )
    return frames, "eV", "angstrom"


def _labels(path: Path, row: int, atoms: Atoms) -> tuple[float, NDArray]:
    """Energy and forces of one ASE frame."""
    present = () if atoms.calc is None else atoms.calc.results
    for key in ("energy", "forces"):
        if key not in present:
            others = sorted({*present, *atoms.info, *atoms.arrays} - {"numbers", "positions"})
            raise ValueError(
                f"{path}: frame {row} has no '{key}' (found: {', '.join(others) or 'none'});"
                " expected the extxyz names 'energy' and 'forces'"
            )
    # A constraint would set the forces of fixed atoms to zero, which no potential can fit.
    return atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
