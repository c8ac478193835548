"""Targets of observables from files: given values, and means over trajectories with and without labels."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from numpy.testing import assert_allclose

from objectives.averages import make_observables
from objectives.references import read_targets
from potentials import make_system

WATER = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
SYSTEM = make_system([8, 1, 1], WATER, 300.0)
OBSERVABLES = make_observables({"bond_lengths": 1.0, "mean_bond_length": 1.0}, SYSTEM)
FRAMES = 40.0 + np.stack([scale * WATER for scale in (0.9, 1.0, 1.25)])
LENGTHS = np.linalg.norm(WATER[1:], axis=1) * 1.05


def rmd17(path):
    np.savez(path, nuclear_charges=[8, 1, 1], coords=FRAMES)


def md17(path):
    np.savez(path, z=[8, 1, 1], R=FRAMES)


def extxyz(path):
    ase.io.write(path, [Atoms("OH2", x) for x in FRAMES], format="extxyz")


@pytest.mark.parametrize(("name", "write"), [("a.npz", rmd17), ("b.npz", md17), ("c.extxyz", extxyz)])
def test_means_over_frames(tmp_path, name, write):
    write(tmp_path / name)
    targets = read_targets(str(tmp_path / name), OBSERVABLES, SYSTEM)
    assert_allclose(targets["bond_lengths"], LENGTHS, rtol=1e-6)
    assert_allclose(targets["mean_bond_length"], [LENGTHS.mean()], rtol=1e-6)


def test_values_are_taken_as_they_are(tmp_path):
    np.savez(tmp_path / "targets.npz", bond_lengths=[1.0, 1.1], other=[2.0])
    targets = read_targets(str(tmp_path / "targets.npz"), OBSERVABLES, SYSTEM)
    assert set(targets) == {"bond_lengths", "other"}  # whose names and shapes the objective checks
    assert_allclose(targets["bond_lengths"], [1.0, 1.1])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("junk"), "can not be read"),
        (lambda path: np.savez(path, z=[8, 1, 6], R=FRAMES), "of other atoms"),
        (lambda path: np.savez(path, z=[8, 1, 1], R=FRAMES[0]), r"shape \(3, 3\); expected finite"),
        (lambda path: np.savez(path, R=np.full((2, 3, 3), np.nan)), "expected finite"),
        (lambda path: np.savez(path, R=np.array([None])), "can not be read"),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path, write, message):
    path = tmp_path / "frames.npz"
    write(path)
    with pytest.raises(ValueError, match=f"stable.reference: {path}.*{message}"):
        read_targets(str(path), OBSERVABLES, SYSTEM)
    with pytest.raises(ValueError, match=r"nowhere\.xyz can not be read"):
        read_targets("nowhere.xyz", OBSERVABLES, SYSTEM)
