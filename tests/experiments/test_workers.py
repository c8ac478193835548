"""Workers return results in order, and end with who called them."""

import fcntl
import subprocess
import sys
import time
from pathlib import Path

from experiments.workers import run_jobs

ROOT = Path(__file__).resolve().parents[2]


def hold(path: str) -> None:
    """Holds a lock on a file, and says so in it, for longer than a test."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("held")
        file.flush()
        time.sleep(240)


def late(seconds: float) -> float:
    """Its argument, after so long."""
    time.sleep(seconds)
    return seconds


def test_results_are_in_the_order_of_the_jobs():
    assert run_jobs(late, [(1.0,), (0.0,), (0.5,)], 2) == [1.0, 0.0, 0.5]


def test_workers_end_with_a_caller_that_is_killed(tmp_path):
    path = tmp_path / "lock"
    program = (
        "from experiments.workers import run_jobs\n"
        "from tests.experiments.test_workers import hold\n"
        f"run_jobs(hold, [({str(path)!r},)], 1)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < deadline and caller.poll() is None
            time.sleep(0.05)
    finally:
        caller.kill()
        caller.wait()
    deadline = time.monotonic() + 60
    with open(path, "r+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
