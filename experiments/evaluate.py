"""Judges a trained run as a sampler: python -m experiments.evaluate --workdir=W

Writes W/eval/metrics.json, curves.npz, PNG figures and report.html. Settings are those of the run;
--set=evaluation.n_steps=20000 changes one for this evaluation, --output=eval_ula names its folder;
what was stopped or killed goes on by the same command.
--beside=W0 puts an evaluation of another run, such as the one before post-training, next to it in the report.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import binary
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
from experiments.holes import with_holes
from experiments.interruption import interruptible
from experiments.kept_chains import KeptChains, code_digest, remove_chains
from experiments.locks import sole_writer
from experiments.negatives import NEGATIVES, diagnose, read_negatives
from experiments.problem import Problem, label_engine
from experiments.reference_statistics import reference_distributions
from experiments.report import write_report
from experiments.runs import load_run
from experiments.verdicts import consistency_sentences, verdict
from experiments.weights import load_params, potential_of, weights_digest
from potentials import Params
from samplers import SAMPLERS, Window

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
    remove_chains(folder)
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


def evaluate_run(
    config: ConfigDict,
    problem: Problem,
    params: Params,
    workdir: Path,
    *,
    output: str = "eval",
    bar: str = "",
) -> Metrics:
    """Evaluates and writes `metrics.json` and `curves.npz`; returns the metrics. Chains are kept window by
    window, until `remove_chains`. SIGTERM ends the process after the window that is under way or, after the
    last, when the metrics are written, with status 0.

    Args:
      config, problem, params: what is judged, and how.
      workdir: of the run.
      output: folder in it.
      bar: what the progress bar on the terminal is called; empty: none.

    Raises:
      InputError: another process evaluates into the same folder, or chains of something else are there;
        before any sampling.
      OSError: the folder can not be written; likewise.
    """
    folder = workdir / output
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        binary.write_atomically(folder / SETTINGS, json.dumps(settings_of(config), indent=1) + "\n")
        with interruptible() as interrupted:

            def stop_where_asked() -> None:
                if interrupted():
                    binary.LOG.info("%s: stopped by SIGTERM; go on by the same command", folder)
                    sys.exit(0)

            return _evaluate_run(config, problem, params, workdir, folder, bar, stop_where_asked)


def _evaluate_run(
    config: ConfigDict,
    problem: Problem,
    params: Params,
    workdir: Path,
    folder: Path,
    bar: str,
    stop_where_asked: Callable[[], None],
) -> Metrics:
    reference = reference_distributions(config, problem)
    steps = config.evaluation.n_steps
    kept = KeptChains(folder, chain_record(config, params))
    with tqdm(total=steps, unit="step", unit_scale=True, desc=bar, disable=not bar) as shown:

        def progress(window: Window) -> None:
            done = min(window.step, steps)
            if not shown.n:  # compilation, and chains of before, say nothing of the rate
                shown.initial = shown.n = done
            shown.update(done - shown.n)
            stop_where_asked()

        result = evaluate(config, problem, params, reference, progress, kept)
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
    stop_where_asked()
    return metrics


def chain_record(config: ConfigDict, params: Params) -> dict[str, Any]:
    """What the chains of an evaluation are of: settings, weights, code."""
    return {**settings_of(config), "weights": weights_digest(params), "code": code_digest()}


def dataset_name(config: ConfigDict) -> str:
    """The known name, or the file's."""
    return config.dataset.name or Path(config.dataset.path).name


if __name__ == "__main__":
    binary.run(main)
