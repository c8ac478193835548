"""The simulate binary: what it writes, going on after a kill, bad input."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from ase.io import read, write

from experiments import binary
from experiments.evaluation import start_chains
from experiments.frame_files import read_frames
from experiments.simulate import Progress, read_flags, restore, run, state_file
from experiments.train import prepare, train
from experiments.trajectories import TrajectoryFiles
from experiments.weights import load_params
from potentials.units import KB
from samplers import Window
from tests.experiments.small_problem import small, small_problem

ROOT = Path(__file__).resolve().parents[2]
LENGTH = ["--n_steps=1500", "--record_every=5", "--n_replicas=2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Workdir of a network that has seen a little: (workdir, problem, params)."""
    settings = {"pre_training.n_updates": 60, "training.log_every": 60, "training.checkpoint_every": 60}
    config = small(**settings)
    problem, objective = prepare(config)
    workdir = binary.claim_workdir(str(tmp_path_factory.mktemp("runs") / "mse"), config)
    train(config, problem, objective, workdir)
    return workdir, problem, load_params(workdir, problem)


def command(workdir, output, *more):
    return [sys.executable, "-m", "experiments.simulate", f"--workdir={workdir}", f"--output={output}", *more]


def simulate(*arguments):
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def unbroken(trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("unbroken") / "traj.extxyz"
    result = simulate(trained[0], output, *LENGTH)
    assert result.returncode == 0, result.stderr
    return output


def test_energies_forces_momenta_and_times(trained, unbroken):
    _, problem, params = trained
    for replica in range(2):
        frames = read(unbroken.with_name(f"traj_00{replica}.extxyz"), index=":")
        assert len(frames) == 300
        assert [atoms.info["step"] for atoms in frames] == list(range(5, 1501, 5))
        np.testing.assert_allclose([atoms.info["time_fs"] for atoms in frames], 2.5 * np.arange(1, 301))
        for atoms in frames[::50]:
            energy, gradient = jax.value_and_grad(problem.potential.energy, argnums=1)(
                params, atoms.get_positions()
            )
            assert atoms.get_potential_energy() == pytest.approx(
                float(energy) + problem.energy_shift, abs=1e-4
            )
            np.testing.assert_allclose(atoms.get_forces(), -gradient, atol=2e-4)
        assert (frames[0].numbers == problem.system.numbers).all()
    twice_kinetic = [2 * atoms.get_kinetic_energy() for atoms in frames]  # ASE's units of momentum
    assert 0.5 < np.mean(twice_kinetic) / (27 * KB * 500) < 1.5
    assert (read(unbroken.with_name("traj_000.extxyz")).positions != frames[-1].positions).any()


def test_kill_9_and_start_again_equals_an_unbroken_run(trained, unbroken, tmp_path):
    output = tmp_path / "traj.extxyz"
    process = subprocess.Popen(
        command(trained[0], output, *LENGTH), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    first = tmp_path / "traj_000.extxyz"
    deadline = time.monotonic() + 300
    while not first.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    with first.open("a") as file:  # the kill may have come at the end of a frame
        file.write("9\nProperties=species:S:1:pos:R:3\nC 0.1")
    result = simulate(trained[0], output, *LENGTH)
    assert result.returncode == 0 and "goes on at frame" in result.stderr, result.stderr
    for name in ("traj_000.extxyz", "traj_001.extxyz"):
        assert (tmp_path / name).read_bytes() == unbroken.with_name(name).read_bytes()


def test_longer_later_is_the_same_as_at_once(trained, tmp_path):
    settings = ["--sampler=nose_hoover", "--record_every=2", "--temperature=300"]
    short = simulate(trained[0], tmp_path / "a.traj", "--n_steps=100", *settings)
    longer = simulate(trained[0], tmp_path / "a.traj", "--n_steps=200", *settings)
    once = simulate(trained[0], tmp_path / "b.traj", "--n_steps=200", *settings)
    assert (short.returncode, longer.returncode, once.returncode) == (0, 0, 0), longer.stderr
    one, other = (read(tmp_path / f"{name}.traj", index=":") for name in "ab")
    assert len(one) == len(other) == 100
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.get_momenta(), b.get_momenta())
        assert a.get_potential_energy() == b.get_potential_energy() and a.info == b.info


def test_what_could_be_lost_is_refused(trained, tmp_path):
    """Another seed, a trajectory of somebody else's, a damaged state: one line, nothing touched."""
    few = ["--n_steps=20", "--record_every=10"]
    assert simulate(trained[0], tmp_path / "a.extxyz", *few).returncode == 0
    for name in ("theirs.extxyz", "damaged.extxyz"):
        write(tmp_path / name, read(tmp_path / "a.extxyz"))
    whole = state_file(tmp_path / "a.extxyz").read_bytes()
    state_file(tmp_path / "damaged.extxyz").write_bytes(whole[:200] + b"?" + whole[201:-50])
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".lock"}
    result = simulate(trained[0], tmp_path / "a.extxyz", *few, "--seed=1")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "a.extxyz is of another simulation: seed is 0 there and 1 here" in result.stderr.splitlines()[-1]
    result = simulate(trained[0], tmp_path / "a.extxyz", *few, "--sampler=ula")  # whose state is another
    assert "is of another simulation: baoab.friction is 1.0 there and None here" in result.stderr
    for name, words in (
        ("theirs.extxyz", "theirs.extxyz exists and is no simulation that could go on"),
        ("damaged.extxyz", "damaged.extxyz.state.npz: no readable state"),
    ):
        files = TrajectoryFiles(tmp_path / name, trained[1].system, 1)
        with pytest.raises(ValueError, match=words):
            restore(tmp_path / name, files, {}, None)
    after = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".lock"}
    assert after == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "verlet"}, "unknown sampler 'verlet'"),
        ({"n_steps": 15, "record_every": 10}, "expected a multiple of --record_every=10"),
        ({"temperature": -3.0}, "evaluation.temperature is -3"),
        ({"set": ["schnet.cutoff=3"]}, "expected evaluation.* or a sampler's"),
        ({"set": ["baoab.timestep=0"]}, "baoab.timestep is 0"),
    ],
)
def test_bad_flags(changes, words):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**changes), pytest.raises(ValueError, match=re.escape(words)):
        read_flags(small())


