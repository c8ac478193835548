"""What to do where a neighbour list lacks room: the replicas that it stopped, and params with more."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from potentials.base import Params, Potential
from potentials.neighbours import room_in, with_room


def any_full(potential: Potential, params: Params, positions: Array, stopped: Array) -> Array | None:
    """Whether one of the replicas that `advance` froze stands where a neighbour list lacks room.

    Args:
      potential, params: that moved them.
      positions: [..., N, 3], Å, where each ended.
      stopped: [...], which were frozen, or ended without a finite energy.

    Returns:
      A bool, or None where there is no list.
    """
    if potential.overflow is None:
        return None
    frames = positions.reshape(-1, *positions.shape[-2:])
    full = jax.vmap(potential.overflow, (None, 0))(params, frames)
    return jnp.any(full & stopped.ravel())


def more_room(
    potential: Potential, params: Params, positions: Array, stopped: NDArray[np.bool_], limit: int
) -> Params | None:
    """Params with room for the replicas that a full neighbour list stopped.

    Args:
      potential, params: that moved them.
      positions: [R, N, 3], Å, where each ended: a stopped one where its energy or force first was NaN.
      stopped: [R].
      limit: of the room.

    Returns:
      None where no list was full, or there is room up to the limit already.
    """
    if potential.overflow is None or room_in(params) >= limit or not stopped.any():
        return None
    found = positions[stopped]
    full = np.asarray(jax.vmap(potential.overflow, (None, 0))(params, found))
    return with_room(params, min(potential.room_for(found[full]), limit)) if full.any() else None
