"""Potentials with known answers, for tests and for learning the ropes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from potentials.base import Potential, from_atomic_energies
from potentials.edges import safe_norm
from potentials.system import System


def harmonic(stiffness: ArrayLike) -> Potential:
    """U = ½ Σ k x², each coordinate a well at the origin; params: {"stiffness": [N, 3]}.

    At temperature T each coordinate has variance k_B T/k.

    Args:
      stiffness: k, broadcastable to [N, 3], eV/Å².
    """
    k = jnp.asarray(stiffness, dtype=float)

    def atomic_energies(params: dict, positions: Array) -> Array:
        return 0.5 * jnp.sum(params["stiffness"] * positions**2, axis=-1)

    return from_atomic_energies(lambda key: {"stiffness": k}, atomic_energies)


def double_well(barrier: float, separation: float, tilt: float = 0.0) -> Potential:
    """U = b ((x/a)² − 1)² + c x/a + ½ b (y² + z²)/a²; params: {"barrier", "tilt"}.

    Wells near x = ±a; the marginal of x is known by quadrature.

    Args:
      barrier: b, eV.
      separation: a, Å.
      tilt: c, eV.
    """

    def atomic_energies(params: dict, positions: Array) -> Array:
        x, y, z = jnp.moveaxis(positions / separation, -1, 0)
        well = params["barrier"] * (x**2 - 1) ** 2 + params["tilt"] * x
        return well + 0.5 * params["barrier"] * (y**2 + z**2)

    def init(key: Array) -> dict:
        return {"barrier": jnp.asarray(barrier, dtype=float), "tilt": jnp.asarray(tilt, dtype=float)}

    return from_atomic_energies(init, atomic_energies)


def bonded_molecule(system: System, positions: ArrayLike, *, stiffness: float = 20.0) -> Potential:
    """A toy molecule: a harmonic spring on every bond and every 1–3 distance.

    Args:
      system: gives the bonds.
      positions: geometry [N, 3] (Å) whose distances are the springs' rest lengths.
      stiffness: eV/Å², the initial value of params["stiffness"].
    """
    positions = np.asarray(positions)
    pairs = _bonds_and_angles(system)
    first, second = pairs.T
    rest = np.linalg.norm(positions[first] - positions[second], axis=-1)

    def atomic_energies(params: dict, positions: Array) -> Array:
        stretch = safe_norm(positions[first] - positions[second]) - rest
        half = 0.25 * params["stiffness"] * stretch**2
        return jnp.zeros(len(system.numbers)).at[first].add(half).at[second].add(half)

    return from_atomic_energies(
        lambda key: {"stiffness": jnp.asarray(stiffness, dtype=float)}, atomic_energies
    )


def _bonds_and_angles(system: System) -> np.ndarray:
    adjacency = np.zeros((len(system.numbers),) * 2, dtype=int)
    adjacency[system.bonds[:, 0], system.bonds[:, 1]] = 1
    adjacency += adjacency.T
    return np.argwhere(np.triu(adjacency + adjacency @ adjacency, 1) > 0)