def test_a_simulation_whose_replicas_died_ends_again(trained, tmp_path):
    """As after a requeue; and one that has them all dead before its end does not go on."""
    workdir, problem, params = trained
    config = binary.read_config(workdir)
    config.evaluation.n_chains, config.evaluation.n_steps, config.evaluation.record_every = 2, 100, 10
    sampler, fresh = start_chains(config, problem, params)
    output = tmp_path / "t.extxyz"
    files = TrajectoryFiles(output, problem.system, 2)
    for done, alive in ((10, [True, False]), (4, [False, False])):
        progress = Progress(done, fresh, jnp.array(alive), np.array([0, 0]))
        run(config, problem, params, sampler, files, output, {}, progress)
    # Nor does one that is longer already.
    config.evaluation.n_steps = 70
    progress = Progress(20, fresh, jnp.array([True, True]), np.array([20, 20]))
    run(config, problem, params, sampler, files, output, {}, progress)
    assert not list(tmp_path.glob("*.extxyz"))


def test_sigterm_ends_after_a_window_and_the_same_command_goes_on(trained, unbroken, tmp_path):
    output = tmp_path / "traj.extxyz"
    process = subprocess.Popen(
        command(trained[0], output, *LENGTH), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "traj_000.extxyz").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.terminate()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0 and "stopped by SIGTERM; go on by the same command" in said
    frames = read(tmp_path / "traj_000.extxyz", index=":")
    assert 0 < len(frames) < 300 and len(frames) % 50 == 0
    assert simulate(trained[0], output, *LENGTH).returncode == 0
    for name in ("traj_000.extxyz", "traj_001.extxyz"):
        assert (tmp_path / name).read_bytes() == unbroken.with_name(name).read_bytes()


