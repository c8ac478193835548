"""Holes of a potential: whether configurations found earlier, such as negatives, lie in one."""

from __future__ import annotations

import jax
import numpy as np
from numpy.typing import NDArray

from experiments.comparison import Metrics
from experiments.problem import Problem
from experiments.relaxation import relaxed_energies
from objectives.alignment import nearest_rmsd
from potentials import Params, energies
from potentials.units import KB

MAX_RELAXED = 64
"""Of the configurations unlike any test frame, the farthest from the data are relaxed."""
MARGIN = 2.0
"""k_B T by which what lies in a hole relaxes to less than test frames do, as for chains that have fallen."""
_TEST_FRAMES = 256


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
    far: NDArray[np.int64],
    *,
    mean: float,
    threshold: float,
    minimum: float,
) -> Metrics:
    """How many configurations lie in holes: below the spurious threshold, or, of those that are `far`, where
    they relax to `MARGIN` k_B T less than test frames do. A hole with a wide bottom has frames of ordinary
    energies.

    Args:
      problem, params: the potential to judge, which need not be the one that the configurations are of.
      positions: [K, N, 3], Å.
      far: rows of those unlike the data, of which the first `MAX_RELAXED` are relaxed; none in a box.
      mean: of the reference's energies, eV, to which the others here are relative.
      threshold: spurious energy.
      minimum: to which test frames relax under this potential.
    """
    now = energies_of(problem, params, positions, mean)
    far = far[:MAX_RELAXED]
    relaxed = relaxed_energies(problem.potential, params, positions[far]) + problem.energy_shift - mean
    inside = now < threshold
    inside[far] |= relaxed < minimum - MARGIN * KB * problem.system.temperature
    return {
        "n_negatives": len(now),
        "negatives_far": len(far),
        "negatives_in_holes": int(inside.sum()),
        "negatives_minimum_ev": float(np.nanmin([*now, *relaxed])),
    }
