"""Judges a trained run as a sampler: python -m experiments.evaluate --workdir=W

Writes W/eval/metrics.json, curves.npz, PNG figures and report.html. Settings are those of the run;
--set=evaluation.n_steps=20000 changes one for this evaluation, --output=eval_ula names its folder;
--beside=W0 puts an evaluation of another run, such as the one before post-training, next to it in the report.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from numpy.typing import NDArray
from tqdm import tqdm

from experiments import binary
from experiments.checkpoints import Checkpoints
from experiments.evaluation import Metrics, evaluate
from experiments.evaluation_checks import (
    SETTINGS,
    check_output,
    check_reference,
    folder_names,
    other_run,
    prepare_evaluation,
    settings_of,
)
from experiments.figures import figures, save
from experiments.holes import distances, energies_of, farthest, hole_metrics
from experiments.locks import sole_writer
from experiments.negatives import NEGATIVES, diagnose, read_negatives
from experiments.problem import Problem, label_engine, make_problem
from experiments.reference_statistics import reference_distributions
from experiments.report import write_report
from experiments.runs import Run, load_run
from experiments.training import make_optimiser
from experiments.verdicts import consistency_sentences, verdict
from potentials import Params
from samplers import SAMPLERS

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a trained run.", allow_override=True)
OUTPUT = flags.DEFINE_string(
    "output", "eval", "Folder for the results, within the workdir.", allow_override=True
)
SET = flags.DEFINE_multi_string("set", [], "A setting to change, such as evaluation.sampler=ula.")
BESIDE = flags.DEFINE_multi_string(
    "beside", [], "Workdir of another run, evaluated into a folder of the same name, for the report."
)


def main() -> None:
    """The binary."""
    if not WORKDIR.value:
        raise binary.InputError("--workdir is not set; expected the folder of a trained run")
    workdir = Path(WORKDIR.value)
    config = binary.read_config(workdir)
    with binary.reading_input():
        for assignment in SET.value:
            change(config, assignment)
        check_output(workdir, OUTPUT.value, config)
        *names, own_name = folder_names([*BESIDE.value, str(workdir)])
        beside = dict(zip(BESIDE.value, names, strict=True))
        others = [other_run(folder, name, OUTPUT.value, config) for folder, name in beside.items()]
        problem = prepare_evaluation(config, workdir)
        folders = [*map(Path, BESIDE.value), workdir]
        found = [kept.positions for folder in folders if (kept := read_negatives(folder / NEGATIVES))]
        potentials = []
        if others:
            reference = reference_distributions(config, problem)
            for run in others:
                check_reference(run, reference)
            potentials = [potential_of(folder, problem) for folder in folders[:-1] if found]
        params = load_params(workdir, problem)
    binary.log_provenance(config.evaluation.seed)
    metrics = evaluate_run(config, problem, params, workdir, output=OUTPUT.value, bar=str(workdir))
    label = f"{config.objective} ({own_name})" if others else config.objective
    runs = [*others, load_run(workdir, label, OUTPUT.value)]
    if potentials:
        runs = with_holes(
            runs,
            [*potentials, (problem, params)],
            np.concatenate(found),
            mean=float(reference.energy_mean[0]),
            achiral=config.evaluation.achiral,
        )
    folder = workdir / OUTPUT.value
    save(figures(runs), folder)
    report = write_report(
        runs,
        folder / "report.html",
        title=f"{config.objective}: {dataset_name(config)}",
        config=config.to_json(indent=2, sort_keys=True),
        versions=binary.provenance(),
        notes=[],
        summary=consistency_sentences(metrics),
    )
    binary.LOG.info("%s", verdict(runs[-1]).text)
    binary.LOG.info("%s", report)


def change(config: ConfigDict, assignment: str) -> None:
    """Applies `a.b=value` to a configuration: of the evaluation or of a sampler, nothing else, for
    the data and the potential are those of the run.

    Raises:
      ValueError: no '=', another or an unknown field, or a value of another type.
    """
    name, equals, text = assignment.partition("=")
    if not equals:
        raise ValueError(f"--set={assignment}: expected NAME=VALUE")
    if name.split(".")[0] not in ("evaluation", *SAMPLERS):
        raise ValueError(f"--set={assignment}: expected evaluation.* or a sampler's, such as baoab.timestep")
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    config.lock()  # or an unknown field would become a new one
    try:
        config.update_from_flattened_dict({name: value})
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"--set={assignment}: no such field, or a value of another type") from error


def load_params(workdir: Path, problem: Problem) -> Params:
    """The averaged weights of the latest checkpoint."""
    params = problem.potential.init(jax.random.PRNGKey(0))
    checkpoints = Checkpoints(workdir)
    # Clipping has no state, so any norm gives the template.
    _, average, _ = checkpoints.restore_weights(params, make_optimiser(1.0).init(params))
    checkpoints.close()
    return average


def weights_digest(params: Params) -> str:
    """By which a simulation that goes on, or a model's card, tells weights from others."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def evaluate_run(
    config: ConfigDict,
    problem: Problem,
    params: Params,
    workdir: Path,
    *,
    output: str = "eval",
    bar: str = "",
) -> Metrics:
    """Evaluates and writes `metrics.json` and `curves.npz`; returns the metrics.

    Args:
      config, problem, params: what is judged, and how.
      workdir: of the run.
      output: folder in it.
      bar: what the progress bar on the terminal is called; empty: none.

    Raises:
      InputError: another process evaluates into the same folder; before any sampling.
      OSError: the folder can not be written; likewise.
    """
    folder = workdir / output
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        binary.write_atomically(folder / SETTINGS, json.dumps(settings_of(config), indent=1) + "\n")
        return _evaluate_run(config, problem, params, workdir, folder, bar)


