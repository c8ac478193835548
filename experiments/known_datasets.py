"""Known data sets: their names, where their files lie, and where to get those that are not here.

Folders are searched in this order: `$BOLTZFIT_DATA` (only ever read), then the cache, `$BOLTZFIT_CACHE` or
`~/.cache/boltzfit`; what neither has is downloaded into the cache.

- rMD17: one archive of 1.07 GB on figshare, article 12672038, version 3 (CC0), and its copy on the Materials
  Cloud (doi:10.24435/materialscloud:wy-kn). Its SHA-256 below was published by others who downloaded it; the
  MD5 they give beside it, cb1a927628d96f2e966025da4fb63d18, is figshare's own.
- MD17 and MD22: one npz a molecule at quantum-machine.org, which publishes no checksums. That of MD17's
  aspirin was published by someone who downloaded it. For the others see `downloads`: that of the first
  download is kept.
"""

from __future__ import annotations

import difflib
import importlib.resources
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from absl import logging

from experiments.downloads import RemoteFile, cache_folder, fetch

RMD17_MOLECULES = (
    "aspirin", "azobenzene", "benzene", "ethanol", "malonaldehyde",
    "naphthalene", "paracetamol", "salicylic", "toluene", "uracil",
)  # fmt: skip
MD17_MOLECULES = (
    "aspirin", "benzene", "ethanol", "malonaldehyde", "naphthalene", "salicylic", "toluene", "uracil",
)  # fmt: skip
MD22_MOLECULES = (
    "Ac-Ala3-NHMe", "DHA", "stachyose", "AT-AT", "AT-AT-CG-CG", "buckyball-catcher", "double-walled_nanotube",
)  # fmt: skip
PACKAGED = {"ethanol_gfn2": "ethanol_gfn2_500K.npz"}
_RMD17_NAME = re.compile(rf"rmd17_({'|'.join(RMD17_MOLECULES)})(?:_(0[1-5]))?")


class Located(NamedTuple):
    """The local files of a data set."""

    path: Path  # all frames, or those for training and validation where `test_path` is set
    test_path: Path | None = None
    train_indices: Path | None = None  # csv: the rows of `path` that make the published training set
    test_indices: Path | None = None


RMD17_ARCHIVE = RemoteFile(
    "rmd17.tar.bz2",
    (
        "https://ndownloader.figshare.com/files/23950376",
        "https://archive.materialscloud.org/records/pfffs-fff86/files/rmd17.tar.bz2?download=1",
    ),
    "cddeea2ec2c4b22a9de16a9a65a3eeedac5b29da9c99c20bbff0153912bf922b",
)
_MD17_SHA256 = {"aspirin": "af4ce531bf8cf07610c0bd876cb5b321f3c301d2365720967d98d45e1db1f748"}


def md17_file(molecule: str) -> RemoteFile:
    """The MD17 npz of a molecule; benzene is that of 2017, which the MD17 paper used."""
    remote = "benzene2017" if molecule == "benzene" else molecule
    address = f"quantum-machine.org/gdml/data/npz/md17_{remote}.npz"
    urls = (f"https://www.{address}", f"http://www.{address}")
    return RemoteFile(f"md17/md17_{molecule}.npz", urls, _MD17_SHA256.get(molecule))


def md22_file(molecule: str) -> RemoteFile:
    """The MD22 npz of a molecule (Chmiela et al., Science Advances 9, eadf0873)."""
    addresses = (f"www.quantum-machine.org/gdml/{folder}" for folder in ("repo/datasets", "data/npz"))
    urls = tuple(f"http://{address}/md22_{molecule}.npz" for address in addresses)
    return RemoteFile(f"md22/md22_{molecule}.npz", urls, None)


def known_names() -> list[str]:
    """Names that `locate` takes; the rMD17 ones also with `_01` to `_05` for the published splits."""
    return [
        *PACKAGED,
        *(f"rmd17_{molecule}" for molecule in RMD17_MOLECULES),
        *(f"md17_{molecule}" for molecule in MD17_MOLECULES),
        *(f"md22_{molecule}" for molecule in MD22_MOLECULES),
    ]


