"""Downloading files into a cache, with checksums.

A download goes to a temporary file that gets its name only when it is complete and correct. Where nobody
publishes a checksum, the SHA-256 of the first download is written beside the file as `NAME.sha256` and every
later use is checked against that: it notices a file that changed, not one that was wrong from the start.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import NamedTuple

from absl import logging

_TIMEOUT = 60.0  # s without a byte


class RemoteFile(NamedTuple):
    """A file to download."""

    path: str  # below the cache folder
    urls: tuple[str, ...]  # tried in turn
    sha256: str | None  # None: not published; that of the first download is kept


def cache_folder() -> Path:
    """`$BOLTZFIT_CACHE`, or `~/.cache/boltzfit`."""
    return Path(os.environ.get("BOLTZFIT_CACHE") or Path.home() / ".cache" / "boltzfit")


def fetch(remote: RemoteFile) -> Path:
    """A file of the cache, downloaded if it is not there, its checksum verified.

    Raises:
      OSError: no address gave the file, or the cached one does not have the expected checksum.
    """
    path = cache_folder() / remote.path
    expected = remote.sha256 or _recorded(path)
    if path.is_file():
        digest = _sha256(path)
        if expected is None:
            _record(path, digest)
        elif digest != expected:
            raise OSError(f"{path}: sha256 is {digest}, expected {expected}; delete it to download it again")
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cache folder {path.parent} can not be made ({error}); set BOLTZFIT_CACHE") from error
    faults = []
    for url in remote.urls:
        try:
            digest = _download(url, path, expected)
        except (OSError, http.client.HTTPException) as error:
            faults.append(f"{url}: {' '.join(str(error).split()) or type(error).__name__}")
            continue
        if expected is None:
            _record(path, digest)
        return path
    raise OSError(
        f"could not download {path.name} ({'; '.join(faults)});"
        f" fetch {remote.urls[0]} by hand and save it as {path}"
    )


def _download(url: str, path: Path, sha256: str | None) -> str:
    """Downloads to `path` and returns the SHA-256; leaves nothing behind when it raises OSError."""
    request = urllib.request.Request(url, headers={"User-Agent": "boltzfit"})
    logging.info("downloading %s to %s", url, path)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        partial = Path(scratch) / path.name
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, open(partial, "wb") as sink:
            shutil.copyfileobj(response, sink, 1 << 20)
            length = response.headers.get("Content-Length")
        # A connection that closes early looks like the end of the file.
        if length is not None and partial.stat().st_size != int(length):
            raise OSError(f"{partial.stat().st_size} bytes came of {length}")
        digest = _sha256(partial)
        if sha256 is not None and digest != sha256:
            raise OSError(f"sha256 is {digest}, expected {sha256}")
        # Without a checksum to go by, an error page sent as success would be kept for good.
        if path.suffix == ".npz" and not zipfile.is_zipfile(partial):
            raise OSError("what came is not an npz file")
        os.replace(partial, path)
    return digest


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _record(path: Path, digest: str) -> None:
    """Writes the checksum in the form that `sha256sum --check` reads."""
    _sidecar(path).write_text(f"{digest}  {path.name}\n")


def _recorded(path: Path) -> str | None:
    return _sidecar(path).read_text().split()[0] if _sidecar(path).is_file() else None
