"""What clusters do to runs: kills, full disks, damaged checkpoints, two processes on one workdir.

Each time nothing is lost beyond the last interval, and the numbers after it are those of an unbroken run.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.io import read

from experiments import binary
from experiments.checkpoints import FORMAT, Checkpoints
from experiments.locks import sole_writer
from experiments.train import prepare, train
from experiments.weights import load_params
from tests.experiments.small_problem import assert_same, small

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "training.log_every": 10,
    "training.checkpoint_every": 10,
    "pre_training.n_updates": 40,
    "post_training.n_updates": 40,
    "post_training.warmup": 10,
    "contrastive.n_chains": 6,
    "contrastive.n_steps": 5,
    "contrastive.burn_in": 20,
}


def run(workdir, progress=None, **changes):
    config = small(**SETTINGS | changes)
    problem, objective = prepare(config)
    return train(config, problem, objective, binary.claim_workdir(str(workdir), config), progress)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "mse"
    return workdir, run(workdir)


def copy_of(workdir, path):
    subprocess.run(["cp", "-r", str(workdir), str(path)], check=True)
    (path / ".lock").unlink(missing_ok=True)
    return path


@pytest.fixture
def quota():
    """Sets the size in bytes beyond which no file grows; the end of the test lifts it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("step", "kept"), [(10, "none was written before"), (30, "the last one is of update 20")]
)
def test_a_full_disk_keeps_the_last_checkpoint(unbroken, tmp_path, quota, step, kept):
    def fill(row):
        if row["step"] == step:
            quota(1000)

    with pytest.raises(OSError, match=f"of update {step} not written .*{kept}"):
        run(tmp_path / "run", fill)
    quota(resource.RLIM_INFINITY)
    assert_same(run(tmp_path / "run").params, unbroken[1].params)


def test_a_full_disk_is_one_line_and_status_2(unbroken, tmp_path):
    workdir = copy_of(unbroken[0], tmp_path / "run")
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300));"
        "from experiments import binary, export; binary.run(export.main)"
    )
    arguments = [f"--workdir={workdir}", f"--output={tmp_path / 'model'}"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    assert "File too large" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_workdir(unbroken, tmp_path):
    workdir = copy_of(unbroken[0], tmp_path / "run")
    workdir.chmod(0o500)
    with pytest.raises(PermissionError, match="run"):
        run(workdir)


def files_of(checkpoint):
    return sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.stat().st_size)


def test_flipped_bits_are_never_taken_for_weights(unbroken, tmp_path):
    """One bit in every file of the last checkpoint in turn: it is passed over, or reads as it was."""
    workdir = copy_of(unbroken[0], tmp_path / "run")
    problem, _ = prepare(small(**SETTINGS))
    good = load_params(workdir, problem)
    newest = workdir / "checkpoints" / "40"
    passed_over = 0
    for path in files_of(newest):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 4
        path.write_bytes(flipped)
        found = load_params(workdir, problem)
        same = all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(good)))
        passed_over += not same
        if not same:
            older = copy_of(unbroken[0], tmp_path / f"older_{passed_over}")
            subprocess.run(["rm", "-r", str(older / "checkpoints" / "40")], check=True)
            assert_same(found, load_params(older, problem))
        path.write_bytes(whole)
    assert passed_over


@pytest.mark.parametrize("item", ["weights", "progress"])
def test_items_that_were_exchanged_are_told_by_the_digest(unbroken, tmp_path, item):
    """Whole files of another step: nothing in them is damaged, and they are not what was written."""
    workdir = copy_of(unbroken[0], tmp_path / "run")
    newest, before = (workdir / "checkpoints" / step for step in ("40", "30"))
    subprocess.run(["rm", "-r", str(newest / item)], check=True)
    copy_of(before / item, newest / item)
    assert_same(run(workdir).params, unbroken[1].params)
    assert (workdir / "checkpoints" / "unreadable_40").is_dir()
    # Once more at the same update.
    subprocess.run(["rm", "-r", str(newest / item)], check=True)
    copy_of(before / item, newest / item)
    assert_same(run(workdir).params, unbroken[1].params)
    assert (workdir / "checkpoints" / "unreadable_40_2").is_dir()


