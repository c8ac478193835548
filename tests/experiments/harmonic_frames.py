"""Frames of a harmonic molecule, whose statistics are known, and files of them in every format."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import kB

from experiments.frames import Frames

KCAL = 23.060547830619026
NUMBERS = np.array([8, 1, 1])
REST = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
STIFFNESS = 30.0  # eV/Å², of every coordinate


def harmonic(count: int, temperature: float = 500.0, seed: int = 0, step: float | None = None) -> Frames:
    """Boltzmann frames of E = -2000 eV + k/2 |x - rest|², F = -k (x - rest); with `step`, a random walk."""
    rng = np.random.default_rng(seed)
    sd = np.sqrt(kB * temperature / STIFFNESS)
    moves = sd * rng.normal(size=(count, 3, 3))
    if step is not None:
        moves = moves[:1] + np.cumsum(step * rng.normal(size=(count, 3, 3)), axis=0)
    energies = -2000.0 + 0.5 * STIFFNESS * np.sum(moves**2, axis=(1, 2))
    return Frames(NUMBERS, REST + moves, energies, -STIFFNESS * moves, np.arange(count))


def slow_harmonic(count: int, memory: float) -> Frames:
    """Boltzmann frames of the same energy, each correlated with the one before it by `memory`."""
    noise = harmonic(count).positions - REST
    moves = noise.copy()
    for row in range(1, count):
        moves[row] = memory * moves[row - 1] + np.sqrt(1 - memory**2) * noise[row]
    energies = -2000.0 + 0.5 * STIFFNESS * np.sum(moves**2, axis=(1, 2))
    return Frames(NUMBERS, REST + moves, energies, -STIFFNESS * moves, np.arange(count))


def rmd17_arrays(frames: Frames) -> dict[str, np.ndarray]:
    return {
        "nuclear_charges": frames.numbers.astype(np.uint8),
        "coords": frames.positions,
        "energies": frames.energies * KCAL,
        "forces": frames.forces * KCAL,
        "old_indices": 7 * frames.indices + 3,
    }


def md17_arrays(frames: Frames) -> dict[str, np.ndarray]:
    return {
        "z": frames.numbers,
        "R": frames.positions,
        "E": frames.energies[:, None] * KCAL,
        "F": frames.forces * KCAL,
    }


def package_arrays(*sections: Frames) -> dict[str, np.ndarray]:
    arrays = {"numbers": NUMBERS}
    for name, frames in zip(("train", "validation", "test"), sections, strict=True):
        arrays[f"{name}_positions"] = frames.positions.astype(np.float32)
        arrays[f"{name}_energies"] = frames.energies
        arrays[f"{name}_forces"] = frames.forces.astype(np.float32)
        arrays[f"{name}_chains"] = np.arange(len(frames.energies)) // 5
    return arrays


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path


def images(frames: Frames) -> list[Atoms]:
    out = []
    for row in range(len(frames.energies)):
        atoms = Atoms(frames.numbers, frames.positions[row])
        atoms.calc = SinglePointCalculator(atoms, energy=frames.energies[row], forces=frames.forces[row])
        out.append(atoms)
    return out


def config(**changes: object) -> SimpleNamespace:
    fields = {
        "name": "",
        "path": "",
        "test_path": "",
        "train": 10,
        "validation": 5,
        "test": 0,
        "split": "",
        "units": "",
        "label_names": "",
        "labels": "",
        "ignore_cell": False,
        "group": "",
        "temperature": 500.0,
    }
    assert set(changes) <= set(fields)
    return SimpleNamespace(**(fields | changes))


def assert_same(got: Frames, expected: Frames, tolerance: float = 1e-9) -> None:
    np.testing.assert_array_equal(got.numbers, expected.numbers)
    for field in ("positions", "energies", "forces"):
        found = getattr(got, field)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, getattr(expected, field), rtol=0, atol=tolerance)


def index_file(folder: Path, **changes: object) -> str:
    arrays = {"train": np.arange(0, 20), "validation": np.arange(20, 30), "test": np.arange(39, 29, -1)}
    return str(save(folder / "index.npz", arrays | changes))
