"""Are the negatives what they are said to be? Their energies, their distance from the data, their
true energies from a reference engine."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

from experiments.engines import label
from experiments.evaluation import Metrics
from experiments.problem import Problem
from objectives.alignment import nearest_rmsd
from objectives.distances import wasserstein1
from potentials import Params
from potentials.units import KCAL_PER_MOL

MAX_FRAMES = 512


def read_negatives(path: Path, max_frames: int = MAX_FRAMES) -> NDArray[np.float32] | None:
    """Evenly spaced frames [K, N, 3] of a run's `negatives.npz`; None where it has none."""
    if not path.exists():
        return None
    with np.load(path) as file:
        frames = file["positions"]
    frames = frames.reshape(-1, *frames.shape[2:])
    frames = frames[np.isfinite(frames).all(axis=(1, 2))]
    if not len(frames):
        return None
    return frames[np.linspace(0, len(frames) - 1, min(max_frames, len(frames))).astype(int)]


def diagnose(
    problem: Problem,
    params: Params,
    frames: NDArray,
    reference_mean: float,
    threshold: float,
    *,
    before: Params | None = None,
    engine: str | None = None,
) -> tuple[Metrics, dict[str, NDArray]]:
    """Energies of negatives under the potential before and after, and truly.

    Args:
      problem: data and potential.
      params: of the post-trained potential.
      frames: [K, N, 3], Å, the negatives.
      reference_mean: of the energies, absolute, eV; everything is relative to it.
      threshold: spurious energy, eV, relative to it.
      before: params that the post-training started from.
      engine: name of a reference engine that gives true energies; the reference's own.

    Returns:
      Metrics, with standard errors over frames, and curves for the figures.
    """
    energy = jax.jit(jax.vmap(problem.potential.energy, (None, 0)))
    offset = problem.energy_shift - reference_mean
    now = np.asarray(energy(params, frames), dtype=np.float64) + offset
    test = problem.splits.test.energies - reference_mean
    rmsd = np.asarray(nearest_rmsd(frames, problem.train.positions))
    rows = np.linspace(0, len(test) - 1, min(256, len(test))).astype(int)
    curves = {
        "negatives_rmsd": rmsd,
        "reference_rmsd": np.asarray(
            nearest_rmsd(problem.test.positions[rows], problem.train.positions)
        ),
    }
    metrics: Metrics = {
        "n_negatives": len(frames),
        **_mean("negatives_energy_mean_ev", now),
        "negatives_wasserstein_mev": 1000 * wasserstein1(now, test),
        **_mean("negatives_outside_fraction", (now < test.min()) | (now > test.max())),
        "negatives_rmsd_median_angstrom": float(np.median(rmsd)),
        "reference_rmsd_median_angstrom": float(np.median(curves["reference_rmsd"])),
    }
    made = now if before is None else np.asarray(energy(before, frames), dtype=np.float64) + offset
    spurious = made < threshold
    metrics |= _mean("negatives_spurious_fraction", spurious)
    if engine is None:
        return metrics, curves
    true = label(engine, problem.system.numbers, frames)[0] - reference_mean
    curves |= {"negatives_energy_network": made, "negatives_energy_true": true}
    known = np.isfinite(true)
    metrics["negatives_unlabelled"] = int((~known).sum())
    for name, chosen in (("negatives", known), ("spurious_negatives", known & spurious)):
        metrics[f"n_{name}_labelled"] = int(chosen.sum())
        for side, values in (("before", made), ("after", now)):
            error = (values - true)[chosen] / KCAL_PER_MOL
            if len(error) > 1:
                metrics |= _mean(f"{name}_error_{side}_kcal_per_mol", error)
    return metrics, curves


def _mean(name: str, values: NDArray) -> Metrics:
    """Mean and standard error over frames [K]; a single frame has no error."""
    values = values.astype(np.float64)
    metrics: Metrics = {name: float(values.mean())}
    if len(values) > 1:
        metrics[f"{name}_stderr"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    return metrics
