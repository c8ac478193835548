"""Trajectory files: extxyz or ASE's .traj, one a replica, appended window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
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

    def keep(self, n_frames: int) -> None:
        """Drops whatever the files hold beyond their first `n_frames` frames, a torn frame among it.

        Raises:
          ValueError: a file with frames to keep is not there.
        """
        for path in self.paths:
            if not n_frames:
                path.unlink(missing_ok=True)
                continue
            if not path.exists():
                raise ValueError(f"{path}: no such file, but the state of this simulation is there")
            if self._format == "extxyz":
                self._cut_lines(path, n_frames * (len(self._system.numbers) + 2))
                continue
            frames = read(path, index=f":{n_frames}")
            partial = path.with_name(f".{path.name}.partial")
            write(partial, frames, format=self._format)
            partial.replace(path)

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
            if self._format == "extxyz":
                with path.open("a", encoding="utf-8") as file:
                    write(file, frames, format="extxyz")
                continue
            with AseTrajectory(path, "a" if path.exists() else "w") as file:
                for frame in frames:
                    file.write(frame)

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

    @staticmethod
    def _cut_lines(path: Path, n_lines: int) -> None:
        with path.open("r+b") as file:
            for _ in range(n_lines):
                if not file.readline():
                    return
            file.truncate(file.tell())
