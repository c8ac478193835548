"""Radial distribution functions g(r) of periodic boxes, by elements."""

from __future__ import annotations

from itertools import combinations_with_replacement

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from jax.typing import ArrayLike
from numpy.typing import NDArray

from objectives.observables import Grid, smeared_density, uniform_grid
from potentials.edges import largest_radius, nearest_image, safe_norm
from potentials.system import System

BIN = 0.05  # Å
WIDTH = 0.03  # Å, of the Gaussian on each distance


def element_pairs(system: System, first: int, second: int, *, between_molecules: bool = False) -> NDArray:
    """Pairs [P, 2] of an atom of one element and another atom of the other, each pair once.

    Args:
      system: numbers and molecules.
      first, second: atomic numbers, which may be equal.
      between_molecules: leave out pairs within one molecule.

    Raises:
      ValueError: there is no such pair.
    """
    i, j = np.triu_indices(len(system.numbers), k=1)
    a, b = system.numbers[i], system.numbers[j]
    chosen = ((a == first) & (b == second)) | ((a == second) & (b == first))
    if between_molecules:
        chosen &= system.molecules[i] != system.molecules[j]
    if not chosen.any():
        raise ValueError(f"the system has no pair of elements {first} and {second} to observe")
    return np.stack([i[chosen], j[chosen]], axis=1)


def pair_names(system: System, *, within: bool = False) -> dict[str, NDArray]:
    """Pairs [P, 2] of atoms by their elements, `O-H` and so on, the heavier first; of different molecules
    where there is more than one, unless those within a molecule are wanted too."""
    between = bool(system.molecules.max() > 0) and not within
    kinds = sorted(np.unique(system.numbers), reverse=True)
    pairs = {}
    for first, second in combinations_with_replacement(kinds, 2):
        try:
            found = element_pairs(system, first, second, between_molecules=between)
        except ValueError:  # one atom of this element, or one molecule with it
            continue
        pairs[f"{chemical_symbols[first]}-{chemical_symbols[second]}"] = found
    return pairs


def pair_grid(system: System) -> Grid:
    """Bins of `BIN` Å over [0, half the box], about."""
    reach = largest_radius(system.cell)
    return uniform_grid(0.0, reach, int(reach / BIN))


def radial_distribution(
    positions: ArrayLike, pairs: ArrayLike, cell: ArrayLike, grid: Grid, width: float
) -> jax.Array:
    """g(r): the density of pair distances over that of an ideal gas, each distance smeared by a Gaussian.

    Args:
      positions: [..., N, 3], Å, wrapped or not.
      pairs: [P, 2], from `element_pairs`.
      cell: [3, 3], Å, rows are the lattice vectors.
      grid: bins in Å, the last edge at most `largest_radius`.
      width: standard deviation of the Gaussian, Å.

    Returns:
      [..., B], dimensionless; 1 for an ideal gas. Bins are averages over their shell.

    Raises:
      ValueError: a grid beyond half the cell, or width ≤ 0.
    """
    limit = largest_radius(cell)
    if float(np.asarray(grid.edges)[-1]) > limit * (1 + 1e-6):
        raise ValueError(
            f"the grid of g(r) ends at {float(grid.edges[-1]):.3f} Å; expected at most half the cell, "
            f"{limit:.3f} Å"
        )
    positions, pairs = jnp.asarray(positions), jnp.asarray(pairs, dtype=int)
    steps = positions[..., pairs[:, 0], :] - positions[..., pairs[:, 1], :]
    distances = safe_norm(nearest_image(steps, cell))
    density = smeared_density(distances, grid, width)
    edges = grid.edges
    shells = 4 / 3 * jnp.pi * (edges[1:] ** 3 - edges[:-1] ** 3) / (edges[1:] - edges[:-1])
    return density * abs(np.linalg.det(np.asarray(cell, float))) / shells


def window_deviations(
    densities: ArrayLike, reference: ArrayLike, grid: Grid, window: int, alive: ArrayLike | None = None
) -> NDArray:
    """∫ |⟨g(r)⟩_window − g_ref(r)| dr over consecutive windows of each replica (Fu et al., arXiv 2210.07237).

    With `survival.first_times` this is the stability criterion for liquids, whose bonds and distances may
    all be in order while the structure is not: unstable from the first window above 3.0 Å (StABlE, A.5,
    windows of 1 ps; there in any of the three g(r) of water). It is judged after the simulation, since no
    single configuration has a g(r).

    Args:
      densities: g(r) of each frame, [R, T, B].
      reference: g_ref [B].
      grid: its bins, Å.
      window: frames a window; frames left over at the end are not looked at.
      alive: [R, T]; frames of replicas that failed before them, which repeat the last good one. None: all.

    Returns:
      [R, T // window], Å; NaN where a frame of the window is of a failed replica.

    Raises:
      ValueError: other shapes, or a window longer than the trajectories.
    """
    densities, reference = np.asarray(densities, np.float64), np.asarray(reference, np.float64)
    widths = np.diff(np.asarray(grid.edges, np.float64))
    if densities.ndim != 3 or reference.shape != densities.shape[2:] or widths.shape != reference.shape:
        raise ValueError(
            f"densities {densities.shape}, reference {reference.shape} and {len(widths)} bins: expected "
            "[R, T, B], [B] and B"
        )
    if not 1 <= window <= densities.shape[1]:
        raise ValueError(f"a window of {window} frames; expected 1 to the {densities.shape[1]} there are")
    if alive is not None:
        densities = np.where(np.asarray(alive, bool)[..., None], densities, np.nan)
    count = densities.shape[1] // window
    means = densities[:, : count * window].reshape(len(densities), count, window, -1).mean(axis=2)
    return np.abs(means - reference) @ widths
