"""Targets of observables from trajectories: formats, units, known sets, and what is refused."""

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms
from numpy.testing import assert_allclose

from experiments import binary, known_datasets
from experiments.datasets import load_splits
from experiments.problem import make_problem
from experiments.reference_statistics import reference_distributions
from experiments.reference_trajectories import (
    check_reference,
    reference_digest,
    reference_frames,
    reference_trajectory,
)
from experiments.train import prepare, train
from objectives import make_objective
from objectives.observables import bond_lengths
from objectives.reweighting import effective_samples
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


def test_a_reference_that_changes_during_a_run_is_refused(tmp_path):
    problem = make_problem(small())
    frames, path = problem.splits.validation.positions, tmp_path / "frames.extxyz"
    write(path, problem.system.numbers, frames)
    config = config_for(path)
    noted = reference_digest(config)
    (tmp_path / "reference.sha256").write_text(f"{noted}\n")
    check_reference(tmp_path, noted, config)
    write(path, problem.system.numbers, frames[1:])
    with pytest.raises(binary.InputError, match=r"frames\.extxyz has changed since the run"):
        train(config, *prepare(config), tmp_path)
    assert (tmp_path / "reference.sha256").read_text() == f"{noted}\n"
    assert reference_digest(small()) == ""  # names none


def test_the_digest_is_of_what_is_read(tmp_path):
    problem = make_problem(small())
    frames = problem.splits.validation.positions
    for name in ("frames.extxyz", "frames.traj"):
        write(tmp_path / name, problem.system.numbers, np.round(frames, 6))
    one, other = (reference_digest(config_for(tmp_path / f"frames.{end}")) for end in ("extxyz", "traj"))
    assert one == other
    digests = {one}
    for scale in (1.0, 2.0):
        np.savez(tmp_path / "values.npz", bond_lengths=scale * np.ones(8), note="of 1990")
        digests.add(reference_digest(config_for(tmp_path / "values.npz")))
    assert len(digests) == 3


def test_a_training_run_notes_its_reference(tmp_path):
    settings = {"objective": "crmse", "contrastive.reference": "ethanol_gfn2", "init_from": ""}
    settings |= {"contrastive.n_chains": 4, "contrastive.n_steps": 2, "contrastive.burn_in": 5}
    config = small(**settings, **{"pre_training.n_updates": 2, "training.log_every": 1})
    train(config, *prepare(config), tmp_path)
    assert (tmp_path / "reference.sha256").read_text() == f"{reference_digest(config)}\n"


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


def test_means_at_another_temperature_are_boltzmann_weighted(tmp_path):
    problem = make_problem(small())
    validation = problem.splits.validation
    frames, energies = validation.positions[:7], np.linspace(-0.2, 0.1, 7)
    arrays = {"z": problem.system.numbers, "E": energies - 4000.0, "F": np.zeros_like(frames)}
    np.savez(tmp_path / "frames.npz", R=frames, e_unit="eV", **arrays)
    at_700 = {"stable.temperature": 700.0, "dataset.units": "eV"}
    weights = np.exp(-energies * (1 / 700 - 1 / 500) / 8.617333e-5)  # of two Boltzmann factors
    lengths = np.asarray(bond_lengths(frames, problem.system.bonds))
    expected = weights @ lengths / weights.sum()
    assert np.abs(expected - lengths.mean(axis=0)).max() > 1e-3
    found = targets(config_for(tmp_path / "frames.npz", **at_700))[0]
    assert_allclose(found, expected, rtol=1e-5)
    assert_allclose(
        targets(config_for(tmp_path / "frames.npz", **at_700 | {"stable.temperature": 500.0}))[0],
        lengths.mean(axis=0),
        rtol=1e-5,
    )
    write(tmp_path / "bare.extxyz", problem.system.numbers, frames)
    with pytest.raises(ValueError, match=r"stable\.reference: .*bare\.extxyz.*energ"):
        prepare(config_for(tmp_path / "bare.extxyz", **at_700))


