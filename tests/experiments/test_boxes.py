"""Training in a periodic box: MSE and CRMSE run, resume, and make room in a full neighbour list."""

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as molecule_of
from ase.calculators.calculator import CalculationFailed
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.testing import assert_allclose

from experiments import binary, calculator, evaluate
from experiments.calculator import PotentialCalculator
from experiments.checkpoints import Checkpoints
from experiments.configs import molecule
from experiments.evaluation_checks import check_evaluation
from experiments.figures import figures
from experiments.frames import Frames
from experiments.full_lists import roomy_update
from experiments.model_files import labels, roomy, write_model
from experiments.problem import lasting_bonds, make_problem
from experiments.runs import load_run, named_groups
from experiments.starting_points import data_room, starting_weights
from experiments.train import prepare, train
from experiments.training import TrainState, start
from experiments.verdicts import consistency_sentences
from experiments.weights import load_params
from objectives.stable import LEARNING
from potentials import energy_and_forces, make_system, with_bonds, zbl
from potentials.neighbours import MARGIN, room_in, with_room
from tests.experiments.small_problem import assert_same

CELL = np.array([[8.0, 0, 0], [1.0, 8.0, 0], [0, -1.0, 8.5]])


@pytest.fixture(scope="module")
def argon(tmp_path_factory):
    """An extxyz of 40 frames of eight argon atoms, wrapped, with Lennard-Jones labels."""
    rng = np.random.default_rng(0)
    grid = np.array(list(np.ndindex(2, 2, 2))) / 2 + 0.1
    frames = []
    for _ in range(40):
        atoms = Atoms("Ar8", grid @ CELL + rng.normal(scale=0.25, size=(8, 3)), cell=CELL, pbc=True)
        atoms.wrap()
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, rc=8.0)
        atoms.get_potential_energy()
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "argon.extxyz"
    ase.io.write(path, frames)
    return path


def small(path, **changes):
    config = molecule.get_config()
    config.dataset.path, config.dataset.temperature = str(path), 90.0
    config.dataset.train, config.dataset.validation, config.dataset.test = 24, 8, 8
    config.schnet.n_features = config.schnet.n_filters = 8
    config.schnet.n_interactions, config.schnet.cutoff = 1, 3.8
    config.training.batch_size = 8
    config.training.log_every = config.training.checkpoint_every = 5
    config.pre_training.n_updates = config.post_training.n_updates = 10
    config.post_training.warmup = 2
    config.contrastive.n_chains, config.contrastive.n_steps, config.contrastive.burn_in = 3, 5, 5
    config.contrastive.hotter = ()
    config.update_from_flattened_dict(changes)
    return config


def run(config, workdir):
    problem, objective = prepare(config)
    return problem, train(config, problem, objective, binary.claim_workdir(str(workdir), config))


@pytest.mark.parametrize("sampler", ["mala", "ula"])
def test_runs_follow_one_another_and_resume(argon, tmp_path, sampler):
    problem, state = run(small(argon), tmp_path / "mse")
    assert_allclose(problem.system.cell, CELL)
    whole, half = (small(argon, **{"contrastive.sampler": sampler}) for _ in range(2))
    for config in (whole, half):
        config.init_from = str(tmp_path / "mse")
        config.objective = "crmse"
    _, unbroken = run(whole, tmp_path / "crmse")
    assert not np.allclose(unbroken.params["readout_0"]["kernel"], state.params["readout_0"]["kernel"])
    # The same run, broken off after its first checkpoint, whose lists have another room than a new run's.
    checkpoints = Checkpoints(tmp_path / "crmse")
    assert checkpoints.steps() == [5, 10]
    checkpoints.close()
    (tmp_path / "crmse" / "checkpoints" / "10").rename(tmp_path / "gone")
    _, resumed = run(half, tmp_path / "crmse")
    assert_same(resumed, unbroken)
    (chains,) = unbroken.objective["contrastive"].levels
    turns = np.asarray(chains.position) @ np.linalg.inv(CELL)
    assert turns.min() > -0.01 and turns.max() < 1.01


