"""Mean squared errors of energies and forces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from objectives.base import Batch, Metrics, Objective, static
from potentials.base import Params, Potential, energy_and_forces


def energy_force_errors(potential: Potential, params: Params, batch: Batch) -> tuple[Array, Array]:
    """Predicted minus labelled: energies [B] in eV a molecule, forces [B, N, 3] in eV/Å.

    Raises:
      ValueError: labels whose shapes do not fit the positions.
    """
    if batch.forces.shape != batch.positions.shape or batch.energies.shape != batch.positions.shape[:1]:
        raise ValueError(
            f"positions {batch.positions.shape}, energies {batch.energies.shape} and forces "
            f"{batch.forces.shape}: expected [B, N, 3], [B], [B, N, 3]"
        )
    energies, forces = jax.vmap(energy_and_forces(potential), (None, 0))(params, batch.positions)
    return energies - batch.energies, forces - batch.forces


def mse(potential: Potential, *, energy_weight: float = 0.05, force_weight: float = 0.95) -> Objective:
    """w_E · mean (ΔE)² + w_F · mean (ΔF)².

    The energy term is per molecule (eV², not divided by the number of atoms), averaged over the
    batch; the force term (eV²/Å²) is averaged over batch, atoms and Cartesian components.

    Args:
      potential: U.
      energy_weight, force_weight: w_E (1/eV²) and w_F (Å²/eV²).
    """

    def loss(params: Params, batch: Batch) -> tuple[Array, Metrics]:
        energy_error, force_error = energy_force_errors(potential, params, batch)
        value = energy_weight * jnp.mean(energy_error**2) + force_weight * jnp.mean(force_error**2)
        metrics = {
            "energy_mae_mev": 1000 * jnp.mean(jnp.abs(energy_error)),
            "force_mae_mev_per_angstrom": 1000 * jnp.mean(jnp.abs(force_error)),
        }
        return value, metrics

    return static(loss)
