"""What a set of chains sampled: energies, h(r), dihedrals, chain by chain.

Everything is counts per chain, so that each figure and metric has a standard error from independent
chains; the reference and the model are binned on one and the same grids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from objectives.dihedrals import Dihedral, dihedral_histogram
from objectives.observables import Grid, dihedral_angles, distance_grid, distance_histogram
from objectives.statistics import Estimate, estimate_std, mean_and_stderr
from potentials.system import System

N_QUANTILES = 2001
DIHEDRAL_BINS = 36
ENERGY_BINS = 120
_DISTANCES = 100_000  # held at a time


class Distributions(NamedTuple):
    """C chains' counts. Energies are absolute, in eV.

    Attributes:
      energy_quantiles: [Q] evenly spaced quantiles of all energies, the lowest and highest included.
      energy_mean, energy_sd: [2], value and standard error over chains.
      energy_edges: [B+1].
      energy_density: [C, B], 1/eV; what lies outside the edges is missing from the integral.
      hr_edges: [B+1], Å.
      hr_density: [C, B], 1/Å.
      dihedral_names: [D].
      dihedral_probability: [C, D, B], each summing to 1.
      kinetic_temperature: [2], K, value and standard error; NaN where momenta are unknown. BAOAB's
        full-step momenta are a little cold on stiff modes, by O(dt²), in reference and model alike.
      virial_temperature: [2], K, value and standard error, of the labelled forces; NaN where unknown.
      n_frames: frames a chain.
    """

    energy_quantiles: NDArray[np.float64]
    energy_mean: NDArray[np.float64]
    energy_sd: NDArray[np.float64]
    energy_edges: NDArray[np.float64]
    energy_density: NDArray[np.float32]
    hr_edges: NDArray[np.float64]
    hr_density: NDArray[np.float32]
    dihedral_names: NDArray[np.str_]
    dihedral_probability: NDArray[np.float32]
    kinetic_temperature: NDArray[np.float64]
    virial_temperature: NDArray[np.float64]
    n_frames: int


def energy_bin_edges(energies: NDArray) -> NDArray[np.float64]:
    """Edges of the shared energy grid: the reference's range and 0.3 of it on either side, eV.

    In float64, unlike `objectives.observables.energy_grid`: these energies are absolute."""
    low, high = float(np.min(energies)), float(np.max(energies))
    return np.asarray(np.linspace(low - 0.3 * (high - low), high + 0.3 * (high - low), ENERGY_BINS + 1))


def bins_to_merge(reference: Distributions) -> int:
    """How many bins of the energy grid, which the metrics need, make one of a figure: the fewest that divide
    the grid and are as wide as 2 IQR n^(−1/3) for the reference's n frames (Freedman & Diaconis 1981)."""
    n_frames = reference.n_frames * len(reference.energy_density)
    lower, upper = np.quantile(reference.energy_quantiles, [0.25, 0.75])
    width = 2 * (upper - lower) / n_frames ** (1 / 3)
    edges = reference.energy_edges
    wide = (k for k in range(1, len(edges)) if (len(edges) - 1) % k == 0 and edges[k] - edges[0] >= width)
    return next(wide, len(edges) - 1)