def _evaluate_run(
    config: ConfigDict, problem: Problem, params: Params, workdir: Path, folder: Path, bar: str
) -> Metrics:
    reference = reference_distributions(config, problem)
    steps = config.evaluation.n_steps
    with tqdm(total=steps, unit="step", unit_scale=True, desc=bar, disable=not bar) as shown:
        result = evaluate(
            config, problem, params, reference, lambda w: shown.update(min(w.step, steps) - shown.n)
        )
    metrics, curves = result.metrics, result.curves
    negatives = read_negatives(workdir / NEGATIVES)
    if negatives is not None:
        more, extra = diagnose(
            problem,
            params,
            negatives,
            reference,
            float(metrics["spurious_threshold_ev"]),
            achiral=config.evaluation.achiral,
            engine=label_engine(config, problem),
        )
        metrics |= more
        curves |= extra
    metrics |= {f"run_{key.replace(' ', '_')}": value for key, value in binary.provenance().items()}
    metrics["run_weights"] = weights_digest(params)
    metrics |= {"objective": config.objective, "dataset": dataset_name(config), "seed": config.seed}
    partial = folder / ".curves.partial.npz"
    np.savez_compressed(partial, **curves)
    partial.replace(folder / "curves.npz")
    clean = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in metrics.items()}
    binary.write_atomically(folder / "metrics.json", json.dumps(clean, indent=1) + "\n")
    return metrics


def potential_of(workdir: Path, problem: Problem) -> tuple[Problem, Params]:
    """The problem and weights of another run, of the molecule or box of this one.

    Raises:
      ValueError, OSError: other atoms, or no checkpoint.
    """
    other = make_problem(binary.read_config(workdir))
    if not np.array_equal(other.system.numbers, problem.system.numbers):
        raise ValueError(f"--beside={workdir}: a run of other atoms, or of another order; expected the same")
    return other, load_params(workdir, other)


def with_holes(
    runs: Sequence[Run],
    potentials: Sequence[tuple[Problem, Params]],
    found: NDArray,
    *,
    mean: float,
    achiral: bool,
) -> list[Run]:
    """Runs with what the negatives of all of them say of each potential.

    Args:
      runs: of one data set.
      potentials: theirs, (problem, weights).
      found: negatives [K, N, 3] of all of them, Å.
      mean: of the reference's energies, eV.
      achiral: mirror images count as the same.
    """
    problem = potentials[-1][0]
    far = np.zeros(0, int)
    if problem.system.cell is None:
        far = farthest(*distances(problem, found, achiral=achiral))
    judged = []
    for run, (problem, params) in zip(runs, potentials, strict=True):
        now = energies_of(problem, params, found, mean)
        threshold = float(run.metrics["spurious_threshold_ev"])
        holes = hole_metrics(problem, params, found, now, far, threshold=threshold, mean=mean)
        judged.append(run._replace(metrics=run.metrics | holes))
    return judged


def dataset_name(config: ConfigDict) -> str:
    """The known name, or the file's."""
    return config.dataset.name or Path(config.dataset.path).name


if __name__ == "__main__":
    binary.run(main)
