"""Aligned RMSDs against MDTraj, SciPy's Kabsch rotation and the closed form of a diatomic."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from objectives.alignment import aligned_rmsd, nearest_rmsd

# Å; float32 sums of squares cancel down to this for a molecule of this size.
ZERO = 3e-3


def scipy_rmsd(first: np.ndarray, second: np.ndarray) -> float:
    """In double precision; SciPy minimises over proper rotations."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    _, root_sum = Rotation.align_vectors(first, second)
    return root_sum / np.sqrt(len(first))


def moved(positions: np.ndarray, seed: int) -> np.ndarray:
    rotation = Rotation.random(random_state=seed).as_matrix()
    return positions @ rotation.T + np.random.default_rng(seed).normal(scale=3.0, size=3)


@pytest.fixture
def frames(ethanol) -> np.ndarray:
    """Fifteen distorted ethanols [15, 9, 3] in arbitrary orientations, Å."""
    rng = np.random.default_rng(0)
    _, positions = ethanol
    scales = np.linspace(0.05, 1.5, 15)
    return np.stack([moved(positions + s * rng.normal(size=(9, 3)), seed) for seed, s in enumerate(scales)])


def test_equals_scipys_rotation(frames):
    found = [[float(aligned_rmsd(a, b)) for b in frames[1::3]] for a in frames[::3]]
    expected = [[scipy_rmsd(a, b) for b in frames[1::3]] for a in frames[::3]]
    np.testing.assert_allclose(found, expected, atol=ZERO)
    assert np.min(expected) > 10 * ZERO


def test_equals_mdtraj(frames):
    topology = mdtraj.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for index in range(9):
        topology.add_atom(f"X{index}", mdtraj.element.carbon, residue)
    trajectory = mdtraj.Trajectory(frames / 10, topology)  # nm
    expected = 10 * mdtraj.rmsd(trajectory, trajectory, frame=4)
    found = [float(aligned_rmsd(frame, frames[4])) for frame in frames]
    np.testing.assert_allclose(found, expected, atol=ZERO)


@pytest.mark.parametrize(("first", "second"), [(1.0, 1.4), (2.0, 0.7)])
def test_a_stretched_diatomic(first, second):
    """Each of the two atoms is off by half the change of the bond length; two singular values are 0."""
    one = np.array([[0.0, 0, 0], [first, 0, 0]])
    other = np.array([[5.0, 1, 1], [5.0, 1, 1 + second]])
    assert float(aligned_rmsd(one, other)) == pytest.approx(abs(first - second) / 2, abs=1e-4)


def test_rigid_motions_and_the_order_of_the_arguments_do_not_matter(frames):
    expected = float(aligned_rmsd(frames[2], frames[9]))
    for seed in range(5):
        assert float(aligned_rmsd(moved(frames[2], seed), frames[9])) == pytest.approx(expected, abs=ZERO)
        assert float(aligned_rmsd(frames[2], moved(frames[2], seed))) < ZERO
    assert float(aligned_rmsd(frames[9], frames[2])) == pytest.approx(expected, abs=1e-5)


def test_a_mirror_image_is_no_rotation_but_may_be_allowed(frames):
    image = moved(frames[6] * [1, 1, -1], 3)
    expected = scipy_rmsd(image, frames[6])
    assert expected > 0.1
    assert float(aligned_rmsd(image, frames[6])) == pytest.approx(expected, abs=ZERO)
    one_reference = frames[6:7]
    assert float(nearest_rmsd(image[None], one_reference, mirror=False)[0]) == pytest.approx(
        expected, abs=ZERO
    )
    assert float(nearest_rmsd(image[None], one_reference)[0]) < ZERO


@pytest.mark.parametrize("mirror", [False, True])
def test_nearest_of_a_set(frames, mirror):
    queries, reference = frames[::4], frames[1::2]
    images = [1, -1] if mirror else [1]
    expected = [min(scipy_rmsd(s * q, r) for r in reference for s in images) for q in queries]
    found = nearest_rmsd(queries, reference, mirror=mirror)
    assert found.shape == (len(queries),)
    np.testing.assert_allclose(found, expected, atol=ZERO)
