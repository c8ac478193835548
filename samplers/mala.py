"""The Metropolis-adjusted Langevin algorithm: ULA's proposals, without ULA's bias."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax_md import dataclasses

from potentials.base import Params, Potential
from potentials.system import System
from potentials.units import KB
from samplers.base import Sampler, State, kelvin, over_replicas

OPTIMAL_ACCEPTANCE = 0.574
"""Optimal in high dimension (Roberts and Rosenthal, J. R. Stat. Soc. B 60, 255 (1998))."""


@dataclasses.dataclass
class MALAState:
    """Attributes: position and force [N, 3], energy in eV, step_size η in Å², accepted (0 or 1 for
    the last step), rng."""

    position: Array
    energy: Array
    force: Array
    step_size: Array
    accepted: Array
    rng: Array


def mala(
    potential: Potential, system: System, *, step_size: float = 3e-4, temperature: float | None = None
) -> Sampler:
    """Metropolis-adjusted Langevin: unbiased at any step size.

    The proposal is ULA's, y = x + ηβF(x) + sqrt(2η) ξ, accepted with probability
    min(1, exp(−βΔU) q(x|y)/q(y|x)); a proposal of non-finite energy is rejected, but
    for one that a neighbour list has no room for: the chain stops there, to be seen.

    Args:
      potential: U.
      system: gives the temperature.
      step_size: initial η, Å²; `tune_step_size` changes it in the state.
      temperature: K; the system's where None.

    Source: Roberts and Tweedie, Bernoulli 2, 341 (1996).
    """
    beta = 1.0 / (KB * kelvin(temperature, system))

    def energy_and_force(params: Params, positions: Array) -> tuple[Array, Array]:
        energy, gradient = jax.value_and_grad(potential.energy, argnums=1)(params, positions)
        return energy, -gradient

    def init(key: Array, params: Params, positions: Array) -> State:
        energy, force = energy_and_force(params, positions)
        return MALAState(positions, energy, force, jnp.float32(step_size), jnp.float32(0), key)

    def step(params: Params, state: State) -> State:
        rng, noise_key, accept_key = jax.random.split(state.rng, 3)
        eta = state.step_size
        noise = jax.random.normal(noise_key, state.position.shape, state.position.dtype)
        proposal = state.position + eta * beta * state.force + jnp.sqrt(2 * eta) * noise
        energy, force = energy_and_force(params, proposal)
        # The reverse noise from its own expression: proposal − position would cancel in float32.
        reverse = noise + jnp.sqrt(eta / 2) * beta * (state.force + force)
        log_ratio = -beta * (energy - state.energy) + 0.5 * jnp.sum(noise**2 - reverse**2)
        accept = jnp.log(jax.random.uniform(accept_key)) < log_ratio  # NaN compares as False
        if potential.overflow is not None:
            accept |= potential.overflow(params, proposal)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(accept, new, old)

        return MALAState(
            choose(proposal, state.position),
            choose(energy, state.energy),
            choose(force, state.force),
            eta,
            accept.astype(jnp.float32),
            rng,
        )

    def refresh(params: Params, state: State) -> State:
        energy, force = energy_and_force(params, state.position)
        return state.set(energy=energy, force=force)

    return over_replicas(init, step, refresh)


def tune_step_size(
    sampler: Sampler,
    params: Params,
    state: State,
    n_steps: int,
    *,
    target: float = OPTIMAL_ACCEPTANCE,
) -> tuple[State, Array]:
    """Burn-in that brings the mean acceptance to a target; all replicas share one step size.

    Robbins–Monro on ln η with gain t^(−0.6), driven by the share of replicas that accepted. Samples
    drawn while the step size still moves are not to be used.

    Args:
      sampler: from `mala`.
      params: of the potential.
      state: of the sampler, R replicas.
      n_steps: length of the burn-in.
      target: wanted acceptance rate.

    Returns:
      The state with its new `step_size` [R], and the acceptance at each step [n_steps].
    """

    def body(state: State, t: Array) -> tuple[State, Array]:
        state = sampler.step(params, state)
        running = jnp.isfinite(state.energy)  # a chain that a full neighbour list stopped says nothing
        acceptance = jnp.sum(state.accepted, where=running) / jnp.maximum(jnp.sum(running), 1)
        factor = jnp.exp((t + 1.0) ** -0.6 * (acceptance - target))
        return state.set(step_size=state.step_size * factor), acceptance

    return jax.lax.scan(body, state, jnp.arange(n_steps, dtype=jnp.float32))


def acceptance_rate(sampler: Sampler, params: Params, state: State, n_steps: int) -> tuple[State, Array]:
    """Runs `n_steps` and returns the state and the mean acceptance over steps and replicas."""

    def body(state: State, _: None) -> tuple[State, Array]:
        state = sampler.step(params, state)
        return state, jnp.mean(state.accepted)

    state, accepted = jax.lax.scan(body, state, None, n_steps)
    return state, jnp.mean(accepted)
