"""Velocity autocorrelation of fresh chains, recorded at every step of a short run of its own."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict
from numpy.typing import NDArray

from objectives.dynamics import velocity_autocorrelation
from potentials import Params
from potentials.registry import lookup
from samplers import SAMPLERS, Criterion, Sampler, advance
from samplers.base import State

BURN_IN = 2000  # steps
LENGTH = 4  # of the recorded run, in longest lags


def check_velocities(config: ConfigDict) -> None:
    """Checks that the sampler has velocities, where their autocorrelation is wanted.

    Raises:
      ValueError: it has none.
    """
    name = config.evaluation.sampler
    lookup(SAMPLERS, name, "sampler")
    if config.evaluation.vacf_lags and "timestep" not in config[name]:
        raise ValueError(
            f"evaluation.vacf_lags is {config.evaluation.vacf_lags}, but the sampler {name} has no "
            "velocities; expected 0, or baoab or nose_hoover"
        )


@partial(jax.jit, static_argnums=(0, 3, 4))
def record_velocities(
    sampler: Sampler, params: Params, state: State, n_steps: int, criterion: Criterion
) -> tuple[Array, Array]:
    """Velocities after each of `n_steps` steps, [R, n_steps, n, 3], Å per jax-md time unit, and which
    replicas stayed intact through them and the burn-in before them, [R].

    Args:
      sampler: with momenta.
      params: weights.
      state: R replicas.
      n_steps: recorded, after `BURN_IN` more.
      criterion: of instability, looked at after every step.
    """

    def body(carry: tuple[State, Array], _: None) -> tuple[tuple[State, Array], Array]:
        state, intact = carry
        state, alive, steps = advance(sampler, params, state, 1, criterion)
        return (state, intact & alive & (steps == 1)), state.momentum / state.mass

    state, alive, steps = advance(sampler, params, state, BURN_IN, criterion)
    carry = (state, alive & (steps == BURN_IN))
    (_, intact), velocities = jax.lax.scan(body, carry, None, n_steps)
    return jnp.swapaxes(velocities, 0, 1), intact


def velocity_curves(
    config: ConfigDict, params: Params, sampler: Sampler, state: State, criterion: Criterion
) -> dict[str, NDArray]:
    """VACF (StABlE, A.4) of the replicas that stay intact, with errors over them.

    Args:
      config: `evaluation.vacf_lags` says to how many steps.
      params: weights.
      sampler: of `config.evaluation`, with momenta.
      state: its replicas, that need not be in equilibrium.
      criterion: of instability; replicas that meet it are left out.

    Returns:
      `vacf_time_fs`, `vacf_model`, `vacf_model_stderr`, [lags + 1]; nothing where fewer than two
      replicas stay intact.
    """
    lags = config.evaluation.vacf_lags
    velocities, intact = record_velocities(sampler, params, state, LENGTH * lags, criterion)
    kept = np.asarray(velocities)[np.asarray(intact)]
    if len(kept) < 2:
        return {}
    value, stderr = velocity_autocorrelation(kept, lags + 1)
    times = config[config.evaluation.sampler].timestep * np.arange(lags + 1)
    return {"vacf_time_fs": times, "vacf_model": value, "vacf_model_stderr": stderr}
