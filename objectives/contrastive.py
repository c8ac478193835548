"""The contrastive Kullback–Leibler term: raise the energy where the sampler goes.

KL(p_ref ‖ p_θ) has the gradient β(⟨∇_θU⟩_ref − ⟨∇_θU⟩_θ), also known as the gradient of the
relative entropy (Shell, J. Chem. Phys. 129, 144108). The second average runs over persistent
chains (Tieleman, ICML 2008) that follow the current potential, and may exchange with hotter ones
(Desjardins et al., AISTATS 2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from objectives.base import FULL_LIST, Batch, Metrics, Objective
from potentials.base import Params, Potential
from potentials.base import energies as energies_of
from potentials.edges import wrapped
from potentials.units import KB
from samplers.base import Sampler, centre, draw, kinetic_temperature, where_replica
from samplers.exchange import exchange
from samplers.full_lists import any_full
from samplers.mala import tune_step_size
from samplers.simulation import advance

# The reference itself goes below its lowest frame now and then, in a box by more, where its energies spread
# wider: 2 k_B T are 0.6 of the spread of a small molecule's.
_MARGIN = 2.0  # k_B T
_SPREADS = 0.6
_PROBES = 256  # frames whose energies say how low the reference goes; fewer where chains make few steps


class Negatives(NamedTuple):
    """Attributes: positions [R, N, 3] in Å, held constant; alive [R], False where a chain's position
    or energy went non-finite in the last window (it counts for nothing and is restarted from data);
    energies [R] in eV, under the params that drew them; fallen [R], True where such an energy is below
    those of the reference frames by more than 2 k_B T, in a box also 0.6 of their spread; accepted [R], 1
    or 0 for the last Metropolis test, None for samplers without one; full, whether a neighbour list lacked
    room, at whatever temperature, None where there is no list; reference [B, N, 3], frames of p_ref for the
    first mean, None: the batch's; kinetic temperatures [R], K, for samplers with momenta."""

    positions: Array
    alive: Array
    energies: Array
    fallen: Array
    accepted: Array | None = None
    full: Array | None = None
    reference: Array | None = None
    kinetic: Array | None = None


class ChainState(NamedTuple):
    """Attributes: levels, the sampler's state at each temperature, the coldest first; data
    [F, N, 3], what chains restart from; key."""

    levels: tuple[Any, ...]
    data: Array
    key: Array


