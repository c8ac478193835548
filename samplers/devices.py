"""Replicas over devices: each runs its share of them, without a word to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_AXIS = "replicas"


def by_shares(run: Callable[..., Any], params: Any, state: Any, n_replicas: int) -> Any:
    """run(params, state), each device with its share of the replicas, where their number is a multiple of the
    devices'; else on one device.

    Args:
      run: (params, state) -> (pytree of [R, ...], records of [S, R, ...]), in which no replica sees another.
      params: for all of them.
      state: pytree of [R, ...].
      n_replicas: R.
    """
    mesh = _mesh(n_replicas)
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


def place(tree: Any, n_replicas: int) -> Any:
    """A pytree of [R, ...] where `by_shares` leaves it, so that what follows need not compile again."""
    mesh = _mesh(n_replicas)
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec(_AXIS)))


def _mesh(n_replicas: int) -> Mesh | None:
    n_devices = len(jax.devices())
    if n_devices == 1 or n_replicas % n_devices:
        return None
    return jax.make_mesh((n_devices,), (_AXIS,), axis_types=(AxisType.Auto,))
