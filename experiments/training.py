"""One trainer for every objective: sample, differentiate the loss, update; several in one scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from objectives.base import Batch, Metrics, Objective
from potentials.base import Params
from potentials.registry import lookup


class TrainState(NamedTuple):
    """All of a run, one pytree: what is in it is checkpointed, what is not does not exist.

    The position in the data follows from `step` and `key`: epoch e is the permutation of
    fold_in(key, e).

    Attributes:
      step: updates done, int32.
      params: the weights.
      average: their exponential moving average, what is evaluated.
      optimiser: Adam's moments.
      objective: the objective's state: chains, phases, keys.
      key: of the batches.
    """

    step: Array
    params: Params
    average: Params
    optimiser: optax.OptState
    objective: Any
    key: Array


class Schedule(NamedTuple):
    """Attributes: n_updates; learning rate from `initial` to `final` along half a cosine, times a
    rise from 0 over the first `warmup` updates and the objective's own factor; average_decay of the
    weights' moving average, 0 for none."""

    n_updates: int
    initial: float
    final: float
    average_decay: float
    warmup: int = 0


def _sgd() -> optax.GradientTransformation:
    adam = optax.scale_by_adam()
    return optax.GradientTransformation(adam.init, lambda gradients, state, params=None: (gradients, state))


OPTIMISERS = {"adam": optax.scale_by_adam, "sgd": _sgd}
"""Flag name -> direction. Plain gradients carry Adam's moments along untouched, so that every
checkpoint has the same form and any run can follow any other."""


def make_optimiser(clip_norm: float, name: str = "adam") -> optax.GradientTransformation:
    """The optimiser's direction after clipping the global norm. The learning rate is applied apart
    from it, so that post-training takes over the moments and not the schedule.

    Raises:
      ValueError: unknown name.
    """
    return optax.chain(optax.clip_by_global_norm(clip_norm), lookup(OPTIMISERS, name, "optimiser")())


def start(
    key: Array,
    params: Params,
    optimiser_state: optax.OptState,
    objective: Objective,
    frames: Batch,
) -> TrainState:
    """The state before the first update."""
    objective_key, batch_key = jax.random.split(key)
    state = jax.jit(objective.init)(objective_key, params, frames)
    # Copies: the update donates its input, which must be neither the caller's nor in it twice.
    params, average, optimiser_state = jax.tree.map(jnp.copy, (params, params, optimiser_state))
    return TrainState(jnp.int32(0), params, average, optimiser_state, state, batch_key)


def draw_batch(frames: Batch, key: Array, step: Array, batch_size: int) -> Batch:
    """The batch of one step: consecutive pieces of a new permutation each epoch."""
    n_frames = len(frames.energies)
    per_epoch = n_frames // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, step // per_epoch), n_frames)
    rows = jax.lax.dynamic_slice(order, ((step % per_epoch) * batch_size,), (batch_size,))
    return jax.tree.map(lambda leaf: leaf[rows], frames)


Update = Callable[[TrainState, Batch], tuple[TrainState, Metrics, Any]]
"""(state, frames) -> (state, metrics averaged over the call, the last samples)."""


def make_update(
    objective: Objective,
    optimiser: optax.GradientTransformation,
    schedule: Schedule,
    *,
    batch_size: int,
    n_updates: int,
) -> Update:
    """A jitted, donated function that makes `n_updates` updates in one scan.

    Args:
      objective: what to minimise.
      optimiser: from `make_optimiser`.
      schedule: of the learning rate and the averaging.
      batch_size: frames a batch.
      n_updates: updates a call; nothing on the host is needed between them.

    Returns:
      (state, frames) -> (state, metrics averaged over the call, the last samples).
    """
    gradient = jax.value_and_grad(objective.loss, has_aux=True)

    def update(state: TrainState, frames: Batch) -> tuple[TrainState, tuple[Metrics, Any]]:
        samples, objective_state = objective.sample(state.params, state.objective)
        batch = draw_batch(frames, state.key, state.step, batch_size)
        (loss, metrics), gradients = gradient(state.params, batch, samples)
        direction, optimiser_state = optimiser.update(gradients, state.optimiser, state.params)
        progress = jnp.minimum(state.step / schedule.n_updates, 1.0)
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        rate = schedule.final + (schedule.initial - schedule.final) * cosine
        rate *= jnp.minimum((state.step + 1) / max(schedule.warmup, 1), 1.0) * objective.rate(samples)
        params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
        decay = schedule.average_decay
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.average, params)
        old, new = (state.params, state.average, state.optimiser), (params, average, optimiser_state)
        params, average, optimiser_state = jax.tree.map(lambda a, b: jnp.where(rate > 0, b, a), old, new)
        metrics = {
            "loss": loss,
            **metrics,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": rate,
        }
        new = TrainState(state.step + 1, params, average, optimiser_state, objective_state, state.key)
        return new, (metrics, samples)

    @partial(jax.jit, donate_argnums=0)
    def updates(state: TrainState, frames: Batch) -> tuple[TrainState, Metrics, Any]:
        state, (metrics, samples) = jax.lax.scan(
            lambda carry, _: update(carry, frames), state, None, n_updates
        )
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), metrics)
        return state, mean, jax.tree.map(lambda leaf: leaf[-1], samples)

    return updates
