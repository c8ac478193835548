"""Writers of files, sound ones and spoilt ones, for the malformed inputs; each to the working folder."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

WATER = molecule("H2O")
LABELS = {"energy": -1.0, "forces": np.zeros((3, 3))}


def frames(count: int = 40) -> dict[str, np.ndarray]:
    """Water in harmonic wells, with MD17's keys; sound."""
    rng = np.random.default_rng(0)
    moves = 0.04 * rng.normal(size=(count, 3, 3))
    return {
        "z": WATER.numbers,
        "R": WATER.positions + moves,
        "E": 350.0 * np.sum(moves**2, axis=(1, 2)),
        "F": -700.0 * moves,
    }


def npz(**changes: object) -> Callable[[], None]:
    """Writes `data.npz`: sound frames with some arrays changed (by a function) or left out (None)."""

    def make() -> None:
        arrays = frames()
        for key, change in changes.items():
            if change is None:
                del arrays[key]
            else:
                arrays[key] = change(arrays.get(key)) if callable(change) else change
        np.savez("data.npz", **arrays)

    return make


def at(index: object, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """An array with one entry changed."""

    def change(array: np.ndarray) -> np.ndarray:
        array = np.array(array)
        array[index] = value
        return array

    return change


def extxyz(*results: dict[str, object], names: tuple[str, ...] = ("H2O",)) -> Callable[[], None]:
    """Writes `data.extxyz`: a frame for each of the results that a calculator gave."""

    def make() -> None:
        images = []
        for row, found in enumerate(results):
            atoms = molecule(names[row % len(names)])
            atoms.calc = SinglePointCalculator(atoms, **found)
            images.append(atoms)
        ase.io.write("data.extxyz", images)

    return make


def text(name: str, content: str | bytes) -> Callable[[], None]:
    """Writes a file."""
    return lambda: (
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode()) and None
    )


def hdf5(build: Callable[[object], None], cut: int | None = None) -> Callable[[], None]:
    """Writes `data.h5`."""

    def make() -> None:
        import h5py

        with h5py.File("data.h5", "w") as file:
            build(file)
        if cut:
            Path("data.h5").write_bytes(Path("data.h5").read_bytes()[:cut])

    return make


def flipped(name: str, make: Callable[[], None]) -> Callable[[], None]:
    """The file with one byte in its middle changed."""

    def damage() -> None:
        make()
        content = bytearray(Path(name).read_bytes())
        content[len(content) // 2] ^= 0x10
        Path(name).write_bytes(content)

    return damage


def gz(cut: int) -> Callable[[], None]:
    """Writes a compressed `data.extxyz.gz` without its end."""

    def make() -> None:
        extxyz(LABELS)()
        Path("data.extxyz.gz").write_bytes(gzip.compress(Path("data.extxyz").read_bytes())[:cut])

    return make


def molecules(file: object, *names: str, without: str = "") -> None:
    """Groups with MD17's keys."""
    for name in names:
        for key, values in frames().items():
            if key != without:
                file[f"{name}/{key}"] = values


def index(**rows: object) -> Callable[[], None]:
    """Sound frames, and an index file `rows.npz`."""

    def make() -> None:
        npz()()
        np.savez(
            "rows.npz", **({"train": np.arange(10), "validation": np.arange(10, 15), "test": [30]} | rows)
        )

    return make


def also(*makes: Callable[[], None]) -> Callable[[], None]:
    """All of them."""
    return lambda: [make() for make in makes] and None


def targets(*names: str) -> Callable[[], None]:
    """Writes `targets.npz`, with three numbers by each name."""
    return lambda: np.savez("targets.npz", **{name: np.arange(3) for name in names})
