"""The training binary: resuming after kill -9, post-training with moments, bad input."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import binary, evaluate
from experiments import train as module
from experiments.checkpoints import Checkpoints
from experiments.configs import base, ethanol, rmd17_ethanol
from experiments.problem import check_data, make_problem
from experiments.starting_points import with_data, with_schedule
from experiments.train import prepare, train
from experiments.training import make_optimiser, make_update
from potentials.torch_weights import read_state_dict, schnet_params
from tests.experiments.small_problem import assert_same
from tests.potentials.torch_state import small_state

ROOT = Path(__file__).resolve().parents[2]


def small(**changes):
    """The package's ethanol, shrunk to seconds."""
    config = ethanol.get_config()
    config.dataset.train, config.dataset.validation, config.dataset.test = 60, 20, 20
    config.schnet.n_features = config.schnet.n_filters = 16
    config.schnet.n_interactions = 1
    config.training.batch_size = 20
    config.training.log_every = config.training.checkpoint_every = 10
    config.pre_training.n_updates = 60
    config.post_training.n_updates = 60
    config.post_training.warmup = 10
    config.contrastive.n_chains, config.contrastive.n_steps, config.contrastive.burn_in = 6, 5, 20
    # Bonds that leave a range they can not keep to: learning begins at once and goes on.
    config.stable.n_replicas, config.stable.n_steps, config.stable.record_every = 6, 20, 10
    config.stable.bond_deviation, config.stable.max_learning_windows = 0.03, 1000
    config.update_from_flattened_dict(changes)
    return config


def run(config, workdir):
    problem, objective = prepare(config)
    return train(config, problem, objective, binary.claim_workdir(str(workdir), config))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "mse"
    return workdir, run(small(), workdir)


def flags_of(config):
    base = ethanol.get_config()
    pairs = {}

    def walk(new, old, prefix):
        for key in new:
            if hasattr(new[key], "keys"):
                walk(new[key], old[key], f"{prefix}{key}.")
            elif new[key] != old[key]:
                pairs[f"{prefix}{key}"] = new[key]

    walk(config, base, "")
    return [f"--config.{key}={value}" for key, value in pairs.items()]


def command(config, workdir):
    return [sys.executable, "-m", "experiments.train", f"--workdir={workdir}", *flags_of(config)]


def test_errors_fall_and_are_logged(pretrained):
    workdir, _ = pretrained
    log = np.genfromtxt(workdir / "train_log.csv", delimiter=",", names=True)
    assert log["step"].tolist() == list(range(10, 61, 10))
    assert log["validation_force_mae_mev_per_angstrom"][-1] < 0.9 * log["force_mae_mev_per_angstrom"][0]


def test_post_training_starts_from_weights_and_moments(pretrained):
    workdir, state = pretrained
    config = small(objective="crmse", init_from=str(workdir))
    problem = make_problem(config)
    params = problem.potential.init(jax.random.PRNGKey(5))
    found, _, moments = Checkpoints(workdir).restore_weights(params, make_optimiser(1.0).init(params))
    assert_same(found, state.params)
    assert_same(moments, state.optimiser)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(moments))


