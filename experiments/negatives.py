"""Are the negatives what they are said to be? Their energies, their distance from the data, their
true energies from a reference engine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.comparison import Metrics
from experiments.distributions import Distributions
from experiments.engines import label
from experiments.holes import distances, energies_of, farthest, hole_metrics
from experiments.npz_files import open_npz
from experiments.problem import Problem
from objectives.distances import wasserstein1
from objectives.statistics import block_stderr
from potentials import Params
from potentials.units import KCAL_PER_MOL

NEGATIVES = "negatives.npz"
"""Of a workdir: snapshots that training recorded."""
MAX_FRAMES = 512


class NegativeFrames(NamedTuple):
    """Attributes: positions [K, N, 3] in Å, in order of the updates; energies [K] in eV under the
    params that drew them, relative to the training mean."""

    positions: NDArray[np.float32]
    energies: NDArray[np.float32]


def read_negatives(path: Path, max_frames: int = MAX_FRAMES) -> NegativeFrames | None:
    """Evenly spaced finite frames of a run's `negatives.npz`; None where it has none.

    Raises:
      ValueError: a damaged file.
    """
    if not path.exists():
        return None
    with open_npz(path) as file:
        positions, energies = file["positions"], file["energies"].ravel()
    positions = positions.reshape(-1, *positions.shape[2:])
    finite = np.flatnonzero(np.isfinite(positions).all(axis=(1, 2)) & np.isfinite(energies))
    if not len(finite):
        return None
    rows = finite[np.linspace(0, len(finite) - 1, min(max_frames, len(finite))).astype(int)]
    return NegativeFrames(positions[rows], energies[rows])


def diagnose(
    problem: Problem,
    params: Params,
    negatives: NegativeFrames,
    reference: Distributions,
    threshold: float,
    *,
    achiral: bool,
    engine: str,
) -> tuple[Metrics, dict[str, NDArray]]:
    """Energies of negatives when they were drawn, under the final potential, and truly.

    Args:
      problem: data and potential.
      params: the final ones.
      negatives: from the whole of post-training.
      reference: what the data sampled.
      threshold: spurious energy, eV, relative to the reference mean.
      achiral: mirror images count as the same for the RMSD.
      engine: the reference engine that labelled the data; empty for no true energies.

    Returns:
      Metrics, whose standard errors are over blocks of neighbouring snapshots, and curves for the
      figures; energies relative to the reference mean.
    """
    mean = float(reference.energy_mean[0])
    drawn = negatives.energies.astype(np.float64) + problem.energy_shift - mean
    now = energies_of(problem, params, negatives.positions, mean)
    curves, medians, far = {}, {}, np.zeros(0, int)
    if problem.system.cell is None:  # in a liquid no two frames are alike
        found, usual = distances(problem, negatives.positions, achiral=achiral)
        far = farthest(found, usual)
        curves = {"negatives_rmsd": found, "reference_rmsd": usual}
        medians = {f"{name}_median_angstrom": float(np.median(rmsd)) for name, rmsd in curves.items()}
    quantiles = reference.energy_quantiles - mean
    outside = (drawn < quantiles[0]) | (drawn > quantiles[-1])
    spurious = drawn < threshold
    metrics: Metrics = {
        **hole_metrics(problem, params, negatives.positions, now, far, threshold=threshold, mean=mean),
        "negatives_wasserstein_mev": 1000 * wasserstein1(drawn, quantiles),
        **medians,
    }
    for name, values in (
        ("energy_mean_ev", drawn),
        ("outside_fraction", outside.astype(float)),
        ("spurious_fraction", spurious.astype(float)),
        ("still_spurious_fraction", (now < threshold).astype(float)),  # holes that were not filled
    ):
        metrics[f"negatives_{name}"] = float(values.mean())
        metrics[f"negatives_{name}_stderr"] = block_stderr(values)
    if not engine:
        return metrics, curves
    true = label(engine, problem.system.numbers, negatives.positions)[0] - mean
    curves |= {"negatives_energy_network": drawn, "negatives_energy_true": true}
    known = np.isfinite(true)
    metrics["negatives_unlabelled"] = int((~known).sum())
    for name, chosen in (("negatives", known), ("spurious_negatives", known & spurious)):
        metrics[f"n_{name}_labelled"] = int(chosen.sum())
        for side, values in (("drawn", drawn), ("final", now)):
            error = (values - true)[chosen] / KCAL_PER_MOL
            if len(error) > 1:
                metrics[f"{name}_error_{side}_kcal_per_mol"] = float(error.mean())
                metrics[f"{name}_error_{side}_kcal_per_mol_stderr"] = block_stderr(error)
    return metrics, curves
