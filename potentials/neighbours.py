"""Edges of a periodic box, from jax-md's neighbour list.

The list is made anew at every evaluation, from the positions alone, so that an energy stays a function of
(params, positions): against the network's work the search over all pairs of a few hundred atoms is
little. The number of neighbours it has room for is a *shape*, that of the leaf `SLOTS` of the params.
More room is another leaf (`with_room`); whatever is jitted compiles again by itself, and a checkpoint
remembers. Where the room is too small no neighbour is dropped: energy and forces are NaN, and
`Potential.overflow` says why, so that who drives a simulation can make room and repeat it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax_md import partition
from numpy.typing import ArrayLike

from potentials.base import Params, Potential, from_atomic_energies
from potentials.edges import Edges, dense_edges, largest_radius, nearest_image, safe_norm
from potentials.system import System

SLOTS = "neighbour_slots"
"""Leaf [K] of zeros in the params of a network in a box: K neighbours of an atom at most."""
MARGIN = 1.25
"""Room made for chains, over the neighbours seen."""
ROOM_LIMIT = 2
"""Times the room that the data want, or that a simulation begins with: nothing sound is denser, and a replica
that wants more has collapsed and must not slow all others."""


def potential_on_edges(
    system: System,
    cutoff: float,
    init: Callable[[Array, Edges], Params],
    atomic_energies: Callable[[Params, Edges], Array],
    tabulate: Callable[[Params], Params] | None = None,
) -> Potential:
    """A potential from a network on edges, for a molecule in vacuum or a periodic box, as the system has it.

    Args:
      system: the molecule or box.
      cutoff: Å, from which on nothing that the network makes of an edge is left.
      init: (key, edges) -> params, a dictionary.
      atomic_energies: (params, edges) -> [N], eV.
      tabulate: see `Potential`.

    Raises:
      ValueError: a box too small for the cutoff.
    """
    settings = {} if tabulate is None else {"tabulate": tabulate}
    grid = np.arange(len(system.numbers) * 3, dtype=np.float32).reshape(-1, 3)
    if system.cell is None:
        dense = dense_edges(len(system.numbers))
        return from_atomic_energies(
            lambda key: init(key, dense(grid)),
            lambda params, positions: atomic_energies(params, dense(positions)),
            **settings,
        )
    box = box_edges(system, cutoff)
    density = len(system.numbers) / abs(np.linalg.det(system.cell))
    typical = int(np.ceil(MARGIN * density * 4 / 3 * np.pi * cutoff**3))

    def init_in_box(key: Array) -> Params:
        room = min(max(typical, 1), max(len(system.numbers) - 1, 1))
        edges, _ = box.edges(jnp.asarray(grid), room)
        return {**init(key, edges), SLOTS: jnp.zeros(room)}

    def in_box(params: Params, positions: Array) -> Array:
        edges, overflow = box.edges(positions, len(params[SLOTS]))
        energies = atomic_energies(params, edges)
        # A factor, not a choice: it reaches the forces too.
        bad = overflow | ~jnp.all(jnp.isfinite(positions))  # no list has an atom that is nowhere
        return energies * jnp.where(bad, jnp.nan, 1.0).astype(energies.dtype)

    def overflow(params: Params, positions: Array) -> Array:
        return box.edges(positions, len(params[SLOTS]))[1]

    def room_for(positions: ArrayLike, margin: float = MARGIN) -> int:
        frames = jnp.asarray(positions).reshape(-1, len(system.numbers), 3)
        seen = int(jax.jit(lambda x: jnp.max(jax.lax.map(box.count, x)))(frames))
        return max(min(int(np.ceil(margin * seen)), len(system.numbers) - 1), 1)

    return from_atomic_energies(init_in_box, in_box, overflow=overflow, room_for=room_for, **settings)


def potential_of_kinds(network: type[nn.Module], system: System, settings: Mapping[str, Any]) -> Potential:
    """A potential from a Flax network of (one-hot kinds of atoms [N, E], edges) -> atomic energies [N], eV.

    Args:
      network: with the attributes n_elements, n_neighbours, which scales its sums over neighbours, and
        cutoff (Å).
      system: the molecule or box; its numbers are the kinds.
      settings: the other attributes. Without n_neighbours it is all other atoms in vacuum, and in a box what
        lies within the cutoff where atoms fill it evenly: a molecule or slab in empty space wants its own.

    Raises:
      ValueError: a box too small for the cutoff.
    """
    kinds, kind = np.unique(system.numbers, return_inverse=True)
    species = np.eye(len(kinds), dtype=np.float32)[kind]
    cutoff = settings.get("cutoff", network.cutoff)
    n_neighbours = len(kind) - 1.0
    if system.cell is not None:
        n_neighbours *= 4 / 3 * np.pi * cutoff**3 / abs(np.linalg.det(system.cell))
    own = {"n_elements": len(kinds), "n_neighbours": max(float(n_neighbours), 1.0)}
    module = network(**(own | dict(settings)))

    def atomic_energies(params: Params, edges: Edges) -> Array:
        return module.apply({"params": params}, species, edges)

    def init(key: Array, edges: Edges) -> Params:
        compiled = jax.jit(lambda key: module.init(key, species, edges))  # e3nn-jax is slow op by op
        return compiled(key)["params"]

    return potential_on_edges(system, cutoff, init, atomic_energies)


def with_room(tree: Any, room: int) -> Any:
    """Params, or any tree that holds some, optimiser moments say, with room for so many neighbours."""

    def resized(path: tuple[Any, ...], leaf: Any) -> Any:
        return jnp.zeros(room, leaf.dtype) if _is_slots(path) else leaf

    return jax.tree_util.tree_map_with_path(resized, tree)


def room_in(tree: Any) -> int:
    """How many neighbours the params in a tree have room for; 0 where there is no list."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return max((len(leaf) for path, leaf in leaves if _is_slots(path)), default=0)


