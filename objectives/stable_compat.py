"""StABlE training with the choices of the code that was published with it, to compare with its figures.

Each is a setting, so that one can be undone at a time and what it costs be seen. The facts are those of
github.com/ASK-Berkeley/StABlE-Training at 5c701e0. What is not followed:

- breaks are looked for after every step here, at recorded frames there;
- at the start of learning all replicas are rewound there, here those that broke;
- replicas that are sent back go to an earlier state of their own there, to data here; and where learning
  ends by its rate, those that still break stay there and go to data here;
- the observable there is a histogram that sums to 100 over 500 bins to 10 Å, smeared by 0.01 Å, with an
  unsmeared target from ten times the training data; here it is h(r) in 1/Å, for which a weight of 3.2 is
  theirs of 1, and `stable.reference` may bring any target;
- minibatches are drawn at random and their covariance is divided by N there, by N − 1 here;
- the supervised gradient there is that of the whole training set, here of a batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax_md import dataclasses

from objectives.averages import DISTANCE_WIDTH
from objectives.ensemble import Observable
from objectives.observables import Grid, distance_distribution, distance_grid
from potentials.base import Params, Potential
from potentials.system import System
from potentials.units import FEMTOSECOND, KB
from samplers.base import Sampler, over_replicas
from samplers.momenta import maxwell_boltzmann

ESTIMATOR_BETA = 1.0
"""1/eV, where 1/(k_B T) belongs: it is left out of the published estimator as a mere scale of the learning
rate. So observables weigh k_B T / eV (0.043 at 500 K) of what they should against λ_QM."""


@dataclasses.dataclass
class ThermostattedState:
    """Of one replica: position [N, 3], momentum and force in jax-md's units, mass [N, 1], and the
    thermostat's friction ζ, one over the unit of time."""

    position: Array
    momentum: Array
    force: Array
    mass: Array
    friction: Array

    def set(self, **changes: Any) -> ThermostattedState:
        """The state with other fields."""
        return dataclasses.replace(self, **changes)


def published_sampler(
    potential: Potential,
    system: System,
    *,
    timestep: float = 0.5,
    relaxation: float = 10.0,
    maxwell_speeds: bool = True,
    all_degrees_of_freedom: bool = True,
) -> Sampler:
    """Velocity Verlet with a single Nosé–Hoover thermostat, started and counted as the published code does.

    A single thermostat is not ergodic for stiff molecules; `samplers.nose_hoover` is a chain.

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
    kT, n_atoms = KB * system.temperature, len(system.numbers)
    masses = jnp.asarray(system.masses, jnp.float32)[:, None]
    target = 0.5 * (3 * n_atoms - (0 if all_degrees_of_freedom else 3)) * kT
    dt = timestep * FEMTOSECOND
    inertia = 2.0 * target * (relaxation * FEMTOSECOND) ** 2
    forces = jax.grad(lambda params, x: -potential.energy(params, x), argnums=1)

    def kinetic(momentum: Array) -> Array:
        return jnp.sum(momentum**2 / (2 * masses))

    def init(key: Array, params: Params, position: Array) -> ThermostattedState:
        if maxwell_speeds:
            momentum = masses * jax.random.maxwell(key, position.shape)
            momentum -= jnp.mean(momentum, axis=0)
            momentum *= jnp.sqrt(1.5 * n_atoms * kT / kinetic(momentum))
        else:
            momentum = maxwell_boltzmann(key, system.masses, system.temperature, fixed_centre=True)
        return ThermostattedState(position, momentum, forces(params, position), masses, jnp.zeros(()))

    def step(params: Params, state: ThermostattedState) -> ThermostattedState:
        push = state.force - state.friction * state.momentum
        half = state.momentum + 0.5 * dt * push
        position = state.position + dt * half / masses
        force = forces(params, position)
        excess = kinetic(state.momentum) + kinetic(half) - 2.0 * target
        friction = state.friction + 0.5 * dt * excess / inertia
        momentum = (half + 0.5 * dt * force) / (1.0 + 0.5 * dt * friction)
        return ThermostattedState(position, momentum, force, masses, friction)

    def refresh(params: Params, state: ThermostattedState) -> ThermostattedState:
        return state.set(force=forces(params, state.position))

    return over_replicas(init, step, refresh)


def shifted_distances(shift: float) -> Observable:
    """h(r) whose bins lie `shift` (Å) too far at r = 0, rightly in the middle and as much too near at the
    grid's end, while its values are taken for those of the right grid: as a target, a floor that no
    potential can go below."""
    grid = distance_grid()

    def moved(r: Array) -> Array:
        return r + shift * (1.0 - 2.0 * r / grid.edges[-1])

    return partial(
        distance_distribution, grid=Grid(moved(grid.edges), moved(grid.centers)), width=DISTANCE_WIDTH
    )
