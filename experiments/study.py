"""The studies behind the README's tables: python -m experiments.study --study=gfn2 --workdir=W --output=R

Every combination of frames, variant and seed is trained and evaluated in its own folder under W. Its
metrics go to R as they come, one JSON file an evaluation, and are not made again while that is there;
R/summary.json holds means and standard errors over seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from experiments import binary
from experiments.configs import ethanol, rmd17_ethanol, unstable_ethanol
from experiments.evaluate import check_evaluation, evaluate_run, load_params
from experiments.limits import check_limits
from experiments.problem import Problem, make_problem
from experiments.records import is_done, portable, record_name, summarise, table
from experiments.train import prepare, train
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
    study's configuration; evaluations, folder -> further changes; sizes, number of training frames ->
    changes that it wants besides; only, the numbers of training frames that it is for, empty for any."""

    parent: str
    changes: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]] = {"eval": {}}
    sizes: Mapping[int, Mapping[str, Any]] = {}
    only: tuple[int, ...] = ()


class Study(NamedTuple):
    """Attributes: config, of the system; variants by name; sizes, number of training frames -> changes
    that all variants want."""

    config: ConfigDict
    variants: Mapping[str, Variant]
    sizes: Mapping[int, Mapping[str, Any]] = {}


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
# On rMD17, with what it took there.
_PAPER = {
    **_CRMSE,
    "crmse.weight": 0.0056,
    "contrastive.fallen_weight": 0.0,
    "contrastive.hotter": (),
    "contrastive.n_chains": 64,
    "contrastive.restart_fraction": 0.0,
    "post_training.initial": 2e-4,
    "post_training.final": 5e-5,
}
# The noise of the contrastive term costs a network of few frames more: at 0.0056 forces by a fifth.
_FEW_RMD17 = {"crmse.weight": 0.002, "contrastive.fallen_weight": 5.6}
# Where the fit is better, that noise is felt sooner: at 0.0005 it bends the H-O-C-C profile, seed by seed.
_MANY_GFN2 = {"crmse.weight": 0.0002, "contrastive.fallen_weight": 10.0}
# Labels for few of the frames, the distribution from all of them: a larger weight can be afforded again.
_UNLABELLED_RMD17 = {
    "contrastive.reference": "rmd17_ethanol_01",
    "crmse.weight": 0.007,
    "post_training.n_updates": 800,
}
_STABLE = {
    "objective": "stable",
    "mse.energy_weight": 1.0,
    "training.log_every": 1,  # a row for each window
    "training.checkpoint_every": 10,
}
_HOTTER = {"evaluation.temperature": 700.0, "evaluation.n_steps": 100_000}
_COLDER = {"evaluation.temperature": 350.0}
_BY_ULA = {"evaluation.sampler": "ula", "evaluation.n_steps": 50_000, "evaluation.record_every": 50}
# The paper's: that of training, a lower and a higher one.
_AT_THREE_TEMPERATURES = {"eval": {}, "eval_350": _COLDER, "eval_700": _HOTTER}

STUDIES = {
    "gfn2": Study(
        ethanol.get_config(),
        {
            "mse": Variant("", {}),
            "crmse": Variant("mse", _CRMSE, sizes={950: _MANY_GFN2}),
            "crmse_cold": Variant("mse", {**_CRMSE, "contrastive.hotter": ()}),
            "crmse_unweighted": Variant("mse", {**_CRMSE, "contrastive.fallen_weight": 0.0}),
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
            "crmse": Variant("mse", _CRMSE, {"eval": {}, "eval_ula": _BY_ULA}, {200: _FEW_RMD17}),
            "crmse_unlabelled": Variant(
                "mse", {**_CRMSE, **_UNLABELLED_RMD17}, {"eval": {}, "eval_ula": _BY_ULA}, only=(200,)
            ),
            "crmse_paper": Variant("mse", _PAPER, {"eval": {}, "eval_ula": _BY_ULA}),
        },
        {200: {"pre_training.n_updates": 12_000}},
    ),
    "unstable_ethanol": Study(
        unstable_ethanol.get_config(),
        {
            "mse": Variant("", {}, _AT_THREE_TEMPERATURES),
            "stable": Variant("mse", _STABLE, _AT_THREE_TEMPERATURES),
        },
    ),
}


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
        for n_frames in frames:  # a fault of the last cell must not show after the hours of the others
            check_cells(study, fitting(study, names, n_frames), n_frames, seeds[0], root)
    for n_frames in frames:
        for seed in seeds:
            for name in fitting(study, names, n_frames):
                run_cell(study, name, n_frames, seed, root, results)
    summary = summarise(results)
    binary.write_atomically(results / "summary.json", json.dumps(summary, indent=1) + "\n")
    print(table(summary))


def fitting(study: Study, names: Sequence[str], n_frames: int) -> list[str]:
    """Those of the variants that are for so many training frames."""
    return [name for name in names if n_frames in (study.variants[name].only or (n_frames,))]


def check_cells(study: Study, names: Sequence[str], n_frames: int, seed: int, root: Path) -> None:
    """Reads and checks what the runs of one size and seed need, before any is trained.

    Raises:
      ValueError, ImportError, OSError: bad data, or an engine that is not installed.
    """
    for name in names:
        config = cell_config(study, name, n_frames, seed, root)
        check_limits(config)
        problem = make_problem(config)
        for changes in study.variants[name].evaluations.values():
            check_evaluation(_changed(config, changes), problem, has_negatives=bool(config.init_from))


def cell_folder(root: Path, name: str, n_frames: int, seed: int) -> Path:
    """The workdir of one run."""
    return root / f"{name}_{n_frames}_{seed}"


def cell_config(study: Study, name: str, n_frames: int, seed: int, root: Path) -> ConfigDict:
    """The configuration of one run."""
    config = study.config.copy_and_resolve_references()
    variant = study.variants[name]
    config.seed = seed
    config.dataset.train = n_frames
    sized = {**study.sizes.get(n_frames, {}), **variant.sizes.get(n_frames, {})}
    config = _changed(config, {**variant.changes, **sized})
    if variant.parent:
        config.init_from = str(cell_folder(root, variant.parent, n_frames, seed))
    return config


def _changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy with other values of fields that exist."""
    copy = config.copy_and_resolve_references().lock()
    copy.update_from_flattened_dict(changes)
    return copy


def run_cell(study: Study, name: str, n_frames: int, seed: int, root: Path, results: Path) -> None:
    """Trains one run and makes those of its evaluations that `results` does not hold."""
    config = cell_config(study, name, n_frames, seed, root)
    wanted = {}
    for output, changes in study.variants[name].evaluations.items():
        judged = _changed(config, changes)
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
        record = {"config": portable(judged), "metrics": metrics}
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


if __name__ == "__main__":
    binary.run(main)
