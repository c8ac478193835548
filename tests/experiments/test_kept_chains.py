"""Evaluations that are stopped or killed, and go on."""

import json
import os
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

from experiments import binary, evaluation, kept_chains
from experiments.comparison import compare
from experiments.evaluate import chain_record, evaluate_run
from experiments.evaluation import run_chains
from experiments.evaluation_checks import check_output
from experiments.kept_chains import CHAINS, KeptChains, remove_chains
from objectives.base import Batch
from potentials import from_energy
from tests.experiments.small_problem import small, small_problem
from tests.experiments.small_run import run
from tests.experiments.small_run import small as small_training

ROOT = Path(__file__).resolve().parents[2]
# Three windows; bonds leave so narrow a range at other times in each chain.
SETTINGS = {"evaluation.n_steps": 150, "evaluation.bond_deviation": 0.25}
LIMIT = 1.74  # Å, of the first bond, beyond which there is no energy


class Killed(Exception):
    """What ends a run here."""


def killer(after):
    """Ends what it is told of after so many windows."""
    seen = []

    def progress(window):
        seen.append(window.step)
        if len(seen) == after:
            raise Killed

    return progress


def assert_same(found, expected):
    for name in expected._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.fixture(scope="module")
def unbroken():
    """(problem, params, the chains of one run) of a potential whose chains break and, some of them, fail."""
    problem, _ = small_problem()
    centre = problem.test.positions[0]

    def energy(params, positions):
        broken = jnp.linalg.norm(positions[0] - positions[1]) > LIMIT
        springs = 0.5 * params["stiffness"] * jnp.sum((positions - centre) ** 2)
        return springs * jnp.where(broken, jnp.nan, 1.0)

    problem = problem._replace(
        potential=from_energy(energy, lambda key: {"stiffness": jnp.float32(4.0)}),
        test=Batch(jnp.stack([centre] * 40), problem.test.energies, problem.test.forces),
    )
    params = problem.potential.init(jax.random.PRNGKey(0))
    chains = run_chains(small(**SETTINGS), problem, params)
    windows = chains.intact_steps // 50
    assert len(set(windows.tolist())) == 3  # in the first, in later ones
    ends = chains.alive.sum(axis=1)
    assert (ends == 150).any() and (ends < 150).any()
    return problem, params, chains


@pytest.mark.parametrize("after", [1, 2, 3])
def test_chains_go_on_to_the_same_numbers(unbroken, tmp_path, after):
    problem, params, expected = unbroken
    config = small(**SETTINGS)
    with pytest.raises(Killed):
        run_chains(config, problem, params, killer(after), KeptChains(tmp_path, {"seed": 0}))
    steps = []
    again = KeptChains(tmp_path, {"seed": 0})
    assert_same(run_chains(config, problem, params, lambda w: steps.append(w.step), again), expected)
    assert steps == [50, 100, 150][after:]


@pytest.mark.parametrize("sampler", ["nose_hoover", "mala", "ula"])
def test_chains_of_any_sampler_go_on(unbroken, tmp_path, sampler):
    problem, params, _ = unbroken
    config = small(**SETTINGS, **{"evaluation.sampler": sampler})
    expected = run_chains(config, problem, params)
    assert (expected.positions[:, 49] != expected.positions[:, 99]).any()
    with pytest.raises(Killed):
        run_chains(config, problem, params, killer(1), KeptChains(tmp_path, {}))
    assert_same(run_chains(config, problem, params, None, KeptChains(tmp_path, {})), expected)


def test_a_window_killed_while_it_is_written_is_made_again(unbroken, tmp_path):
    problem, params, expected = unbroken
    config = small(**SETTINGS)
    with pytest.raises(Killed):
        run_chains(config, problem, params, killer(2), KeptChains(tmp_path, {}))
    folder = tmp_path / CHAINS
    (folder / "window_00002.npz").write_bytes(b"PK half of a window")  # before the state that counts it
    (folder / ".state.npz.partial.npz").write_bytes(b"PK half of a state")
    assert_same(run_chains(config, problem, params, None, KeptChains(tmp_path, {})), expected)


@pytest.mark.parametrize("damage", ["record", "state", "window", "lost"])
def test_what_can_not_be_gone_on_with_is_refused_and_left(unbroken, tmp_path, damage):
    problem, params, _ = unbroken
    config = small(**SETTINGS)
    with pytest.raises(Killed):
        run_chains(config, problem, params, killer(2), KeptChains(tmp_path, {"seed": 9}))
    folder = tmp_path / CHAINS
    record, words = {"seed": 9}, "no readable chains"
    if damage == "record":
        record, words = {"seed": 1}, "holds chains of something else: seed is 9 there and 1 here"
    elif damage == "lost":
        (folder / "window_00000.npz").unlink()
    else:
        path = folder / {"state": "state.npz", "window": "window_00001.npz"}[damage]
        path.write_bytes(path.read_bytes()[:1000])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(binary.InputError, match=rf"{CHAINS}.*{words}.*; expected another --output, or"):
        run_chains(config, problem, params, None, KeptChains(tmp_path, record))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_chains_of_another_sampler_are_told_by_their_record(unbroken, tmp_path):
    problem, params, _ = unbroken
    with pytest.raises(Killed):
        run_chains(small(**SETTINGS), problem, params, killer(1), KeptChains(tmp_path, {"sampler": "baoab"}))
    config = small(**SETTINGS, **{"evaluation.sampler": "ula"})
    with pytest.raises(binary.InputError, match="sampler is 'baoab' there and 'ula' here"):
        run_chains(config, problem, params, None, KeptChains(tmp_path, {"sampler": "ula"}))


