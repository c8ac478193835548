"""Langevin dynamics on jax-md: overdamped (ULA) and underdamped (BAOAB)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax_md import simulate

from potentials.base import Params, Potential
from potentials.system import System
from potentials.units import FEMTOSECOND, KB
from samplers.base import Sampler, State, free_shift, kelvin, over_replicas
from samplers.momenta import maxwell_boltzmann


def ula(
    potential: Potential, system: System, *, step_size: float = 4e-4, temperature: float | None = None
) -> Sampler:
    """The unadjusted Langevin algorithm, x ← x − η β ∇U + sqrt(2η) ξ.

    This is `jax_md.simulate.brownian` with unit mass and friction and dt = η β. It is biased: a
    mode of stiffness k is sampled with its variance times 1/(1 − ηβk/2). Fit for making negatives,
    not for reporting distributions.

    Args:
      potential: U.
      system: gives the temperature.
      step_size: η, Å².
      temperature: K; the system's where None.
    """
    kT = KB * kelvin(temperature, system)

    def dynamics(params: Params) -> simulate.Simulator:
        energy = partial(potential.energy, params)
        return simulate.brownian(energy, free_shift, dt=step_size / kT, kT=kT, gamma=1.0)

    def init(key: Array, params: Params, positions: Array) -> State:
        return dynamics(params)[0](key, positions)

    def step(params: Params, state: State) -> State:
        return dynamics(params)[1](state)

    return over_replicas(init, step, lambda params, state: state)


def baoab(
    potential: Potential,
    system: System,
    *,
    timestep: float = 0.5,
    friction: float = 1.0,
    temperature: float | None = None,
) -> Sampler:
    """BAOAB Langevin dynamics, `jax_md.simulate.nvt_langevin`.

    Configurational error O(dt²) (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34). All
    3N momenta are thermostatted, the centre of mass among them, so it drifts.

    Args:
      potential: U.
      system: masses and temperature.
      timestep: fs.
      friction: 1/ps.
      temperature: K; the system's where None.
    """
    temperature = kelvin(temperature, system)

    def dynamics(params: Params) -> simulate.Simulator:
        return simulate.nvt_langevin(
            partial(potential.energy, params),
            free_shift,
            dt=timestep * FEMTOSECOND,
            kT=KB * temperature,
            gamma=friction / (1000 * FEMTOSECOND),
        )

    def init(key: Array, params: Params, positions: Array) -> State:
        noise, thermal = jax.random.split(key)
        momenta = maxwell_boltzmann(thermal, system.masses, temperature)
        return dynamics(params)[0](noise, positions, mass=_masses(system), momenta=momenta)

    def step(params: Params, state: State) -> State:
        return dynamics(params)[1](state)

    return over_replicas(init, step, partial(_refresh_force, potential))


def nose_hoover(
    potential: Potential,
    system: System,
    *,
    timestep: float = 0.5,
    relaxation: float = 50.0,
    chain_length: int = 3,
    temperature: float | None = None,
) -> Sampler:
    """A Nosé–Hoover chain, `jax_md.simulate.nvt_nose_hoover`, with 3N − 3 degrees of freedom.

    jax-md lets the chain count 3N while the dynamics conserves the centre of mass, which heats
    ethanol by 12.5 % and aspirin by 5 %; here the chain's state carries 3N − 3, and the momenta
    start with zero sum. So it is for isolated systems: an external field does not conserve the
    centre of mass, and has 3N degrees of freedom.

    In vacuum the chain scales the angular momentum L but never turns it, and |L| exp(ξ), ξ the
    chain's position, is conserved: each replica keeps nearly the rotation it began with. Start from
    configurations of the temperature wanted; from a cold geometry the chain heats the rotation for
    good and leaves the vibrations too cold, at the right kinetic temperature.

    Args:
      potential: U.
      system: masses and temperature.
      timestep: fs.
      relaxation: τ of the chain, fs.
      chain_length: number of thermostats, 2 or more.
      temperature: K; the system's where None.

    Raises:
      ValueError: a chain of one, which jax-md couples to itself: it heats by 1/(2 (3N − 3)).

    Source: Martyna, Klein, Tuckerman, J. Chem. Phys. 97, 2635 (1992).
    """
    if chain_length < 2:
        raise ValueError(f"nose_hoover: chain_length is {chain_length}; expected 2 or more")
    temperature = kelvin(temperature, system)
    degrees_of_freedom = 3 * len(system.numbers) - 3

    def dynamics(params: Params) -> simulate.Simulator:
        return simulate.nvt_nose_hoover(
            partial(potential.energy, params),
            free_shift,
            dt=timestep * FEMTOSECOND,
            kT=KB * temperature,
            tau=relaxation * FEMTOSECOND,
            chain_length=chain_length,
        )

    def init(key: Array, params: Params, positions: Array) -> State:
        momenta = maxwell_boltzmann(key, system.masses, temperature, fixed_centre=True)
        state = dynamics(params)[0](key, positions, mass=_masses(system), momenta=momenta)
        # The chain's masses follow from its degrees of freedom at the next step.
        return state.set(chain=state.chain.set(degrees_of_freedom=degrees_of_freedom))

    def step(params: Params, state: State) -> State:
        return dynamics(params)[1](state)

    return over_replicas(init, step, partial(_refresh_force, potential))


def _masses(system: System) -> Array:
    return jnp.asarray(system.masses, jnp.float32)


def _refresh_force(potential: Potential, params: Params, state: State) -> State:
    return state.set(force=-jax.grad(potential.energy, argnums=1)(params, state.position))