def test_post_training_ends_where_forces_have_paid_enough(pretrained, tmp_path):
    changes = {"init_from": str(pretrained[0]), "post_training.clip_norm": 1e3, "post_training.initial": 0.03}
    changes |= {"training.log_every": 1, "training.checkpoint_every": 4, "post_training.average_decay": 0.0}
    config = small(**changes, **{"post_training.max_force_rise": 0.2})
    before = np.genfromtxt(pretrained[0] / "train_log.csv", delimiter=",", names=True)
    limit = 1.2 * before["validation_force_mae_mev_per_angstrom"][-1]
    state = run(config, tmp_path / "guarded")
    log = np.genfromtxt(tmp_path / "guarded" / "train_log.csv", delimiter=",", names=True)
    errors = np.atleast_1d(log["validation_force_mae_mev_per_angstrom"])
    assert len(errors) == int(state.step) < 60 and errors[-1] > limit and (errors[:-1] <= limit).all()
    again = run(config, tmp_path / "guarded")  # resumed, it has ended
    assert_same(again.params, state.params)
    assert int(run(small(**changes), tmp_path / "unguarded").step) == 60
    with pytest.raises(ValueError, match=r"max_force_rise is of validation frames; dataset\.validation is 0"):
        prepare(small(**changes, **{"post_training.max_force_rise": 0.2, "dataset.validation": 0}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset.train": 40}, "another problem: dataset.train is 60 there and 40 here"),
        ({"zbl.enabled": True}, "another problem: zbl.enabled is False there"),
        ({"schnet.cutoff": 4.0}, "another problem: schnet.cutoff is 5.0 there"),
    ],
)
def test_post_training_of_another_problem_is_refused(pretrained, changes, words):
    with pytest.raises(binary.InputError, match=words), binary.reading_input():
        prepare(small(objective="crmse", init_from=str(pretrained[0]), **changes))


def test_post_training_that_names_no_data_has_its_parents(pretrained):
    config = small(objective="crmse", init_from=str(pretrained[0]))
    silent = config.copy_and_resolve_references()
    silent.dataset = base.get_config().dataset
    assert with_data(silent).dataset == config.dataset
    assert silent.dataset.name == ""  # the caller's own is left alone
    silent.dataset.train = config.dataset.train  # as there: no matter
    assert with_data(silent).dataset == config.dataset
    silent.dataset.train = 12
    with pytest.raises(ValueError, match=r"dataset\.train is 12 and in .*, whose data these are, 60"):
        with_data(silent)
    fresh = small(init_from="", **{"dataset.name": ""})
    assert with_data(fresh) is fresh


def test_stable_training_that_says_nothing_of_its_schedule_has_its_own(tmp_path):
    config = base.get_config()
    config.objective, config.init_from = "stable", "W0"
    scheduled = with_schedule(config, "")
    assert scheduled.post_training.average_decay == 0 and scheduled.post_training.warmup == 0
    assert (scheduled.training.log_every, scheduled.training.checkpoint_every) == (1, 10)
    assert config.post_training == base.get_config().post_training
    for own in ({"objective": "crmse"}, {"post_training.final": 1e-6}):
        config = base.get_config()
        config.objective, config.init_from = "stable", "W0"
        config.update_from_flattened_dict(own)
        assert with_schedule(config, "") is config
    config = base.get_config()
    config.objective = "stable"
    assert with_schedule(config, "") is config  # no post-training
    config.init_from = "W0"
    (tmp_path / "config.json").write_text(config.to_json())
    assert with_schedule(config, str(tmp_path)) is config  # begun so


def test_a_learning_phase_goes_on_from_its_checkpoint(pretrained, tmp_path):
    changes = {"init_from": str(pretrained[0]), "objective": "stable", "post_training.n_updates": 30}
    unbroken = run(small(**changes), tmp_path / "W")
    log = np.genfromtxt(tmp_path / "W" / "train_log.csv", delimiter=",", names=True)
    assert log["phase"][1:].tolist() == [1, 1]
    shutil.rmtree(tmp_path / "W" / "checkpoints" / "30")
    assert_same(run(small(**changes), tmp_path / "W"), unbroken)  # replicas, phase and noise among it


def test_a_row_is_the_mean_over_its_updates(pretrained, tmp_path):
    """An update a call where there are samples; of simulation windows, what was defined."""
    changes = {"init_from": str(pretrained[0]), "objective": "stable", "post_training.n_updates": 20}
    run(small(**changes, **{"training.log_every": 1}), tmp_path / "each")
    run(small(**changes), tmp_path / "tens")
    each, tens = (
        np.genfromtxt(tmp_path / name / "train_log.csv", delimiter=",", names=True)
        for name in ("each", "tens")
    )
    for name in ("loss", "phase", "force_mae_mev_per_angstrom"):
        np.testing.assert_allclose(np.nanmean(each[name][:10]), tens[name][0], rtol=1e-5)
        np.testing.assert_allclose(np.nanmean(each[name][10:]), tens[name][1], rtol=1e-5)