def measure(
    system: System,
    positions: Sequence[NDArray],
    energies: NDArray,
    energy_edges: NDArray,
    dihedrals: Sequence[Dihedral],
    *,
    achiral: bool,
    kinetic_temperatures: NDArray | None = None,
    virial_temperatures: NDArray | None = None,
) -> Distributions:
    """Distributions of C chains of T frames.

    Args:
      system: the molecule.
      positions: C arrays [T, N, 3], Å, finite.
      energies: [C, T], eV, absolute, finite.
      energy_edges: [B+1], eV.
      dihedrals: those to histogram; equivalent quadruples are pooled.
      achiral: φ and −φ are pooled too.
      kinetic_temperatures, virial_temperatures: [C, T], K, where they are known.

    Raises:
      ValueError: fewer than two chains (there would be no standard error).
    """
    energies = np.asarray(energies, dtype=np.float64)
    if len(energies) < 2:
        raise ValueError(f"distributions need at least 2 chains for their errors, got {len(energies)}")
    distances = distance_grid()
    mean, sd = mean_and_stderr(energies), estimate_std(energies)
    widths = np.diff(energy_edges)
    density = np.stack([np.histogram(e, energy_edges)[0] / (len(e) * widths) for e in energies])
    probability = [[_dihedral(chain, d, achiral) for d in dihedrals] for chain in positions]
    return Distributions(
        energy_quantiles=np.quantile(energies, np.linspace(0, 1, N_QUANTILES)),
        energy_mean=np.array(mean),
        energy_sd=np.array(sd),
        energy_edges=np.asarray(energy_edges),
        energy_density=density.astype(np.float32),
        hr_edges=np.asarray(distances.edges, dtype=np.float64),
        hr_density=np.stack([_mean_hr(chain, distances, system.cell) for chain in positions]),
        dihedral_names=np.array([d.name for d in dihedrals], dtype=np.str_),
        dihedral_probability=np.asarray(probability, np.float32).reshape(
            len(energies), len(dihedrals), DIHEDRAL_BINS
        ),
        kinetic_temperature=_estimate(kinetic_temperatures),
        virial_temperature=_estimate(virial_temperatures),
        n_frames=energies.shape[1],
    )


def as_blocks(array: NDArray, n_blocks: int) -> NDArray:
    """A trajectory [F, ...] in order of time as `n_blocks` equal pseudo-chains [C, T, ...].

    Where there are no independent chains, blocks longer than the correlation time take their part
    in the standard errors; the frames of an incomplete last block are left out.

    Raises:
      ValueError: fewer frames than blocks.
    """
    if len(array) < n_blocks:
        raise ValueError(f"reference statistics need at least {n_blocks} frames, got {len(array)}")
    per_block = len(array) // n_blocks
    return array[: per_block * n_blocks].reshape(n_blocks, per_block, *array.shape[1:])


def to_arrays(distributions: Distributions, prefix: str = "reference_") -> dict[str, NDArray]:
    """For `np.savez`: every field under its name behind the prefix."""
    return {prefix + name: np.asarray(value) for name, value in distributions._asdict().items()}


def from_arrays(arrays: Mapping[str, NDArray], prefix: str = "reference_") -> Distributions:
    """The inverse of `to_arrays`.

    Raises:
      ValueError: a field is missing; it is named.
    """
    missing = [name for name in Distributions._fields if prefix + name not in arrays]
    if missing:
        raise ValueError(f"reference statistics lack '{prefix + missing[0]}'")
    values = {name: arrays[prefix + name] for name in Distributions._fields}
    values["n_frames"] = int(values["n_frames"])
    return Distributions(**values)


def over_chains(per_chain: NDArray) -> Estimate:
    """Mean and standard error over the first axis: [C, ...] -> two arrays [...]."""
    per_chain = np.asarray(per_chain, dtype=np.float64)
    stderr = per_chain.std(axis=0, ddof=1) / np.sqrt(len(per_chain))
    return Estimate(per_chain.mean(axis=0), stderr)


def _dihedral(positions: NDArray, dihedral: Dihedral, achiral: bool) -> NDArray[np.float64]:
    angles = np.asarray(dihedral_angles(positions, dihedral.quadruples))
    return dihedral_histogram(angles, DIHEDRAL_BINS, mirror=achiral)


def _estimate(series: NDArray | None) -> NDArray[np.float64]:
    return np.full(2, np.nan) if series is None else np.array(mean_and_stderr(series))


def _mean_hr(positions: NDArray, grid: Grid, cell: NDArray | None) -> NDArray[np.float32]:
    """Mean h(r) over frames [T, N, 3], some at a time."""
    total = np.zeros(len(grid.centers))
    pairs = positions.shape[1] * (positions.shape[1] - 1) // 2
    static = None if cell is None else tuple(map(tuple, cell.tolist()))
    pieces = min(max(1, len(positions) * pairs // _DISTANCES), len(positions))
    for piece in np.array_split(positions, pieces):
        total += np.asarray(_summed_hr(piece, grid, static), dtype=np.float64)
    return (total / len(positions)).astype(np.float32)


@partial(jax.jit, static_argnums=2)
def _summed_hr(positions: NDArray, grid: Grid, cell: tuple[tuple[float, ...], ...] | None) -> jax.Array:
    return distance_histogram(positions, grid, cell).sum(axis=0)
