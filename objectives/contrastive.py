"""The contrastive Kullback–Leibler term: raise the energy where the sampler goes.

KL(p_ref ‖ p_θ) has the gradient β(⟨∇_θU⟩_ref − ⟨∇_θU⟩_θ), also known as the gradient of the
relative entropy (Shell, J. Chem. Phys. 129, 144108). The second average runs over persistent
chains (Tieleman, ICML 2008) that follow the current potential.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from objectives.base import Batch, Metrics, Objective
from potentials.base import Params, Potential
from potentials.units import KB
from samplers.base import Sampler, centre, where_replica
from samplers.mala import tune_step_size
from samplers.simulation import advance


class Negatives(NamedTuple):
    """Attributes: positions [R, N, 3] in Å, held constant; alive [R], False where a chain's position
    or energy went non-finite in the last window (it counts for nothing and is restarted from data);
    energies [R] in eV, under the params that drew them; accepted [R], 1 or 0 for the last Metropolis
    test, None for samplers without one."""

    positions: Array
    alive: Array
    energies: Array
    accepted: Array | None = None


class ChainState(NamedTuple):
    """Attributes: chains, the sampler's state; data [F, N, 3], what chains restart from; key."""

    chains: Any
    data: Array
    key: Array


def contrastive_loss(
    potential: Potential, temperature: float, params: Params, reference: Array, negatives: Negatives
) -> tuple[Array, Metrics]:
    """β (mean U over the reference batch − mean U over the chains).

    The value is no likelihood; its gradient is that of KL(p_ref ‖ p_θ) when the negatives are
    samples of p_θ. Dimensionless.

    Args:
      potential: U.
      temperature: K.
      params: gradients flow through these alone.
      reference: [B, N, 3], Å.
      negatives: of the chains; positions are held constant.
    """
    energy = jax.vmap(potential.energy, (None, 0))
    alive = negatives.alive
    # A failed chain may sit where the energy is not a number. Masking that energy would leave NaN in
    # the gradient, so the chain is put on a reference frame first.
    positions = jnp.where(alive[:, None, None], negatives.positions, reference[0])
    chain_energies = energy(params, jax.lax.stop_gradient(positions))
    reference_energy = jnp.mean(energy(params, reference))
    n_alive = jnp.sum(alive)
    chain_energy = jnp.sum(chain_energies, where=alive) / jnp.maximum(n_alive, 1)
    gap = jnp.where(n_alive > 0, reference_energy - chain_energy, 0.0)
    metrics = {
        "chain_energy_mean_ev": chain_energy,
        "chain_energy_min_ev": jnp.min(chain_energies, where=alive, initial=jnp.inf),
        "chain_alive_fraction": jnp.mean(alive),
    }
    if negatives.accepted is not None:
        metrics["acceptance"] = jnp.mean(negatives.accepted)
    return gap / (KB * temperature), metrics


def contrastive(
    potential: Potential,
    sampler: Sampler,
    masses: Array,
    temperature: float,
    *,
    n_chains: int = 64,
    n_steps: int = 200,
    restart_fraction: float = 0.0,
    burn_in: int = 0,
) -> Objective:
    """The contrastive term with persistent chains.

    Args:
      potential: U.
      sampler: makes the negatives: MALA or BAOAB (unbiased), or ULA (the paper's).
      masses: [N], amu; frames are centred between windows.
      temperature: K, that of the sampler.
      n_chains: B chains, started from training frames.
      n_steps: K sampler steps between two updates.
      restart_fraction: chance of each chain, at each update, to start again from a training frame.
        0 is persistent contrastive divergence; a few per cent keep finding new holes.
      burn_in: steps before the first update; MALA tunes its step size in them.

    Raises:
      ValueError: n_chains or n_steps below 1, or a restart_fraction outside [0, 1].
    """
    if n_chains < 1 or n_steps < 1 or not 0 <= restart_fraction <= 1:
        raise ValueError(
            f"contrastive: n_chains={n_chains} and n_steps={n_steps} must be at least 1 and "
            f"restart_fraction={restart_fraction} within [0, 1]"
        )

    def init(key: Array, params: Params, frames: Batch) -> ChainState:
        key, pick, start = jax.random.split(key, 3)
        positions = _draw(pick, frames.positions, n_chains)
        chains = sampler.init(start, params, positions)
        if hasattr(chains, "step_size"):
            chains, _ = tune_step_size(sampler, params, chains, burn_in)
        else:
            chains, _ = advance(sampler, params, chains, burn_in)
        return ChainState(chains, frames.positions, key)

    def sample(params: Params, state: ChainState) -> tuple[Negatives, ChainState]:
        key, which, pick, start = jax.random.split(state.key, 4)
        chains, alive = advance(sampler, params, sampler.refresh(params, state.chains), n_steps)
        chains = chains.set(position=centre(chains.position, masses))
        # `advance` looks at positions: a chain may have just stepped where there is no energy.
        energies = jax.vmap(potential.energy, (None, 0))(params, chains.position)
        alive &= jnp.isfinite(energies)
        negatives = Negatives(chains.position, alive, energies, getattr(chains, "accepted", None))
        restart = ~alive | (jax.random.uniform(which, (n_chains,)) < restart_fraction)
        fresh = sampler.init(start, params, _draw(pick, state.data, n_chains))
        chains = where_replica(restart, _keep_step_size(fresh, chains), chains)
        return negatives, ChainState(chains, state.data, key)

    def loss(params: Params, batch: Batch, samples: Negatives) -> tuple[Array, Metrics]:
        return contrastive_loss(potential, temperature, params, batch.positions, samples)

    return Objective(init, sample, loss)


def _draw(key: Array, positions: Array, count: int) -> Array:
    """`count` frames; without replacement as long as there are enough."""
    replace = count > len(positions)
    return positions[jax.random.choice(key, len(positions), (count,), replace=replace)]


def _keep_step_size(fresh: Any, chains: Any) -> Any:
    """A restarted MALA chain goes on with the tuned step size."""
    return fresh.set(step_size=chains.step_size) if hasattr(chains, "step_size") else fresh
