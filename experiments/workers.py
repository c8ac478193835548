"""Jobs in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any


def run_jobs(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], processes: int) -> list[Any]:
    """function(*job) of each job, in their order, so many at once. Workers end with the process that called,
    however that ends.

    Args:
      function: one that can be imported; the workers are fresh processes.
      jobs: its arguments.
      processes: how many at once.
    """
    with multiprocessing.get_context("spawn").Pool(processes, _end_with_parent) as pool:
        return pool.starmap(function, jobs, chunksize=1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