def test_chains_are_of_settings_weights_and_code(unbroken, tmp_path, monkeypatch):
    _, params, _ = unbroken
    record = chain_record(small(), params)
    assert json.loads(json.dumps(record)) == record
    assert chain_record(small(**{"evaluation.seed": 5}), params) != record
    assert chain_record(small(**{"baoab.friction": 2.0}), params) != record
    assert chain_record(small(), jax.tree.map(lambda leaf: leaf + 1e-3, params)) != record
    for name in ("potentials", "samplers", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("results", "data"))
    monkeypatch.setattr(kept_chains, "__file__", str(tmp_path / "experiments" / "kept_chains.py"))
    assert chain_record(small(), params) == record
    (tmp_path / "experiments" / "report.py").write_text("# of no account for the chains")
    assert chain_record(small(), params) == record
    with (tmp_path / "samplers" / "langevin.py").open("a") as file:
        file.write("# another sampler")
    assert chain_record(small(), params) != record


def test_chains_of_other_settings_are_not_replaced(tmp_path):
    problem, _ = small_problem()
    config = small()
    params = problem.potential.init(jax.random.PRNGKey(0))
    evaluate_run(config, problem, params, tmp_path)
    other = small(**{"evaluation.n_steps": 10})
    check_output(tmp_path, "eval", config)
    with pytest.raises(ValueError, match=r"eval holds another evaluation: evaluation\.n_steps is 50 there"):
        check_output(tmp_path, "eval", other)
    (tmp_path / "eval" / "metrics.json").unlink()
    with pytest.raises(
        ValueError, match=rf"holds chains of another .* is 50 there .* or {CHAINS} in it removed"
    ):
        check_output(tmp_path, "eval", other)
    remove_chains(tmp_path / "eval")
    check_output(tmp_path, "eval", other)


def test_sigterm_after_the_last_window_ends_with_the_metrics(tmp_path, monkeypatch):
    problem, _ = small_problem()

    def signalled(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return compare(*arguments, **settings)

    monkeypatch.setattr(evaluation, "compare", signalled)
    with pytest.raises(SystemExit) as ended:
        evaluate_run(small(), problem, problem.potential.init(jax.random.PRNGKey(0)), tmp_path)
    assert ended.value.code == 0
    assert (tmp_path / "eval" / "metrics.json").exists()
    assert (tmp_path / "eval" / CHAINS).exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and what an evaluation of it says that nothing stops."""
    workdir = tmp_path_factory.mktemp("trained")
    settings = {"pre_training.n_updates": 10, "evaluation.n_chains": 6, "evaluation.record_every": 10}
    run(small_training(**settings, **{"evaluation.n_steps": 20_000}), workdir)
    subprocess.run([*evaluation_of(workdir), "--output=whole"], cwd=ROOT, check=True)
    assert not (workdir / "whole" / CHAINS).exists()
    return workdir, results(workdir / "whole")


def evaluation_of(workdir):
    return [sys.executable, "-m", "experiments.evaluate", f"--workdir={workdir}"]


def results(folder):
    with np.load(folder / "curves.npz") as file:
        return json.loads((folder / "metrics.json").read_text()), {name: file[name] for name in file}


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGKILL])
def test_an_evaluation_that_is_stopped_goes_on_by_the_same_command(trained, blow):
    workdir, (metrics, curves) = trained
    command = [*evaluation_of(workdir), f"--output={blow.name}"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    folder = workdir / blow.name / CHAINS
    while not (folder / "state.npz").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, blow)
    _, said = process.communicate(timeout=300)
    assert process.returncode == (0 if blow == signal.SIGTERM else -9)
    assert ("stopped by SIGTERM; go on by the same command" in said) == (blow == signal.SIGTERM)
    assert not (workdir / blow.name / "metrics.json").exists()
    assert 1 <= len(list(folder.glob("window_*.npz"))) < 40
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert f"{CHAINS}: goes on after" in again.stderr
    assert not folder.exists()
    found, drawn = results(workdir / blow.name)
    assert metrics["chain_length_steps"] == 20_000 and found == metrics
    assert drawn.keys() == curves.keys()
    for name in curves:
        np.testing.assert_array_equal(drawn[name], curves[name], err_msg=name)
