"""Studies, those behind the README's tables among them.

python -m experiments.study --study=gfn2 --workdir=W --output=R

Every combination of frames, variant and seed is trained and evaluated in its own folder under W. Its
metrics go to R as they come, one JSON file an evaluation, and are not made again while that is there;
R/summary.json holds means and standard errors over seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from experiments import binary
from experiments.evaluate import evaluate_run
from experiments.evaluation_checks import check_evaluation
from experiments.kept_chains import remove_chains
from experiments.limits import check_limits
from experiments.problem import Problem, make_problem
from experiments.records import is_done, portable, record_name, summarise, table
from experiments.studies import STUDIES, Study
from experiments.train import prepare, train
from experiments.weights import load_params
from potentials.registry import lookup

STUDY = flags.DEFINE_string("study", "gfn2", "Which study.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder for the runs.", allow_override=True)
OUTPUT = flags.DEFINE_string(
    "output", "", "Folder for the metrics; default WORKDIR/results.", allow_override=True
)
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of weights, batches and chains.")
FRAMES = flags.DEFINE_list("frames", ["200", "950"], "Training frames.", allow_override=True)
VARIANTS = flags.DEFINE_list("variants", [], "Which variants; default all of the study.")


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
        if study.files:
            root = root.resolve()  # the runs' configurations name the files
            check_files(study, root)
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


def check_files(study: Study, root: Path) -> None:
    """Checks that data made before a study is there.

    Raises:
      ValueError: it is not, or not all of it.
    """
    paths = [root / name for name in study.files]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        there = [str(path) for path in paths if path.is_file()]
        first = f"move {there[0]} away first, and " if there else ""
        raise ValueError(f"{missing[0]}: no such file; {first}make it by {study.made_by} --output={paths[0]}")


def cell_config(study: Study, name: str, n_frames: int, seed: int, root: Path) -> ConfigDict:
    """The configuration of one run."""
    config = study.config.copy_and_resolve_references()
    variant = study.variants[name]
    config.seed = seed
    config.dataset.train = n_frames
    if study.files:
        config.dataset.name = ""
    for setting, name in zip(("path", "test_path")[: len(study.files)], study.files, strict=True):
        config.dataset[setting] = str(root / name)
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
        params = load_params(workdir, problem)
        evaluate_run(judged, problem, params, workdir, output=output, bar=f"{workdir.name}: sampling")
        remove_chains(workdir / output)
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
