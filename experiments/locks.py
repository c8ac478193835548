"""One writer at a time: a workdir or a trajectory is locked while a process writes to it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments import binary

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}  # of a file system without them


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Holds a lock on `path` within; the kernel gives it back however the process ends.

    The lock file, `.lock` in a folder or `.NAME.lock` beside a file, stays and means nothing by itself. On
    file systems without locks (some network mounts) a warning is all there is.

    Args:
      path: the folder or file that is written.

    Raises:
      InputError: another process holds it; nothing is changed then.
      OSError: the lock file can not be made, as in a folder that is read-only.
    """
    lock = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise binary.InputError(f"{path}: {holder} is writing to it; expected one at a time") from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            binary.LOG.warning("%s: can not be locked (%s); let one process at a time write", path, error)
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield
