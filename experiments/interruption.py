"""SIGTERM as a request: batch systems send it before they take a machine away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, SIGTERM no longer ends the process; the function says whether it has come.

    In another thread than the main one, where Python allows no handlers, SIGTERM ends the process as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    come = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: come.set())
    try:
        yield come.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
