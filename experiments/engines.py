"""Reference engines: energies and forces of a molecule from quantum chemistry.

An engine maps positions [N, 3] (Å) to (energy in eV, forces [N, 3] in eV/Å). GFN2-xTB comes from
tblite (optional extra `reference`); its gradients are exact derivatives of its energies, so a
trajectory it drives is a Boltzmann sample of its own labels.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

import numpy as np
from ase.units import Bohr, Hartree
from numpy.typing import ArrayLike, NDArray

from potentials.registry import lookup

Engine = Callable[[ArrayLike], tuple[float, NDArray[np.float64]]]

_METHODS = {"gfn2": "GFN2-xTB", "gfn1": "GFN1-xTB"}
ENGINES = tuple(_METHODS)


class EngineError(RuntimeError):
    """The engine gave no energy: atoms overlap, NaN positions, or no self-consistency."""


def require_engine(name: str) -> None:
    """Checks that an engine can be had, without a calculation; for use before a long simulation.

    Raises:
      ValueError: unknown name. ImportError: tblite is not installed.
    """
    lookup(_METHODS, name, "engine")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by tblite's OpenMP at import
    try:
        importlib.import_module("tblite.interface")
    except ImportError as error:
        raise ImportError(f"engine '{name}' needs tblite: pip install 'boltzfit[reference]'") from error


def make_engine(name: str, numbers: ArrayLike) -> Engine:
    """A reference engine for one molecule.

    Args:
      name: one of `ENGINES`.
      numbers: atomic numbers [N].

    Returns:
      A function positions [N, 3] (Å) -> (energy in eV, forces [N, 3] in eV/Å). It keeps the last
      self-consistent wave function as the next guess, so use one engine a trajectory. It raises
      `EngineError` where the engine fails.

    Raises:
      ValueError: unknown name. ImportError: tblite is not installed.
    """
    require_engine(name)
    from tblite.interface import Calculator

    numbers = np.asarray(numbers, dtype=int)
    calculator = None
    guess = None

    def engine(positions: ArrayLike) -> tuple[float, NDArray[np.float64]]:
        nonlocal calculator, guess
        positions = np.asarray(positions, dtype=float)
        if positions.shape != (len(numbers), 3):
            raise ValueError(f"positions have shape {positions.shape}, expected {(len(numbers), 3)}")
        if not np.isfinite(positions).all():
            raise EngineError("positions are not finite")
        try:
            if calculator is None:
                calculator = Calculator(_METHODS[name], numbers, positions / Bohr)
                calculator.set("verbosity", 0)
            else:
                calculator.update(positions / Bohr)
            guess = calculator.singlepoint(guess)
            energy, gradient = guess.get("energy"), guess.get("gradient")
        except RuntimeError as error:  # the base of tblite's own errors
            calculator = guess = None
            raise EngineError(f"{_METHODS[name]} failed: {error}") from error
        if not np.isfinite(energy):
            calculator = guess = None
            raise EngineError(f"{_METHODS[name]} gave a non-finite energy")
        return float(energy) * Hartree, -gradient * (Hartree / Bohr)

    return engine


def label(name: str, numbers: ArrayLike, positions: ArrayLike) -> tuple[NDArray, NDArray]:
    """Labels independent frames; a frame on which the engine fails gets NaN.

    Args:
      name: one of `ENGINES`.
      numbers: atomic numbers [N].
      positions: [F, N, 3], Å.

    Returns:
      Energies [F] in eV and forces [F, N, 3] in eV/Å.

    Raises:
      ValueError, ImportError: as `require_engine`, even of no frames.
    """
    require_engine(name)
    positions = np.asarray(positions, dtype=float)
    energies = np.full(len(positions), np.nan)
    forces = np.full(positions.shape, np.nan)
    for index, frame in enumerate(positions):
        # A fresh guess a frame: a spurious geometry must not spoil the next one's start.
        try:
            energies[index], forces[index] = make_engine(name, numbers)(frame)
        except EngineError:
            continue
    return energies, forces
