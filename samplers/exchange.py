"""Replica exchange between temperatures, also known as parallel tempering."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from potentials.units import KB


def exchange(key: Array, energies: Array, temperatures: Sequence[float]) -> Array:
    """Which level each slot of a ladder takes its configuration from: one sweep of exchanges.

    Either the even or the odd pairs of neighbouring levels, by the toss of a coin, try to exchange;
    a pair does with probability min(1, exp((β_l − β_{l+1})(U_l − U_{l+1}))), which leaves the
    Boltzmann distribution of every level as it is. Non-finite energies never move. Momenta are not
    looked at: draw new ones for the configurations that move.

    Args:
      key: of the coin and of the Metropolis tests.
      energies: [L, R], eV, of R independent ladders of L levels.
      temperatures: L, K.

    Returns:
      [L, R], int: the level whose configuration goes to this slot.

    Source: Hukushima and Nemoto, J. Phys. Soc. Jpn. 65, 1604 (1996).
    """
    n_levels = len(temperatures)
    coin, test = jax.random.split(key)
    beta = 1.0 / (KB * np.asarray(temperatures, dtype=np.float32))
    log_ratio = (beta[:-1] - beta[1:])[:, None] * (energies[:-1] - energies[1:])
    finite = jnp.isfinite(energies)
    accept = jnp.log(jax.random.uniform(test, log_ratio.shape)) < log_ratio
    parity = jax.random.bernoulli(coin).astype(int)
    accept &= (np.arange(n_levels - 1)[:, None] % 2 == parity) & finite[:-1] & finite[1:]
    up = jnp.pad(accept, ((0, 1), (0, 0))).astype(int)
    down = jnp.pad(accept, ((1, 0), (0, 0))).astype(int)
    return jnp.arange(n_levels)[:, None] + up - down
