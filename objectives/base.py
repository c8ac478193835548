"""The interface of an objective, and how objectives add."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from potentials.base import Params

Metrics = dict[str, Array]


class Batch(NamedTuple):
    """Labelled frames. Energies are relative to the training mean, so that float32 holds them.

    Attributes:
      positions: [B, N, 3], Å.
      energies: [B], eV.
      forces: [B, N, 3], eV/Å.
    """

    positions: Array
    energies: Array
    forces: Array


def _whole(samples: Any) -> Array:
    return jnp.float32(1.0)


FULL_LIST = "full_neighbour_list"
"""Metric of objectives that simulate in a box: above 0 where a neighbour list lacked room, so that the
trainer makes room and the update again."""


class Objective(NamedTuple):
    """What a potential is trained for, as three pure functions.

    Attributes:
      init: (key, params, frames: Batch) -> state, a pytree: chains, phases, keys; all that the
        objective must remember from one update to the next. It is checkpointed.
      sample: (params, state) -> (samples, state): the negative or simulated phase.
      loss: (params, batch: Batch, samples) -> (scalar, Metrics): pure; gradients flow through
        params alone, samples are constants.
      rate: (samples) -> factor on the learning rate of this update; at 0 it leaves params and the
        optimiser's moments as they are. For objectives that simulate without learning.
    """

    init: Callable[[Array, Params, Batch], Any]
    sample: Callable[[Params, Any], tuple[Any, Any]]
    loss: Callable[[Params, Batch, Any], tuple[Array, Metrics]]
    rate: Callable[[Any], Array] = _whole


def static(loss: Callable[[Params, Batch], tuple[Array, Metrics]]) -> Objective:
    """An objective without samples, such as energy and force errors on a data set.

    Args:
      loss: (params, batch) -> (scalar, metrics).
    """
    return Objective(
        init=lambda key, params, frames: (),
        sample=lambda params, state: ((), state),
        loss=lambda params, batch, samples: loss(params, batch),
    )


def combine(parts: Mapping[str, tuple[float, Objective]]) -> Objective:
    """The weighted sum of objectives; each keeps its own state and sees its own samples alone.

    Args:
      parts: name -> (weight, objective).

    Returns:
      An objective whose state and samples are dicts by name, and whose metrics hold each part's
      unweighted loss as `loss_<name>` beside the parts' own metrics, those that several report as
      `<name>_<metric>`. Its rate is the largest of the parts', and a part of a lower one counts for as much
      less in the gradient: while one of them only simulates, the others go on learning.

    Raises:
      ValueError: no parts.
    """
    if not parts:
        raise ValueError("combine: no objectives given")
    objectives = {name: objective for name, (_, objective) in parts.items()}

    def init(key: Array, params: Params, frames: Batch) -> dict[str, Any]:
        keys = dict(zip(objectives, jax.random.split(key, len(objectives)), strict=True))
        return {name: part.init(keys[name], params, frames) for name, part in objectives.items()}

    def sample(params: Params, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        drawn = {name: part.sample(params, state[name]) for name, part in objectives.items()}
        return {k: v[0] for k, v in drawn.items()}, {k: v[1] for k, v in drawn.items()}

    def loss(params: Params, batch: Batch, samples: dict[str, Any]) -> tuple[Array, Metrics]:
        total, metrics, reported = jnp.zeros(()), {}, {}
        largest = jnp.maximum(rate(samples), jnp.finfo(jnp.float32).tiny)
        for name, (weight, part) in parts.items():
            value, reported[name] = part.loss(params, batch, samples[name])
            total = total + weight * value * part.rate(samples[name]) / largest
            metrics[f"loss_{name}"] = value
        for name, own in reported.items():
            for key, value in own.items():
                if key == FULL_LIST:
                    metrics[key] = jnp.maximum(metrics.get(key, 0.0), value)
                    continue
                shared = key in metrics or sum(key in other for other in reported.values()) > 1
                metrics[f"{name}_{key}" if shared else key] = value
        return total, metrics

    def rate(samples: dict[str, Any]) -> Array:
        return jnp.max(jnp.stack([part.rate(samples[name]) for name, part in objectives.items()]))

    return Objective(init, sample, loss, rate)
