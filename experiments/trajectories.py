"""Trajectory files: extxyz or ASE's .traj, one a replica, appended window by window."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.io.trajectory import Trajectory as AseTrajectory
from numpy.typing import NDArray

from potentials import System
from samplers import Window

FORMATS = {".extxyz": "extxyz", ".traj": "traj"}
"""Suffix -> ASE's name of the format."""


class TrajectoryFiles:
    """Frames with energies (eV, absolute), forces (eV/Å), momenta (ASE's units) and, in `info`, the `step`
    and the time in fs, `time_fs`; samplers without velocities have neither momenta nor a time.

    A replica's file ends where it died.
    """

    def __init__(self, output: str | Path, system: System, n_replicas: int):
        """One file, or `stem_000.suffix` and so on for several replicas.

        Raises:
          ValueError: a suffix that is none of `FORMATS`.
        """
        output = Path(output)
        if output.suffix not in FORMATS:
            raise ValueError(f"--output={output}: expected a name that ends in {' or '.join(FORMATS)}")
        self.paths = [output]
        if n_replicas > 1:
            names = (f"{output.stem}_{replica:03d}{output.suffix}" for replica in range(n_replicas))
            self.paths = [output.with_name(name) for name in names]
        self._system = system
        self._format = FORMATS[output.suffix]

    def keep(self, counts: Sequence[int]) -> None:
        """Drops whatever the files hold beyond their first frames, a torn frame among it.

        Args:
          counts: how many frames of each file to keep.

        Raises:
          ValueError: a file with frames to keep is not there, damaged, or has fewer; no file is changed.
        """
        kept: list[int | Path | None] = []
        try:
            for path, count in zip(self.paths, counts, strict=True):
                kept.append(self._first(path, count) if count else None)
        except Exception:
            for copy in kept:
                if isinstance(copy, Path):
                    copy.unlink()
            raise
        for path, what in zip(self.paths, kept, strict=True):
            if what is None:
                path.unlink(missing_ok=True)
            elif isinstance(what, int):
                os.truncate(path, what)
            else:
                what.replace(path)

    def _first(self, path: Path, count: int) -> int | Path:
        """Where the first `count` frames end, or a copy of them."""
        if not path.exists():
            raise ValueError(f"{path}: no such file, but the state of this simulation is there")
        if self._format == "extxyz":
            return _text_end(path, count, len(self._system.numbers))
        return _shorter_copy(path, count)

    def append(self, window: Window, steps: NDArray, timestep: float, energy_shift: float) -> None:
        """Adds a window's frames, of each replica those in which it was alive.

        Args:
          window: with `forces`, and `momenta` where there are any, in `observed`.
          steps: [S], after which the frames were recorded.
          timestep: fs; 0 for samplers without a clock.
          energy_shift: eV, added to the energies.
        """
        for replica, path in enumerate(self.paths):
            frames = []
            for frame in np.flatnonzero(window.alive[:, replica]):
                atoms = self._atoms(window, (frame, replica), energy_shift)
                atoms.info["step"] = int(steps[frame])
                if timestep:
                    atoms.info["time_fs"] = float(steps[frame] * timestep)
                frames.append(atoms)
            if not frames:
                continue
            if self._format == "extxyz":
                _append_text(path, frames)
                continue
            with AseTrajectory(path, "a" if path.exists() else "w") as file:
                for frame in frames:
                    file.write(frame)
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def _atoms(self, window: Window, at: tuple[int, int], energy_shift: float) -> Atoms:
        system, observed = self._system, {k: v[at].astype(float) for k, v in window.observed.items()}
        atoms = Atoms(system.numbers, window.positions[at].astype(float), cell=system.cell)
        atoms.pbc = system.cell is not None
        atoms.set_masses(system.masses)
        if "momenta" in observed:
            atoms.set_momenta(observed["momenta"])
        energy = float(window.energies[at]) + energy_shift
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=observed["forces"])
        return atoms


def _text_end(path: Path, count: int, n_atoms: int) -> int:
    """Bytes of the first `count` frames of an extxyz file."""
    with path.open("rb") as file:
        lines = sum(line.endswith(b"\n") for _, line in zip(range(count * (n_atoms + 2)), file, strict=False))
        _require(path, lines // (n_atoms + 2), count)
        return file.tell()


def _shorter_copy(path: Path, count: int) -> Path:
    """A copy of the first `count` frames of a .traj file, frame by frame."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with AseTrajectory(path) as whole, AseTrajectory(partial, "w") as copy:
            found = len(whole)
            for frame in range(min(count, found)):
                copy.write(whole[frame])
    except Exception as error:  # ASE's reader has no error of its own for damaged files
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        raise ValueError(f"{path}: no readable trajectory ({error})") from error
    if found < count:
        partial.unlink()
    _require(path, found, count)
    return partial


def _require(path: Path, found: int, count: int) -> None:
    if found < count:
        raise ValueError(
            f"{path}: holds {found} frames, but the state beside it is of {count}; move both away"
        )


def _append_text(path: Path, frames: list[Atoms]) -> None:
    """All frames or, where there is no room for them, none: ASE reads no file that ends within one."""
    text = io.StringIO()
    write(text, frames, format="extxyz")
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            content = memoryview(text.getvalue().encode())
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, before)
            raise