def contrastive_loss(
    potential: Potential,
    temperature: float,
    params: Params,
    reference: Array,
    negatives: Negatives,
    fallen_weight: float = 0.0,
) -> tuple[Array, Metrics]:
    """β (mean U over the reference batch − mean U over the chains).

    The value is no likelihood; its gradient is that of KL(p_ref ‖ p_θ) when the negatives are
    samples of p_θ. Dimensionless.

    `fallen_weight` w adds w β (mean U over the reference batch − mean U over the fallen chains)
    whenever there are any. With p_θ = (1 − ε) p_basin + ε p_hole this is w/ε times the whole gradient
    of a potential whose basin is right already, without the noise of the basin's two means.

    Args:
      potential: U.
      temperature: K.
      params: gradients flow through these alone.
      reference: [B, N, 3], Å.
      negatives: of the chains; positions are held constant.
      fallen_weight: w.
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
    fallen = alive & negatives.fallen
    n_fallen = jnp.maximum(jnp.sum(fallen), 1)
    holes = jnp.sum(reference_energy - chain_energies, where=fallen) / n_fallen
    metrics = {
        "chain_energy_mean_ev": chain_energy,
        "chain_energy_min_ev": jnp.min(chain_energies, where=alive, initial=jnp.inf),
        "chain_alive_fraction": jnp.mean(alive),
        "chain_fallen_fraction": jnp.mean(fallen),
    }
    if negatives.accepted is not None:
        metrics["acceptance"] = jnp.mean(negatives.accepted)
    if negatives.kinetic is not None:
        # From the median, for a chain that has just fallen is as hot as its hole is deep; that of χ² with 3N
        # degrees of freedom lies below its mean (Wilson and Hilferty).
        median = jnp.nanmedian(jnp.where(alive, negatives.kinetic, jnp.nan))
        below = (1 - 2 / (9 * positions.shape[-1] * positions.shape[-2])) ** 3
        metrics["chain_temperature_k"] = median / below
    if negatives.full is not None:
        metrics[FULL_LIST] = negatives.full.astype(jnp.float32)
    return (gap + fallen_weight * holes) / (KB * temperature), metrics


def contrastive(
    potential: Potential,
    samplers: Sequence[Sampler],
    masses: Array | None,
    temperatures: Sequence[float],
    *,
    cell: ArrayLike | None = None,
    n_chains: int = 64,
    n_steps: int = 200,
    restart_fraction: float = 0.0,
    burn_in: int = 0,
    fallen_weight: float = 0.0,
    reference: ArrayLike | None = None,
    n_reference: int = 100,
) -> Objective:
    """The contrastive term with persistent chains.

    With more than one temperature the chains exchange configurations with as many at each of the
    others. Those at the first are the negatives, and exact samples of p_θ as far as the sampler is
    unbiased and restarts are rare (a restarted frame is colder than a hot level, which passes it
    down); the hotter ones find the holes that they would meet after many times their length.

    Args:
      potential: U.
      samplers: of each temperature; MALA or BAOAB (unbiased), or ULA (the paper's).
      masses: [N], amu; frames are centred between windows. None in a box, where they are not.
      cell: of a box, rows [3, 3], Å; atoms are wrapped into it between windows.
      temperatures: K, rising; the first is the reference's.
      n_chains: B chains at each temperature, started from frames of p_ref.
      n_steps: K sampler steps between two updates.
      restart_fraction: chance of each chain, at each update, to start again from such a frame.
        0 is persistent contrastive divergence; a few per cent keep finding new holes.
      burn_in: steps before the first update; MALA tunes its step size in them.
      fallen_weight: of the mean over fallen chains, on top of their share in the other.
      reference: frames [F, N, 3] of p_ref, Å, which need no labels; None: those trained on, batch by batch.
      n_reference: how many of `reference` each mean over p_ref has.

    Raises:
      ValueError: n_chains or n_steps below 1, a restart_fraction outside [0, 1], temperatures that do not
        rise, or fewer reference frames than n_reference.
    """
    if n_chains < 1 or n_steps < 1 or not 0 <= restart_fraction <= 1:
        raise ValueError(
            f"contrastive: n_chains={n_chains} and n_steps={n_steps} must be at least 1 and "
            f"restart_fraction={restart_fraction} within [0, 1]"
        )
    if not samplers or len(samplers) != len(temperatures) or list(temperatures) != sorted(set(temperatures)):
        raise ValueError(
            f"contrastive: {len(samplers)} samplers at {list(temperatures)} K; expected one at each of "
            "one or more rising temperatures"
        )
    if reference is not None and not 1 <= n_reference <= len(reference):
        raise ValueError(
            f"contrastive: n_reference is {n_reference}; expected 1 to {len(reference)}, all frames there are"
        )
    energy = jax.vmap(potential.energy, (None, 0))

    def init(key: Array, params: Params, frames: Batch) -> ChainState:
        params = potential.tabulate(params)
        key, *keys = jax.random.split(key, 1 + len(samplers))
        data = frames.positions if reference is None else jnp.asarray(reference, jnp.float32)
        levels = [burn(*level, params, data) for level in zip(samplers, keys, strict=True)]
        return ChainState(tuple(levels), data, key)

    def burn(sampler: Sampler, key: Array, params: Params, data: Array) -> Any:
        pick, start = jax.random.split(key)
        chains = sampler.init(start, params, draw(pick, data, n_chains))
        if hasattr(chains, "step_size"):
            return tune_step_size(sampler, params, chains, burn_in)[0]
        return advance(sampler, params, chains, burn_in)[0]

    def window(sampler: Sampler, params: Params, chains: Any) -> tuple[Any, Array, Array]:
        chains, alive, _ = advance(sampler, params, sampler.refresh(params, chains), n_steps)
        if masses is not None:
            chains = chains.set(position=centre(chains.position, masses))
        if cell is not None:
            chains = chains.set(position=wrapped(chains.position, cell))
        # `advance` looks at positions: a chain may have just stepped where there is no energy.
        energies = energy(params, chains.position)
        return chains, alive & jnp.isfinite(energies), energies

    def sample(params: Params, state: ChainState) -> tuple[Negatives, ChainState]:
        params = potential.tabulate(params)
        key, swap, which, pick, start = jax.random.split(state.key, 5)
        order = jax.random.fold_in(pick, 1)
        run = [window(s, params, chains) for s, chains in zip(samplers, state.levels, strict=True)]
        alive, energies = (jnp.stack(column) for column in list(zip(*run, strict=True))[1:])
        positions = jnp.stack([chains.position for chains, *_ in run])
        full = any_full(potential, params, positions, ~alive)
        frames = None
        if reference is not None:
            frames = state.data[jax.random.choice(order, len(state.data), (n_reference,), replace=False)]
            if full is not None:  # denser than the frames trained on
                full |= any_full(potential, params, frames, jnp.ones(n_reference, bool))
        source = exchange(swap, jnp.where(alive, energies, jnp.nan), temperatures)
        moved = source != jnp.arange(len(samplers))[:, None]
        positions, energies = (_take_level(leaf, source) for leaf in (positions, energies))
        coldest = run[0][0]
        accepted = getattr(coldest, "accepted", None)
        free = 3 * positions.shape[-2]
        kinetic = kinetic_temperature(coldest, free) if hasattr(coldest, "momentum") else None
        # Under the same params: an added constant must not matter.
        probes = min(len(state.data), _PROBES, max(n_chains * n_steps // 2, 32))
        rows = np.linspace(0, len(state.data) - 1, probes).astype(int)
        known = energies_of(potential, params, state.data[rows])
        margin = _MARGIN * KB * temperatures[0]
        if cell is not None:
            low, high = jnp.quantile(known, jnp.array([0.16, 0.84]))  # no matter what one bad frame has
            margin = jnp.maximum(margin, _SPREADS * (high - low) / 2)
        fallen = energies[0] < jnp.min(known) - margin
        negatives = Negatives(positions[0], alive[0], energies[0], fallen, accepted, full, frames, kinetic)
        restart = ~alive | (jax.random.uniform(which, alive.shape) < restart_fraction)
        drawn = draw(pick, state.data, restart.size).reshape(positions.shape)
        positions = jnp.where(restart[..., None, None], drawn, positions)
        levels = []
        for level, (sampler, (chains, *_)) in enumerate(zip(samplers, run, strict=True)):
            fresh = sampler.init(jax.random.fold_in(start, level), params, positions[level])
            new = restart[level] | moved[level]
            levels.append(where_replica(new, _keep_step_size(fresh, chains), chains))
        return negatives, state._replace(levels=tuple(levels), key=key)

    def loss(params: Params, batch: Batch, samples: Negatives) -> tuple[Array, Metrics]:
        frames = batch.positions if samples.reference is None else samples.reference
        return contrastive_loss(potential, temperatures[0], params, frames, samples, fallen_weight)

    return Objective(init, sample, loss)


def _take_level(leaf: Array, source: Array) -> Array:
    """leaf [L, R, ...] at the levels `source` [L, R]."""
    index = source.reshape(source.shape + (1,) * (leaf.ndim - 2))
    return jnp.take_along_axis(leaf, index, axis=0)


def _keep_step_size(fresh: Any, chains: Any) -> Any:
    """A restarted MALA chain goes on with the tuned step size."""
    return fresh.set(step_size=chains.step_size) if hasattr(chains, "step_size") else fresh
