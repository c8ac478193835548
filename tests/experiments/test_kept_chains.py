"""Evaluations that are stopped or killed, and go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evaluate import chain_record, evaluate_run
from experiments.evaluation import run_chains
from experiments.evaluation_checks import check_output
from experiments.kept_chains import CHAINS, KeptChains
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
    assert steps == [50, 100, 150]


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
def test_what_can_not_be_gone_on_with_is_begun_anew(unbroken, tmp_path, caplog, damage):
    problem, params, expected = unbroken
    config = small(**SETTINGS)
    before = small(**SETTINGS, **{"evaluation.seed": 9})
    with pytest.raises(Killed):
        run_chains(before, problem, params, killer(2), KeptChains(tmp_path, {"seed": 9}))
    folder = tmp_path / CHAINS
    record = {"seed": 9}
    if damage == "record":
        record = {"seed": 1}
    elif damage == "lost":
        (folder / "window_00000.npz").unlink()
    else:
        path = folder / {"state": "state.npz", "window": "window_00001.npz"}[damage]
        path.write_bytes(path.read_bytes()[:1000])
    found = run_chains(config, problem, params, None, KeptChains(tmp_path, record))
    assert_same(found, expected)
    (line,) = caplog.messages
    assert f"{CHAINS}: begun anew (" in line
    if damage == "record":
        assert "seed is 9 there and 1 here" in line


def test_chains_are_of_settings_weights_and_code(unbroken):
    _, params, _ = unbroken
    record = chain_record(small(), params)
    assert json.loads(json.dumps(record)) == record
    assert chain_record(small(**{"evaluation.seed": 5}), params) != record
    assert chain_record(small(**{"baoab.friction": 2.0}), params) != record
    assert chain_record(small(), jax.tree.map(lambda leaf: leaf + 1e-3, params)) != record
    assert "commit" in record["versions"] and "device" not in record["versions"]


def test_chains_of_other_settings_are_not_replaced(tmp_path):
    problem, _ = small_problem()
    config = small()
    params = problem.potential.init(jax.random.PRNGKey(0))
    evaluate_run(config, problem, params, tmp_path)
    assert not (tmp_path / "eval" / CHAINS).exists()  # its metrics are there
    (tmp_path / "eval" / "metrics.json").unlink()
    other = small(**{"evaluation.n_steps": 10})
    check_output(tmp_path, "eval", other)
    (tmp_path / "eval" / CHAINS).mkdir()
    check_output(tmp_path, "eval", config)
    with pytest.raises(ValueError, match=r"eval holds another evaluation: evaluation\.n_steps is 50 there"):
        check_output(tmp_path, "eval", other)


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGKILL])
def test_an_evaluation_that_is_stopped_goes_on_by_the_same_command(tmp_path, blow):
    settings = {"pre_training.n_updates": 10, "evaluation.n_chains": 6, "evaluation.record_every": 10}
    config = small_training(**settings, **{"evaluation.n_steps": 20_000})
    run(config, tmp_path)
    command = [sys.executable, "-m", "experiments.evaluate", f"--workdir={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    folder = tmp_path / "eval" / CHAINS
    while not (folder / "state.npz").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, blow)
    _, said = process.communicate(timeout=300)
    assert process.returncode == (0 if blow == signal.SIGTERM else -9)
    assert ("stopped by SIGTERM; go on by the same command" in said) == (blow == signal.SIGTERM)
    assert not (tmp_path / "eval" / "metrics.json").exists()
    done = len(list(folder.glob("window_*.npz")))
    assert 1 <= done < 40
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert f"{CHAINS}: goes on after" in again.stderr
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["chain_length_steps"] == 20_000
    assert not folder.exists()