@pytest.mark.parametrize("suffix", ["extxyz", "traj"])
def test_names_with_an_at_sign(tmp_path, suffix):
    problem, _ = small_problem()
    shape = (3, 1, 9, 3)
    window = Window(
        np.zeros(shape), np.zeros((3, 1)), None, np.ones((3, 1), bool), None, 3, {"forces": np.zeros(shape)}
    )
    files = TrajectoryFiles(tmp_path / f"md@300K.{suffix}", problem.system, 1)
    files.append(window, np.arange(3), 0.5, 0.0)
    files.keep([2])
    assert len(read_frames(tmp_path / f"md@300K.{suffix}").energies) == 2


def test_a_full_disk_leaves_whole_frames(tmp_path):
    """A limit on the size of files, met in the middle of a window, whose frames then all go."""
    problem, _ = small_problem()
    files = TrajectoryFiles(tmp_path / "t.extxyz", problem.system, 1)
    shape = (20, 1, 9, 3)
    arrays = (
        np.zeros(shape),
        np.zeros((20, 1)),
        None,
        np.ones((20, 1), bool),
        None,
        20,
        {"forces": np.zeros(shape)},
    )
    files.append(Window(*arrays), np.arange(20), 0.5, 0.0)
    size = (tmp_path / "t.extxyz").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            files.append(Window(*arrays), np.arange(20, 40), 0.5, 0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "t.extxyz").stat().st_size == size
    assert len(read(tmp_path / "t.extxyz", index=":")) == 20


def test_bad_names(tmp_path):
    with pytest.raises(ValueError, match=r"traj.xyz: expected a name that ends in .extxyz or .traj"):
        TrajectoryFiles("traj.xyz", small_problem()[0].system, 1)
    result = simulate(tmp_path, tmp_path / "a.extxyz")
    assert result.returncode == 2 and "config.json: no such file" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["extxyz", "traj"])
def test_dead_replicas_end_and_torn_frames_go(tmp_path, suffix):
    """A replica that dies in a window; then all is cut back to a frame of its own."""
    problem, _ = small_problem()
    rng = np.random.default_rng(0)
    alive = np.ones((4, 2), bool)
    alive[2:, 1] = False
    arrays = {name: rng.normal(size=(4, 2, 9, 3)).astype(np.float32) for name in ("forces", "momenta")}
    positions = rng.normal(size=(4, 2, 9, 3)).astype(np.float32)
    window = Window(positions, np.zeros((4, 2), np.float32), None, alive, None, 4, arrays)
    files = TrajectoryFiles(tmp_path / f"t.{suffix}", problem.system, 2)
    files.append(window, np.arange(1, 5), 0.5, -7.0)
    files.append(window, np.arange(5, 9), 0.5, -7.0)
    lengths = [len(read(path, index=":")) for path in files.paths]
    assert lengths == [8, 4]
    with pytest.raises(
        ValueError, match=rf"t_001\.{suffix}: holds 4 frames, but the state beside it is of 5"
    ):
        files.keep([6, 5])
    assert [len(read(path, index=":")) for path in files.paths] == lengths
    files.keep([6, 4])
    frames = read(files.paths[0], index=":")
    assert len(frames) == 6 and len(read(files.paths[1], index=":")) == 4
    np.testing.assert_allclose(frames[5].positions, positions[1, 0], atol=1e-7)
    np.testing.assert_allclose(frames[5].get_momenta(), arrays["momenta"][1, 0], atol=1e-7)
    assert frames[5].get_potential_energy() == -7.0 and frames[5].info == {"step": 6, "time_fs": 3.0}
    files.keep([0, 0])
    assert not list(tmp_path.iterdir())
