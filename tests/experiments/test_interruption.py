"""Runs that are stopped, killed or damaged, and go on."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import binary
from experiments import train as module
from experiments.checkpoints import Checkpoints
from experiments.train import prepare
from experiments.training import make_optimiser, make_update
from tests.experiments.small_problem import assert_same
from tests.experiments.small_run import command, run, small

ROOT = Path(__file__).resolve().parents[2]


def test_a_learning_phase_goes_on_from_its_checkpoint(pretrained, tmp_path):
    changes = {"init_from": str(pretrained[0]), "objective": "stable", "post_training.n_updates": 30}
    unbroken = run(small(**changes), tmp_path / "W")
    log = np.genfromtxt(tmp_path / "W" / "train_log.csv", delimiter=",", names=True)
    assert log["phase"][1:].tolist() == [1, 1]
    shutil.rmtree(tmp_path / "W" / "checkpoints" / "30")
    assert_same(run(small(**changes), tmp_path / "W"), unbroken)  # replicas, phase and noise among it


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
