"""The pair well with a wall beyond which there is no number, and chains on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from objectives import Negatives, Objective, contrastive, contrastive_loss
from objectives.contrastive import ChainState
from potentials import Params, Potential, from_energy
from samplers import Sampler, mala, ula
from tests.objectives.pair_well import (
    OTHER,
    REFERENCE,
    TEMPERATURE,
    even_frames,
    pair_potential,
    pair_system,
    params_of,
    unlabelled,
)

WALL = 4.0  # Å


def walled_potential() -> Potential:
    """The pair well, not a number beyond a separation of `WALL`; params["wall"] times a fall towards it."""
    pair = pair_potential()

    def energy(params: Params, x: Array) -> Array:
        distance = jnp.sqrt(jnp.sum((x[1] - x[0]) ** 2))
        return pair.energy(params, x) + params["wall"] * jnp.sqrt(WALL - distance)

    return from_energy(energy, lambda key: PARAMS)


POTENTIAL, SYSTEM = walled_potential(), pair_system()
PARAMS = params_of(OTHER | {"wall": 0.0})
FRAMES = unlabelled(even_frames(64, REFERENCE))
DATA = {frame.tobytes() for frame in np.asarray(FRAMES.positions)}
KEY = jax.random.PRNGKey(0)


@cache
def build(
    builder: Callable[..., Sampler],
    hotter: tuple[float, ...] = (),
    step_size: float = 4e-4,
    timestep: float = 0.0,
    **settings: float,
) -> Objective:
    """A contrastive objective, its functions jitted and compiled once for all tests."""
    temperatures = (TEMPERATURE, *hotter)
    step = {"timestep": timestep} if timestep else {"step_size": step_size}
    samplers = [builder(POTENTIAL, SYSTEM, **step, temperature=t) for t in temperatures]
    functions = contrastive(POTENTIAL, samplers, SYSTEM.masses, temperatures, **settings)
    return Objective(*map(jax.jit, functions))


def with_chains(state: ChainState, **fields: Array) -> ChainState:
    """The state with other fields of its coldest chains."""
    return state._replace(levels=(state.levels[0].set(**fields), *state.levels[1:]))


def ula_chains() -> Objective:
    return build(ula, n_chains=64, n_steps=3)


def mala_chains(hotter: tuple[float, ...] = ()) -> Objective:
    return build(mala, step_size=1e-3, hotter=hotter, n_chains=1024, n_steps=50, burn_in=400)


def make_negatives(
    positions: NDArray | Array,
    alive: Sequence[bool] | None = None,
    fallen: Sequence[bool] | None = None,
    accepted: Sequence[float] | None = None,
) -> Negatives:
    """Frames as negatives; by default all alive and none fallen."""
    count = len(positions)
    alive, fallen = alive or [True] * count, fallen or [False] * count
    none = None if accepted is None else jnp.array(accepted)
    return Negatives(jnp.asarray(positions), jnp.array(alive), jnp.zeros(count), jnp.array(fallen), none)


@jax.jit
def contrastive_gradient(params: Params, reference: Array, negatives: Negatives) -> Params:
    return jax.grad(partial(contrastive_loss, POTENTIAL, TEMPERATURE), has_aux=True)(
        params, reference, negatives
    )[0]


def from_data(positions: Array) -> list[bool]:
    """Which replicas are exactly on a data frame."""
    return [frame.tobytes() in DATA for frame in np.asarray(positions)]