def _is_slots(path: tuple[Any, ...]) -> bool:
    return bool(path) and getattr(path[-1], "key", None) == SLOTS


class BoxEdges(NamedTuple):
    """Attributes:
    edges: (positions [N, 3], K) -> (`Edges` with E = D = N K, whether an atom had more than K).
    count: (positions [N, 3]) -> the largest number of neighbours of an atom.
    """

    edges: Callable[[Array, int], tuple[Edges, Array]]
    count: Callable[[Array], Array]


def box_edges(system: System, cutoff: float) -> BoxEdges:
    """The pairs within a cutoff in a periodic box, nearest images.

    Args:
      system: its cell may be triclinic.
      cutoff: Å.

    Raises:
      ValueError: the cutoff is beyond half the distance of two opposite faces, where an atom would see two
        images of another.
    """
    cell, n_atoms = system.cell, len(system.numbers)
    limit = largest_radius(cell)
    if cutoff > limit:
        raise ValueError(
            f"the cutoff of {cutoff} Å is more than half the distance between opposite faces of the cell, "
            f"{limit:.3f} Å: an atom would see two images of another; expected a shorter one or a larger box"
        )

    def step(to: Array, start: Array, **unused: Any) -> Array:
        return nearest_image(to - start, cell)

    # A threshold of 0 makes the list anew at each update. Only the functions of this one are used.
    search = partition.neighbor_list(step, 1.0, cutoff, dr_threshold=0.0, disable_cell_list=True)
    blank = search.allocate(jnp.zeros((n_atoms, 3)))

    def edges(positions: Array, room: int) -> tuple[Edges, Array]:
        empty = dataclasses.replace(blank, idx=jnp.zeros((n_atoms, room), int), max_occupancy=room)
        found = empty.update(jax.lax.stop_gradient(positions))
        taken = found.idx < n_atoms
        senders = jnp.where(taken, found.idx, 0)  # [N, K]
        steps = nearest_image(positions[senders] - positions[:, None], cell)
        beyond = jnp.asarray([2.0 * cutoff, 0.0, 0.0], positions.dtype)
        vectors = jnp.where(taken[..., None], steps, beyond).reshape(-1, 3)

        def sum_neighbours(filters: Array, features: Array) -> Array:
            return jnp.sum(filters.reshape(n_atoms, room, -1) * features[senders], axis=1)

        receivers = np.repeat(np.arange(n_atoms), room)
        graph = Edges(safe_norm(vectors), sum_neighbours, vectors, senders.reshape(-1), receivers)
        return graph, found.did_buffer_overflow > 0

    def count(positions: Array) -> Array:
        steps = nearest_image(positions[:, None] - positions[None], cell)
        near = jnp.sum(steps**2, axis=-1) < cutoff**2
        return jnp.max(jnp.sum(near, axis=1)) - 1  # but for itself

    return BoxEdges(edges, count)
