"""StABlE training with the choices of the code that was published with it, to compare with its figures.

Each is a setting of its own, so that one can be undone at a time and what it costs be seen; the facts are
those of github.com/ASK-Berkeley/StABlE-Training at 5c701e0. Not reproduced: the integrator (velocity Verlet
there), breaks looked for at recorded frames only, and stable replicas being rewound at the start of learning
as the others are.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from objectives.averages import DISTANCE_WIDTH
from objectives.ensemble import Observable
from objectives.observables import Grid, distance_distribution, distance_grid
from potentials.base import Params, Potential
from potentials.system import System
from potentials.units import KB, KCAL_PER_MOL
from samplers import nose_hoover
from samplers.base import Sampler, State

ESTIMATOR_BETA = 1.0 / KCAL_PER_MOL
"""1/eV. The published estimator leaves 1/(k_B T) out of energies in kcal/mol, "like scaling the learning
rate"; at 500 K that is 1 % off, at 300 K the observables weigh 0.6 of what they should against λ_QM."""


def published_sampler(
    potential: Potential,
    system: System,
    *,
    timestep: float = 0.5,
    relaxation: float = 10.0,
    maxwell_speeds: bool = True,
    all_degrees_of_freedom: bool = True,
) -> Sampler:
    """A single Nosé–Hoover thermostat, started and counted as the published code does.

    Args:
      potential: U.
      system: masses and temperature.
      timestep: fs.
      relaxation: τ, fs; there 20 steps.
      maxwell_speeds: velocity components are drawn from the distribution of Maxwell *speeds*, the same
        for all masses and all positive; the mean momentum is taken from each atom, which heats the
        light ones, and the sum is scaled to 3N/2 k_B T. Without: Maxwell–Boltzmann.
      all_degrees_of_freedom: the thermostat counts 3N though the centre of mass is fixed, so that the
        temperature is 3N/(3N − 3) of what was asked for. Without: 3N − 3.
    """
    sampler = nose_hoover(potential, system, timestep=timestep, relaxation=relaxation, chain_length=1)
    masses = jnp.asarray(system.masses, jnp.float32)[:, None]
    target = 1.5 * len(system.numbers) * KB * system.temperature

    def init(key: Array, params: Params, positions: Array) -> State:
        state = sampler.init(key, params, positions)
        if maxwell_speeds:
            momenta = masses * jax.random.maxwell(jax.random.fold_in(key, 0), positions.shape)
            momenta -= jnp.mean(momenta, axis=-2, keepdims=True)
            kinetic = jnp.sum(momenta**2 / (2 * masses), axis=(-2, -1), keepdims=True)
            state = state.set(momentum=momenta * jnp.sqrt(target / kinetic))
        if all_degrees_of_freedom:
            state = state.set(chain=state.chain.set(degrees_of_freedom=3 * len(system.numbers)))
        return state

    return Sampler(init, sampler.step, sampler.refresh)


def shifted_distances(shift: float) -> Observable:
    """h(r) on a grid that begins `shift` (Å) later while its values are taken for those of the right one:
    as a target, a floor that no potential can go below."""
    grid = distance_grid()
    return partial(
        distance_distribution, grid=Grid(grid.edges + shift, grid.centers + shift), width=DISTANCE_WIDTH
    )
