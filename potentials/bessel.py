"""The radial basis that equivariant networks share: Bessel functions under a polynomial envelope."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array


def polynomial_cutoff(distances: Array, cutoff: float, p: int = 6) -> Array:
    """1 at distance 0, 0 from the cutoff on, where two derivatives vanish with it (Gasteiger et al., ICLR
    2020, eq. 8)."""
    x = distances / cutoff
    value = 1.0 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return jnp.where(x < 1.0, value, 0.0)


class BesselBasis(nn.Module):
    """√(2/r_c) sin(ω_n r/r_c)/r with trainable ω_n = nπ to begin with (eq. 7 there), times the envelope.

    Attributes: size, of the basis; cutoff, Å.
    """

    size: int
    cutoff: float

    @nn.compact
    def __call__(self, distances: Array) -> Array:
        """Distances [E] (Å) -> [E, size]; finite at distance 0."""
        start = np.pi * np.arange(1, self.size + 1, dtype=np.float32)
        frequencies = self.param("frequencies", lambda key: jnp.asarray(start))
        waves = frequencies / self.cutoff * jnp.sinc(distances[:, None] * frequencies / (np.pi * self.cutoff))
        return math.sqrt(2 / self.cutoff) * waves * polynomial_cutoff(distances, self.cutoff)[:, None]
