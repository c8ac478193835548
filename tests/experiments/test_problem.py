"""From a configuration to data and potential: centring, checks, the prior, the reference."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from ase.io import read, write

from experiments.binary import InputError, reading_input
from experiments.distributions import Distributions
from experiments.frames import join
from experiments.known_datasets import locate
from experiments.problem import (
    chosen_dihedrals,
    label_engine,
    make_problem,
    to_batch,
    typical_geometry,
)
from experiments.reference_statistics import REFERENCE_BLOCKS, reference_distributions
from potentials import make_system, zbl
from tests.experiments.harmonic_frames import images
from tests.experiments.small_problem import small, small_problem


def test_batches_are_relative_and_centred():
    problem, _ = small_problem()
    shift = np.mean(problem.splits.train.energies)
    assert problem.energy_shift == pytest.approx(shift, abs=1e-9)
    assert abs(shift) > 100, "the energies in the file are totals"
    masses = problem.system.masses
    for frames, batch in zip(problem.splits, problem[4:], strict=True):
        assert {leaf.dtype for leaf in batch} == {np.dtype("float32")}
        np.testing.assert_allclose(batch.energies, frames.energies - shift, atol=1e-6)
        np.testing.assert_allclose(batch.forces, frames.forces, rtol=1e-6)
        centres = np.einsum("n,fnk->fk", masses, np.asarray(batch.positions, float)) / masses.sum()
        np.testing.assert_allclose(centres, 0, atol=1e-6)


def test_large_totals_and_far_centres_lose_no_digits():
    problem, _ = small_problem()
    frames = problem.splits.test
    system = make_system(frames.numbers, frames.positions[0], 500.0)
    far = frames._replace(positions=frames.positions + 4321.0, energies=frames.energies - 17_000.0)
    one = to_batch(frames, system, problem.energy_shift)
    other = to_batch(far, system, problem.energy_shift - 17_000.0)
    np.testing.assert_allclose(one.positions, other.positions, atol=1e-6)
    np.testing.assert_allclose(one.energies, other.energies, atol=1e-6)


def test_a_cutoff_shorter_than_a_bond():
    train = small_problem()[0].splits.train
    first, second = small_problem()[0].system.bonds.T
    longest = np.linalg.norm(train.positions[:, first] - train.positions[:, second], axis=-1).max()
    with pytest.raises(ValueError, match=rf"schnet.cutoff is .* shorter than a bond of {longest:.2f} Å"):
        make_problem(small(**{"schnet.cutoff": float(longest) - 1e-6}))
    make_problem(small(**{"schnet.cutoff": float(longest) + 1e-6}))


def test_bad_settings_are_one_line_each():
    for changes, words in (
        ({"training.batch_size": 61}, "training.batch_size is 61, but dataset.train gives 60 frames"),
        ({"potential": "shnet"}, "unknown potential 'shnet'"),
        ({"dataset.path": "x.npz"}, "expected one of dataset.name and dataset.path"),
    ):
        with pytest.raises(InputError) as caught, reading_input():
            make_problem(small(**changes))
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_prior_adds_its_energy_and_no_params():
    plain, _ = small_problem()
    prior = make_problem(small(**{"zbl.enabled": True, "zbl.reach": 1.1}))
    key = jax.random.PRNGKey(3)
    one, other = plain.potential.init(key), prior.potential.init(key)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    repulsion = zbl(plain.system, reach=1.1)
    for scale in (1.0, 0.7):
        x = plain.test.positions[0] * scale
        added = float(prior.potential.energy(one, x) - plain.potential.energy(one, x))
        assert added == pytest.approx(float(repulsion(x).sum()), rel=1e-4, abs=1e-4)
    assert added > 1.0, "compressed bonds must cost energy"


def test_the_package_file_carries_the_reference_of_all_frames():
    config = small()
    problem, reference = small_problem()
    with np.load(locate(config.dataset.name).path) as file:
        for name in Distributions._fields:
            np.testing.assert_array_equal(getattr(reference, name), file[f"reference_{name}"])
    # The frames are a small sample of those behind the statistics.
    energies = np.concatenate([frames.energies for frames in problem.splits])
    error = energies.std(ddof=1) / np.sqrt(len(energies))
    assert abs(energies.mean() - reference.energy_mean[0]) < 5 * np.hypot(error, reference.energy_mean[1])
    assert reference.energy_quantiles[0] <= energies.min() <= energies.max() <= reference.energy_quantiles[-1]


@pytest.fixture
def own_file(tmp_path):
    """105 frames of the package as a user's extxyz, and a configuration that reads it."""
    splits = small_problem()[0].splits
    atoms = [image for frames in splits for image in images(frames)][:105]
    # The lowest comes last, where it is in no block of five.
    atoms.append(atoms.pop(int(np.argmin([image.get_potential_energy() for image in atoms]))))
    write(tmp_path / "mine.extxyz", atoms, format="extxyz")
    changes = {"name": "", "path": str(tmp_path / "mine.extxyz"), "train": 60, "validation": 15, "test": 0}
    return small(**{f"dataset.{key}": value for key, value in changes.items()})


