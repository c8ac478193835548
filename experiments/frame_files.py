"""Readers for files of labelled frames.

A file's format is told by its content, not its name:

- rMD17 npz (Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018, 2020): keys
  `nuclear_charges`, `coords`, `energies`, `forces`, optionally `old_indices`; kcal/mol and Å;
- MD17 npz (Chmiela et al., Sci. Adv. 3, e1603015, 2017; sGDML's data sets): keys `z`, `R`, `E`, `F`;
  kcal/mol and Å unless the file's own `e_unit` and `r_unit` say otherwise;
- the package's npz: `numbers` and, for each of train, validation and test, `{split}_positions`,
  `{split}_energies`, `{split}_forces`; eV and Å;
- a folder in DeePMD-kit's layout, or one of several such (`deepmd_files`);
- HDF5 in SPICE's layout, or with the keys of MD17 or rMD17 (`hdf5_files`);
- whatever ASE reads, extended XYZ first; eV and Å, as ASE gives them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from experiments.deepmd_files import is_deepmd, read_deepmd
from experiments.frames import Frames, energy_scale, force_scale, length_scale, one_cell, split_units
from experiments.hdf5_files import is_hdf5, read_hdf5
from experiments.npz_files import labelled_frames, read_npz, with_indices


def read_frames(
    path: str | Path,
    *,
    units: str = "",
    label_names: str = "",
    labels: str = "",
    group: str = "",
    ignore_cell: bool = False,
    labelled: bool = True,
) -> Frames:
    """Reads one file of any format above; `check_frames` judges what it holds.

    The package's npz comes out as its three sections one after the other.

    Args:
      path: the file.
      units: of energy ('eV', 'kcal/mol', 'kJ/mol' or 'hartree'), length ('angstrom' or 'bohr') and forces
        (energy/length), with commas between: 'kcal/mol,angstrom,eV/angstrom'. The format's own for an energy
        or a length that is empty or left out, the ratio of the two for forces.
      label_names: of energy and forces in what ASE reads, 'REF_energy,REF_forces'; empty: 'energy,forces'.
      labels: 'original' for MD17's energies and forces, which rMD17's files carry as `old_energies` and
        `old_forces`; empty for the file's own.
      group: the molecule of an HDF5 file that holds several.
      ignore_cell: read frames that call themselves periodic as molecules in vacuum.
      labelled: False leaves the energies and forces of what ASE reads NaN, there or not.

    Returns:
      Frames in eV, Å, eV/Å.

    Raises:
      FileNotFoundError: no such file.
      ValueError: unknown format or unit, missing key, wrong shape, mixed molecules, a frame without labels,
        cells that differ, or frames that are periodic in some directions only.
    """
    path = Path(path)
    energy, length, force = split_units(units, f"{path}: units")
    if path.is_dir() and not is_deepmd(path):
        raise FileNotFoundError(
            f"{path}: a folder without type.raw, nor do those in it hold one; expected a file or DeePMD-kit's"
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if group and not is_hdf5(path):
        raise ValueError(f"{path}: group '{group}' is asked for, which only HDF5 files hold")
    if label_names and (path.is_dir() or zipfile.is_zipfile(path) or is_hdf5(path)):
        raise ValueError(
            f"{path}: label_names '{label_names}' are asked for, which only files have that ASE reads"
        )
    if labels and is_deepmd(path):
        raise ValueError(f"{path}: labels '{labels}' are asked for, which only rMD17's npz files hold")
    if is_deepmd(path):
        frames, energy_default, length_default = read_deepmd(path, ignore_cell=ignore_cell)
    elif zipfile.is_zipfile(path):
        frames, energy_default, length_default = read_npz(path, labels)
    elif path.suffix == ".npz":
        raise ValueError(f"{path}: not an npz file, though its name says so")
    elif labels:
        raise ValueError(f"{path}: labels '{labels}' are asked for, which only rMD17's npz files hold")
    elif is_hdf5(path):
        found = read_hdf5(path, group)
        frames = with_indices(path, labelled_frames(path, found.arrays, found.keys), found.arrays)
        energy_default, length_default = found.energy_unit, found.length_unit
        if not (energy or length):
            force = force or found.force_unit
    else:
        frames, energy_default, length_default = _read_ase(path, label_names, ignore_cell, labelled)
    energy, length = energy or energy_default, length or length_default
    energy_factor = energy_scale(energy, f"{path}: energy unit")
    length_factor = length_scale(length, f"{path}: length unit")
    force_factor = force_scale(force or f"{energy}/{length}", f"{path}: force unit")
    return frames._replace(
        positions=frames.positions * length_factor,
        energies=frames.energies * energy_factor,
        forces=frames.forces * force_factor,
        cell=None if frames.cell is None else frames.cell * length_factor,
    )


def _read_ase(path: Path, label_names: str, ignore_cell: bool, labelled: bool) -> tuple[Frames, str, str]:
    """Frames by way of ASE, in its units."""
    names = tuple(key.strip() for key in label_names.split(",")) if label_names else ("energy", "forces")
    if len(names) != 2 or not all(names):
        raise ValueError(
            f"{path}: label_names '{label_names}'; expected two names, such as REF_energy,REF_forces"
        )
    try:
        images = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's many readers have no common error for what they can not read
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
    nothing = (np.nan, np.full((len(numbers), 3), np.nan))
    labels = [_labels(path, row, atoms, names) if labelled else nothing for row, atoms in enumerate(images)]
    frames = Frames(
        numbers.astype(np.int64),
        np.stack([atoms.positions for atoms in images]).astype(np.float64),
        np.array([energy for energy, _ in labels], dtype=np.float64),
        np.stack([forces for _, forces in labels]).astype(np.float64),
        np.arange(len(images)),
        None if ignore_cell else _cell(path, images),
    )
    return frames, "eV", "angstrom"


def _cell(path: Path, images: list[Atoms]) -> NDArray[np.float64] | None:
    """The cell of all frames, None for molecules in vacuum."""
    periodic = np.array([atoms.pbc for atoms in images])
    if not periodic.any():
        return None
    if not periodic.all():
        row = int(np.argmin(periodic.all(axis=1)))
        raise ValueError(
            f"{path}: frame {row} has pbc {images[row].pbc.tolist()}; expected all frames periodic in all"
            " three directions, or none; dataset.ignore_cell=True reads molecules"
        )
    return one_cell(np.array([atoms.cell.array for atoms in images]), str(path))


def _labels(path: Path, row: int, atoms: Atoms, names: tuple[str, str]) -> tuple[float, NDArray]:
    """Energy and forces of one ASE frame, as they were stored: a constraint would set the forces of fixed
    atoms to zero, which no potential can fit."""
    found = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
    values = []
    for name, shape in zip(names, ((), atoms.positions.shape), strict=True):
        if name not in found:
            others = ", ".join(sorted(found.keys() - {"numbers", "positions"})) or "none"
            raise ValueError(
                f"{path}: frame {row} has no '{name}' (found: {others}); expected the names 'energy' and "
                "'forces', or those that dataset.label_names gives, such as REF_energy,REF_forces"
            )
        value = np.asarray(found[name])
        if not np.issubdtype(value.dtype, np.number) or value.shape != shape:
            raise ValueError(f"{path}: frame {row}: '{name}' is {found[name]!r}; expected numbers {shape}")
        values.append(value)
    return float(values[0]), values[1]