def test_a_checkpoint_of_a_later_format_and_one_of_before_there_was_a_record(unbroken, tmp_path):
    workdir = copy_of(unbroken[0], tmp_path / "run")
    problem, _ = prepare(small(**SETTINGS))
    before = set(workdir.rglob("*"))
    record = workdir / "checkpoints" / "40" / "record" / "metadata"
    written = json.loads(record.read_text())
    assert written["format"] == FORMAT
    record.write_text(json.dumps(written | {"format": FORMAT + 1}))
    words = rf"checkpoints/40: of format {FORMAT + 1}; this version of boltzfit reads up to {FORMAT}"
    with pytest.raises(binary.InputError, match=words):
        run(workdir)
    with pytest.raises(ValueError, match=words):  # the older ones are not taken for it
        load_params(workdir, problem)
    assert before == set(workdir.rglob("*")) - {workdir / ".lock"}
    for folder in workdir.glob("checkpoints/*/record"):
        subprocess.run(["rm", "-r", str(folder)], check=True)
    assert_same(run(workdir).params, unbroken[1].params)


def test_half_a_checkpoint_is_no_checkpoint(unbroken, tmp_path):
    """As a kill in the middle of a save leaves it: under a temporary name."""
    workdir = copy_of(unbroken[0], tmp_path / "run")
    newest = workdir / "checkpoints" / "40"
    newest.rename(newest.with_name("40.orbax-checkpoint-tmp-7"))
    assert Checkpoints(workdir).steps() == [20, 30]
    assert_same(run(workdir).params, unbroken[1].params)


