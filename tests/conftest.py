"""What several test modules share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before the first import of JAX: processes that the tests start compile what none has compiled before.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"boltzfit-tests-{os.getuid()}")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import numpy as np
import pytest
from ase.build import molecule

from potentials import System, make_system


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of reference data that is not part of the repository."""
    folder = os.environ.get("BOLTZFIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("BOLTZFIT_DATA names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def ethanol() -> tuple[System, np.ndarray]:
    """Ethanol at 500 K and ASE's G2 geometry [9, 3], Å."""
    atoms = molecule("CH3CH2OH")
    return make_system(atoms.numbers, atoms.positions, 500.0), atoms.positions


@pytest.fixture(scope="session")
def aspirin(data: Path) -> tuple[System, np.ndarray]:
    """Aspirin at 500 K and a frame of rMD17 [21, 3], Å."""
    path = data / "rmd17" / "rmd17_aspirin_train_01.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with np.load(path) as frames:
        numbers, positions = frames["nuclear_charges"], frames["coords"][0]
    return make_system(numbers, positions, 500.0), positions
