"""The whole argument in minutes, on data in the package: python -m experiments.quickstart

A SchNet trained by MSE on 200 frames of GFN2-xTB ethanol, its sampler falling into minima that do not
exist, CRMSE post-training, the same sampler staying in the physical basin; report.html shows before
and after side by side. Repeating the command goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import binary
from experiments.configs import ethanol
from experiments.evaluate import evaluate_run
from experiments.evaluation_checks import check_evaluation
from experiments.figures import figures, save
from experiments.holes import with_holes
from experiments.kept_chains import remove_chains
from experiments.negatives import NEGATIVES, read_negatives
from experiments.problem import Problem
from experiments.reference_statistics import reference_distributions
from experiments.report import format_value, verdict, write_report
from experiments.runs import Run, load_run
from experiments.train import prepare, train
from experiments.verdicts import consistency_sentences
from experiments.weights import load_params
from objectives import Objective

WORKDIR = flags.DEFINE_string(
    "workdir", "quickstart", "Folder for the runs and the report.", allow_override=True
)
SEED = flags.DEFINE_integer("seed", 0, "Of weights, batches and chains.", allow_override=True)

SHOWN = (
    "energy_mae_mev",
    "force_mae_mev_per_angstrom",
    "spurious_fraction",
    "spurious_chains",
    "broken_fraction",
    "energy_minimum_ev",
    "ks_energy",
    "energy_sd_ev",
    "kinetic_temperature_k",
    "dihedral_free_energy_rmse_mev",
)


def main() -> None:
    """The binary."""
    binary.LOG.setLevel(logging.WARNING)  # the progress bars say it already
    root = Path(WORKDIR.value)
    runs, configs = [], {}
    for name, config in stages(root, SEED.value).items():
        configs[name] = config
        with binary.reading_input():
            problem, objective = prepare(config)
            check_evaluation(config, problem, has_negatives=bool(config.init_from))
        workdir = binary.claim_workdir(str(root / name), config)
        run_stage(name, config, problem, objective, workdir)
        runs.append(load_run(workdir, name.upper()))
    if (negatives := read_negatives(workdir / NEGATIVES)) is not None:
        runs = with_holes(
            runs,
            [(problem, load_params(root / name, problem)) for name in configs],  # of one network and data
            negatives.positions,
            mean=float(reference_distributions(config, problem).energy_mean[0]),
            achiral=config.evaluation.achiral,
        )
    save(figures(runs), root / "figures")
    path = write_report(
        runs,
        root / "report.html",
        title="Trained as a regressor, used as a sampler: ethanol before and after CRMSE",
        config=configs["crmse"].to_json(indent=2, sort_keys=True),
        versions=binary.provenance(),
        notes=[],
        summary=consistency_sentences(runs[0].metrics),
    )
    print_table(runs)
    print(f"\nReport: {os.path.relpath(path)}")


def stages(root: Path, seed: int) -> dict[str, ConfigDict]:
    """The two runs: MSE from scratch, CRMSE from its weights and moments."""
    first = ethanol.get_config()
    first.seed = seed
    first.dataset.train = 200
    first.pre_training.n_updates = 6000
    first.evaluation.n_steps = 32_000  # 16 ps
    second = first.copy_and_resolve_references()
    second.objective = "crmse"
    second.init_from = str(root / "mse")
    second.post_training.n_updates = 500
    second.post_training.warmup = 100
    second.training.batch_size = 100
    second.training.log_every = 50
    second.training.checkpoint_every = 100
    return {"mse": first, "crmse": second}


def run_stage(name: str, config: ConfigDict, problem: Problem, objective: Objective, workdir: Path) -> None:
    """Trains and evaluates one stage, unless that is done already."""
    schedule = config.post_training if config.init_from else config.pre_training
    with tqdm(total=schedule.n_updates, desc=f"{name}: training", unit="update") as bar:
        train(config, problem, objective, workdir, lambda row: bar.update(row["step"] - bar.n))
    if (workdir / "eval" / "metrics.json").exists():
        binary.LOG.info("%s: evaluated already", workdir)
        return
    evaluate_run(config, problem, load_params(workdir, problem), workdir, bar=f"{name}: sampling")
    remove_chains(workdir / "eval")


def print_table(runs: list[Run]) -> None:
    """Before and after on the terminal."""
    print(f"\n{'':38s}" + "".join(f"{run.label:>22s}" for run in runs))
    for name in SHOWN:
        cells = []
        for run in runs:
            value = run.metrics.get(name)
            cells.append(format_value(value, run.metrics.get(f"{name}_stderr")) if value is not None else "")
        print(f"{name:38s}" + "".join(f"{cell:>22s}" for cell in cells))
    for run in runs:
        print(f"\n{run.label}: {verdict(run).text}")


if __name__ == "__main__":
    binary.run(main)
