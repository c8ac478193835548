"""Spherical Bessel functions that vanish at a cutoff, and Legendre polynomials: the basis of distance and
angle that directional networks share (Gasteiger et al., ICLR 2020, eq. 6)."""

from __future__ import annotations

import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import spherical_jn


def roots(n_orders: int, n_roots: int) -> NDArray[np.float64]:
    """z_ln, the n-th positive root of j_l: [n_orders, n_roots]."""
    # Roots of successive orders interlace, those of j_0 being nπ.
    found = [np.pi * np.arange(1, n_roots + n_orders)]
    for order in range(1, n_orders):
        between = itertools.pairwise(found[-1])
        found.append(np.array([brentq(partial(spherical_jn, order), low, high) for low, high in between]))
    return np.stack([z[:n_roots] for z in found])


@cache
def radial_coefficients(n_orders: int, n_roots: int) -> NDArray[np.float64]:
    """Chebyshev coefficients [K, n_orders, n_roots] of √2/|j_{l+1}(z_ln)| j_l(z_ln x), orthonormal under x²
    over x = r/r_c in [0, 1]. As polynomials they are smooth and stable at small distances, where
    recurrences in float32 are not."""
    z = roots(n_orders, n_roots)
    degree = int(1.5 * z.max()) + 20
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    coefficients = np.zeros((degree + 1, n_orders, n_roots))
    for order in range(n_orders):
        for n, root in enumerate(z[order]):
            values = spherical_jn(order, root * (nodes + 1) / 2)
            values *= np.sqrt(2) / abs(spherical_jn(order + 1, root))
            coefficients[:, order, n] = chebyshev.chebfit(nodes, values, degree)
    needed = np.flatnonzero(np.abs(coefficients).max(axis=(1, 2)) > 1e-9).max() + 1
    coefficients.flags.writeable = False  # it is cached
    return coefficients[:needed]


def radial_functions(distances: Array, cutoff: float, coefficients: NDArray) -> Array:
    """Distances [E] (Å) -> [E, n_orders, n_roots], zero to rounding from the cutoff on; an envelope makes it
    zero.

    Args:
      cutoff: r_c, Å.
      coefficients: of `radial_coefficients`.
    """
    x = jnp.clip(2 * distances / cutoff - 1, -1.0, 1.0)
    polynomials = [jnp.ones_like(x), x]
    for _ in range(len(coefficients) - 2):
        polynomials.append(2 * x * polynomials[-1] - polynomials[-2])
    stacked = jnp.stack(polynomials, axis=-1)
    full = jax.lax.Precision.HIGHEST
    return jnp.einsum("ek,kln->eln", stacked, coefficients.astype(stacked.dtype), precision=full)


def legendre(cosines: Array, n_orders: int) -> Array:
    """√(2l + 1) P_l(cos α), l < n_orders, of mean square 1 over the sphere: [...] -> [..., n_orders]."""
    values = [jnp.ones_like(cosines), cosines]
    for order in range(2, n_orders):
        values.append(((2 * order - 1) * cosines * values[-1] - (order - 1) * values[-2]) / order)
    scales = np.sqrt(2 * np.arange(n_orders) + 1)
    return jnp.stack(values[:n_orders], axis=-1) * scales.astype(cosines.dtype)