def test_a_second_process_is_refused_and_a_killed_one_holds_nothing(unbroken, tmp_path):
    workdir = copy_of(unbroken[0], tmp_path / "run")
    before = set(workdir.rglob("*"))
    program = (
        "import sys, time; from pathlib import Path; from experiments.locks import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(workdir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(binary.InputError, match=rf"run: process {holder.pid} on .* is writing to it"):
            run(workdir)
        assert set(workdir.rglob("*")) - before == {workdir / ".lock"}
    finally:
        holder.kill()
        holder.wait()
    assert_same(run(workdir).params, unbroken[1].params)


def test_many_processes_never_hold_one_lock_at_once(tmp_path):
    """Each notes when it began and ended its turn; no two turns overlap."""
    program = (
        "import sys, time; from pathlib import Path; from experiments import binary\n"
        "from experiments.locks import sole_writer\n"
        "path, end, turns = Path(sys.argv[1]), time.monotonic() + 3, []\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with sole_writer(path):\n"
        "            begun = time.monotonic(); time.sleep(0.001); turns.append((begun, time.monotonic()))\n"
        "    except binary.InputError: pass\n"
        "print(turns)"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    processes = [
        subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    turns = []
    for process in processes:
        said, complaints = process.communicate(timeout=120)
        assert process.returncode == 0 and not complaints
        turns += eval(said)
    turns.sort()
    assert len(turns) > 20
    assert all(end <= begun for (_, end), (begun, _) in itertools.pairwise(turns))


def test_two_starts_with_other_settings_can_not_share_a_workdir(unbroken, tmp_path):
    """The second claims the folder before the first has written its record, and finds it with the lock."""
    workdir = copy_of(unbroken[0], tmp_path / "run")
    config = small(**SETTINGS, seed=7)
    problem, objective = prepare(config)
    with pytest.raises(binary.InputError, match="another configuration: seed is 0 there and 7 here"):
        train(config, problem, objective, workdir)


def test_a_trajectory_is_locked_beside_itself(tmp_path):
    with sole_writer(tmp_path / "a.extxyz"):
        assert [path.name for path in tmp_path.iterdir()] == [".a.extxyz.lock"]
        with sole_writer(tmp_path / "b.extxyz"):  # another one in the same folder
            pass
        with (
            pytest.raises(binary.InputError, match=r"a\.extxyz: process"),
            sole_writer(tmp_path / "a.extxyz"),
        ):
            pass


def drill(arguments, folder_of, same, begun, kills=20):
    """Starts a command again and again and kills it at random moments.

    Args:
      arguments: of the command, given its folder.
      folder_of: the folder of attempt i.
      same: checks the folder of an attempt that has come to its end.
      begun: whether there is something in a folder that a run goes on from.
      kills: how many.
    """
    rng = np.random.default_rng(0)
    killed = attempt = under_way = 0
    while killed < kills:
        process = subprocess.Popen(
            arguments(folder_of(attempt)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, said = process.communicate(timeout=rng.uniform(1.0, 30.0))
            assert process.returncode == 0, said
            same(folder_of(attempt))
            attempt += 1
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            under_way += begun(folder_of(attempt))
    assert under_way >= kills // 4, "kills that came before the first checkpoint show little"
    subprocess.run(arguments(folder_of(attempt)), cwd=ROOT, check=True, capture_output=True)
    same(folder_of(attempt))


@pytest.mark.slow
def test_training_killed_at_twenty_random_moments(unbroken, tmp_path):
    config = small(
        **SETTINGS | {"objective": "crmse", "init_from": str(unbroken[0]), "post_training.n_updates": 2000}
    )

    def arguments(workdir):
        flags = [f"--config.{name}={value}" for name, value in flattened(config).items()]
        return [sys.executable, "-m", "experiments.train", f"--workdir={workdir}", *flags]

    whole = tmp_path / "whole"
    subprocess.run(arguments(whole), cwd=ROOT, check=True, capture_output=True)
    problem, _ = prepare(config)
    expected = load_params(whole, problem)
    columns = [row.rsplit(",", 1)[0] for row in (whole / "train_log.csv").read_text().splitlines()]

    def same(workdir):
        assert_same(load_params(workdir, problem), expected)
        rows = (workdir / "train_log.csv").read_text().splitlines()
        assert [row.rsplit(",", 1)[0] for row in rows] == columns  # but for the seconds
        for name in ("steps", "positions", "energies"):
            with np.load(whole / "negatives.npz") as one, np.load(workdir / "negatives.npz") as other:
                np.testing.assert_array_equal(one[name], other[name])

    def begun(workdir):
        return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))

    drill(arguments, lambda attempt: tmp_path / f"broken_{attempt}", same, begun)


def flattened(config):
    """name -> value, of the fields that `small` and SETTINGS set."""
    names = (
        *SETTINGS, "objective", "init_from", "dataset.train", "dataset.validation", "dataset.test",
        "schnet.n_features", "schnet.n_filters", "schnet.n_interactions", "training.batch_size",
        "evaluation.n_chains", "evaluation.n_steps", "evaluation.record_every",
    )  # fmt: skip
    values = {}
    for name in names:
        *section, field = name.split(".")
        values[name] = (config[section[0]] if section else config)[field]
    return values


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["extxyz", "traj"])
def test_simulation_killed_at_twenty_random_moments(unbroken, tmp_path, suffix):
    def arguments(folder):
        folder.mkdir(exist_ok=True)
        settings = [f"--output={folder / f'a.{suffix}'}", "--n_steps=40000", "--record_every=10"]
        return [sys.executable, "-m", "experiments.simulate", f"--workdir={unbroken[0]}", *settings]

    whole = tmp_path / "whole"
    subprocess.run(arguments(whole), cwd=ROOT, check=True, capture_output=True)
    expected = read(whole / f"a.{suffix}", index=":")
    assert len(expected) == 4000

    def same(folder):
        found = read(folder / f"a.{suffix}", index=":")
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.info == other.info
            for name in ("positions", "momenta"):
                np.testing.assert_array_equal(one.arrays[name], other.arrays[name])

    def begun(folder):
        return (folder / f"a.{suffix}").exists()

    drill(arguments, lambda attempt: tmp_path / f"broken_{attempt}", same, begun)
