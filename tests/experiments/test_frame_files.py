"""Readers of frame files: formats, units, and what they say of faulty files."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree

from experiments.frame_files import read_frames
from experiments.frames import Frames
from tests.experiments.harmonic_frames import (
    KCAL,
    NUMBERS,
    assert_same,
    harmonic,
    images,
    md17_arrays,
    package_arrays,
    rmd17_arrays,
    save,
)


def test_rmd17_keeps_old_indices(tmp_path):
    frames = harmonic(6)
    got = read_frames(save(tmp_path / "any.npz", rmd17_arrays(frames)))
    assert_same(got, frames)
    np.testing.assert_array_equal(got.indices, 7 * np.arange(6) + 3)


def test_the_labels_that_rmd17_had_as_md17(tmp_path):
    frames, others = harmonic(6), harmonic(6, seed=1)
    own, old = rmd17_arrays(frames), rmd17_arrays(others)
    both = own | {"old_energies": old["energies"], "old_forces": old["forces"]}
    path = save(tmp_path / "a.npz", both)
    assert_same(read_frames(path), frames)
    got = read_frames(path, labels="original")
    assert_same(got, frames._replace(energies=others.energies, forces=others.forces))
    np.testing.assert_array_equal(got.indices, 7 * np.arange(6) + 3)


@pytest.mark.parametrize(
    ("arrays", "labels", "match"),
    [
        (rmd17_arrays, "original", "key 'old_energies' is missing"),
        (md17_arrays, "original", "which only rMD17's npz files hold"),
        (rmd17_arrays, "old", "dataset.labels is 'old'; expected 'original'"),
    ],
)
def test_labels_that_are_not_there(tmp_path, arrays, labels, match):
    with pytest.raises(ValueError, match=match):
        read_frames(save(tmp_path / "a.npz", arrays(harmonic(3))), labels=labels)


def test_md17_and_its_own_units(tmp_path):
    frames = harmonic(6)
    got = read_frames(save(tmp_path / "a.npz", md17_arrays(frames)))
    assert_same(got, frames)
    np.testing.assert_array_equal(got.indices, np.arange(6))
    arrays = md17_arrays(frames) | {
        "R": frames.positions / Bohr,
        "E": frames.energies / Hartree,
        "F": frames.forces / (Hartree / Bohr),
        "e_unit": np.array(b"Ha"),
        "r_unit": np.array("bohr"),
    }
    # ASE's units are CODATA 2014: they differ from 2018's in the ninth digit.
    assert_same(read_frames(save(tmp_path / "b.npz", arrays)), frames, 1e-4)


def test_extxyz_and_traj(tmp_path):
    frames = harmonic(4)
    for name in ("frames.extxyz", "frames.traj"):
        ase.io.write(tmp_path / name, images(frames))
        assert_same(read_frames(tmp_path / name), frames, 1e-7)


def test_package_sections_follow_one_another(tmp_path):
    sections = [harmonic(n, seed=n) for n in (6, 3, 4)]
    got = read_frames(save(tmp_path / "p.npz", package_arrays(*sections)))
    expected = Frames(NUMBERS, *(np.concatenate([s[i] for s in sections]) for i in (1, 2, 3)), np.arange(13))
    assert_same(got, expected, 1e-5)
    np.testing.assert_array_equal(got.energies, expected.energies)


@pytest.mark.parametrize(
    ("units", "energy", "length", "force"),
    [
        ("eV", 1.0, 1.0, 1.0),
        ("hartree,bohr", 27.2113862, 0.529177211, 51.4220675),
        (",,eV/angstrom", 1 / KCAL, 1.0, 1.0),
        (",,kcal/mol/bohr", 1 / KCAL, 1.0, 1 / KCAL / 0.529177211),
        ("kJ/mol,,", 0.0103642697, 1.0, 0.0103642697),
    ],
)
def test_units_override_the_format(tmp_path, units, energy, length, force):
    frames = harmonic(3)
    arrays = md17_arrays(frames)
    got = read_frames(save(tmp_path / "a.npz", arrays), units=units)
    np.testing.assert_allclose(got.energies, arrays["E"][:, 0] * energy, rtol=1e-8)
    np.testing.assert_allclose(got.positions, arrays["R"] * length, rtol=1e-8)
    np.testing.assert_allclose(got.forces, arrays["F"] * force, rtol=1e-8)


@pytest.mark.parametrize(
    ("units", "match"),
    [
        ("erg", r"a\.npz: energy unit 'erg' is unknown; expected one of eV, kcal/mol"),
        (", nm", r"a\.npz: length unit 'nm' is unknown; expected one of angstrom, bohr"),
        (",,eV", r"a\.npz: force unit 'eV' is not energy/length"),
        (",,eV/nm", r"a\.npz: force unit 'nm'"),
        ("eV,angstrom,eV/angstrom,fs", r"a\.npz: units .* are 4; expected no more than energy,length,force"),
    ],
)
def test_unknown_units(tmp_path, units, match):
    with pytest.raises(ValueError, match=match):
        read_frames(save(tmp_path / "a.npz", md17_arrays(harmonic(3))), units=units)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda a: a | {"energy": a.pop("energies")},
            r"'energies' is missing; is it called 'energy'\?.*expected: nuc",
        ),
        (lambda a: a | {"Coords": a.pop("coords")}, r"'coords' is missing; is it called 'Coords'\?"),
        (lambda a: (a.pop("forces"), a)[1], r"'forces' is missing \(found: coords, energies, nuclear"),
        (
            lambda a: a | {"coords": a["coords"][0]},
            r"'coords' has shape \(3, 3\), expected \(frames, atoms, 3\)",
        ),
        (
            lambda a: a | {"forces": a["forces"][:, :2]},
            r"'forces' has shape \(6, 2, 3\), expected \(6, 3, 3\)",
        ),
        (lambda a: a | {"energies": a["energies"][:4]}, r"'energies' has shape \(4,\), expected \(6,\)"),
        (
            lambda a: a | {"nuclear_charges": NUMBERS[:2]},
            r"'nuclear_charges' has shape \(2,\), expected \(3,\)",
        ),
        (lambda a: a | {"old_indices": np.arange(5)}, r"'old_indices' has shape \(5,\), expected \(6,\)"),
        (lambda a: a | {"energies": a["energies"].astype(str)}, r"'energies' holds <U.*expected numbers"),
        (lambda a: a | {"energies": a["energies"].astype(object)}, r"'energies' can not be read"),
        (lambda a: {"foo": a["coords"]}, r"keys foo are of no known format"),
        (
            lambda a: a | {"nuclear_charges": np.array([[8, 1, 1]] * 4 + [[1, 8, 1]] * 2)},
            r"'nuclear_charges': frame 4 is another molecule than frame 0",
        ),
    ],
)
def test_faults_of_an_npz(tmp_path, change, match):
    path = save(tmp_path / "bad.npz", change(rmd17_arrays(harmonic(6))))
    with pytest.raises(ValueError, match=r"bad\.npz: .*" + match) as caught:
        read_frames(path)
    assert "\n" not in str(caught.value)


def test_misspelt_md17_and_package_keys(tmp_path):
    arrays = md17_arrays(harmonic(3))
    arrays["e"] = arrays.pop("E")
    with pytest.raises(ValueError, match=r"key 'E' is missing; is it called 'e'\?"):
        read_frames(save(tmp_path / "m.npz", arrays))
    arrays = package_arrays(*(harmonic(3),) * 3)
    arrays["valid_forces"] = arrays.pop("validation_forces")
    with pytest.raises(
        ValueError, match=r"key 'validation_forces' is missing; is it called 'valid_forces'\?"
    ):
        read_frames(save(tmp_path / "p.npz", arrays))


def test_same_numbers_in_every_frame_are_one_molecule(tmp_path):
    frames = harmonic(6)
    arrays = rmd17_arrays(frames) | {"nuclear_charges": np.tile(NUMBERS, (6, 1))}
    assert_same(read_frames(save(tmp_path / "a.npz", arrays)), frames)


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz: no such file"):
        read_frames(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.npz: not an npz file"):
        read_frames(tmp_path / "text.npz")
    for name in ("notes.foo", "notes.extxyz", "notes.traj"):
        (tmp_path / name).write_text("a line\nanother\n")
        with pytest.raises(ValueError, match=rf"{name}: ASE can not read it") as caught:
            read_frames(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_extxyz_without_labels(tmp_path):
    frames = images(harmonic(3))
    frames[1].calc = None
    frames[1].info["dft_energy"] = -1.0
    ase.io.write(tmp_path / "e.extxyz", frames)
    with pytest.raises(
        ValueError, match=r"e\.extxyz: frame 1 has no 'energy' \(found: dft_energy\); expected"
    ):
        read_frames(tmp_path / "e.extxyz")
    frames[1].calc = SinglePointCalculator(frames[1], energy=1.0)
    ase.io.write(tmp_path / "f.extxyz", frames)
    with pytest.raises(ValueError, match=r"f\.extxyz: frame 1 has no 'forces'"):
        read_frames(tmp_path / "f.extxyz")


def test_extxyz_of_two_molecules(tmp_path):
    frames = images(harmonic(3))
    frames[2].numbers[:] = [1, 1, 8]
    ase.io.write(tmp_path / "m.extxyz", frames)
    with pytest.raises(ValueError, match=r"m\.extxyz: frame 2 is another molecule"):
        read_frames(tmp_path / "m.extxyz")


def boxed(frames, cell=(20, 21, 22)):
    for atoms in frames:
        atoms.set_cell(cell)
        atoms.pbc = True
    return frames


def test_periodic_extxyz(tmp_path):
    ase.io.write(tmp_path / "b.extxyz", boxed(images(harmonic(3))))
    found = read_frames(tmp_path / "b.extxyz", units=",bohr,eV/angstrom")
    np.testing.assert_allclose(found.cell, np.diag([20, 21, 22]) * 0.529177210903)
    assert found.take(np.array([1])).cell is found.cell
    assert read_frames(tmp_path / "b.extxyz", ignore_cell=True).cell is None
    assert read_frames(write_extxyz(tmp_path)).cell is None


def write_extxyz(folder):
    ase.io.write(folder / "vacuum.extxyz", images(harmonic(3)))
    return folder / "vacuum.extxyz"


def test_cells_that_change_and_slabs_are_refused(tmp_path):
    frames = boxed(images(harmonic(3)))
    frames[2].set_cell([20, 21, 22.5])
    ase.io.write(tmp_path / "npt.extxyz", frames)
    with pytest.raises(ValueError, match=r"npt\.extxyz: frame 2 has another cell .* constant volume"):
        read_frames(tmp_path / "npt.extxyz")
    assert read_frames(tmp_path / "npt.extxyz", ignore_cell=True).cell is None
    slab = boxed(images(harmonic(3)))
    slab[1].pbc = (True, True, False)
    ase.io.write(tmp_path / "slab.extxyz", slab)
    with pytest.raises(ValueError, match=r"slab\.extxyz: frame 1 has pbc \[True, True, False\]"):
        read_frames(tmp_path / "slab.extxyz")
    assert read_frames(tmp_path / "slab.extxyz", ignore_cell=True).cell is None
