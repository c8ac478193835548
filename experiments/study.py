"""The studies behind the README's tables: python -m experiments.study --study=gfn2 --workdir=W --output=R

Every combination of frames, variant and seed is trained and evaluated in its own folder under W. Its
metrics go to R as they come, one JSON file an evaluation, and are not made again while that is there;
R/summary.json holds means and standard errors over seeds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import binary
from experiments.configs import ethanol, rmd17_ethanol
from experiments.evaluate import check_evaluation, evaluate_run, load_params
from experiments.problem import Problem
from experiments.train import prepare, train
from experiments.verdicts import format_value
from potentials.registry import lookup

STUDY = flags.DEFINE_string("study", "gfn2", "Which study.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder for the runs.", allow_override=True)
OUTPUT = flags.DEFINE_string(
    "output", "", "Folder for the metrics; default WORKDIR/results.", allow_override=True
)
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of weights, batches and chains.")
FRAMES = flags.DEFINE_list("frames", ["200", "950"], "Training frames.", allow_override=True)
VARIANTS = flags.DEFINE_list("variants", [], "Which variants; default all of the study.")


class Variant(NamedTuple):
    """Attributes: parent, the variant post-training starts from, empty for none; changes to the
    study's configuration; evaluations, folder -> further changes."""

    parent: str
    changes: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]] = {"eval": {}}


class Study(NamedTuple):
    """Attributes: config, of the system; variants by name."""

    config: ConfigDict
    variants: Mapping[str, Variant]


_CRMSE = {
    "objective": "crmse",
    "training.batch_size": 100,
    "training.log_every": 50,
    "training.checkpoint_every": 250,
}
# The contrastive term alone, at one temperature, with the paper's K.
_PLAIN = {
    **_CRMSE,
    "crmse.weight": 0.0056,
    "contrastive.fallen_weight": 0.0,
    "contrastive.hotter": (),
    "contrastive.n_chains": 64,
    "contrastive.n_steps": 200,
    "contrastive.restart_fraction": 0.05,
    "post_training.n_updates": 600,
    "post_training.initial": 3e-4,
    "post_training.final": 1e-5,
    "post_training.average_decay": 0.98,
    "post_training.warmup": 60,
    "post_training.clip_norm": 10.0,
}
_ULA = {"contrastive.sampler": "ula", "contrastive.restart_fraction": 0.0}
_BY_ULA = {"evaluation.sampler": "ula", "evaluation.n_steps": 50_000, "evaluation.record_every": 50}

STUDIES = {
    "gfn2": Study(
        ethanol.get_config(),
        {
            "mse": Variant("", {}),
            "crmse": Variant("mse", _CRMSE),
            "crmse_plain": Variant("mse", _PLAIN),
            "crmse_ula": Variant("mse", {**_PLAIN, **_ULA}),
            "mse_zbl": Variant("", {"zbl.enabled": True}),
            "crmse_zbl": Variant("mse_zbl", {**_CRMSE, "zbl.enabled": True}),
        },
    ),
    "rmd17_ethanol": Study(
        rmd17_ethanol.get_config(),
        {
            "mse": Variant("", {}, {"eval": {}, "eval_ula": _BY_ULA}),
            "crmse": Variant("mse", _CRMSE, {"eval": {}, "eval_ula": _BY_ULA}),
        },
    ),
}

EPOCHS = {200: 1500, 950: 500}  # few frames want more epochs for the same number of updates

COLUMNS = (
    "energy_mae_mev",
    "force_mae_mev_per_angstrom",
    "spurious_fraction",
    "spurious_chains",
    "energy_minimum_ev",
    "ks_energy",
    "energy_sd_ev",
    "kinetic_temperature_k",
    "hr_mae",
    "dihedral_free_energy_rmse_mev",
)


def main() -> None:
    """The binary."""
    with binary.reading_input():
        study = lookup(STUDIES, STUDY.value, "study")
        names = VARIANTS.value or list(study.variants)
        for name in names:
            lookup(study.variants, name, "variant")
        if not WORKDIR.value:
            raise ValueError("--workdir is not set; expected a folder for the runs")
        seeds, frames = ([int(text) for text in flag.value] for flag in (SEEDS, FRAMES))
    root = Path(WORKDIR.value)
    results = Path(OUTPUT.value or root / "results")
    results.mkdir(parents=True, exist_ok=True)
    for n_frames in frames:
        for seed in seeds:
            for name in names:
                run_cell(study, name, n_frames, seed, root, results)
    summary = summarise(results)
    binary.write_atomically(results / "summary.json", json.dumps(summary, indent=1) + "\n")
    print(table(summary))


def cell_folder(root: Path, name: str, n_frames: int, seed: int) -> Path:
    """The workdir of one run."""
    return root / f"{name}_{n_frames}_{seed}"


