"""One writer at a time: a workdir or a trajectory is locked while a process writes to it."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from experiments import binary


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Holds a lock on `path` within; the kernel gives it back however the process ends.

    The lock file, `.lock` in a folder or `.NAME.lock` beside a file, means nothing by itself: a killed
    process leaves it, and the next one takes it. On file systems without locks (some network mounts)
    a warning is all there is.

    Args:
      path: the folder or file that is written.

    Raises:
      InputError: another process holds it; nothing is changed then.
      OSError: the lock file can not be made, as in a folder that is read-only.
    """
    lock = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    with _held(path, lock) as file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # while it is held: nobody else can hold it then


def _held(path: Path, lock: Path) -> IO[str]:
    while True:
        file = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed it after it was opened here.
            if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                return file
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise binary.InputError(f"{path}: {holder} is writing to it; expected one at a time") from error
        except OSError as error:
            binary.LOG.warning("%s: can not be locked (%s); let one process at a time write", path, error)
            return file
        file.close()
