"""StABlE training: simulate until replicas break, then learn observables from where they did.

Raja et al., arXiv 2402.13984, Algorithm 1, as a state machine: every call of `sample` runs one window
of all replicas, so a run can be checkpointed and resumed between any two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from objectives.base import FULL_LIST, Batch, Metrics, Objective
from objectives.ensemble import (
    Ensemble,
    Observable,
    Observables,
    check_targets,
    effective_fraction,
    mean_observable,
    observable_loss,
)
from objectives.neighbourhoods import Neighbourhoods
from objectives.stable_settings import Settings, check_settings
from potentials.base import Params, Potential
from samplers.base import Sampler, centre, draw, new_noise, where_replica
from samplers.full_lists import any_full
from samplers.simulation import advance
from samplers.stability import Criterion

SIMULATING, LEARNING, DONE = 0, 1, 2
"""Phases."""


class Samples(NamedTuple):
    """What one call of `sample` hands to the loss.

    Attributes:
      ensemble: of the latest window.
      targets: g_ref by name.
      phase: of the window; the loss is zero in all but LEARNING.
      rate: factor on the learning rate, 0 unless LEARNING.
      unstable_fraction: of the replicas.
      cycle: how many pairs of phases are complete.
      full: whether a neighbour list lacked room, None where there is no list.
    """

    ensemble: Ensemble
    targets: dict[str, Array]
    phase: Array
    rate: Array
    unstable_fraction: Array
    cycle: Array
    full: Array | None = None


class StableState(NamedTuple):
    """Where the algorithm stands.

    Attributes:
      replicas: the sampler's states from which the next window starts.
      unstable: [R], those that wait for learning at the start of the window in which they broke.
      phase: of the next window.
      learned: windows of this learning phase.
      best, stale, reductions: of the plateau: lowest unstable share, windows since then, drops of the rate.
      uses: how often the latest ensemble was learnt from.
      latest: what the last call of `sample` returned.
      data: [F, n, 3], what lost replicas start again from.
      key: PRNG key.
    """

    replicas: Any
    unstable: Array
    phase: Array
    learned: Array
    best: Array
    stale: Array
    reductions: Array
    uses: Array
    latest: Samples
    data: Array
    key: Array


def stable(
    potential: Potential,
    sampler: Sampler,
    criterion: Criterion,
    observables: Observables,
    supervised: Objective,
    masses: ArrayLike,
    beta: float,
    *,
    targets: Mapping[str, ArrayLike] | None = None,
    references: Mapping[str, Observable] | None = None,
    neighbourhoods: Neighbourhoods | None = None,
    centred: bool = True,
    **settings: Any,
) -> Objective:
    """L_obs + λ_QM L_QM (StABlE, eq. 7), in turns with simulation.

    Simulation phase: replicas run windows; one that meets the criterion goes back to the start of its
    window and waits, until the unstable share is f_max. Learning phase: all replicas run one window
    from where they stand, one update is made, they are put back; until the unstable share is f_min.

    Args:
      potential: U.
      sampler: of the replicas; momenta and all are rewound with it. Random forces are drawn anew.
      criterion: of instability, looked at after every step. A non-finite replica is unstable too.
      observables: what is learnt.
      supervised: the objective L_QM of the training frames, without samples.
      masses: [n], amu.
      beta: of the estimator, 1/eV.
      targets: g_ref by name; the mean over the training frames for those not in it.
      references: what this mean is of, by name, where it is not the observable itself.
      neighbourhoods: of the localized estimator, see `observable_loss`; without, it is the global one.
      centred: frames are centred on their centre of mass; False in a box.
      **settings: see `Settings`.

    Raises:
      ValueError: settings out of range, no observables, or a target of another shape.
    """
    s = check_settings(Settings(**settings))
    if neighbourhoods is not None and neighbourhoods.n_bins and s.cross_fitted:
        raise ValueError(
            "stable.cross_fitted is True with stable.deviation_bins: the few states that bins single out are "
            "of few replicas, which the halves would not share; expected False"
        )
    if not observables:
        raise ValueError("stable: no observables; expected one or more with a positive weight")
    given = check_targets(observables, targets or {}, len(jnp.asarray(masses)))
    energy = jax.vmap(potential.energy, (None, 0))
    n_frames = s.n_steps // s.record_every

    def init(key: Array, params: Params, frames: Batch) -> StableState:
        key, start, pick = jax.random.split(key, 3)
        of = {name: (references or {}).get(name, g) for name, (_, g) in observables.items()}
        means = {name: mean_observable(g, frames.positions) for name, g in of.items()}
        shape = (n_frames, s.n_replicas)
        nothing = Ensemble(
            jnp.zeros((*shape, *frames.positions.shape[1:])), jnp.zeros(shape), jnp.zeros(shape, bool)
        )
        integer, real = jnp.int32, jnp.float32
        full = None if potential.overflow is None else jnp.asarray(False)
        latest = Samples(nothing, means | given, integer(SIMULATING), real(0), real(0), integer(0), full)
        return StableState(
            replicas=sampler.init(start, params, draw(pick, frames.positions, s.n_replicas)),
            unstable=jnp.zeros(s.n_replicas, bool),
            phase=integer(SIMULATING),
            learned=integer(0),
            best=real(jnp.inf),
            stale=integer(0),
            reductions=integer(0),
            uses=integer(0),
            latest=latest,
            data=frames.positions,
            key=key,
        )

    def window(params: Params, state: StableState) -> tuple[Any, Array, Ensemble, Array | None]:
        """All replicas for t steps: (their ends, which stayed intact [R], samples, `Samples.full`)."""

        def body(carry: tuple[Any, Array, Array], _: None) -> tuple[Any, tuple[Array, ...]]:
            replicas, alive, intact = carry
            new, finite, steps = advance(sampler, params, replicas, s.record_every, criterion)
            replicas = where_replica(alive, new, replicas)
            if centred:
                replicas = replicas.set(position=centre(replicas.position, masses))
            energies = energy(params, replicas.position)
            alive = alive & finite & jnp.isfinite(energies)
            intact = intact & alive & (steps == s.record_every)
            return (replicas, alive, intact), (replicas.position, energies, alive)

        _, noise, _ = jax.random.split(state.key, 3)
        starts = new_noise(noise, sampler.refresh(params, state.replicas))
        yes = jnp.ones(s.n_replicas, bool)
        (ends, alive, intact), records = jax.lax.scan(body, (starts, yes, yes), None, n_frames)
        return ends, intact, Ensemble(*records), any_full(potential, params, ends.position, ~alive)

    def simulating(params: Params, state: StableState) -> StableState:
        ends, intact, ensemble, full = window(params, state)
        unstable = state.unstable | ~intact
        share = jnp.mean(unstable)
        latest = state.latest._replace(
            ensemble=ensemble,
            phase=jnp.int32(SIMULATING),
            rate=jnp.float32(0),
            unstable_fraction=share,
            full=full,
        )
        return state._replace(
            replicas=where_replica(~unstable, ends, state.replicas),
            unstable=unstable,
            phase=jnp.where(share >= s.f_max, LEARNING, SIMULATING).astype(jnp.int32),
            learned=jnp.int32(0),
            best=jnp.float32(jnp.inf),
            stale=jnp.int32(0),
            reductions=jnp.int32(0),
            latest=latest,
        )

    def learning(params: Params, state: StableState) -> StableState:
        ends, intact, ensemble, full = window(params, state)
        share = jnp.mean(~intact)
        stale = jnp.where(share < state.best, 0, state.stale + 1)
        drop = stale > s.plateau_patience
        reductions = state.reductions + drop
        rate = jnp.float32(s.plateau_factor) ** reductions
        enough = share <= s.f_min
        over = enough | (state.learned + 1 >= s.max_learning_windows)
        if s.max_reductions:
            over |= reductions > s.max_reductions
        start, pick, which = jax.random.split(jax.random.split(state.key, 3)[2], 3)
        sent_back = intact & (jax.random.uniform(which, intact.shape) < s.reset_fraction)
        lost = over & ((~enough & ~intact) | sent_back)
        cycle = state.latest.cycle + over
        fresh = sampler.init(start, params, draw(pick, state.data, s.n_replicas))
        replicas = where_replica(over & intact, ends, state.replicas)
        after = jnp.where(cycle >= s.n_cycles, DONE, SIMULATING)
        return state._replace(
            replicas=where_replica(lost, fresh, replicas),
            unstable=jnp.where(over, ~intact & ~lost, state.unstable),
            phase=jnp.where(over, after, LEARNING).astype(jnp.int32),
            learned=state.learned + 1,
            best=jnp.minimum(share, state.best),
            stale=jnp.where(drop, 0, stale),
            reductions=reductions,
            uses=jnp.int32(1),
            latest=Samples(ensemble, state.latest.targets, jnp.int32(LEARNING), rate, share, cycle, full),
        )

    def again(params: Params, state: StableState) -> StableState:
        return state._replace(uses=state.uses + 1)

    def idle(params: Params, state: StableState) -> StableState:
        return state._replace(latest=state.latest._replace(phase=jnp.int32(DONE), rate=jnp.float32(0)))

    def sample(params: Params, state: StableState) -> tuple[Samples, StableState]:
        params = potential.tabulate(params)
        branch = state.phase
        if s.max_uses > 1:
            learnt = (state.phase == LEARNING) & (state.latest.phase == LEARNING)
            usable = effective_fraction(potential, beta, params, state.latest.ensemble) >= s.min_effective
            branch = jnp.where(learnt & (state.uses < s.max_uses) & usable, DONE + 1, branch)
        state = jax.lax.switch(branch, [simulating, learning, idle, again], params, state)
        return state.latest, state._replace(key=jax.random.split(state.key, 3)[0])

    def observed(params: Params, stand_in: Array, samples: Samples) -> tuple[Array, Metrics]:
        def part(ensemble: Ensemble) -> tuple[Array, Metrics]:
            arguments = (potential, observables, samples.targets, beta, params, ensemble, stand_in)
            value, metrics = observable_loss(
                *arguments, cross_fitted=s.cross_fitted, neighbourhoods=neighbourhoods
            )
            held = jax.lax.stop_gradient(value)
            return held + s.gradient_factor * (value - held), metrics

        if not s.minibatch:
            return part(samples.ensemble)
        pieces = samples.ensemble.split(s.minibatch)
        some = jnp.any(pieces.valid, axis=(1, 2))
        values, metrics = jax.lax.map(part, pieces)
        means = jax.tree.map(lambda leaf: jnp.sum(leaf * some) / jnp.maximum(jnp.sum(some), 1), metrics)
        means["effective_samples"] = jnp.sum(metrics["effective_samples"])
        return jnp.sum(values * some) / jnp.maximum(jnp.sum(some), 1), means

    def loss(params: Params, batch: Batch, samples: Samples) -> tuple[Array, Metrics]:
        def learn(params: Params) -> tuple[Array, Metrics]:
            value, metrics = observed(params, batch.positions[0], samples)
            qm, own = supervised.loss(params, batch, ())
            return value + s.qm_weight * qm, {**metrics, "loss_observables": value, **own}

        _, shapes = jax.eval_shape(learn, params)
        undefined = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), shapes)
        value, metrics = jax.lax.cond(
            samples.phase == LEARNING, learn, lambda params: (jnp.zeros(()), undefined), params
        )
        where = {
            "unstable_fraction": samples.unstable_fraction,
            "phase": samples.phase.astype(jnp.float32),
            "cycle": samples.cycle.astype(jnp.float32),
        }
        if samples.full is not None:
            where[FULL_LIST] = samples.full.astype(jnp.float32)
        return value, {**metrics, **where}

    return Objective(init, sample, loss, rate=lambda samples: samples.rate)