def test_calculator_and_artefact_of_a_box(argon, tmp_path):
    config = small(argon)
    problem, state = run(config, tmp_path / "mse")
    write_model(tmp_path / "model", config, problem, state.average, {}, {})
    frame = ase.io.read(argon, "3")
    shift = problem.energy_shift
    wrapped = jnp.asarray(frame.positions, jnp.float32)
    energy, forces = energy_and_forces(problem.potential)(with_room(state.average, 7), wrapped)
    frame.positions += np.array([1.0, -2.0, 50.0]) @ CELL  # anywhere
    runs = PotentialCalculator.from_run(tmp_path / "mse")
    for found in (runs, PotentialCalculator.from_export(tmp_path / "model")):
        frame.calc = found
        assert frame.get_potential_energy() - shift == pytest.approx(float(energy), abs=1e-4)
        assert_allclose(frame.get_forces(), forces, atol=1e-4)
        changed = frame.copy()
        changed.calc = found
        changed.set_cell(1.01 * CELL)
        with pytest.raises(ValueError, match="expected a periodic box of the cell"):
            changed.get_potential_energy()
        changed.set_cell(CELL)
        changed.pbc = False
        with pytest.raises(ValueError, match=r"pbc \[False, False, False\]"):
            changed.get_potential_energy()
    card = (tmp_path / "model" / "README.md").read_text()
    assert "this box" in card and "energies and forces are NaN" in card


def test_the_calculator_makes_room_and_an_artefact_says_what_it_lacks(argon, tmp_path, monkeypatch):
    config = small(argon)
    problem, state = run(config, tmp_path / "mse")
    limit = 7
    monkeypatch.setattr(calculator, "load_params", lambda *_: with_room(state.average, 4))
    # All eight atoms within the cutoff of one another: more than a liquid would ever have.
    close = np.array(list(np.ndindex(2, 2, 2))) * 1.2 + 3.0
    frame = Atoms("Ar8", close, cell=CELL, pbc=True)
    small_room = with_room(state.average, 2)
    rooms = []

    def roomier(positions):
        rooms.append(problem.potential.room_for(positions))
        return labels(problem.potential, with_room(small_room, rooms[-1]))

    frame.calc = PotentialCalculator(
        labels(problem.potential, small_room), frame.numbers, 0.0, cell=CELL, roomier=roomier
    )
    expected = problem.potential.energy(with_room(state.average, limit), jnp.asarray(close, jnp.float32))
    assert frame.get_potential_energy() == pytest.approx(float(expected), rel=1e-4)
    assert rooms == [limit]
    frame.calc = PotentialCalculator(labels(problem.potential, small_room), frame.numbers, 0.0, cell=CELL)
    with pytest.raises(CalculationFailed, match="more neighbours than the list has room for"):
        frame.get_potential_energy()
    frame.calc = PotentialCalculator.from_run(tmp_path / "mse")  # 4, and up to 8 where it must be
    assert frame.get_potential_energy() - problem.energy_shift == pytest.approx(float(expected), rel=1e-4)
    monkeypatch.setattr(calculator, "load_params", lambda *_: with_room(state.average, 3))
    frame.calc = PotentialCalculator.from_run(tmp_path / "mse")  # up to 6: what wants more has collapsed
    with pytest.raises(CalculationFailed, match="more neighbours"):
        frame.get_potential_energy()
    assert roomy(problem, with_room(state.average, 6)) == limit
    assert roomy(problem, state.average) == min(int(np.ceil(MARGIN * data_room(problem))), limit)


def test_negatives_tell_of_a_full_list(argon):
    problem, objective = prepare(small(argon, objective="contrastive"))
    params = problem.potential.init(jax.random.PRNGKey(0))
    ample = with_room(params, 7)
    state = objective.init(jax.random.PRNGKey(1), ample, problem.train)
    metric = jax.jit(
        lambda p: objective.loss(p, problem.train, objective.sample(p, state)[0])[1]["full_neighbour_list"]
    )
    assert metric(ample) == 0
    assert metric(with_room(params, 1)) == 1


def test_an_update_with_a_full_list_is_made_again_with_room(argon, monkeypatch):
    problem = make_problem(small(argon))
    params = with_room(problem.potential.init(jax.random.PRNGKey(0)), 3)
    state = TrainState(jnp.int32(4), params, params, (), (), jax.random.PRNGKey(0))
    rooms = []

    def update(state, frames):
        rooms.append(room_in(state))
        jax.tree.map(lambda leaf: leaf.delete(), state)  # as a donated state is
        return state, {"full_neighbour_list": jnp.float32(0.2 * (rooms[-1] < 5))}, None

    told = []
    monkeypatch.setattr(binary.LOG, "warning", lambda form, *args: told.append(form % args))
    roomy_update(update, state, problem, 7)
    assert rooms == [3, 4, 5] and not told
    rooms.clear()
    roomy_update(update, state, problem, 4)  # what wants more has collapsed
    assert rooms == [3, 4]
    (line,) = told
    assert "room for 4 neighbours is the most that is made" in line


