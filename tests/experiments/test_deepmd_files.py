"""Frames in DeePMD-kit's layout: arrays, cells, what is wrong with them."""

import shutil

import numpy as np
import pytest

from experiments.frame_files import read_frames

CELL = np.array([[9.0, 0, 0], [1.0, 8.0, 0], [0, 0.5, 7.0]])


@pytest.fixture
def folder(tmp_path):
    """Two sets of three frames of two waters."""
    rng = np.random.default_rng(0)
    (tmp_path / "type.raw").write_text("0 1 1 0 1 1")
    (tmp_path / "type_map.raw").write_text("O\nH\n")
    for number in range(2):
        folder = tmp_path / f"set.00{number}"
        folder.mkdir()
        for name, width in (("coord", 18), ("force", 18)):
            np.save(folder / f"{name}.npy", rng.normal(size=(3, width)).astype(np.float32))
        np.save(folder / "energy.npy", rng.normal(size=3).astype(np.float32))
        np.save(folder / "box.npy", np.tile(CELL.ravel(), (3, 1)).astype(np.float32))
    return tmp_path


def test_arrays_come_out_as_they_went_in(folder):
    frames = read_frames(folder)
    np.testing.assert_array_equal(frames.numbers, [8, 1, 1, 8, 1, 1])
    np.testing.assert_allclose(frames.cell, CELL, atol=1e-6)
    for name, found in (("coord", frames.positions), ("force", frames.forces), ("energy", frames.energies)):
        stored = np.concatenate([np.load(folder / f"set.00{n}" / f"{name}.npy") for n in range(2)])
        np.testing.assert_array_equal(found, stored.reshape(found.shape))
    assert read_frames(folder, ignore_cell=True).cell is None
    (folder / "nopbc").touch()
    assert read_frames(folder).cell is None


def _save(name, array):
    return lambda folder: np.save(folder / "set.001" / f"{name}.npy", array)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "type_map.raw").unlink(), "'type_map.raw' is missing"),
        (lambda f: (f / "type_map.raw").write_text("O X7"), "'X7' is no element"),
        (lambda f: (f / "type.raw").write_text("0 1 2 0 1 1"), r"type\.raw: expected kinds from 0 to 1"),
        (lambda f: (f / "type.raw").write_text("O H H"), r"type\.raw: expected a kind"),
        (lambda f: (f / "set.001" / "box.npy").unlink(), r"set\.001: 'box\.npy' is missing"),
        (lambda f: (f / "set.001" / "force.npy").write_bytes(b"x"), r"force\.npy: no readable array"),
        (_save("coord", np.zeros((3, 15))), r"coord\.npy has shape \(3, 15\), expected \(3, 18\)"),
        (_save("coord", np.zeros((2, 27))), r"coord\.npy has shape \(2, 27\), expected \(3, 18\)"),
        (_save("real_atom_types", np.zeros((3, 6), int)), r"set\.001: of mixed types"),
        (_save("box", np.tile(1.1 * CELL.ravel(), (3, 1))), "frame 3 has another cell"),
    ],
)
def test_damaged_folders(folder, damage, words):
    damage(folder)
    with pytest.raises(ValueError, match=words) as caught:
        read_frames(folder)
    assert str(folder) in str(caught.value)


def test_a_folder_of_systems(folder, tmp_path_factory):
    parent = tmp_path_factory.mktemp("systems")
    for name in "ab":
        shutil.copytree(folder, parent / name)
    np.save(parent / "b" / "set.001" / "energy.npy", np.float32([1, 2, 3]))
    one, both = read_frames(folder), read_frames(parent)
    np.testing.assert_array_equal(both.positions, np.concatenate([one.positions] * 2))
    np.testing.assert_array_equal(both.energies, [*one.energies, *one.energies[:3], 1, 2, 3])
    np.testing.assert_array_equal(both.indices, np.arange(12))
    shutil.copytree(folder, parent / "a" / "held_out")  # a system is no folder of systems
    assert len(read_frames(parent / "a").energies) == 6 and len(read_frames(parent).energies) == 12
    (parent / "b" / "nopbc").touch()
    with pytest.raises(ValueError, match="some of its systems are marked 'nopbc'"):
        read_frames(parent)
    (parent / "b" / "type.raw").write_text("0 0 1 1 1 1")
    with pytest.raises(ValueError, match=r"b: other atoms, or in another order, than in .*a"):
        read_frames(parent)


def test_a_folder_of_something_else_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_frames(tmp_path)


def test_real_water(data):
    assert len(read_frames(data / "water_64").energies) == 400
    frames = read_frames(data / "water_64" / "data_0")
    assert frames.positions.shape == (80, 192, 3) and (frames.numbers == 8).sum() == 64
    np.testing.assert_allclose(frames.cell, 12.444661 * np.eye(3), atol=1e-5)
    assert 0.5 < np.sqrt(np.mean(frames.forces**2)) < 3
