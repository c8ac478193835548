"""Targets of observables from trajectories: formats, units, known sets, and what is refused."""

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms
from numpy.testing import assert_allclose

from experiments import known_datasets
from experiments.datasets import load_splits
from experiments.problem import make_problem
from experiments.reference_trajectories import reference_frames, reference_trajectory
from experiments.train import prepare
from objectives import make_objective
from objectives.observables import bond_lengths
from tests.experiments.small_problem import small


def config_for(path, **changes):
    """StABlE on the package's ethanol, with these frames as the reference."""
    own = {"objective": "stable", "stable.reference": str(path), "stable.n_replicas": 4}
    own |= {"stable.observables.distances": 0.0, "stable.observables.bond_lengths": 1.0}
    return small(**(own | changes))


def write(path, numbers, positions, **settings):
    ase.io.write(path, [Atoms(numbers, x, **settings) for x in positions])


def targets(config):
    problem, objective = prepare(config)
    params = problem.potential.init(jax.random.PRNGKey(0))
    state = objective.init(jax.random.key(0), params, problem.train)
    return np.asarray(state.latest.targets["bond_lengths"]), problem


def test_means_over_unlabelled_frames_and_over_md17s(tmp_path):
    problem = make_problem(small())
    frames = problem.splits.validation.positions[:7]
    expected = bond_lengths(frames, problem.system.bonds).mean(axis=0)
    write(tmp_path / "frames.extxyz", problem.system.numbers, frames + 30.0)
    arrays = {"z": problem.system.numbers, "E": np.zeros(7), "F": np.zeros_like(frames)}
    np.savez(tmp_path / "frames.npz", R=frames, **arrays)
    for name in ("frames.extxyz", "frames.npz"):
        assert_allclose(targets(config_for(tmp_path / name))[0], expected, rtol=1e-5)
    bohr = 0.529177210903
    np.savez(tmp_path / "bohr.npz", R=frames / bohr, r_unit="Bohr", **arrays)
    assert_allclose(targets(config_for(tmp_path / "bohr.npz"))[0], expected, rtol=1e-5)


def test_the_training_section_of_the_package():
    found, problem = targets(config_for("ethanol_gfn2"))
    splits = load_splits(small(**{"dataset.train": 1000}).dataset, 0)
    assert len(splits.train.energies) == 1000
    expected = bond_lengths(splits.train.positions, problem.system.bonds).mean(axis=0)
    assert_allclose(found, expected, rtol=1e-5)


def test_an_unpacked_rmd17_is_read_by_its_split(data, tmp_path, monkeypatch):
    # The archive has all frames in one file and the rows of each split beside it: here 1,000 + 1,000.
    files = (data / "rmd17" / f"rmd17_ethanol_{part}_01.npz" for part in ("train", "test"))
    train, test = (dict(np.load(file)) for file in files)
    names = ("nuclear_charges", "coords", "energies", "forces", "old_indices")
    whole = {name: np.concatenate([test[name], train[name]]) for name in names[1:]}
    whole["nuclear_charges"] = train["nuclear_charges"]
    located = known_datasets._rmd17_unpacked(tmp_path, "ethanol", "01")
    for path in (located.path, located.train_indices, located.test_indices):
        path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(located.path, **whole)
    np.savetxt(located.train_indices, np.arange(1000, 2000), fmt="%d")
    np.savetxt(located.test_indices, np.arange(1000), fmt="%d")
    config = config_for("rmd17_ethanol_01")
    for folder in (tmp_path, data):
        monkeypatch.setenv("BOLTZFIT_DATA", str(folder))
        frames = reference_frames("rmd17_ethanol_01", config.dataset)
        assert_allclose(frames.positions, train["coords"])


def test_the_contrastive_terms_frames(tmp_path):
    # Trained on 60 labelled frames, its first mean runs over 20 others, where its chains start.
    problem = make_problem(small())
    frames = problem.splits.validation.positions
    tested = problem.splits.test.positions[:5]  # which are left out
    both = np.concatenate([frames, tested])
    ase.io.write(tmp_path / "frames.traj", [Atoms(problem.system.numbers, x) for x in both])
    settings = {"contrastive.reference": str(tmp_path / "frames.traj"), "contrastive.n_chains": 5}
    known = {frame.tobytes() for frame in np.asarray(problem.validation.positions)}
    for name in ("crmse", "contrastive"):
        problem, objective = prepare(small(objective=name, **settings, **{"contrastive.burn_in": 0}))
        params = problem.potential.init(jax.random.key(1))
        state = objective.init(jax.random.key(0), params, problem.train)
        samples, _ = objective.sample(params, state)
        if name == "crmse":
            state, samples = state["contrastive"], samples["contrastive"]
        assert samples.reference.shape == (20, *frames.shape[1:])  # a batch
        for positions in (state.levels[0].position, samples.reference):
            assert {frame.tobytes() for frame in np.asarray(positions)} <= known
    with pytest.raises(ValueError, match=r"contrastive\.reference: nowhere\.xyz.*no such file"):
        prepare(small(objective="crmse", **{"contrastive.reference": "nowhere.xyz"}))
    ase.io.write(tmp_path / "tested.traj", [Atoms(problem.system.numbers, x) for x in tested])
    with pytest.raises(ValueError, match=r"tested\.traj has no frames but test frames"):
        prepare(small(objective="crmse", **{"contrastive.reference": str(tmp_path / "tested.traj")}))
    with pytest.raises(ValueError, match=r"n_reference is 21; expected 1 to 20"):
        prepare(small(objective="crmse", **settings, **{"training.batch_size": 21}))
    with pytest.raises(ValueError, match="its frames were not handed over"):
        make_objective("crmse", problem.potential, problem.system, small(**settings))


def test_frames_of_other_systems_are_refused(tmp_path):
    problem = make_problem(small())
    numbers, frames = problem.system.numbers, problem.splits.validation.positions[:2]
    write(tmp_path / "order.extxyz", numbers[::-1], frames)
    write(tmp_path / "box.extxyz", numbers, frames, cell=[20.0] * 3, pbc=True)
    write(tmp_path / "nan.extxyz", numbers, frames * np.nan)
    (tmp_path / "junk.extxyz").write_text("junk")
    for name, message in (
        ("order", "other atoms than the training data"),
        ("box", r"has the cell \[\[20.0.*expected None"),
        ("nan", "positions that are not finite"),
        ("junk", "ASE can not read it"),
    ):
        path = tmp_path / f"{name}.extxyz"
        with pytest.raises(ValueError, match=f"stable.reference: {path}.*{message}"):
            reference_trajectory(config_for(path), problem)
    ignoring = config_for(tmp_path / "box.extxyz", **{"dataset.ignore_cell": True})
    assert reference_trajectory(ignoring, problem)["reference"].shape == frames.shape


def test_nothing_is_read_for_other_objectives(tmp_path):
    problem = make_problem(small())
    assert reference_trajectory(config_for("nowhere.xyz", objective="mse"), problem) == {}
    bare = small()
    del bare.stable, bare.stable_compat
    prepare(bare)
