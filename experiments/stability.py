"""How stable chains were: broken bonds, spurious energies, and what of these a sound potential has too."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from experiments.comparison import Metrics
from experiments.distributions import Distributions
from experiments.problem import Problem
from experiments.reference_statistics import evaluation_temperature
from experiments.relaxation import harmonic_share_below, relaxed_energies
from objectives.statistics import mean_and_stderr
from objectives.survival import median_and_stderr, median_interval, restricted_mean
from potentials import Params
from potentials.units import KCAL_PER_MOL
from samplers import Criterion, Trajectory, make_criterion, never

_RELAXED = 16  # test frames
_DRAWN = 7  # configurations


def bond_criterion(config: ConfigDict, problem: Problem) -> Criterion:
    """Unstable with a bond more than `evaluation.bond_deviation` off its mean training length; without
    bonds nothing is."""
    return (
        make_criterion(problem.system, config.evaluation.bond_deviation)
        if len(problem.system.bonds)
        else never
    )


def broken_frames(config: ConfigDict, problem: Problem, trajectory: Trajectory) -> NDArray[np.bool_]:
    """[C, T]: recorded frames that meet `bond_criterion`."""
    criterion = bond_criterion(config, problem)
    return np.stack([np.asarray(criterion(jnp.asarray(chain))) for chain in trajectory.positions])


def broken_chains(config: ConfigDict, trajectory: Trajectory) -> NDArray[np.bool_]:
    """[C]: chains that met `bond_criterion` or failed before their end."""
    length = trajectory.energies.shape[1] * config.evaluation.record_every
    return (trajectory.intact_steps < length) | ~trajectory.alive[:, -1]


def survival_metrics(config: ConfigDict, trajectory: Trajectory) -> Metrics:
    """Stable times, to the step: until a chain first met `bond_criterion` or failed. Samplers without a
    clock count in steps. A median that fewer than half of the chains reached is undefined."""
    timestep = config[config.evaluation.sampler].get("timestep", 0.0)
    unit, scale = ("ps", timestep / 1000) if timestep else ("steps", 1.0)
    length = trajectory.energies.shape[1] * config.evaluation.record_every
    times, broken = scale * trajectory.intact_steps, broken_chains(config, trajectory)
    median = median_and_stderr(times, broken)
    lower, upper = median_interval(times, broken)
    mean = restricted_mean(times, broken, scale * length)
    return {
        f"stable_time_{unit}_median": median.value,
        f"stable_time_{unit}_median_stderr": median.stderr,
        f"stable_time_{unit}_median_lower": lower,
        f"stable_time_{unit}_median_upper": upper,
        f"stable_time_{unit}_mean": mean.value,
        f"stable_time_{unit}_mean_stderr": mean.stderr,
        "unstable_chains": int(broken.sum()),
    }


def spurious_threshold(config: ConfigDict, problem: Problem, reference: Distributions) -> float:
    """The margin below the lowest reference energy, relative to the training mean, eV."""
    lowest = float(reference.energy_quantiles[0]) - problem.energy_shift
    return lowest - config.evaluation.spurious_margin * KCAL_PER_MOL


def spurious_frames(
    config: ConfigDict, problem: Problem, trajectory: Trajectory, reference: Distributions
) -> NDArray[np.bool_]:
    """[C, T]: frames more than the margin below the lowest reference energy, non-finite or dead."""
    threshold = spurious_threshold(config, problem, reference)
    return (trajectory.energies < threshold) | ~np.isfinite(trajectory.energies) | ~trajectory.alive


def stability_metrics(
    config: ConfigDict, problem: Problem, trajectory: Trajectory, reference: Distributions
) -> Metrics:
    """Whether the chains stayed where the reference is; energies relative to the reference mean."""
    spurious = spurious_frames(config, problem, trajectory, reference)
    share = mean_and_stderr(spurious.astype(float))
    offset = reference.energy_mean[0] - problem.energy_shift
    lowest = float(reference.energy_quantiles[0] - reference.energy_mean[0])
    finite = np.isfinite(trajectory.energies)
    minimum = trajectory.energies[finite].min() - offset if finite.any() else np.nan
    failed = float(1 - trajectory.alive[:, -1].mean())
    broken = broken_frames(config, problem, trajectory)
    broken_share = mean_and_stderr(broken.astype(float))
    return {
        "spurious_fraction": share.value,
        "spurious_fraction_stderr": share.stderr,
        "spurious_chains": int(spurious.any(axis=1).sum()),
        "spurious_frames": int(spurious.sum()),
        "spurious_threshold_ev": lowest - config.evaluation.spurious_margin * KCAL_PER_MOL,
        "broken_fraction": broken_share.value,
        "broken_fraction_stderr": broken_share.stderr,
        "broken_chains": int(broken.any(axis=1).sum()),
        "failed_fraction": failed,
        "failed_fraction_stderr": float(np.sqrt(failed * (1 - failed) / max(len(finite) - 1, 1))),
        "energy_minimum_ev": float(minimum),
        "reference_energy_minimum_ev": lowest,
    }


def spurious_curves(
    config: ConfigDict, problem: Problem, trajectory: Trajectory, reference: Distributions
) -> dict[str, NDArray]:
    """Of the lowest chains that fell below the threshold, the lowest frame: positions [M, N, 3] in Å and
    energies [M] in eV relative to the reference mean, with a test frame to compare with; none where no chain
    fell."""
    fallen = spurious_frames(config, problem, trajectory, reference) & np.isfinite(trajectory.energies)
    energies = np.where(fallen & trajectory.alive, trajectory.energies, np.inf)
    frames = energies.argmin(axis=1)
    lowest = energies.min(axis=1)
    chains = [chain for chain in np.argsort(lowest)[:_DRAWN] if np.isfinite(lowest[chain])]
    if not chains:
        return {}
    return {
        "spurious_positions": np.asarray(trajectory.positions)[chains, frames[chains]],
        "spurious_energy": lowest[chains] + problem.energy_shift - reference.energy_mean[0],
        "spurious_numbers": np.asarray(problem.system.numbers),
        "spurious_test_positions": np.asarray(problem.test.positions[0]),
    }


def thermal_metrics(
    config: ConfigDict, problem: Problem, params: Params, trajectory: Trajectory, reference: Distributions
) -> Metrics:
    """How low the reference frames relax (median of some), and how many recorded frames would be spurious by
    the threshold if the molecule were harmonic about there: where the reference is no sample of its own
    labels its lowest frame may lie far above the physical minimum. Anharmonic molecules have fewer."""
    rows = np.linspace(0, len(problem.test.energies) - 1, _RELAXED).astype(int)
    relaxed = np.nanmedian(relaxed_energies(problem.potential, params, problem.test.positions[rows]))
    share = harmonic_share_below(
        spurious_threshold(config, problem, reference),
        float(relaxed),
        evaluation_temperature(config),
        len(problem.system.numbers),
    )
    return {
        "relaxed_energy_ev": float(relaxed) + problem.energy_shift - float(reference.energy_mean[0]),
        "spurious_frames_expected": share * trajectory.energies.size,
    }
