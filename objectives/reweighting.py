"""Averages of one ensemble from samples of another: weights and what they leave of the samples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from potentials.units import KB


def boltzmann_weights(reduced_change: ArrayLike, valid: ArrayLike | None = None) -> Array:
    """w_i ∝ exp(−Δu_i), summing to 1 (Zwanzig, J. Chem. Phys. 22, 1420).

    Args:
      reduced_change: Δu [N], the reduced energy β U of the ensemble wanted minus that of the one sampled.
      valid: [N], bool; the others weigh nothing, whatever their energy. All are zero where none is valid.
    """
    change = jnp.asarray(reduced_change)
    valid = jnp.ones(change.shape, bool) if valid is None else jnp.asarray(valid)
    logits = jnp.where(valid, -change, -jnp.inf)
    # Without a valid sample softmax would be 0/0.
    return jnp.where(jnp.any(valid), jax.nn.softmax(jnp.where(jnp.any(valid), logits, 0.0)), 0.0)


def effective_samples(weights: ArrayLike) -> Array:
    """exp(−Σ w ln w) of weights [N] that sum to 1: N where they are equal, 1 where one has it all.

    Source: StABlE (arXiv 2402.13984), A.9; Carmichael and Shell, J. Phys. Chem. B 116, 8383.
    """
    weights = jnp.asarray(weights)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(weights, weights)))


def temperature_weights(energies: ArrayLike, sampled: float, wanted: float) -> Array:
    """Weights [N] that turn samples at one temperature into averages at another (StABlE, A.9).

    w_i ∝ exp(−U_i (1/T₂ − 1/T₁)/k_B); ask `effective_samples` what they are worth (the paper keeps
    1,000 or more). Momenta are taken to be drawn anew, so U alone counts.

    Args:
      energies: U [N], eV; a common constant does not matter.
      sampled, wanted: T₁ and T₂, K.

    Raises:
      ValueError: a temperature that is not positive, no energies, or one that is not finite.
    """
    if not (sampled > 0 and wanted > 0):
        raise ValueError(f"temperatures are {sampled} and {wanted} K; expected positive numbers")
    energies = np.asarray(energies, dtype=np.float64)
    if energies.ndim != 1 or not len(energies) or not np.isfinite(energies).all():
        raise ValueError(f"expected finite energies [N >= 1], got shape {energies.shape}")
    # In float64 before jax: absolute energies of thousands of eV would leave nothing of their spread.
    change = (energies - energies.mean()) * (1 / wanted - 1 / sampled) / KB
    return boltzmann_weights(jnp.asarray(change, jnp.float32))
