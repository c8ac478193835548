"""HDF5 files: SPICE's layout and its units, a choice of molecules, what is said of faulty ones."""

import numpy as np
import pytest
from ase.units import Bohr, Hartree

from experiments.datasets import load_splits
from experiments.frame_files import read_frames
from tests.experiments.harmonic_frames import (
    NUMBERS,
    assert_same,
    config,
    harmonic,
    md17_arrays,
    rmd17_arrays,
)

h5py = pytest.importorskip("h5py")


def spice(node, frames, units=True):
    """A molecule's arrays as SPICE writes them: hartree, bohr, a gradient."""
    arrays = {
        "atomic_numbers": (frames.numbers.astype(np.int16), None),
        "conformations": (frames.positions / Bohr, "bohr"),
        "dft_total_energy": (frames.energies / Hartree, "hartree"),
        "dft_total_gradient": (-frames.forces * Bohr / Hartree, "hartree/bohr"),
    }
    for name, (values, unit) in arrays.items():
        dataset = node.create_dataset(name, data=values)
        if unit and units:
            dataset.attrs["units"] = unit


def test_spice_with_and_without_its_units(tmp_path):
    frames = harmonic(6)
    for name, units in (("a.hdf5", True), ("no_suffix", False)):
        with h5py.File(tmp_path / name, "w") as file:
            spice(file.create_group("water"), frames, units)
        assert_same(read_frames(tmp_path / name), frames, 2e-5)  # two tables of units


def test_one_molecule_of_several(tmp_path):
    path = tmp_path / "spice.hdf5"
    with h5py.File(path, "w") as file:
        spice(file.create_group("one"), harmonic(30, seed=1))
        spice(file.create_group("other"), harmonic(40, seed=2))
    assert_same(read_frames(path, group="other"), harmonic(40, seed=2), 2e-5)
    splits = load_splits(config(path=str(path), group="one"), 0)
    assert len(splits.test.energies) == 15
    with pytest.raises(ValueError, match=r"several molecules; expected dataset.group .* 2 there: one, other"):
        read_frames(path)
    with pytest.raises(ValueError, match=r"no group 'three'; 2 there: one, other"):
        read_frames(path, group="three")


def test_md17_keys_at_the_top_of_a_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in md17_arrays(harmonic(5)).items():
            file[name] = values
    assert_same(read_frames(tmp_path / "a.h5"), harmonic(5))


def test_the_users_units_come_first(tmp_path):
    frames = harmonic(5)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in zip("zREF", frames[:4], strict=True):
            file[name] = values
    assert_same(read_frames(tmp_path / "a.h5", units="eV,angstrom"), frames)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda file: file.pop("dft_total_energy"), "key 'dft_total_energy' is missing"),
        (lambda file: [file.pop(name) for name in list(file)], "of no known layout .found: none"),
        (
            lambda file: file["conformations"].attrs.update(units="furlong"),
            "length unit 'furlong' is unknown",
        ),
    ],
)
def test_faulty_files(tmp_path, change, match):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        spice(file, harmonic(5))
        change(file)
    with pytest.raises(ValueError, match=match):
        read_frames(path)


def test_each_array_in_its_own_unit_and_what_else_a_file_holds(tmp_path):
    """Forces in another unit than energy over length; groups beside a molecule's arrays; any spelling."""
    frames = harmonic(5)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        spice(file, frames)
        del file["dft_total_gradient"]
        file["dft_total_gradient"] = -frames.forces
        file["dft_total_gradient"].attrs["units"] = "EV/Angstrom"
        file["conformations"].attrs["units"] = "Bohr"
        for name in ("metadata", "provenance"):
            file[f"{name}/text"] = "by hand"
    assert_same(read_frames(tmp_path / "a.h5"), frames, 2e-5)


def test_rmd17_keeps_its_old_indices_and_float32_its_digits(tmp_path):
    arrays = rmd17_arrays(harmonic(6))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values.astype(np.float32) if name == "coords" else values
    found = read_frames(tmp_path / "a.h5")
    assert_same(found, harmonic(6), 1e-6)
    np.testing.assert_array_equal(found.indices, 7 * np.arange(6) + 3)


def test_a_flipped_bit_is_an_error_of_the_file_or_nothing(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        spice(file.create_group("water"), harmonic(3))
        file["water/dft_total_energy"].attrs["note"] = h5py.Empty("f")
    whole = path.read_bytes()
    refused = 0
    for byte in range(0, min(len(whole), 4000), 3):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << byte % 8
        path.write_bytes(flipped)
        try:
            read_frames(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(str(path))
    assert refused > 100


def test_damaged_and_misplaced_settings(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        spice(file, harmonic(5))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"a\.h5: no readable HDF5 file"):
        read_frames(path)
    np.savez(tmp_path / "b.npz", z=NUMBERS)
    with pytest.raises(ValueError, match="group 'x' is asked for, which only HDF5 files hold"):
        read_frames(tmp_path / "b.npz", group="x")
