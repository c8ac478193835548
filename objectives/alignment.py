"""Root-mean-square deviation after optimal superposition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def aligned_rmsd(first: Array, second: Array) -> Array:
    """RMSD of two configurations after the best translation and proper rotation.

    Kabsch, Acta Cryst. A 32, 922 (1976), from singular values alone; atoms are not permuted and
    count equally.

    Args:
      first, second: [N, 3], Å.

    Returns:
      Scalar, Å.
    """
    first = first - jnp.mean(first, axis=0)
    second = second - jnp.mean(second, axis=0)
    left, singular, right = jnp.linalg.svd(first.T @ second)
    handedness = jnp.sign(jnp.linalg.det(left) * jnp.linalg.det(right))
    overlap = singular[0] + singular[1] + handedness * singular[2]
    squares = jnp.sum(first**2) + jnp.sum(second**2) - 2 * overlap
    return jnp.sqrt(jnp.maximum(squares, 0.0) / len(first))


def nearest_rmsd(positions: Array, reference: Array, mirror: bool = True) -> Array:
    """RMSD of each configuration to the nearest of a reference set.

    Args:
      positions: [F, N, 3], Å.
      reference: [M, N, 3], Å.
      mirror: also try each configuration's mirror image, for achiral molecules.

    Returns:
      [F], Å.
    """

    def nearest(frame: Array) -> Array:
        images = jnp.stack([frame, -frame]) if mirror else frame[None]
        pairwise = jax.vmap(jax.vmap(aligned_rmsd, (None, 0)), (0, None))
        return jnp.min(pairwise(images, reference))

    return jax.lax.map(nearest, jnp.asarray(positions))
