"""Properties of the readers and the units: what is written comes back, whatever it was."""

import tempfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.data import chemical_symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experiments.frame_files import read_frames
from experiments.frames import (
    ENERGY_UNITS,
    LENGTH_UNITS,
    Frames,
    energy_scale,
    force_scale,
    length_scale,
)
from tests.experiments.harmonic_frames import images, md17_arrays, rmd17_arrays, save

KCAL = 23.060547830619026  # per eV, independent of the code's own table
UNITS = st.sampled_from(sorted(ENERGY_UNITS)), st.sampled_from(sorted(LENGTH_UNITS))


@st.composite
def frames(draw):
    """Frames of any molecule, of any finite numbers that eight digits can hold."""
    count, atoms = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    numbers = draw(arrays(np.int64, atoms, elements=st.integers(1, 94)))
    values = st.floats(-1e3, 1e3).map(lambda x: round(x, 8))
    positions, forces = (draw(arrays(np.float64, (count, atoms, 3), elements=values)) for _ in range(2))
    energies = draw(arrays(np.float64, count, elements=st.floats(-1e5, 1e5).map(lambda x: round(x, 6))))
    return Frames(numbers, positions, energies, forces, np.arange(count))


def same(found, expected, tolerance):
    np.testing.assert_array_equal(found.numbers, expected.numbers)
    for field in ("positions", "energies", "forces"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), rtol=1e-12, atol=tolerance
        )


def written(write):
    """What `read_frames` makes of the file that `write` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        return read_frames(write(path))


@settings(max_examples=40, deadline=None)
@given(frames())
@pytest.mark.parametrize("layout", [md17_arrays, rmd17_arrays])
def test_npz(layout, given_frames):
    same(written(lambda path: save(path.with_suffix(".npz"), layout(given_frames))), given_frames, 1e-12)


@settings(max_examples=40, deadline=None)
@given(frames())
@pytest.mark.parametrize("suffix", [".extxyz", ".traj"])
def test_ase(suffix, given_frames):
    def write(path):
        ase.io.write(path.with_suffix(suffix), images(given_frames))
        return path.with_suffix(suffix)

    same(written(write), given_frames, 1e-8 if suffix == ".extxyz" else 0)


@settings(max_examples=20, deadline=None)
@given(frames(), st.booleans())
def test_hdf5_in_spices_layout(given_frames, in_group):
    """Hartree, bohr and gradients, at the top of the file or in a molecule's group."""
    h5py = pytest.importorskip("h5py")

    def write(path):
        with h5py.File(path, "w") as file:
            group = file.create_group("mine") if in_group else file
            group["atomic_numbers"] = given_frames.numbers
            group["conformations"] = given_frames.positions / units.Bohr
            group["dft_total_energy"] = given_frames.energies / units.Hartree
            group["dft_total_gradient"] = -given_frames.forces / units.Hartree * units.Bohr
        return path

    found = written(write)
    scale = 1e-6 * (1 + max(np.abs(array).max() for array in given_frames[1:4]))  # of ASE's own constants
    same(found, given_frames, scale)


@settings(max_examples=20, deadline=None)
@given(frames(), st.integers(1, 4))
def test_deepmd(given_frames, n_sets):
    """Molecules in vacuum, their frames in one set or several."""

    def write(path):
        path.mkdir()
        kinds, kind = np.unique(given_frames.numbers, return_inverse=True)
        (path / "type_map.raw").write_text("\n".join(chemical_symbols[z] for z in kinds))
        np.savetxt(path / "type.raw", kind, fmt="%d")
        (path / "nopbc").touch()
        for number, rows in enumerate(np.array_split(np.arange(len(given_frames.energies)), n_sets)):
            if len(rows):
                folder = path / f"set.{number:03d}"
                folder.mkdir()
                for name, array in zip(("coord", "energy", "force"), given_frames[1:4], strict=True):
                    np.save(folder / f"{name}.npy", array[rows].reshape(len(rows), -1))
        return path

    same(written(write), given_frames, 1e-12)


@settings(max_examples=40, deadline=None)
@given(frames(), *UNITS)
def test_units_of_a_file(given_frames, energy, length):
    """A file in any units, read with their names, is the file in eV and Å."""
    scaled = given_frames._replace(
        positions=given_frames.positions / LENGTH_UNITS[length],
        energies=given_frames.energies / ENERGY_UNITS[energy],
        forces=given_frames.forces / ENERGY_UNITS[energy] * LENGTH_UNITS[length],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder) / "a.npz", dict(zip("zREF", scaled[:4], strict=True)))
        found = read_frames(path, units=f"{energy},{length}")
        alone = read_frames(path, units=f"{energy}, {length}, {energy}/{length}")
    same(found, given_frames, 1e-9)
    same(alone, found, 0)


@given(*UNITS, st.sampled_from([str.lower, str.upper, str.title, lambda text: f" {text} "]))
def test_units_do_not_depend_on_their_spelling(energy, length, spell):
    assert energy_scale(spell(energy), "unit") == ENERGY_UNITS[energy]
    assert length_scale(spell(length), "unit") == LENGTH_UNITS[length]
    expected = ENERGY_UNITS[energy] / LENGTH_UNITS[length]
    assert force_scale(spell(f"{energy}/{length}"), "unit") == pytest.approx(expected, rel=1e-15)


@given(st.text(max_size=12))
def test_no_other_word_is_a_unit(word):
    known = {*map(str.lower, (*ENERGY_UNITS, *LENGTH_UNITS)), "ang", "å", "ha"}
    # A force's unit is made of two, which may be found too: eV/Å.
    whole, parts = word.strip().lower() in known, [part.strip().lower() for part in word.rsplit("/", 1)]
    of_force = len(parts) == 2 and known.issuperset(parts)
    for scale, is_known in ((energy_scale, whole), (length_scale, whole), (force_scale, of_force)):
        if not is_known:
            with pytest.raises(ValueError, match=r"^what "):
                scale(word, "what")


def test_units_against_ases_own_table():
    assert ENERGY_UNITS["kcal/mol"] == pytest.approx(units.kcal / units.mol, rel=1e-8)
    assert ENERGY_UNITS["kJ/mol"] == pytest.approx(units.kJ / units.mol, rel=1e-8)
    assert ENERGY_UNITS["hartree"] == pytest.approx(units.Hartree, rel=1e-7)
    assert LENGTH_UNITS["bohr"] == pytest.approx(units.Bohr, rel=1e-7)
    assert 1 / ENERGY_UNITS["kcal/mol"] == pytest.approx(KCAL, rel=1e-12)
