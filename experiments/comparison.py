"""What the chains sampled beside the reference: energies, h(r), dihedrals, each with its error."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from experiments.distributions import Distributions, as_blocks, bins_to_merge, measure, over_chains
from experiments.problem import Problem, chosen_dihedrals
from experiments.reference_statistics import REFERENCE_BLOCKS, evaluation_temperature
from objectives.dihedrals import dihedral_centers, free_energy_stderr, populated
from objectives.distances import bootstrap_over_chains, jensen_shannon, ks_statistic, wasserstein1
from objectives.statistics import Estimate, autocorrelation_time, estimate_std, jackknife, mean_and_stderr
from potentials.units import KB
from samplers import Trajectory

Metrics = dict[str, float | int | str | None]


def compare(
    config: ConfigDict, problem: Problem, trajectory: Trajectory, reference: Distributions
) -> tuple[Metrics, dict[str, NDArray]]:
    """Distances between what the chains sampled and the reference, with the curves behind them.

    The first `config.evaluation.discard` of each chain is left out. Chains that died are left out of
    the distributions (they are counted in `failed_fraction`); spurious frames are not.
    """
    keep, chains = compared_chains(config, trajectory)
    metrics = dynamics_metrics(trajectory, keep, chains)
    if chains.sum() < 2:
        return metrics, {}
    energies = trajectory.energies[chains][:, keep].astype(np.float64) + problem.energy_shift
    model = measure(
        problem.system,
        list(trajectory.positions[chains][:, keep]),
        energies,
        reference.energy_edges,
        chosen_dihedrals(config, problem.system),
        achiral=config.evaluation.achiral,
    )
    quantiles = reference.energy_quantiles
    sd, mean = estimate_std(energies), mean_and_stderr(energies)
    expected = _energy_shares(reference).mean(axis=0)
    js = jackknife(lambda shares: jensen_shannon(expected, shares.mean(axis=0)), _energy_shares(model))
    # Fallen chains would take the scale of the correlation function over: they count as ±5 sd.
    clipped = np.clip((energies - reference.energy_mean[0]) / reference.energy_sd[0], -5, 5)
    bootstrap = {
        name: bootstrap_over_chains(f, energies, quantiles, resamples=100, seed=0)
        for name, f in (("ks", ks_statistic), ("wasserstein", wasserstein1))
    }
    metrics |= {
        "n_chains_compared": len(energies),
        "ks_energy": ks_statistic(energies, quantiles),
        "ks_energy_stderr": bootstrap["ks"],
        "wasserstein_energy_mev": 1000 * wasserstein1(energies, quantiles),
        "wasserstein_energy_mev_stderr": 1000 * bootstrap["wasserstein"],
        "energy_mean_ev": mean.value - reference.energy_mean[0],
        "energy_mean_ev_stderr": float(np.hypot(mean.stderr, reference.energy_mean[1])),
        "energy_sd_ev": sd.value,
        "energy_sd_ev_stderr": sd.stderr,
        "reference_energy_sd_ev": float(reference.energy_sd[0]),
        "reference_energy_sd_ev_stderr": float(reference.energy_sd[1]),
        "js_energy_nats": js.value,
        "js_energy_nats_stderr": js.stderr,
    }
    if np.ptp(clipped) > 0:
        interval = config.evaluation.record_every
        metrics["energy_autocorrelation_steps"] = interval * autocorrelation_time(clipped)
    more, curves = dihedral_comparison(config, reference, model)
    metrics |= more
    offset = reference.energy_mean[0]
    merged = bins_to_merge(reference)
    curves["energy_edges"] = reference.energy_edges[::merged] - offset
    for name, d in (("reference", reference), ("model", model)):
        density = d.energy_density.reshape(len(d.energy_density), -1, merged).mean(axis=2)
        curves[f"energy_{name}"], curves[f"energy_{name}_stderr"] = over_chains(density)
        curves[f"hr_{name}"], curves[f"hr_{name}_stderr"] = over_chains(d.hr_density)
    curves["hr_centers"] = (reference.hr_edges[1:] + reference.hr_edges[:-1]) / 2
    metrics["hr_mae"], metrics["hr_mae_stderr"] = _hr_mae(reference, model)
    return metrics, curves


def compared_chains(config: ConfigDict, trajectory: Trajectory) -> tuple[slice, NDArray[np.bool_]]:
    """The frames after the first `config.evaluation.discard`, and which chains [C] lived to the end."""
    keep = slice(int(config.evaluation.discard * trajectory.energies.shape[1]), None)
    return keep, np.isfinite(trajectory.energies[:, keep]).all(axis=1) & trajectory.alive[:, -1]


def dynamics_metrics(trajectory: Trajectory, keep: slice, chains: NDArray[np.bool_]) -> Metrics:
    """Kinetic temperature, and the drift of the mean energy as its change between the second and
    the last quarter of the chains (the first is left to equilibration)."""
    metrics: Metrics = {}
    kinetic = trajectory.kinetic_temperatures[chains][:, keep]
    if kinetic.size and np.isfinite(kinetic).all():
        estimate = mean_and_stderr(kinetic)
        metrics["kinetic_temperature_k"] = estimate.value
        metrics["kinetic_temperature_k_stderr"] = estimate.stderr
    energies = trajectory.energies[chains]
    quarter = energies.shape[1] // 4
    if len(energies) >= 2 and quarter:
        change = energies[:, -quarter:].mean(axis=1) - energies[:, quarter : 2 * quarter].mean(axis=1)
        metrics["energy_drift_mev"] = 1000 * float(change.mean())
        metrics["energy_drift_mev_stderr"] = 1000 * float(change.std(ddof=1) / np.sqrt(len(change)))
    return metrics


def dihedral_comparison(
    config: ConfigDict, reference: Distributions, model: Distributions
) -> tuple[Metrics, dict[str, NDArray]]:
    """Free-energy differences −k_B T ln(p_model/p_ref) over the reference's populated bins.

    Both profiles are those of normalised probabilities, so no shift between them is fitted. Errors
    of the RMSE are jackknifed over the model's chains.
    """
    temperature = evaluation_temperature(config)
    metrics = _dihedral_rmse(reference, model, temperature)
    curves: dict[str, NDArray] = {"dihedral_names": reference.dihedral_names}
    for index, name in enumerate(reference.dihedral_names):
        counts = [d.dihedral_probability[:, index] for d in (reference, model)]
        p = [c.mean(axis=0, dtype=np.float64) for c in counts]
        profiles = [-KB * temperature * np.log(np.where(q > 0, q, np.nan)) for q in p]
        errors = [free_energy_stderr(c, temperature) for c in counts]
        mask = populated(p[0])
        # An empty bin of the model has neither a value nor an error: not within.
        within = np.abs(profiles[1] - profiles[0]) <= 2 * np.hypot(errors[0], errors[1])
        metrics[f"dihedral_within_two_stderr_{name}"] = float(within[mask].mean())
        base = np.nanmin(profiles[0])
        curves[f"dihedral_{index}_centers"] = dihedral_centers(len(mask))
        for side, profile, error in zip(("reference", "model"), profiles, errors, strict=True):
            curves[f"dihedral_{index}_{side}"] = profile - base
            curves[f"dihedral_{index}_{side}_stderr"] = error
    return metrics, curves


def training_metrics(config: ConfigDict, problem: Problem, reference: Distributions) -> Metrics:
    """How far the frames trained on are from the reference themselves: what a potential that reproduced their
    distribution, noise and all, would show. Where they are n of the reference's N frames this is too little,
    by about √(1 − n/N). Nothing at another temperature than theirs."""
    train = problem.splits.train
    n_blocks = min(REFERENCE_BLOCKS, len(train.energies) // 2)
    if evaluation_temperature(config) != config.dataset.temperature or n_blocks < 2:
        return {}
    positions, energies = (as_blocks(array, n_blocks) for array in (train.positions, train.energies))
    dihedrals = chosen_dihedrals(config, problem.system)
    own = measure(
        *(problem.system, list(positions), energies, reference.energy_edges, dihedrals),
        achiral=config.evaluation.achiral,
    )
    found = _dihedral_rmse(reference, own, config.dataset.temperature)
    found["ks_energy"] = ks_statistic(energies, reference.energy_quantiles)
    found["hr_mae"], found["hr_mae_stderr"] = _hr_mae(reference, own)
    return {f"training_frames_{name}": value for name, value in found.items()}


def _dihedral_rmse(reference: Distributions, model: Distributions, temperature: float) -> Metrics:
    """Of each dihedral's free energy and of all, meV, with jackknife errors over the model's chains."""
    expected = reference.dihedral_probability.mean(axis=0, dtype=np.float64)  # [D, B]

    def rmse(dihedrals: slice) -> Estimate:
        def statistic(chains: NDArray) -> float:
            p = chains.mean(axis=0)
            n_frames = model.n_frames * len(chains)
            return float(np.sqrt(np.mean(_differences(expected[dihedrals], p, n_frames, temperature) ** 2)))

        return jackknife(statistic, model.dihedral_probability[:, dihedrals])

    pooled = {f"_{name}": slice(d, d + 1) for d, name in enumerate(reference.dihedral_names)}
    if pooled:
        pooled[""] = slice(None)
    metrics: Metrics = {}
    for suffix, dihedrals in pooled.items():
        estimate = rmse(dihedrals)
        metrics[f"dihedral_free_energy_rmse_mev{suffix}"] = 1000 * estimate.value
        metrics[f"dihedral_free_energy_rmse_mev{suffix}_stderr"] = 1000 * estimate.stderr
    return metrics


def _hr_mae(reference: Distributions, model: Distributions) -> Estimate:
    """Mean absolute deviation of h(r), 1/Å, with its jackknife error over the model's chains."""
    expected = over_chains(reference.hr_density)[0]
    return jackknife(lambda h: float(np.abs(h.mean(axis=0) - expected).mean()), model.hr_density)


def _differences(expected: NDArray, found: NDArray, n_frames: int, temperature: float) -> NDArray[np.float64]:
    """−k_B T ln(found/expected), eV, over the populated bins of `expected`: two [D, B] -> flat.

    An empty bin counts as one frame's worth of probability, which makes it a lower bound.
    """
    mask = populated(expected)
    found = np.where(found > 0, found, 1 / n_frames)
    return -KB * temperature * np.log(found[mask] / expected[mask])


def _energy_shares(distributions: Distributions) -> NDArray[np.float64]:
    """[C, B + 1]: each chain's share of frames in each energy bin and, last, outside the grid."""
    shares = distributions.energy_density * np.diff(distributions.energy_edges)
    outside = np.maximum(1 - shares.sum(axis=1, keepdims=True), 0.0)
    return np.concatenate([shares, outside], axis=1)
