"""Simulation in windows: one jitted scan a window, every S-th frame recorded, failures frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from numpy.typing import NDArray

from potentials.base import Params, Potential
from potentials.neighbours import ROOM_LIMIT, room_in, with_room
from potentials.system import System
from samplers.base import Sampler, State, centre, kinetic_temperature, where_replica
from samplers.devices import by_shares, mesh_for, place_everywhere, place_shares
from samplers.full_lists import more_room
from samplers.stability import Criterion, never


class Window(NamedTuple):
    """What one window recorded; S frames of R replicas, as NumPy arrays.

    Attributes:
      positions: [S, R, N, 3], Å, float32.
      energies: [S, R], eV.
      kinetic_temperatures: [S, R], K, over 3N degrees of freedom (3N − 3 where the sampler fixes the
        centre of mass); NaN for samplers without momenta.
      alive: [S, R]; False from a replica's first non-finite position or recorded energy on. A dead
        replica stays at its last finite positions and its records repeat them.
      intact_steps: [R], steps since the start of this simulation before a replica first met the
        criterion or died; all of them where it never did.
      step: number of steps done when the window ended.
      observed: what `observe` made of each frame's states, a pytree of [S, R, ...].
      room: that the neighbour lists had at the end; 0 where there are none.
    """

    positions: NDArray[np.float32]
    energies: NDArray[np.float32]
    kinetic_temperatures: NDArray[np.float32]
    alive: NDArray[np.bool_]
    intact_steps: NDArray[np.int32]
    step: int
    observed: Any = ()
    room: int = 0


def advance(
    sampler: Sampler, params: Params, state: State, n_steps: int, criterion: Criterion = never
) -> tuple[State, Array, Array]:
    """`n_steps` steps in which a replica that goes non-finite is frozen at its last finite state.

    Args:
      sampler, params, state: what to run.
      n_steps: of the sampler.
      criterion: of instability, looked at after every step. A replica that meets it runs on.

    Returns:
      The state; `alive` [R], False where a replica was frozen; `intact_steps` [R], how many steps a
      replica made before it first met the criterion or was frozen, `n_steps` where it did neither.
    """

    def body(_: int, carry: tuple[State, Array, Array, Array]) -> tuple[State, Array, Array, Array]:
        state, alive, intact, intact_steps = carry
        new = sampler.step(params, state)
        alive = alive & jnp.all(jnp.isfinite(new.position), axis=(1, 2))
        # The frozen replica keeps its random key too, so it would fail in the same way again.
        state = where_replica(alive, new, state)
        intact = intact & alive & ~criterion(state.position)
        return state, alive, intact, intact_steps + intact

    yes = jnp.ones(len(state.position), bool)
    zero = jnp.zeros(len(state.position), jnp.int32)
    state, alive, _, intact_steps = jax.lax.fori_loop(0, n_steps, body, (state, yes, yes, zero))
    return state, alive, intact_steps


class _Progress(NamedTuple):
    """What a window hands to the next."""

    state: State
    alive: Array
    intact: Array
    intact_steps: Array


def nothing(params: Params, state: State) -> tuple[()]:
    """Observes nothing."""
    return ()


_STATIC = ("sampler", "energy", "criterion", "observe", "degrees_of_freedom", "frames", "every", "mesh")


@partial(jax.jit, static_argnames=_STATIC)
def _window(
    sampler: Sampler,
    energy: Callable[..., Array],
    criterion: Criterion,
    observe: Callable[..., Any],
    params: Params,
    progress: _Progress,
    *,
    masses: Array | None,
    degrees_of_freedom: int,
    frames: int,
    every: int,
    mesh: Mesh | None,
) -> tuple[_Progress, tuple[tuple[Array, ...], Any]]:
    def body(params: Params, carry: _Progress) -> tuple[_Progress, tuple[tuple[Array, ...], Any]]:
        state, alive, intact, intact_steps = carry
        new, finite, steps = advance(sampler, params, state, every, criterion)
        intact = intact & alive
        intact_steps += jnp.where(intact, steps, 0)
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
        carry = _Progress(state, alive, intact & (steps == every), intact_steps)
        return carry, ((state.position, energies, kinetic, alive), observe(params, state))

    def scan(params: Params, progress: _Progress) -> tuple[_Progress, tuple[tuple[Array, ...], Any]]:
        return jax.lax.scan(lambda carry, _: body(params, carry), progress, None, frames)

    return by_shares(mesh, scan, params, progress)


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
    intact: Array | None = None,
    room: int = 0,
    criterion: Criterion = never,
    observe: Callable[[Params, State], Any] = nothing,
) -> Iterator[tuple[Window, State, Array]]:
    """Runs replicas window by window; host memory holds one window at a time. Several devices share
    the replicas evenly, as many of them as can, unless the state was put on one.

    A window in which a neighbour list ran out of room is made again with more of it, from where it began;
    at most twice what there was, beyond which a replica has collapsed.

    In vacuum every recorded frame is centred on its centre of mass, so that a drifting molecule
    does not lose digits in float32. A potential that is not invariant under translation, such as an
    external well, must therefore be run by `advance` or `sampler.step`, which never move a frame.

    Args:
      sampler, potential, system, params: what to run.
      state: from `sampler.init`.
      n_steps: rounded up to whole windows of `window_frames` × `record_every` steps.
      record_every: S.
      window_frames: frames a window, hence how often the host hears of progress.
      alive, intact: [R], from an earlier run that is being continued: not failed, and not met the criterion.
      room: likewise, of its latest window; 0: that of the params, by which the limit is set in any case.
      criterion: of instability, looked at after every step; see `Window.intact_steps`.
      observe: (params, state of a device's R replicas) -> pytree of [R, ...], recorded with each frame.

    Yields:
      (window, state, alive) after each window.
    """
    if record_every < 1 or window_frames < 1 or n_steps < 1:
        raise ValueError("n_steps, record_every and window_frames must be at least 1")
    yes = jnp.ones(len(state.position), bool)
    alive, intact = (yes if given is None else given for given in (alive, intact))
    fixed_centre = hasattr(state, "chain")  # Nosé–Hoover chains conserve the total momentum
    degrees_of_freedom = 3 * len(system.numbers) - (3 if fixed_centre else 0)
    masses = None if system.cell is not None else jnp.asarray(system.masses, jnp.float32)
    per_window = record_every * window_frames
    params = jax.jit(potential.tabulate)(params)
    limit = min(ROOM_LIMIT * room_in(params), len(system.numbers) - 1)
    params = with_room(params, room) if room else params
    mesh = mesh_for(state.position)
    params = place_everywhere(mesh, params)
    progress = place_shares(mesh, _Progress(state, alive, alive & intact, jnp.zeros(len(alive), jnp.int32)))
    run = partial(
        _window,
        sampler,
        potential.energy,
        criterion,
        observe,
        masses=masses,
        degrees_of_freedom=degrees_of_freedom,
        frames=window_frames,
        every=record_every,
        mesh=mesh,
    )
    recorded: Any = None
    for index in range(-(-n_steps // per_window)):
        begun = progress
        ended = recorded is not None and not np.asarray(begun.alive).any()
        if ended:  # all stay where they are
            recorded = jax.tree.map(lambda x: jnp.repeat(x[-1:], window_frames, axis=0), recorded)
        while not ended:
            progress, recorded = run(params, begun)
            # A replica that had met the criterion is lost already.
            stopped = np.asarray(begun.alive & begun.intact & ~progress.alive)
            roomy = more_room(potential, params, progress.state.position, stopped, limit)
            if roomy is None:
                break
            params = place_everywhere(mesh, roomy)
            begun = begun._replace(state=sampler.refresh(params, begun.state))
        intact_steps = np.asarray(progress.intact_steps)
        records, observed = jax.device_get(recorded)
        window = Window(*records, intact_steps, (index + 1) * per_window, observed, room_in(params))
        yield window, progress.state, progress.alive


class Trajectory(NamedTuple):
    """A whole simulation in memory: C chains of T frames. Attributes as in `Window`, axes swapped;
    `intact_steps` at the end."""

    positions: NDArray[np.float32]  # [C, T, N, 3]
    energies: NDArray[np.float32]  # [C, T]
    kinetic_temperatures: NDArray[np.float32]  # [C, T]
    alive: NDArray[np.bool_]  # [C, T]
    intact_steps: NDArray[np.int32]  # [C]


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
    return Trajectory(*arrays, kept[-1].intact_steps), state