def test_sigterm_saves_and_the_same_command_goes_on(pretrained, tmp_path):
    # No checkpoint but the last, were it not for the signal.
    settings = {"training.checkpoint_every": 400, "post_training.n_updates": 400}
    config = small(objective="crmse", init_from=str(pretrained[0]), **settings)
    process = subprocess.Popen(command(config, tmp_path / "W"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "W" / "train_log.csv").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0
    assert re.search(r"boltzfit [0-9.]+, commit \S+; jax [0-9.]+ on \d+ x cpu .*highest; seed 0", said)
    (step,) = (int(p.name) for p in (tmp_path / "W" / "checkpoints").iterdir() if p.name.isdigit())
    assert 10 <= step < 400 and f"saved at update {step}; go on by the same command" in said
    again = subprocess.run(
        command(config, tmp_path / "W"), cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert f"resumed at update {step}" in again.stderr
    rows = (tmp_path / "W" / "train_log.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(10, 401, 10))


@pytest.mark.parametrize("objective_name", ["crmse", pytest.param("stable", marks=pytest.mark.slow)])
def test_kill_9_and_start_again_equals_an_unbroken_run(pretrained, tmp_path, objective_name):
    config = small(objective=objective_name, init_from=str(pretrained[0]))
    # The unbroken run is another process too, so that both compile under the same circumstances.
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    subprocess.run(command(config, unbroken), cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen(
        command(config, broken), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not (broken / "checkpoints" / "20").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    killed_at = max(int(p.name) for p in (broken / "checkpoints").iterdir() if p.name.isdigit())
    assert killed_at < 60
    subprocess.run(command(config, broken), cwd=ROOT, check=True, capture_output=True)
    problem, objective = prepare(config)
    assert objective is not None
    params = problem.potential.init(jax.random.PRNGKey(0))
    moments = make_optimiser(1.0).init(params)
    one, other = (Checkpoints(w).restore_weights(params, moments) for w in (unbroken, broken))
    assert_same(one, other)
    rows = [(w / "train_log.csv").read_text().splitlines() for w in (unbroken, broken)]
    assert len(rows[0]) == len(rows[1]) == 7
    if objective_name == "stable":  # killed in the middle of a learning phase
        phase = rows[0][0].split(",").index("phase")
        assert [row.split(",")[phase] for row in rows[0][2:]] == ["1.0"] * 5


@pytest.fixture
def published(tmp_path):
    """A file of weights of the shape of `small`, with PyTorch Geometric's names."""
    state = small_state(n_interactions=1, width=16, n_filters=16, n_gaussians=25, n_elements=100, cutoff=5.0)
    np.savez(tmp_path / "weights.npz", **state)
    return tmp_path / "weights.npz"


def test_published_weights_are_a_run_without_updates(published, tmp_path):
    config = small(weights=str(published), **{"pre_training.n_updates": 0})
    problem, _ = prepare(config)
    state = run(config, tmp_path / "run")
    assert state.step == 0
    loaded = evaluate.load_params(tmp_path / "run", problem)
    assert_same(loaded, state.params)
    given = schnet_params(read_state_dict(published))
    bias = loaded["readout_1"].pop("bias"), given["readout_1"].pop("bias")
    assert_same(loaded, given)
    loaded["readout_1"]["bias"] = bias[0]
    energies = jax.vmap(problem.potential.energy, (None, 0))(loaded, problem.train.positions)
    offset = np.mean(energies - problem.train.energies)
    assert abs(offset) < 1e-5 * np.abs(energies).max()
    assert run(config, tmp_path / "run").step == 0  # once more, from the checkpoint
    follower = small(objective="stable", init_from=str(tmp_path / "run"))
    prepare(follower)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": ""}, "pre_training.n_updates is 0; expected 1 or more, or weights"),
        ({"weights": "/nowhere.npz"}, "/nowhere.npz: no such weights file"),
        ({"schnet.n_features": 8}, "holds another network than config.schnet: "),
        ({"schnet.cutoff": 6.0}, "has a cutoff of 5.0 Å; expected config.schnet's, 6.0"),
        ({"init_from": "somewhere"}, "init_from and weights are both set"),
    ],
)
def test_weights_that_do_not_do(published, changes, words):
    settings = {"weights": str(published), "pre_training.n_updates": 0, **changes}
    with pytest.raises(binary.InputError, match=words), binary.reading_input():
        prepare(small(**settings))


def test_a_damaged_checkpoint_is_passed_over(pretrained, tmp_path):
    config = small()
    run(config, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "60"
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = run(config, tmp_path / "run")
    assert_same(again.params, pretrained[1].params)
    # Written again, whole: what evaluation reads is the last step, not the one before the damage.
    params = jax.tree.map(np.zeros_like, again.params)
    moments = make_optimiser(1.0).init(params)
    assert_same(Checkpoints(tmp_path / "run").restore_weights(params, moments)[0], again.params)
    assert (tmp_path / "run" / "checkpoints" / "unreadable_60").is_dir()


def test_a_workdir_of_another_configuration_is_refused_untouched(pretrained):
    workdir, _ = pretrained
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    with pytest.raises(binary.InputError, match=r"another configuration: seed is 0 there and 7 here"):
        binary.claim_workdir(str(workdir), small(seed=7))
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "crmes"}, "unknown objective 'crmes'; nearest: 'crmse'"),
        ({"potential": "schnett"}, "unknown potential 'schnett'; nearest: 'schnet'"),
        ({"objective": "crmse", "contrastive.sampler": "malla"}, "unknown sampler 'malla'; nearest: 'mala'"),
        ({"dataset.name": "ethanol_gfn"}, "nearest: 'ethanol_gfn2'"),
        ({"dataset.name": "", "dataset.path": "/nowhere/x.npz"}, "/nowhere/x.npz"),
        ({"dataset.train": 100_000}, "100000"),
        ({"training.batch_size": 61}, "training.batch_size is 61"),
        ({"schnet.cutoff": 1.0}, "schnet.cutoff is 1.0 Å, shorter than a bond"),
        ({"init_from": "/nowhere"}, "init_from: /nowhere holds no checkpoints"),
        ({"training.checkpoint_every": 15}, "checkpoint_every is 15"),
        ({"dataset.temperature": -1.0}, "dataset.temperature is -1.0; expected"),
        ({"training.log_every": 0}, "training.log_every is 0; expected 1 or more"),
        ({"schnet.n_interactions": -1}, "schnet.n_interactions is -1"),
        ({"baoab.timestep": 0.0}, "baoab.timestep is 0.0; expected a positive number"),
        ({"evaluation.discard": 1.0}, "evaluation.discard is 1.0"),
        ({"objective": "crmse", "contrastive.restart_fraction": 2.0}, "contrastive.restart_fraction is 2.0"),
        ({"objective": "stable", "stable.f_min": 0.8}, "stable.f_min is 0.8 and f_max 0.75"),
        ({"objective": "stable", "stable.record_every": 7}, "expected a multiple of stable.record_every, 7"),
        ({"objective": "stable", "stable.bond_deviation": 0.0}, "expected at least one criterion"),
        ({"objective": "stable", "stable.reference": "/nowhere.npz"}, "stable.reference: /nowhere.npz"),
        (
            {"objective": "stable", "stable.reference": "rmd17_ethanol_09"},
            "stable.reference: rmd17_ethanol_09: no such",
        ),
        ({"objective": "stable", "stable.estimator": "locale"}, "unknown stable.estimator 'locale'; nearest"),
        (
            {"objective": "stable", "stable.estimator": "local"},
            "observable of the local estimator 'distances'",
        ),
        ({"objective": "stable", "stable.observables.distances": 0.0}, "stable: no observables"),
        ({"post_training.optimiser": "lion", "init_from": "/nowhere"}, "unknown optimiser 'lion'"),
    ],
)
def test_bad_input_is_one_line_that_names_it(changes, words):
    with pytest.raises(binary.InputError) as caught, binary.reading_input():
        prepare(small(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rmd17_trains_to_its_own_split(data):
    config = rmd17_ethanol.get_config()
    problem = make_problem(config)
    assert [len(batch.energies) for batch in problem[4:]] == [950, 50, 1000]
    assert abs(float(problem.train.energies.mean())) < 1e-4
    assert len(problem.system.bonds) == 8


def test_other_frames_under_the_same_name_are_refused(pretrained):
    workdir, state = pretrained
    config = small()
    problem, objective = prepare(config)
    frames = problem.splits.train
    splits = problem.splits._replace(train=frames._replace(energies=frames.energies + 0.1))
    with pytest.raises(binary.InputError, match="on other frames"):
        train(config, problem._replace(splits=splits), objective, workdir)
    with pytest.raises(ValueError, match="on other frames"):
        check_data(workdir, problem._replace(splits=splits))  # as evaluation and post-training do
    assert_same(train(config, problem, objective, workdir).params, state.params)


def test_weights_that_go_non_finite_end_the_run_and_its_checkpoints_stay(tmp_path, monkeypatch, pretrained):
    with pytest.raises(binary.InputError, match=r"not finite, at update 10; .*checkpoint is of update 0"):
        run(small(**{"pre_training.initial": 1e38}), tmp_path / "wild")

    def failing(*arguments, **settings):
        update = make_update(*arguments, **settings)

        def call(state, frames):
            new, metrics, samples = update(state, frames)
            bad = jax.tree.map(lambda leaf: leaf * jnp.where(new.step > 20, jnp.nan, 1.0), new.params)
            return new._replace(params=bad), metrics, samples

        return call

    monkeypatch.setattr(module, "make_update", failing)
    with pytest.raises(binary.InputError, match=r"at update 30; .*checkpoint is of update 20"):
        run(small(), tmp_path / "late")
    monkeypatch.undo()
    assert_same(run(small(), tmp_path / "late").params, pretrained[1].params)


SIZES = {"n_features": 4, "n_layers": 1, "n_bessel": 4, "n_hidden": 8}
SIZES_OF_EDGES = {"n_atom": 8, "n_edge": 8, "n_triplet": 4, "n_bilinear": 4, "n_basis": 4, "n_blocks": 1}


@pytest.mark.parametrize(
    ("name", "settings"), [("nequip", SIZES), ("mace", SIZES), ("gemnet_t", SIZES_OF_EDGES)]
)
def test_another_network_by_its_name(name, settings, tmp_path):
    *_, size = settings
    config = small(potential=name, **{f"{name}.{field}": value for field, value in settings.items()})
    config.pre_training.initial = 0.02
    run(config, tmp_path / "run")
    log = np.genfromtxt(tmp_path / "run" / "train_log.csv", delimiter=",", names=True)
    assert log["force_mae_mev_per_angstrom"][-1] < 0.9 * log["force_mae_mev_per_angstrom"][0]
    with pytest.raises(ValueError, match=rf"{name}.{size} is 0; expected 1 or more"):
        prepare(small(potential=name, **{f"{name}.{size}": 0}))
    with pytest.raises(ValueError, match=rf"{name}.cutoff is 1.0 Å, shorter than a bond"):
        prepare(small(potential=name, **{f"{name}.cutoff": 1.0}))