def test_an_update_without_chains_that_is_no_number_is_made_again_with_room(argon):
    problem = make_problem(small(argon))
    params = with_room(problem.potential.init(jax.random.PRNGKey(0)), 3)
    rooms = []

    def update(state, frames):
        rooms.append(room_in(state))
        return state, {"loss": jnp.float32(np.nan if rooms[-1] < needed[0] else 1.0)}, None

    needed = [0]
    cases = (((), 5, [3, 4, 5]), ((), 9, [3, 4, 5, 7]), (jnp.zeros(1), 5, [3]))
    for objective, enough, expected in cases:
        rooms.clear()
        needed[0] = enough
        state = TrainState(jnp.int32(4), params, params, (), objective, jax.random.PRNGKey(0))
        roomy_update(update, state, problem, 7)
        assert rooms == expected


def test_without_chains_there_is_room_for_the_frames_and_no_more(argon, tmp_path):
    problem, state = run(small(argon), tmp_path / "mse")
    every = np.concatenate([b.positions for b in (problem.train, problem.validation, problem.test)])
    room = room_in(state)
    assert room == min(problem.potential.room_for(every, 1.0) + 1, 7)
    for params, finite in ((state.params, True), (with_room(state.params, room - 2), False)):
        energies = [problem.potential.energy(params, x) for x in every]
        assert np.isfinite(energies).all() == finite
    config = small(argon, objective="contrastive", init_from=str(tmp_path / "mse"))
    for params in (starting_weights(config, problem)[0], load_params(tmp_path / "mse", problem)):
        assert room_in(params) == data_room(problem)  # where chains move


def test_a_checkpoint_remembers_the_room(argon, tmp_path):
    config = small(argon)
    problem, objective = prepare(config)
    params, moments = starting_weights(config, problem)
    state = start(jax.random.PRNGKey(0), params, moments, objective, problem.train)
    (tmp_path / "run").mkdir()
    checkpoints = Checkpoints(tmp_path / "run", write=True)
    checkpoints.save(with_room(state._replace(step=jnp.int32(3)), 7))
    assert room_in(checkpoints.restore(with_room(state, 2))) == 7
    assert room_in(checkpoints.restore_weights(params, moments)) == 7
    checkpoints.close()
    assert room_in(load_params(tmp_path / "run", problem)) == 7


def test_a_run_without_chains_resumes(argon, tmp_path):
    _, unbroken = run(small(argon), tmp_path / "mse")
    (tmp_path / "mse" / "checkpoints" / "10").rename(tmp_path / "gone")
    _, resumed = run(small(argon), tmp_path / "mse")
    assert_same(resumed, unbroken)


def test_bonds_of_a_box_are_those_that_last():
    # A bond in all frames, and two argon atoms that touch in every other one.
    rng = np.random.default_rng(0)
    positions = np.array([[0, 0, 0], [0.96, 0, 0], [0, 4.0, 0], [2.0, 4.0, 0]]) + np.zeros((20, 4, 3))
    positions[::2, 3, 0] += 1.5
    positions += 0.01 * rng.normal(size=positions.shape)
    frames = Frames(np.array([8, 1, 18, 18]), positions, np.zeros(20), positions, np.arange(20), CELL)
    assert make_system(frames.numbers, positions[1], 90.0, cell=CELL).bonds.tolist() == [[0, 1], [2, 3]]
    bonds = lasting_bonds(frames)
    assert bonds.tolist() == [[0, 1]]
    system = with_bonds(make_system(frames.numbers, positions[1], 90.0, cell=CELL), bonds)
    assert system.molecules.tolist() == [0, 0, 1, 2] and len(system.bond_lengths) == 1


def test_reference_frames_that_want_more_room_than_chains(argon, tmp_path):
    frames = ase.io.read(argon, ":24")
    for atoms in frames:
        atoms.positions += 0.01  # so that none is a test frame
    ase.io.write(tmp_path / "sparse.traj", frames)
    frames[7].positions *= 0.5
    ase.io.write(tmp_path / "dense.traj", frames)
    for name in ("sparse", "dense"):
        changes = {"contrastive.reference": str(tmp_path / f"{name}.traj"), "contrastive.burn_in": 0}
        config = small(argon, **changes, **{"training.batch_size": 24, "contrastive.n_chains": 1})
        config.objective = "contrastive"
        problem, objective = prepare(config)
        params = with_room(
            problem.potential.init(jax.random.key(0)), problem.potential.room_for(problem.train[0])
        )
        state = objective.init(jax.random.key(1), params, problem.train)
        samples, _ = objective.sample(params, state)
        assert samples.alive.all() and bool(samples.full) == (name == "dense")


