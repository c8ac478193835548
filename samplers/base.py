"""The interface of a sampler: pure functions over a batch of replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from potentials.system import System
from potentials.units import KB

State = Any


class Sampler(NamedTuple):
    """A Markov chain on configurations, vmapped over R replicas.

    A state is a pytree whose leaves carry the leading axis R; `state.position` is [R, N, 3] in Å,
    and samplers with momenta have `state.momentum` and `state.mass`. A replica never sees another.

    Attributes:
      init: (key, params, positions [R, N, 3]) -> state.
      step: (params, state) -> state.
      refresh: (params, state) -> state with the cached energies and forces of these params; call it
        when the params have changed since the state was made.
    """

    init: Callable[..., State]
    step: Callable[..., State]
    refresh: Callable[..., State]


def over_replicas(
    init: Callable[..., State], step: Callable[..., State], refresh: Callable[..., State]
) -> Sampler:
    """A `Sampler` from functions of one replica: (key, params, positions [N, 3]) and (params, state)."""

    def init_replicas(key: Array, params: Any, positions: Array) -> State:
        keys = jax.random.split(key, len(positions))
        return jax.vmap(init, (0, None, 0))(keys, params, positions)

    return Sampler(init_replicas, jax.vmap(step, (None, 0)), jax.vmap(refresh, (None, 0)))


def kelvin(temperature: float | None, system: System) -> float:
    """The temperature asked for, K, or the system's where None.

    Raises:
      ValueError: it is not positive.
    """
    temperature = system.temperature if temperature is None else temperature
    if not temperature > 0:
        raise ValueError(f"a sampler's temperature is {temperature} K; expected a positive number")
    return temperature


def free_shift(positions: Array, displacement: Array, **kwargs: Any) -> Array:
    """jax-md's shift function of open space."""
    return positions + displacement


def where_replica(keep: Array, yes: State, no: State) -> State:
    """Chooses whole replicas.

    Args:
      keep: [R], bool.
      yes, no: states of the same structure; leaves [R, ...].
    """
    return jax.tree.map(lambda a, b: jnp.where(keep.reshape(keep.shape + (1,) * (a.ndim - 1)), a, b), yes, no)


def new_noise(key: Array, state: State) -> State:
    """The same replicas with other random numbers ahead; deterministic samplers have none."""
    if not hasattr(state, "rng"):
        return state
    salt = jax.random.bits(key)
    return state.set(rng=jax.vmap(jax.random.fold_in, (0, None))(state.rng, salt))


def draw(key: Array, frames: Array, count: int) -> Array:
    """`count` of the frames [F, ...]; without replacement as long as there are enough."""
    replace = count > len(frames)
    return frames[jax.random.choice(key, len(frames), (count,), replace=replace)]


def centre(positions: Array, masses: Array) -> Array:
    """Positions [..., N, 3] with the centre of mass at the origin; masses [N]."""
    weights = jnp.asarray(masses, positions.dtype) / jnp.sum(masses)
    return positions - jnp.einsum("n,...nk->...k", weights, positions)[..., None, :]


def kinetic_temperature(state: State, degrees_of_freedom: int) -> Array:
    """2 K / (n k_B) of each replica, [R], K.

    Args:
      state: has `momentum` [R, N, 3] and `mass` [R, N, 1] in jax-md units (amu, Å, eV).
      degrees_of_freedom: n; 3N where momenta are free, 3N − 3 where the centre of mass is fixed.
    """
    twice_kinetic = jnp.sum(state.momentum**2 / state.mass, axis=(-2, -1))
    return twice_kinetic / (degrees_of_freedom * KB)
