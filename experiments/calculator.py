"""A trained potential as an ASE calculator, compiled once for its molecule."""

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
from numpy.typing import ArrayLike

from experiments import binary
from experiments.evaluate import load_params
from experiments.model_files import CARD, FUNCTION, labels
from experiments.problem import check_data, make_problem, require_vacuum


class PotentialCalculator(Calculator):
    """Energy (eV, with the zero of the data) and forces (eV/Å) of one molecule in vacuum.

    atoms.calc = PotentialCalculator.from_export("model")   # of experiments.export
    atoms.calc = PotentialCalculator.from_run("W1")         # of experiments.train
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(
        self, function: Callable[..., Any], numbers: ArrayLike, energy_shift: float, **settings: Any
    ):
        """Args:
        function: positions [1, N, 3], Å, float32 -> (energies [1], eV; forces [1, N, 3], eV/Å).
        numbers: [N], atomic numbers in the order of the potential.
        energy_shift: eV, added to the energies.
        **settings: ASE's own.
        """
        super().__init__(**settings)
        self.function = jax.jit(function)
        self._numbers = np.asarray(numbers)
        self._shift = energy_shift

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
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / CARD}: not a readable card ({error})") from error
        if hashlib.sha256(serialized).hexdigest() != digest:
            raise ValueError(f"{folder / FUNCTION}: damaged, or of another export than {CARD}")
        return cls(export.deserialize(bytearray(serialized)).call, numbers, shift, **settings)

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
            require_vacuum(problem.system, "calculator")
            check_data(workdir, problem)
            params = load_params(workdir, problem)
        function = labels(problem.potential, jax.jit(problem.potential.tabulate)(params))
        return cls(function, problem.system.numbers, problem.energy_shift, **settings)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """ASE's entry point.

        Raises:
          ValueError: another molecule, another order of its atoms, or a periodic box.
          CalculationFailed: energy or forces that are not finite.
        """
        super().calculate(atoms, properties, system_changes)
        if not np.array_equal(self.atoms.numbers, self._numbers):
            found, expected = self.atoms.numbers.tolist(), self._numbers.tolist()
            raise ValueError(f"the atoms are {found}; expected {expected}, in this order")
        if self.atoms.pbc.any():
            raise ValueError("the atoms are periodic; expected a molecule in vacuum, pbc=False")
        # Centred before float32, so that a molecule far from the origin does not lose digits.
        positions = self.atoms.positions - self.atoms.positions.mean(axis=0)
        energies, forces = self.function(positions[None].astype(np.float32))
        energy, forces = float(energies[0]) + self._shift, np.asarray(forces[0], np.float64)
        if not np.isfinite(energy) or not np.isfinite(forces).all():
            raise CalculationFailed("energy or forces are not finite")
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
