"""Replicas over devices: each runs its share of them, without a word to the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_AXIS = "replicas"


def mesh_for(positions: Array) -> Mesh | None:
    """As many devices as divide the replicas evenly; None for one, or where the user has chosen it.

    Args:
      positions: [R, ...], on a device of the user's choice, or on none in particular.
    """
    chosen = positions.committed and len(positions.sharding.device_set) == 1
    if chosen or jax.config.jax_default_device is not None:
        return None
    n_devices = math.gcd(len(positions), len(jax.devices()))
    if n_devices == 1:
        return None
    return jax.make_mesh(
        (n_devices,), (_AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:n_devices]
    )


def by_shares(mesh: Mesh | None, run: Callable[..., Any], params: Any, state: Any) -> Any:
    """run(params, state), each device with its share of the replicas.

    Args:
      mesh: from `mesh_for`.
      run: (params, state) -> (pytree of [R, ...], records of [S, R, ...]), in which no replica sees another.
      params: for all of them.
      state: pytree of [R, ...].
    """
    if mesh is None:
        return run(params, state)
    share, records = PartitionSpec(_AXIS), PartitionSpec(None, _AXIS)
    shared = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(PartitionSpec(), share),
        out_specs=(share, records),
        check_vma=False,  # of jax-md's constants it knows nothing
    )
    return shared(params, state)


def place_shares(mesh: Mesh | None, tree: Any) -> Any:
    """A pytree of [R, ...] where `by_shares` leaves it, so that what follows need not compile again."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec(_AXIS)))


def place_everywhere(mesh: Mesh | None, tree: Any) -> Any:
    """A pytree, all of it on each device."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