def test_weighted_training_frames_have_the_spread_of_the_other_temperature():
    # 1,000 frames sampled at 500 K against the package's own chains at 700 K.
    large = {"dataset.train": 1000, "stable.temperature": 700.0}
    problem = make_problem(small(**large))
    data = reference_trajectory(config_for("", **large), problem)
    assert data["reference"].shape == (1000, *problem.train.positions.shape[1:])
    weights, energies = np.asarray(data["reference_weights"], float), problem.splits.train.energies
    mean = weights @ energies
    spread = np.sqrt(weights @ (energies - mean) ** 2)
    hotter = reference_distributions(small(**{"evaluation.temperature": 700.0}), problem)
    true_mean, true_spread = hotter.energy_mean[0], hotter.energy_quantiles.std()
    effective = float(effective_samples(weights))
    assert 200 < effective < 600
    assert mean == pytest.approx(true_mean, abs=4 * true_spread / np.sqrt(effective))
    assert spread == pytest.approx(true_spread, rel=4 / np.sqrt(2 * effective))
    assert true_mean - energies.mean() > 0.1 and true_spread > 1.2 * energies.std()


def test_replicas_and_estimator_are_at_the_temperature_asked_for():
    # As of a system at that temperature, with these frames and weights.
    problem = make_problem(small())
    config = config_for("", **{"stable.temperature": 650.0, "stable.n_steps": 50})
    data = reference_trajectory(config, problem)
    hot = problem.system._replace(temperature=650.0)
    found = []
    for system, config_of in ((problem.system, config), (hot, config_for("", **{"stable.n_steps": 50}))):
        objective = make_objective("stable", problem.potential, system, config_of, **data)
        params = problem.potential.init(jax.random.PRNGKey(0))
        state = objective.init(jax.random.key(0), params, problem.train)
        samples, _ = objective.sample(params, state)
        samples = samples._replace(phase=samples.phase * 0 + 1)  # of learning
        loss = jax.value_and_grad(objective.loss, has_aux=True)
        found.append(jax.tree.leaves(loss(params, problem.train, samples)))
    jax.tree.map(assert_allclose, *found)
    cold, warm = (
        make_objective("stable", problem.potential, problem.system, one, **data)
        .init(jax.random.key(0), params, problem.train)
        .replicas.momentum
        for one in (config_for(""), config)
    )
    assert_allclose(warm, cold * np.sqrt(650 / 500), rtol=1e-4, atol=1e-6)


def test_every_target_is_of_the_replicas_temperature(tmp_path):
    both = {"stable.temperature": 650.0, "stable.observables.distances": 1.0}
    np.savez(tmp_path / "values.npz", bond_lengths=np.ones(8))
    with pytest.raises(ValueError, match=r"650 K .* of 500 K: expected a target for 'distances' at"):
        prepare(config_for(tmp_path / "values.npz", **both))
    problem = make_problem(small())
    with pytest.raises(ValueError, match=r"expected a target for 'bond_lengths' at"):
        make_objective("stable", problem.potential, problem.system, config_for("", **both))
    with pytest.raises(ValueError, match=r"target_shift .* expected 0 beside"):
        prepare(config_for("", objective="stable_compat", **both))
    prepare(config_for("", objective="stable_compat", **both, **{"stable_compat.target_shift": 0.0}))


def test_weights_are_by_the_labels_trained_on(data):
    config = config_for("rmd17_ethanol", **{"dataset.name": "rmd17_ethanol_01", "dataset.path": ""})
    # Units are those of a file of the user's own, not of a known set.
    config.dataset.units = ""
    for labels, key in (("", "energies"), ("original", "old_energies")):
        config.dataset.labels = labels
        own = reference_frames("rmd17_ethanol_01", config.dataset, labelled=True)
        with np.load(data / "rmd17" / "rmd17_ethanol_train_01.npz") as file:
            assert_allclose(own.energies, file[key] / 23.060548, rtol=1e-6)
    mine = config_for("rmd17_ethanol_01", **{"dataset.units": "hartree,bohr"})
    other = reference_frames("rmd17_ethanol_01", mine.dataset, labelled=True)
    with np.load(data / "rmd17" / "rmd17_ethanol_train_01.npz") as file:
        assert_allclose(other.positions, file["coords"])
        assert_allclose(other.energies, file["energies"] / 23.060548, rtol=1e-6)


def test_nothing_is_read_for_other_objectives(tmp_path):
    problem = make_problem(small())
    assert reference_trajectory(config_for("nowhere.xyz", objective="mse"), problem) == {}
    bare = small()
    del bare.stable, bare.stable_compat
    prepare(bare)
