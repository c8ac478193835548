"""Replicas whose fate is known: bonds that grow at a rate of their own, for StABlE's state machine."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from objectives import Batch, static
from objectives.stable import stable
from potentials import from_energy, make_system
from potentials.units import KB
from samplers import Sampler, bond_deviation

PAIR = make_system([6, 6], [[0, 0, 0], [1.5, 0, 0]], 500.0)
BETA = 1 / (KB * 500.0)
CRITERION = bond_deviation(PAIR.bonds, [1.5], 0.25)
OBSERVABLES = {"length": (1.0, lambda x: jnp.linalg.norm(x[1] - x[0])[None])}


def pair(lengths):
    positions = np.zeros((len(lengths), 2, 3), np.float32)
    positions[:, 0, 0], positions[:, 1, 0] = -0.5 * np.asarray(lengths), 0.5 * np.asarray(lengths)
    return jnp.asarray(positions)


FRAMES = Batch(pair([1.5, 1.49, 1.51, 1.5]), jnp.zeros(4), jnp.zeros((4, 2, 3)))


class Walker(NamedTuple):
    position: jax.Array
    speed: jax.Array

    def set(self, **changes):
        return self._replace(**changes)


def walkers(speeds):
    """Bonds that grow by params["speed"] times their own speed at every step, Å."""

    def init(key, params, positions):
        return Walker(positions, jnp.asarray(speeds, jnp.float32))

    def step(params, state):
        growth = 0.5 * params["speed"] * state.speed
        axis = jnp.array([[-1.0, 0, 0], [1.0, 0, 0]])
        return state.set(position=state.position + growth[:, None, None] * axis)

    return Sampler(init, step, lambda params, state: state)


def energy(params, positions):
    return 0.5 * params["k"] * (jnp.linalg.norm(positions[1] - positions[0]) - 1.5) ** 2


POTENTIAL = from_energy(energy, lambda key: {"k": jnp.float32(20.0), "speed": jnp.float32(1.0)})
PARAMS = POTENTIAL.init(None)
STILL = {**PARAMS, "speed": jnp.float32(0.0)}
NO_QM = static(lambda params, batch: (jnp.zeros(()), {}))


def machine(speeds, supervised=NO_QM, criterion=CRITERION, **settings):
    settings = {"n_steps": 10, "record_every": 5, "f_max": 0.5, "n_cycles": 2} | settings
    objective = stable(
        POTENTIAL, walkers(speeds), criterion, OBSERVABLES, supervised, PAIR.masses, BETA,
        n_replicas=len(speeds), **settings,
    )  # fmt: skip
    state = objective.init(jax.random.key(0), PARAMS, FRAMES)
    state = state._replace(replicas=state.replicas.set(position=pair([1.5] * len(speeds))))
    return objective, jax.jit(objective.sample), state


def lengths(state):
    x = np.asarray(state.replicas.position)
    return x[:, 1, 0] - x[:, 0, 0]
