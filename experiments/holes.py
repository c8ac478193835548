"""Holes of a potential: whether configurations found earlier, such as negatives, lie in one."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from numpy.typing import NDArray

from experiments.comparison import Metrics
from experiments.problem import Problem
from experiments.relaxation import relaxed_energies
from experiments.runs import Run
from objectives.alignment import nearest_rmsd
from potentials import Params, energies
from potentials.units import KB

MAX_RELAXED = 64
"""Of the configurations unlike any test frame, the farthest from the data are relaxed."""
MARGIN = 2.0
"""k_B T by which what lies in a hole relaxes to less than test frames do, as for chains that have fallen."""
_TEST_FRAMES, _RELAXED_TEST_FRAMES = 256, 20


def distances(problem: Problem, positions: NDArray, *, achiral: bool) -> tuple[NDArray, NDArray]:
    """Aligned RMSD to the nearest training frame, Å: of configurations [K, N, 3], and of test frames.

    Args: achiral: mirror images count as the same.
    """
    rows = np.linspace(0, len(problem.test.energies) - 1, _TEST_FRAMES).astype(int)
    test = problem.test.positions[np.unique(rows)]
    found, usual = (nearest_rmsd(frames, problem.train.positions, achiral) for frames in (positions, test))
    return np.asarray(found), np.asarray(usual)


def farthest(found: NDArray, usual: NDArray) -> NDArray[np.int64]:
    """Which configurations are farther from the training frames than any test frame, the farthest first."""
    far = np.flatnonzero(found > usual.max())
    return far[np.argsort(-found[far])]


def energies_of(problem: Problem, params: Params, positions: NDArray, mean: float) -> NDArray[np.float64]:
    """[K], eV, relative to a mean over the reference."""
    energy = jax.jit(lambda params, frames: energies(problem.potential, params, frames))
    return np.asarray(energy(params, positions), np.float64) + problem.energy_shift - mean


def hole_metrics(
    problem: Problem,
    params: Params,
    positions: NDArray,
    now: NDArray[np.float64],
    far: NDArray[np.int64],
    *,
    threshold: float,
    mean: float,
) -> Metrics:
    """How many configurations lie in holes of a molecule's potential: those with an energy that is spurious
    and `MARGIN` k_B T below what test frames relax to, and, of those that are `far`, those that relax to so
    little, or to no number. A hole with a wide bottom has frames of ordinary energies. In a box what is
    spurious counts.

    Args:
      problem, params: the potential to judge, which need not be the one that the configurations are of.
      positions: [K, N, 3], Å.
      now: [K], their energies under it, eV, relative to `mean`.
      far: rows of those unlike the data, of which the first `MAX_RELAXED` are relaxed; none in a box.
      threshold: spurious energy, likewise.
      mean: of the reference's energies, eV.
    """
    metrics: Metrics = {"n_negatives": len(now), "negatives_far": len(far)}
    tried, relaxed = far[:MAX_RELAXED], np.zeros(0)
    if problem.system.cell is None:
        minimum = low_minimum(problem, params, mean)
        limit = minimum - MARGIN * KB * problem.system.temperature
        relaxed = relaxed_energies(problem.potential, params, positions[tried]) + problem.energy_shift - mean
        inside = ~np.isfinite(now) | (now < min(threshold, limit))
        inside[tried] |= ~np.isfinite(relaxed) | (relaxed < limit)
        metrics |= {"negatives_relaxed": len(tried), "negatives_test_minimum_ev": minimum}
    else:
        inside = now < threshold  # not a number where a list was full
    finite = [energy for energy in (*now, *relaxed) if np.isfinite(energy)]
    return metrics | {
        "negatives_in_holes": int(inside.sum()),
        "negatives_minimum_ev": float(min(finite, default=np.nan)),
    }


def low_minimum(problem: Problem, params: Params, mean: float) -> float:
    """What test frames relax to, eV relative to `mean`: the lowest tenth of some. The very lowest may have
    gone into a hole itself, and conformers differ."""
    rows = np.unique(np.linspace(0, len(problem.test.energies) - 1, _RELAXED_TEST_FRAMES).astype(int))
    relaxed = relaxed_energies(problem.potential, params, problem.test.positions[rows])
    return float(np.nanquantile(relaxed, 0.1)) + problem.energy_shift - mean


def with_holes(
    runs: Sequence[Run],
    potentials: Sequence[tuple[Problem, Params]],
    found: NDArray,
    *,
    mean: float,
    achiral: bool,
) -> list[Run]:
    """Runs with what the negatives of all of them say of each potential.

    Args:
      runs: of one data set.
      potentials: theirs, (problem, weights).
      found: negatives [K, N, 3] of all of them, Å.
      mean: of the reference's energies, eV.
      achiral: mirror images count as the same.
    """
    problem = potentials[-1][0]
    far = np.zeros(0, int)
    if problem.system.cell is None:
        far = farthest(*distances(problem, found, achiral=achiral))
    judged = []
    for run, (problem, params) in zip(runs, potentials, strict=True):
        now = energies_of(problem, params, found, mean)
        threshold = float(run.metrics["spurious_threshold_ev"])
        holes = hole_metrics(problem, params, found, now, far, threshold=threshold, mean=mean)
        judged.append(run._replace(metrics=run.metrics | holes))
    return judged
