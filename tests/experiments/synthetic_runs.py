"""Synthetic evaluated runs: a safe one and one whose chains fall into a spurious minimum."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from experiments.runs import Run


def _normal(x: np.ndarray, mean: float, sd: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


def _pair(curves: dict, name: str, reference: np.ndarray, model: np.ndarray, error: float) -> None:
    for key, values in (("reference", reference), ("model", model)):
        curves[f"{name}_{key}"] = values
        curves[f"{name}_{key}_stderr"] = error * np.sqrt(np.abs(values))


def _curves(broken: bool, dihedrals: int = 2) -> dict[str, np.ndarray]:
    """Ethanol-like curves at 500 K; the broken run has a tail at low energy and 8 of 64 chains falling."""
    rng = np.random.default_rng(int(broken))
    edges = np.linspace(-1.5, 0.8, 70)
    centers = (edges[1:] + edges[:-1]) / 2
    curves: dict[str, np.ndarray] = {"energy_edges": edges}
    tail = 0.1 * _normal(centers, -1.1, 0.15)
    truth = _normal(centers, 0, 0.14)
    _pair(curves, "energy", truth, (0.82 if broken else 1) * truth + broken * tail, 0.05)
    r = curves["hr_centers"] = np.linspace(0.8, 5, 120)
    h = sum(w * _normal(r, m, s) for w, m, s in ((0.3, 1.1, 0.05), (0.3, 1.8, 0.1), (0.4, 2.8, 0.4)))
    _pair(curves, "hr", h, h + (0.15 if broken else 0.01) * np.sin(6 * r) * h, 0.02)
    names = ("H-O-C-C", "O-C-C-H", "C-C-O-H")[:dihedrals]
    curves["dihedral_names"] = np.array(names)
    for d in range(dihedrals):
        phi = curves[f"dihedral_{d}_centers"] = np.radians(np.arange(-175, 180, 10.0))
        profile = 0.05 * (1 + np.cos(3 * phi)) + 0.02 * d * (1 + np.cos(phi))
        model = profile + (0.03 if broken else 0.003) * np.cos(phi)
        _pair(curves, f"dihedral_{d}", profile, model, 0.015)
        model[7:9] = np.nan
    time = curves["chain_time_ps"] = np.linspace(0, 100, 500)
    chains = 0.14 * rng.standard_normal((64, 500))
    if broken:
        for c in range(8):
            start = 100 + 40 * c
            chains[c, start:] -= (1.2 + 30 * (c < 3)) * (1 - np.exp(-(time[start:] - time[start]) / 3))
        chains[62:, 300:] = np.nan
    curves["chain_energy"] = chains
    true = rng.normal(0.1, 0.15, 400)
    network = true + rng.normal(0, 0.01, 400)
    if broken:
        network[:60] -= rng.uniform(1, 6, 60)
        true[:60] += rng.uniform(0, 25, 60)
    curves["negatives_energy_true"], curves["negatives_energy_network"] = true, network
    curves["negatives_rmsd"] = rng.gamma(9, 0.02, 2000) + broken * rng.gamma(1, 0.1, 2000)
    curves["reference_rmsd"] = rng.gamma(9, 0.019, 2000)
    return curves


METRICS = {
    True: {
        "energy_mae_mev": 10.62, "energy_mae_mev_stderr": 0.21, "spurious_fraction": 0.123,
        "spurious_fraction_stderr": 0.0101, "failed_fraction": 2 / 64, "energy_minimum_ev": -31.4,
        "spurious_threshold_ev": -0.9, "n_chains": 64, "chain_length_ps": 100.0,
    },
    False: {
        "energy_mae_mev": 11.9, "energy_mae_mev_stderr": 0.3, "spurious_fraction": 0.0,
        "spurious_fraction_stderr": 0.0, "failed_fraction": 0.0, "energy_minimum_ev": -0.62,
        "spurious_threshold_ev": -0.9, "n_chains": 64, "chain_length_ps": 100.0,
    },
}  # fmt: skip


def _log(broken: bool) -> dict[str, np.ndarray]:
    step = np.arange(0, 20_000, 100.0)
    decay = np.exp(-step / 4000)
    log = {
        "step": step,
        "loss": 0.5 * decay + 0.01,
        "force_mae_mev_per_angstrom": 300 * decay + 25 + 5 * broken,
    }
    log["energy_mae_mev"] = np.where(step % 500 == 0, (100 if broken else 60) * decay + 10, np.nan)
    if not broken:
        log["contrastive"] = 0.2 * decay * np.cos(step / 1000)
        log["acceptance"] = 0.74 + 0.02 * np.sin(step / 3000)
    return log


def make_run(label: str, broken: bool) -> Run:
    return Run(label, dict(METRICS[broken]), _curves(broken), _log(broken))


def write_run(workdir: Path, run: Run) -> Path:
    (workdir / "eval").mkdir(parents=True)
    (workdir / "eval" / "metrics.json").write_text(json.dumps(run.metrics))
    np.savez(workdir / "eval" / "curves.npz", **run.curves)
    rows = zip(*run.log.values(), strict=True)
    lines = [",".join("" if np.isnan(v) else f"{v:.17g}" for v in row) for row in rows]
    (workdir / "train_log.csv").write_text("\n".join([",".join(run.log), *lines]) + "\n")
    return workdir
