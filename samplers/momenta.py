"""Maxwell–Boltzmann momenta."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from potentials.units import KB


def maxwell_boltzmann(key: Array, masses: Array, temperature: float, *, fixed_centre: bool = False) -> Array:
    """Momenta p_i ~ N(0, m_i k_B T), in amu·Å per jax-md time unit.

    Args:
      key: PRNG key.
      masses: [N], amu.
      temperature: K.
      fixed_centre: condition on zero total momentum, exactly: each atom loses its share m_i v_com,
        which leaves 3N − 3 degrees of freedom at T.

    Returns:
      [N, 3].
    """
    masses = jnp.asarray(masses, jnp.float32)[:, None]
    momenta = jnp.sqrt(masses * KB * temperature) * jax.random.normal(key, (len(masses), 3))
    if fixed_centre:
        momenta = momenta - masses * jnp.sum(momenta, axis=0) / jnp.sum(masses)
    return momenta