def test_a_users_own_file_gives_its_own_reference(own_file):
    """All of its frames in order of time, whichever of them are for training."""
    problem = make_problem(own_file)
    assert [len(frames.energies) for frames in problem.splits] == [60, 15, 30]
    reference = reference_distributions(own_file, problem)
    energies = np.array([atoms.get_potential_energy() for atoms in read(own_file.dataset.path, ":")])
    assert reference.n_frames == 105 // REFERENCE_BLOCKS
    assert len(reference.energy_density) == REFERENCE_BLOCKS
    blocks = energies[:100].reshape(20, 5)
    assert reference.energy_mean[0] == pytest.approx(blocks.mean(), abs=1e-9)
    assert reference.energy_mean[1] == pytest.approx(blocks.mean(axis=1).std(ddof=1) / np.sqrt(20))
    assert reference.energy_quantiles[[0, -1]] == pytest.approx([energies.min(), energies.max()], abs=1e-9)
    assert reference.energy_edges[0] < energies.min() < energies.max() < reference.energy_edges[-1]
    np.testing.assert_allclose(reference.dihedral_probability.sum(axis=-1), 1, atol=1e-6)
    assert np.isfinite(reference.virial_temperature).all()
    assert np.isnan(reference.kinetic_temperature).all()
    own_file.seed += 1
    other = reference_distributions(own_file, make_problem(own_file))
    for one, two in zip(reference, other, strict=True):
        np.testing.assert_array_equal(one, two, "another split of one file has the same reference")


def test_dihedrals_of_the_users_choice(own_file):
    own_file.evaluation.dihedrals = ("3-2-1-0",)
    problem = make_problem(own_file)
    (chosen,) = chosen_dihedrals(own_file, problem.system)
    assert chosen.quadruples.tolist() == [[3, 2, 1, 0]]
    reference = reference_distributions(own_file, problem)
    assert reference.dihedral_names.tolist() == [chosen.name]
    assert reference.dihedral_probability.shape == (REFERENCE_BLOCKS, 1, 36)


def test_statistics_in_a_file_are_of_its_own_dihedrals():
    config = small(**{"evaluation.dihedrals": ("3-2-1-0",)})
    problem, reference = small_problem()
    with pytest.raises(ValueError, match=r"evaluation\.dihedrals asks for") as caught:
        reference_distributions(config, problem)
    assert str(locate(config.dataset.name).path) in str(caught.value)
    assert ", ".join(reference.dihedral_names) in str(caught.value)


def test_one_hot_frame_does_not_set_the_bonds():
    """The first frame has lost a hydrogen: the bonds are those of the others."""
    problem, _ = small_problem()
    train = problem.splits.train
    positions = train.positions.copy()
    positions[0, 3] += 2.0
    positions[0] += 7.0  # which makes the frame known
    assert len(make_system(train.numbers, positions[0], 500.0).bonds) == 7
    found = typical_geometry(train._replace(positions=positions))
    assert found.max() < 6
    np.testing.assert_array_equal(make_system(train.numbers, found, 500.0).bonds, problem.system.bonds)


def test_labels_come_from_the_engine_of_the_data(own_file):
    pytest.importorskip("tblite")
    problem = small_problem()[0]
    assert label_engine(small(), problem) == "gfn2"
    assert label_engine(small(**{"evaluation.engine": ""}), problem) == ""
    with pytest.raises(ValueError, match=r"evaluation.engine is 'gfn1', but .* labelled by 'gfn2'"):
        label_engine(small(**{"evaluation.engine": "gfn1"}), problem)


def test_a_file_that_does_not_say_its_engine_is_asked(own_file):
    pytest.importorskip("tblite")
    problem = make_problem(own_file)
    assert label_engine(own_file, problem) == "gfn2"
    own_file.evaluation.engine = "gfn1"
    with pytest.raises(
        ValueError, match=r"evaluation.engine is 'gfn1', which gives test frames of .*mine.ext"
    ):
        label_engine(own_file, problem)


def test_a_file_too_small_for_a_reference(own_file):
    write(own_file.dataset.path, read(own_file.dataset.path, ":19"))
    own_file.dataset.train, own_file.dataset.validation, own_file.training.batch_size = 10, 4, 5
    problem = make_problem(own_file)
    with pytest.raises(ValueError, match="at least 20 frames, got 19"):
        reference_distributions(own_file, problem)


def test_files_that_count_alike_are_one_after_the_other():
    # In order of time: all of the first file, then all of the second, whose numbers begin at 0 too.
    first, second = (small_problem()[0].splits.train.take(np.arange(a, a + 5)) for a in (0, 5))
    counted = [part._replace(indices=np.arange(5)) for part in (first, second)]
    assert join(counted).indices.tolist() == list(range(10))
    apart = [first._replace(indices=np.array([0, 30, 10, 2, 4])), second._replace(indices=np.arange(5, 10))]
    assert join(apart).indices.tolist() == [0, 30, 10, 2, 4, 5, 6, 7, 8, 9]  # as rMD17's: left alone