def cell_config(study: Study, name: str, n_frames: int, seed: int, root: Path) -> ConfigDict:
    """The configuration of one run."""
    config = study.config.copy_and_resolve_references()
    variant = study.variants[name]
    config.seed = seed
    config.dataset.train = n_frames
    every = config.training.log_every
    updates = EPOCHS.get(n_frames, 500) * (n_frames // config.training.batch_size)
    config.pre_training.n_updates = every * round(updates / every)
    config.update_from_flattened_dict(variant.changes)
    if variant.parent:
        config.init_from = str(cell_folder(root, variant.parent, n_frames, seed))
    return config


def run_cell(study: Study, name: str, n_frames: int, seed: int, root: Path, results: Path) -> None:
    """Trains one run and makes those of its evaluations that `results` does not hold."""
    config = cell_config(study, name, n_frames, seed, root)
    wanted = {}
    for output, changes in study.variants[name].evaluations.items():
        judged = config.copy_and_resolve_references()
        judged.update_from_flattened_dict(changes)
        if not is_done(results / record_name(name, n_frames, seed, output), judged):
            wanted[output] = judged
    if not wanted:
        return
    problem, workdir = train_cell(study, name, n_frames, seed, root)
    for output, judged in wanted.items():
        with binary.reading_input():
            check_evaluation(judged, problem, has_negatives=bool(config.init_from))
        evaluate_run(judged, problem, load_params(workdir, problem), workdir, output=output)
        metrics = json.loads((workdir / output / "metrics.json").read_text())
        record = {"config": _portable(judged), "metrics": metrics}
        path = results / record_name(name, n_frames, seed, output)
        binary.write_atomically(path, json.dumps(record, indent=1) + "\n")


def train_cell(study: Study, name: str, n_frames: int, seed: int, root: Path) -> tuple[Problem, Path]:
    """Trains one run, its parent first, as far as that is not done: (its problem, its workdir)."""
    if parent := study.variants[name].parent:
        train_cell(study, parent, n_frames, seed, root)
    config = cell_config(study, name, n_frames, seed, root)
    with binary.reading_input():
        problem, objective = prepare(config)
    workdir = binary.claim_workdir(str(cell_folder(root, name, n_frames, seed)), config)
    binary.LOG.info("%s", workdir)
    train(config, problem, objective, workdir)
    return problem, workdir


def record_name(name: str, n_frames: int, seed: int, output: str) -> str:
    """File of one evaluation's metrics."""
    suffix = output.removeprefix("eval")
    return f"{name}_{n_frames}_{seed}{suffix}.json"


def is_done(path: Path, config: ConfigDict) -> bool:
    """Whether the metrics are there, made with this configuration.

    Raises:
      InputError: they were made with another one.
    """
    if not path.exists():
        return False
    made = json.loads(path.read_text())["config"]
    if difference := binary.difference(made, _portable(config)):
        raise binary.InputError(f"{path} was made with another configuration: {difference}; move it away")
    return True


def _portable(config: ConfigDict) -> dict[str, Any]:
    """The configuration without paths: of `init_from` the last part."""
    record = json.loads(config.to_json())
    return record | {"init_from": Path(record["init_from"]).name}


def summarise(results: Path) -> dict[str, Any]:
    """Over the seeds of each kind of run in a folder: how many, and means with standard errors."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for path in sorted(results.glob("*_*_*.json")):
        if match := _RECORD.fullmatch(path.name):
            label = match["name"] + (f" ({match['output']})" if match["output"] else "")
            metrics = json.loads(path.read_text())["metrics"]
            groups.setdefault((int(match["frames"]), label), []).append(metrics)
    return {
        f"{label}, {n_frames} frames": {"n_seeds": len(runs), "over_seeds": _over_seeds(runs)}
        for (n_frames, label), runs in sorted(groups.items())
    }


_RECORD = re.compile(r"(?P<name>.+)_(?P<frames>\d+)_(?P<seed>\d+)(_(?P<output>\w+))?\.json")


def _over_seeds(runs: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    result: dict[str, list[float | None]] = {}
    for key in runs[0]:
        values = [run.get(key) for run in runs]
        if key.endswith("_stderr") or not all(isinstance(v, int | float) for v in values):
            continue
        stderr = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        result[key] = [float(np.mean(values)), stderr]
    return result


def table(summary: Mapping[str, Any]) -> str:
    """The summary as a Markdown table; ± is the standard error over seeds."""
    lines = [
        "| run | seeds | " + " | ".join(f"`{c}`" for c in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for label, cell in summary.items():
        values = []
        for column in COLUMNS:
            value = cell["over_seeds"].get(column)
            values.append(format_value(value[0], value[1]) if value else "–")
        lines.append(f"| {label} | {cell['n_seeds']} | " + " | ".join(values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    binary.run(main)