def test_a_test_file_of_another_cell(argon, tmp_path):
    other = ase.io.read(argon, ":")
    for atoms in other:
        atoms.set_cell(1.01 * CELL)
    ase.io.write(tmp_path / "wide.extxyz", other)
    with pytest.raises(ValueError, match=r"wide\.extxyz: its cell is not that of the training file"):
        make_problem(small(argon, **{"dataset.test_path": str(tmp_path / "wide.extxyz")}))


def test_a_box_too_small_for_the_cutoff(argon):
    with pytest.raises(ValueError, match=r"cutoff of 4\.5 Å is more than half .* a larger box"):
        make_problem(small(argon, **{"schnet.cutoff": 4.5}))
    with pytest.raises(ValueError, match=r"zbl: its reach of 5\.\d+ Å is more than half .* or a larger box"):
        make_problem(small(argon, **{"zbl.enabled": True, "zbl.nonbonded_reach": 1.5}))
    assert (
        make_problem(small(argon, **{"dataset.ignore_cell": True, "schnet.cutoff": 4.5})).system.cell is None
    )


def test_a_network_in_a_box_over_a_prior(argon, tmp_path):
    changes = {"zbl.enabled": True, "zbl.nonbonded_reach": 0.9}
    problem, state = run(small(argon, **changes), tmp_path / "mse")
    prior = zbl(problem.system, nonbonded_reach=0.9)
    frame = 0.8 * problem.test.positions[0]
    bare = make_problem(small(argon)).potential.energy(state.params, frame)
    repulsion = jnp.sum(prior(frame))
    assert float(repulsion) > 0.01
    found = float(problem.potential.energy(state.params, frame))
    assert found == pytest.approx(float(bare + repulsion), rel=1e-4)


def test_a_run_in_a_box_is_evaluated(argon, tmp_path):
    config = small(argon)
    problem, state = run(config, tmp_path / "mse")
    config.evaluation.update({"n_chains": 4, "n_steps": 100, "record_every": 1, "discard": 0.2})
    config.baoab.timestep = 20.0
    check_evaluation(config, problem, has_negatives=False)
    metrics = evaluate.evaluate_run(config, problem, state.average, tmp_path / "mse")
    assert metrics["rdf_mae_Ar-Ar"] > 0 and metrics["rdf_mae_Ar-Ar_stderr"] > 0
    assert "reference_virial_temperature_k" not in metrics and "relaxed_energy_ev" not in metrics
    drawn = load_run(tmp_path / "mse", "mse")
    assert named_groups(drawn, "rdf") == {"rdf_0": "Ar-Ar"}
    assert "radial_distributions" in figures([drawn])
    assert consistency_sentences(metrics) == []


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """An extxyz of 40 frames of two water molecules in a box, labelled by harmonic bonds alone."""
    rng = np.random.default_rng(0)
    one = molecule_of("H2O").positions
    bonds, frames = [(0, 1), (0, 2), (3, 4), (3, 5)], []
    for _ in range(40):
        positions = np.concatenate([one, one + 3.5]) + rng.normal(scale=0.04, size=(6, 3))
        energy, forces = 0.0, np.zeros((6, 3))
        for i, j in bonds:
            step = positions[j] - positions[i]
            length = np.linalg.norm(step)
            energy += 5.0 * (length - 0.97) ** 2
            forces[i] += (pull := 10.0 * (length - 0.97) * step / length)
            forces[j] -= pull
        atoms = Atoms("OH2OH2", positions, cell=np.diag([7.5, 7.5, 7.5]), pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "water.extxyz"
    ase.io.write(path, frames)
    return path


def test_localized_stable_training(water, tmp_path):
    run(small(water, **{"schnet.cutoff": 3.6}), tmp_path / "mse")
    config = small(water, **{"schnet.cutoff": 3.6, "objective": "stable", "training.log_every": 1})
    config.init_from = str(tmp_path / "mse")
    config.stable.update({"n_replicas": 6, "n_steps": 20, "record_every": 5, "bond_deviation": 0.05})
    config.stable.update({"estimator": "local", "deviation_bins": 10, "per_bin": 2})
    config.stable.update({"cross_fitted": False, "qm_weight": 0.0})
    config.stable.observables.update({"distances": 0.0, "mean_bond_length": 1.0})
    _, state = run(config, tmp_path / "stable")
    log = np.genfromtxt(tmp_path / "stable" / "train_log.csv", delimiter=",", names=True)
    learning = log[log["phase"] == LEARNING]
    assert len(learning) > 1
    assert np.isfinite(learning["loss_observables"]).all() and np.all(learning["gradient_norm"] > 0)
    assert_allclose(learning["effective_samples"], 6 * 4, rtol=1e-5)
    assert_allclose(state.objective.latest.targets["mean_bond_length"], [0.97], atol=0.02)
