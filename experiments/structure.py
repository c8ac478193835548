"""Structure and diffusion in a periodic box: radial distribution functions by elements, chain by chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike, NDArray

from experiments.comparison import Metrics, compared_chains
from experiments.distributions import as_blocks, over_chains
from experiments.problem import Problem, all_frames
from experiments.reference_statistics import REFERENCE_BLOCKS, evaluation_temperature
from objectives.dynamics import diffusivity
from objectives.observables import Grid
from objectives.pair_correlation import WIDTH, pair_grid, pair_names, radial_distribution, window_deviations
from objectives.statistics import Estimate, jackknife
from objectives.survival import first_times, median_and_stderr, median_interval, restricted_mean
from potentials.system import System
from samplers import Trajectory

FRAMES = 200  # of a chain whose g(r) is taken, evenly spaced
RDF_WINDOW = 1.0  # ps, of the criterion of a liquid's stability (StABlE, arXiv 2402.13984, A.5)
BALLISTIC = 1.0  # ps, after which the mean squared displacement is taken to be linear


def structure(
    config: ConfigDict, problem: Problem, trajectory: Trajectory
) -> tuple[Metrics, dict[str, NDArray]]:
    """The molecules' diffusion and, at the temperature of the data set, g(r) of the chains beside that of all
    of its frames.

    `rdf_mae_<pair>` is the mean of |g − g_ref| over the bins, its error jackknifed over chains; one that
    failed counts with what it sampled until then, chains by their numbers of frames.
    `rdf_stable_time_ps_*` says how long the liquid kept its structure. The diffusivity is that of the
    dynamics as run, Langevin friction slows it, and of chains that lived to the end; beside it that of the
    reference, where `experiments.water` made it.
    """
    system = problem.system
    keep, chains = compared_chains(config, trajectory)
    metrics: Metrics = {}
    if chains.sum() >= 2:
        metrics = _diffusion(config, system, trajectory.positions[chains][:, keep])
    if evaluation_temperature(config) != config.dataset.temperature:
        return metrics, {}
    metrics |= reference_diffusion(Path(config.dataset.path))
    grid = pair_grid(system)
    blocks = list(as_blocks(all_frames(config).positions, REFERENCE_BLOCKS))
    metrics |= _stable_times(config, system, trajectory, blocks, grid)
    lives, lengths = sampled_frames(trajectory, config.evaluation.discard)
    if len(lives) < 2:
        return metrics, {}
    names = pair_names(system)
    model = radial_distributions(system, names, lives, grid)
    reference = radial_distributions(system, names, blocks, grid)
    curves: dict[str, NDArray] = {"rdf_names": np.array(list(names))}
    for index, name in enumerate(names):
        expected, error = over_chains(reference[:, index])
        found, spread = over_lives(model[:, index], lengths)
        mae = jackknife(
            lambda rows, ref=expected: float(
                np.abs(np.average(rows[:, 1:], axis=0, weights=rows[:, 0]) - ref).mean()
            ),
            np.column_stack([lengths, model[:, index]]),
        )
        metrics[f"rdf_mae_{name}"], metrics[f"rdf_mae_{name}_stderr"] = mae.value, mae.stderr
        curves[f"rdf_{index}_centers"] = np.asarray(grid.centers, np.float64)
        curves[f"rdf_{index}_reference"], curves[f"rdf_{index}_reference_stderr"] = expected, error
        curves[f"rdf_{index}_model"], curves[f"rdf_{index}_model_stderr"] = found, spread
    return metrics, curves


def sampled_frames(trajectory: Trajectory, discard: float) -> tuple[list[NDArray[np.float32]], list[int]]:
    """Of each chain that lived for a frame, up to `FRAMES` frames [T, N, 3] (Å), evenly spaced over its life,
    of which the share `discard` is left out at its start; and how many frames what is left had."""
    lives = [chain[alive] for chain, alive in zip(trajectory.positions, trajectory.alive, strict=True)]
    kept = [life[int(discard * len(life)) :] for life in lives if len(life)]
    return [life[:: -(-len(life) // FRAMES)] for life in kept], [len(life) for life in kept]


def over_lives(per_chain: ArrayLike, lengths: ArrayLike) -> Estimate:
    """Mean over two or more chains of unequal lengths, each by its number of frames, and its standard error,
    that of `over_chains` where they are equal (the delete-m_j jackknife of a mean: Busing, Meijer and van der
    Leeden, Statistics and Computing 9, 3, 1999, eq. 8): [C, ...], [C] -> two arrays [...]."""
    values, weights = np.asarray(per_chain, np.float64), np.asarray(lengths, np.float64)
    mean = np.average(values, axis=0, weights=weights)
    squares = np.square(values - mean)
    shares = weights / (weights.sum() - weights)
    return Estimate(mean, np.sqrt(np.tensordot(shares, squares, axes=1) / len(values)))


def radial_distributions(
    system: System, pairs: Mapping[str, NDArray], chains: Sequence[NDArray], grid: Grid
) -> NDArray[np.float64]:
    """Mean g(r) of each chain [T, N, 3] (Å) over each kind of pairs -> [C, K, B]."""
    densities = [frame_densities(system, kind, grid) for kind in pairs.values()]
    means = [[one(chain).mean(axis=0, dtype=np.float64) for one in densities] for chain in chains]
    return np.asarray(means)


def frame_densities(system: System, pairs: NDArray, grid: Grid) -> Callable[[NDArray], NDArray[np.float32]]:
    """A compiled function frames [T, N, 3] (Å) -> g(r) of each of them, over pairs [P, 2] -> [T, B]."""
    each = jax.jit(
        lambda frames: jax.lax.map(lambda x: radial_distribution(x, pairs, system.cell, grid, WIDTH), frames)
    )
    return lambda frames: np.asarray(each(frames.astype(np.float32)))


def structure_breaks(
    system: System, chains: NDArray, alive: NDArray, blocks: Sequence[NDArray], grid: Grid, window: int
) -> NDArray[np.float64]:
    """The largest RDF deviation of any two elements, window by window, pairs within a molecule counting too:
    a stretched bond moves their g(r). See `pair_correlation.window_deviations`.

    Args:
      system: the box.
      chains: [C, T, N, 3], Å.
      alive: [C, T].
      blocks: frames of the reference, some [F, N, 3] at a time.
      grid: of g(r).
      window: frames.

    Returns:
      [C, T // window], Å; NaN from where a chain was dead.
    """
    pairs = pair_names(system, within=True)
    reference = radial_distributions(system, pairs, blocks, grid).mean(axis=0)
    worst = []
    for kind, expected in zip(pairs.values(), reference, strict=True):
        each = frame_densities(system, kind, grid)
        worst.append(window_deviations(np.stack([each(c) for c in chains]), expected, grid, window, alive))
    return np.max(worst, axis=0)  # NaN where one is


def _stable_times(
    config: ConfigDict, system: System, trajectory: Trajectory, blocks: Sequence[NDArray], grid: Grid
) -> Metrics:
    """Stable times of a liquid: until g(r) of any two elements over a window of about 1 ps is off by more
    than `evaluation.rdf_deviation`; a median that was not reached is undefined."""
    frame = config[config.evaluation.sampler].get("timestep", 0.0) * config.evaluation.record_every / 1000
    window = max(round(RDF_WINDOW / frame), 1) if frame else 0
    if not 1 <= window <= trajectory.energies.shape[1]:
        return {}
    deviations = structure_breaks(system, trajectory.positions, trajectory.alive, blocks, grid, window)
    times, broken = first_times(deviations, config.evaluation.get("rdf_deviation", 3.0), window * frame)
    median = median_and_stderr(times, broken)
    lower, upper = median_interval(times, broken)
    mean = restricted_mean(times, broken, window * frame * deviations.shape[1])
    return {
        "rdf_stable_time_ps_median": median.value,
        "rdf_stable_time_ps_median_stderr": median.stderr,
        "rdf_stable_time_ps_median_lower": lower,
        "rdf_stable_time_ps_median_upper": upper,
        "rdf_stable_time_ps_mean": mean.value,
        "rdf_stable_time_ps_mean_stderr": mean.stderr,
        "rdf_unstable_chains": int(broken.sum()),
    }


def _diffusion(config: ConfigDict, system: System, positions: NDArray) -> Metrics:
    """Of the molecules' centres of mass, relative to that of the box; from `BALLISTIC` to a quarter of the
    chains; nothing where they are shorter than that or have no clock, or where all atoms hang together."""
    timestep = config[config.evaluation.sampler].get("timestep", 0.0)
    frame = timestep * config.evaluation.record_every  # fs
    last = positions.shape[1] // 4
    if not system.molecules.max() or not timestep or last * frame <= 1000 * BALLISTIC + frame:
        return {}
    first = int(np.ceil(1000 * BALLISTIC / frame))
    found = diffusivity(centres_of_mass(system, positions), frame, first, last)
    return {
        "diffusivity_angstrom2_per_ps": 1000 * found.value,
        "diffusivity_angstrom2_per_ps_stderr": 1000 * found.stderr,
    }


def reference_diffusion(path: Path) -> Metrics:
    """What `experiments.water` wrote of the diffusion beside the frames of this file; nothing where there is
    no such file, or another program's."""
    try:
        found = json.loads(path.with_suffix(".json").read_text())
        names = ("diffusivity_angstrom2_per_ps", "diffusivity_angstrom2_per_ps_stderr")
        return {f"reference_{name}": float(found[name]) for name in names}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def centres_of_mass(system: System, positions: NDArray) -> NDArray[np.float64]:
    """Of the molecules, relative to that of the box: unwrapped [R, T, N, 3] -> [R, T, M, 3], Å."""
    weights = np.equal.outer(np.arange(system.molecules.max() + 1), system.molecules) * system.masses
    weights /= weights.sum(axis=1, keepdims=True)
    centres = np.einsum("mn,rtnk->rtmk", weights, positions, optimize=True)
    whole = np.einsum("n,rtnk->rtk", system.masses / system.masses.sum(), positions, optimize=True)
    return centres - whole[:, :, None]
