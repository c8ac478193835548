"""The studies behind the README's tables: python -m experiments.study --study=gfn2 --workdir=W

Every combination of frames, variant and seed is trained and evaluated in its own folder; what is done
already is not done again. The summary, with means and standard errors over seeds, goes to --output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import binary
from experiments.configs import ethanol, rmd17_ethanol
from experiments.evaluate import check_evaluation, evaluate_run, load_params
from experiments.train import prepare, train
from experiments.verdicts import format_value
from potentials.registry import lookup

STUDY = flags.DEFINE_string("study", "gfn2", "Which study.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder for the runs.", allow_override=True)
OUTPUT = flags.DEFINE_string(
    "output", "", "JSON summary to write; default WORKDIR/<study>.json.", allow_override=True
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


_CRMSE = {"objective": "crmse", "training.log_every": 20, "training.checkpoint_every": 100}
_ULA = {"contrastive.sampler": "ula", "contrastive.restart_fraction": 0.0}
_BY_ULA = {"evaluation.sampler": "ula", "evaluation.n_steps": 50_000, "evaluation.record_every": 50}

STUDIES = {
    "gfn2": Study(
        ethanol.get_config(),
        {
            "mse": Variant("", {}),
            "crmse": Variant("mse", _CRMSE),
            "crmse_ula": Variant("mse", {**_CRMSE, **_ULA}),
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
        output = Path(OUTPUT.value or Path(WORKDIR.value) / f"{STUDY.value}.json")
        output.parent.mkdir(parents=True, exist_ok=True)
        seeds, frames = ([int(text) for text in flag.value] for flag in (SEEDS, FRAMES))
    root = Path(WORKDIR.value)
    for n_frames in frames:
        for seed in seeds:
            for name in names:
                run_cell(study, name, n_frames, seed, root)
    summary = summarise(study, root, seeds, frames)
    binary.write_atomically(output, json.dumps(summary, indent=1) + "\n")
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


def run_cell(study: Study, name: str, n_frames: int, seed: int, root: Path) -> None:
    """Trains and evaluates one run, its parent first, as far as that is not done."""
    variant = study.variants[name]
    if variant.parent:
        run_cell(study, variant.parent, n_frames, seed, root)
    config = cell_config(study, name, n_frames, seed, root)
    with binary.reading_input():
        problem, objective = prepare(config)
        check_evaluation(config, problem, has_negatives=bool(config.init_from))
    workdir = binary.claim_workdir(str(cell_folder(root, name, n_frames, seed)), config)
    binary.LOG.info("%s", workdir)
    train(config, problem, objective, workdir)
    for output, changes in variant.evaluations.items():
        if not (workdir / output / "metrics.json").exists():
            judged = config.copy_and_resolve_references()
            judged.update_from_flattened_dict(changes)
            evaluate_run(judged, problem, load_params(workdir, problem), workdir, output=output)


def summarise(study: Study, root: Path, seeds: list[int], frames: list[int]) -> dict[str, Any]:
    """Metrics of every finished run, and over seeds their mean and standard error."""
    summary: dict[str, Any] = {}
    for n_frames in frames:
        for name, variant in study.variants.items():
            for output in variant.evaluations:
                found = {}
                for seed in seeds:
                    path = cell_folder(root, name, n_frames, seed) / output / "metrics.json"
                    if path.exists():
                        found[str(seed)] = json.loads(path.read_text())
                if found:
                    label = name if output == "eval" else f"{name} ({output.removeprefix('eval_')})"
                    summary[f"{label}, {n_frames} frames"] = {
                        "over_seeds": _over_seeds(list(found.values())),
                        "seeds": found,
                    }
    return summary


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
        lines.append(f"| {label} | {len(cell['seeds'])} | " + " | ".join(values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    binary.run(main)