def locate(name: str, *, whole: bool = False) -> Located:
    """The local files of a known data set, downloaded if need be.

    Args:
      name: one of `known_names()`, an rMD17 one with or without the number of its published split.
      whole: for rMD17, all 100,000 frames of the molecule rather than a published split.

    Returns:
      Paths of files that exist.

    Raises:
      ValueError: unknown name.
      OSError: a file is neither here nor to be had; says what to fetch by hand and where to put it.
    """
    if name in PACKAGED:
        return Located(_packaged(PACKAGED[name]))
    rmd17 = _RMD17_NAME.fullmatch(name)
    if rmd17:
        molecule, split = rmd17.group(1), rmd17.group(2) or "01"
        return _locate_rmd17(molecule, None if whole else split)
    if name in known_names():
        family, _, molecule = name.partition("_")
        remote = {"md17": md17_file, "md22": md22_file}[family](molecule)
        for folder in _data_folders():
            if (folder / remote.path).is_file():
                return Located(folder / remote.path)
        return Located(fetch(remote))
    known = known_names()
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"nearest: '{nearest[0]}'; " if nearest else ""
    raise ValueError(
        f"unknown dataset '{name}'; {hint}known: {', '.join(known)}"
        " (the rmd17 ones also with the number of a split, _01 to _05)"
    )


def is_known(name: str) -> bool:
    """Whether `locate` takes the name."""
    return name in known_names() or bool(_RMD17_NAME.fullmatch(name))


def packaged_statistics(name: str, temperature: float) -> Path | None:
    """The package's statistics of a data set at another temperature (K), where it has them."""
    if name not in PACKAGED:
        return None
    path = Path(str(importlib.resources.files("experiments") / "data" / f"{name}_{temperature:g}K.npz"))
    return path if path.is_file() else None


def _packaged(filename: str) -> Path:
    path = Path(str(importlib.resources.files("experiments") / "data" / filename))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing from this installation of the package")
    return path


def _data_folders() -> list[Path]:
    data = os.environ.get("BOLTZFIT_DATA")
    return [Path(data)] if data else []


def _locate_rmd17(molecule: str, split: str | None) -> Located:
    """Files of one published split, or of the whole molecule where `split` is None."""
    for folder in _data_folders() if split else ():
        train, test = (
            folder / "rmd17" / f"rmd17_{molecule}_{part}_{split}.npz" for part in ("train", "test")
        )
        if train.is_file() and test.is_file():
            return Located(train, test)
    candidates = [_rmd17_unpacked(folder, molecule, split) for folder in (*_data_folders(), cache_folder())]
    for located in candidates:
        if all(path.is_file() for path in located if path):
            return located
    archive = fetch(RMD17_ARCHIVE)
    _unpack_rmd17(archive, cache_folder())
    located = candidates[-1]
    absent = [path for path in located if path and not path.is_file()]
    if absent:
        raise OSError(f"{archive}: has no member for {absent[0]}")
    return located


def _rmd17_unpacked(folder: Path, molecule: str, split: str | None) -> Located:
    path = folder / "rmd17" / "npz_data" / f"rmd17_{molecule}.npz"
    if split is None:
        return Located(path)
    splits = folder / "rmd17" / "splits"
    return Located(path, None, splits / f"index_train_{split}.csv", splits / f"index_test_{split}.csv")


def _unpack_rmd17(archive: Path, folder: Path) -> None:
    """Unpacks the arrays and splits; each file gets its name only when complete."""
    wanted = {f"rmd17/npz_data/rmd17_{molecule}.npz" for molecule in RMD17_MOLECULES}
    wanted |= {
        f"rmd17/splits/index_{part}_0{split}.csv" for part in ("train", "test") for split in range(1, 6)
    }
    logging.info("unpacking %s; this takes minutes, once", archive)
    with tarfile.open(archive, "r|bz2") as members:
        for member in members:
            # Only known names of plain files, so that no member can be written outside the folder.
            source = members.extractfile(member) if member.name in wanted and member.isfile() else None
            if source is None:
                continue
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                partial = Path(scratch) / target.name
                with open(partial, "wb") as sink:
                    shutil.copyfileobj(source, sink)
                os.replace(partial, target)
