"""A trained potential as an ASE calculator, compiled once for its molecule or box."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from jax import export
from numpy.typing import ArrayLike, NDArray

from experiments import binary
from experiments.model_files import CARD, FUNCTION, labels
from experiments.problem import check_data, make_problem
from experiments.weights import load_params
from potentials.neighbours import ROOM_LIMIT, room_in, with_room

Function = Callable[..., Any]
"""positions [1, N, 3], Å, float32 -> (energies [1], eV; forces [1, N, 3], eV/Å)."""


class PotentialCalculator(Calculator):
    """Energy (eV, with the zero of the data) and forces (eV/Å) of one molecule in vacuum or one periodic box.

    atoms.calc = PotentialCalculator.from_export("model")   # of experiments.export
    atoms.calc = PotentialCalculator.from_run("W1")         # of experiments.train
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(
        self,
        function: Function,
        numbers: ArrayLike,
        energy_shift: float,
        *,
        cell: ArrayLike | None = None,
        roomier: Callable[[NDArray], Function | None] | None = None,
        **settings: Any,
    ):
        """Args:
        function: positions [1, N, 3], Å, float32 -> (energies [1], eV; forces [1, N, 3], eV/Å).
        numbers: [N], atomic numbers in the order of the potential.
        energy_shift: eV, added to the energies.
        cell: [3, 3], Å, of a box; None in vacuum.
        roomier: positions for which the function is not finite -> one with more room in its neighbour list,
          or None where that is not what they lack. Without it the room is what it is.
        **settings: ASE's own.
        """
        super().__init__(**settings)
        self.function = jax.jit(function)
        self._numbers = np.asarray(numbers)
        self._shift = energy_shift
        self._cell = None if cell is None else np.asarray(cell, dtype=float)
        self._roomier = roomier

    @classmethod
    def from_export(cls, folder: str | Path, **settings: Any) -> PotentialCalculator:
        """Of a folder that `experiments.export` wrote; needs neither the data nor the network's code.

        Raises:
          ValueError: no such folder, or a damaged file.
        """
        folder = Path(folder)
        for name in (CARD, FUNCTION):
            if not (folder / name).is_file():
                raise ValueError(f"{folder / name}: no such file; expected a folder of experiments.export")
        serialized = (folder / FUNCTION).read_bytes()
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            numbers, shift, digest = (card[key] for key in ("numbers", "energy_shift_ev", "function_sha256"))
            cell = card.get("cell")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / CARD}: not a readable card ({error})") from error
        if hashlib.sha256(serialized).hexdigest() != digest:
            raise ValueError(f"{folder / FUNCTION}: damaged, or of another export than {CARD}")
        return cls(export.deserialize(bytearray(serialized)).call, numbers, shift, cell=cell, **settings)

    @classmethod
    def from_run(cls, workdir: str | Path, **settings: Any) -> PotentialCalculator:
        """Of the latest checkpoint of a run, whose data must be at hand.

        Raises:
          binary.InputError: no run there, or its data is not what it was.
        """
        workdir = Path(workdir)
        config = binary.read_config(workdir)
        with binary.reading_input():
            problem = make_problem(config)
            check_data(workdir, problem)
            params = load_params(workdir, problem)
        potential, cell = problem.potential, problem.system.cell
        room = room_in(params)
        limit = min(ROOM_LIMIT * room, len(problem.system.numbers) - 1)

        def function(room: int) -> Function:
            return labels(potential, with_room(params, room))

        def roomier(positions: NDArray) -> Function | None:
            nonlocal room
            wanted = potential.room_for(positions)
            if not room < wanted <= limit:
                return None
            room = wanted
            return function(room)

        boxed = {} if cell is None else {"cell": cell, "roomier": roomier}
        return cls(function(room), problem.system.numbers, problem.energy_shift, **boxed, **settings)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """ASE's entry point.

        Raises:
          ValueError: other atoms, another order of them, or another cell.
          CalculationFailed: energy or forces that are not finite.
        """
        super().calculate(atoms, properties, system_changes)
        if not np.array_equal(self.atoms.numbers, self._numbers):
            found, expected = self.atoms.numbers.tolist(), self._numbers.tolist()
            raise ValueError(f"the atoms are {found}; expected {expected}, in this order")
        positions = self._within_reach()[None].astype(np.float32)
        energies, forces = self.function(positions)
        if self._roomier and not np.isfinite(energies).all() and (function := self._roomier(positions)):
            self.function = jax.jit(function)
            energies, forces = self.function(positions)
        energy, forces = float(energies[0]) + self._shift, np.asarray(forces[0], np.float64)
        if not np.isfinite(energy) or not np.isfinite(forces).all():
            hint = (
                "" if self._cell is None else "; an atom may have more neighbours than the list has room for"
            )
            raise CalculationFailed(f"energy or forces are not finite{hint}")
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}

    def _within_reach(self) -> NDArray[np.float64]:
        """Positions [N, 3] about the origin or wrapped into the box, before float32, in which what is far
        from the origin loses digits."""
        positions = self.atoms.positions
        if self._cell is None:
            if self.atoms.pbc.any():
                raise ValueError("the atoms are periodic; expected a molecule in vacuum, pbc=False")
            return positions - positions.mean(axis=0)
        if not self.atoms.pbc.all() or not np.allclose(self.atoms.cell[:], self._cell, atol=1e-4):
            raise ValueError(
                f"the atoms have pbc {self.atoms.pbc.tolist()} and the cell {self.atoms.cell[:].tolist()}; "
                f"expected a periodic box of the cell {self._cell.tolist()}, which the potential was made for"
            )
        return positions - np.floor(positions @ np.linalg.inv(self._cell)) @ self._cell
