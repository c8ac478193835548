"""Simulation in windows: one jitted scan a window, every S-th frame recorded, failures frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from potentials.base import Params, Potential
from potentials.system import System
from samplers.base import Sampler, State, centre, kinetic_temperature, where_replica


class Window(NamedTuple):
    """What one window recorded; S frames of R replicas, as NumPy arrays.

    Attributes:
      positions: [S, R, N, 3], Å, float32.
      energies: [S, R], eV.
      kinetic_temperatures: [S, R], K, over 3N degrees of freedom (3N − 3 where the sampler fixes the
        centre of mass); NaN for samplers without momenta.
      alive: [S, R]; False from a replica's first non-finite position or recorded energy on. A dead
        replica stays at its last finite positions and its records repeat them.
      step: number of steps done when the window ended.
    """

    positions: NDArray[np.float32]
    energies: NDArray[np.float32]
    kinetic_temperatures: NDArray[np.float32]
    alive: NDArray[np.bool_]
    step: int


def advance(sampler: Sampler, params: Params, state: State, n_steps: int) -> tuple[State, Array]:
    """`n_steps` steps in which a replica that goes non-finite is frozen at its last finite state.

    Returns:
      The state and `alive` [R]: False where a replica was frozen.
    """

    def body(_: int, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, alive = carry
        new = sampler.step(params, state)
        alive = alive & jnp.all(jnp.isfinite(new.position), axis=(1, 2))
        # The frozen replica keeps its random key too, so it would fail in the same way again.
        return where_replica(alive, new, state), alive

    alive = jnp.ones(len(state.position), bool)
    return jax.lax.fori_loop(0, n_steps, body, (state, alive))


@partial(jax.jit, static_argnames=("sampler", "energy", "degrees_of_freedom", "frames", "every"))
def _window(
    sampler: Sampler,
    energy: Callable[..., Array],
    params: Params,
    state: State,
    alive: Array,
    masses: Array | None,
    *,
    degrees_of_freedom: int,
    frames: int,
    every: int,
) -> tuple[State, Array, tuple[Array, ...]]:
    def body(carry: tuple[State, Array], _: None) -> tuple[tuple[State, Array], tuple[Array, ...]]:
        state, alive = carry
        new, finite = advance(sampler, params, state, every)
        state = where_replica(alive, new, state)
        alive = alive & finite
        if masses is not None:
            state = state.set(position=centre(state.position, masses))
        energies = jax.vmap(energy, (None, 0))(params, state.position)
        alive = alive & jnp.isfinite(energies)  # finite forces may come with a NaN energy
        if hasattr(state, "momentum"):
            kinetic = kinetic_temperature(state, degrees_of_freedom)
        else:
            kinetic = jnp.full_like(energies, jnp.nan)
        return (state, alive), (state.position, energies, kinetic, alive)

    (state, alive), records = jax.lax.scan(body, (state, alive), None, frames)
    return state, alive, records


def simulate(
    sampler: Sampler,
    potential: Potential,
    system: System,
    params: Params,
    state: State,
    *,
    n_steps: int,
    record_every: int,
    window_frames: int = 50,
    alive: Array | None = None,
) -> Iterator[tuple[Window, State, Array]]:
    """Runs replicas window by window; host memory holds one window at a time.

    In vacuum every recorded frame is centred on its centre of mass, so that a drifting molecule
    does not lose digits in float32. A potential that is not invariant under translation, such as an
    external well, must therefore be run by `advance` or `sampler.step`, which never move a frame.

    Args:
      sampler, potential, system, params: what to run.
      state: from `sampler.init`.
      n_steps: rounded up to whole windows of `window_frames` × `record_every` steps.
      record_every: S.
      window_frames: frames a window, hence how often the host hears of progress.
      alive: [R], from an earlier run that is being continued.

    Yields:
      (window, state, alive) after each window.
    """
    if record_every < 1 or window_frames < 1 or n_steps < 1:
        raise ValueError("n_steps, record_every and window_frames must be at least 1")
    alive = jnp.ones(len(state.position), bool) if alive is None else alive
    fixed_centre = hasattr(state, "chain")  # Nosé–Hoover chains conserve the total momentum
    degrees_of_freedom = 3 * len(system.numbers) - (3 if fixed_centre else 0)
    masses = None if system.cell is not None else jnp.asarray(system.masses, jnp.float32)
    per_window = record_every * window_frames
    params = jax.jit(potential.tabulate)(params)
    for index in range(-(-n_steps // per_window)):
        state, alive, records = _window(
            sampler,
            potential.energy,
            params,
            state,
            alive,
            masses,
            degrees_of_freedom=degrees_of_freedom,
            frames=window_frames,
            every=record_every,
        )
        yield Window(*jax.device_get(records), step=(index + 1) * per_window), state, alive


class Trajectory(NamedTuple):
    """A whole simulation in memory: C chains of T frames. Attributes as in `Window`, axes swapped."""

    positions: NDArray[np.float32]  # [C, T, N, 3]
    energies: NDArray[np.float32]  # [C, T]
    kinetic_temperatures: NDArray[np.float32]  # [C, T]
    alive: NDArray[np.bool_]  # [C, T]


def collect(
    windows: Iterator[tuple[Window, State, Array]], progress: Callable[[Window], Any] | None = None
) -> tuple[Trajectory, State]:
    """Gathers the windows of `simulate`; `progress` is called with each."""
    kept, state = [], None
    for window, latest, _ in windows:
        state = latest
        kept.append(window)
        if progress is not None:
            progress(window)
    arrays = (np.concatenate([w[field] for w in kept]).swapaxes(0, 1) for field in range(4))
    return Trajectory(*arrays), state
