"""Judges a trained run as a sampler: python -m experiments.evaluate --workdir=W

Writes W/eval/metrics.json, curves.npz, PNG figures and report.html. Settings are those of the run;
--set=evaluation.n_steps=20000 changes one for this evaluation, --output=eval_ula names its folder;
--beside=W0 puts an evaluation of another run, such as the one before post-training, next to it in the report.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import binary
from experiments.checkpoints import Checkpoints
from experiments.configurations import difference
from experiments.distributions import Distributions
from experiments.evaluation import Metrics, evaluate
from experiments.figures import figures, save
from experiments.limits import check_limits
from experiments.locks import sole_writer
from experiments.negatives import diagnose, read_negatives
from experiments.problem import Problem, check_data, label_engine, make_problem
from experiments.reference_statistics import evaluation_temperature, reference_distributions
from experiments.report import write_report
from experiments.runs import Run, load_run
from experiments.training import make_optimiser
from experiments.velocities import check_velocities
from experiments.verdicts import verdict
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

SETTINGS = "settings.json"  # of an evaluation, beside its metrics
SPREAD_TOLERANCE = 0.2  # anharmonicity moves the energy spread of a bound molecule by less
RESOLUTION = 0.1  # a virial temperature less certain than this share of the stated one decides nothing


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
        if others:
            reference = reference_distributions(config, problem)
            for run in others:
                check_reference(run, reference)
        params = load_params(workdir, problem)
    binary.log_provenance(config.evaluation.seed)
    bar = tqdm(total=config.evaluation.n_steps, unit="step", unit_scale=True, desc=str(workdir))
    metrics = evaluate_run(
        config, problem, params, workdir, output=OUTPUT.value, progress=lambda w: _show(bar, w.step)
    )
    bar.close()
    label = f"{config.objective} ({own_name})" if others else config.objective
    run = load_run(workdir, label, OUTPUT.value)
    folder = workdir / OUTPUT.value
    save(figures([*others, run]), folder)
    report = write_report(
        [*others, run],
        folder / "report.html",
        title=f"{config.objective}: {dataset_name(config)}",
        config=config.to_json(indent=2, sort_keys=True),
        versions=binary.provenance(),
        notes=[],
        summary=consistency_sentences(metrics),
    )
    binary.LOG.info("%s", verdict(run).text)
    binary.LOG.info("%s", report)


def folder_names(workdirs: Sequence[str]) -> list[str]:
    """What runs are called beside one another: their folders' names, with the folder above where two agree.

    Raises:
      ValueError: the same folder twice.
    """
    folders = [Path(workdir).resolve() for workdir in workdirs]
    if len(set(folders)) < len(folders):
        raise ValueError(f"--beside: expected other runs than this one, each once, got {', '.join(workdirs)}")
    if len({folder.name for folder in folders}) == len(folders):
        return [folder.name for folder in folders]
    return [f"{folder.parent.name}/{folder.name}" for folder in folders]


def other_run(workdir: str, name: str, output: str, config: ConfigDict) -> Run:
    """An evaluation to show beside one of this configuration.

    Raises:
      ValueError: there is none, or it is at another temperature or by another sampler.
    """
    run = load_run(workdir, "", output)
    sampler = config.evaluation.sampler
    own = {"sampler": sampler, "temperature_k": evaluation_temperature(config)}
    own |= {f"sampler_{key}": value for key, value in config[sampler].items()}
    for key, value in own.items():
        if (found := run.metrics.get(key)) != value:
            raise ValueError(f"--beside={workdir}: its evaluation has {key} {found!r}; expected {value!r}")
    return run._replace(label=f"{run.metrics['objective']} ({name})")


def check_reference(run: Run, reference: Distributions) -> None:
    """Checks that another run was compared with the same reference.

    Raises:
      ValueError: its grid of energies, which the reference's own make, is another.
    """
    edges = reference.energy_edges - reference.energy_mean[0]
    found = run.curves.get("energy_edges", edges)
    if np.shape(found) != np.shape(edges) or not np.allclose(found, edges, rtol=1e-6, atol=1e-9):
        raise ValueError(f"--beside: {run.label} was compared with another reference; expected the same")


def prepare_evaluation(config: ConfigDict, workdir: Path) -> Problem:
    """Reads and checks what an evaluation needs, before hours of sampling.

    Raises:
      ValueError, ImportError, OSError: bad settings, or an engine that is not installed; one line.
    """
    check_limits(config)
    problem = make_problem(config)
    check_data(workdir, problem)
    negatives = read_negatives(workdir / "negatives.npz")
    check_evaluation(config, problem, has_negatives=negatives is not None)
    return problem


def check_evaluation(config: ConfigDict, problem: Problem, *, has_negatives: bool) -> None:
    """Checks the sampler, the reference statistics and, for negatives, the label engine.

    Raises:
      ValueError, ImportError, OSError: as `prepare_evaluation`.
    """
    check_velocities(config)
    reference_distributions(config, problem)
    if has_negatives:
        label_engine(config)


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


def check_output(workdir: Path, output: str, config: ConfigDict) -> None:
    """Checks that results can go where they are to go, so that no short trial replaces those of hours.

    Raises:
      ValueError: a folder outside the workdir, or one that holds an evaluation of other settings.
    """
    folder = workdir / output
    if workdir.resolve() not in folder.resolve().parents:
        raise ValueError(f"--output={output}: expected a folder's name, within the workdir")
    record = folder / SETTINGS
    whole = record.exists() and (folder / "metrics.json").exists()
    if whole and (other := difference(json.loads(record.read_text()), _settings(config))):
        raise ValueError(f"{folder} holds another evaluation: {other}; expected another --output")


def _settings(config: ConfigDict) -> dict[str, Any]:
    """What decides an evaluation of given weights."""
    sampler = config.evaluation.sampler
    return json.loads(json.dumps({"evaluation": dict(config.evaluation), sampler: dict(config[sampler])}))


def evaluate_run(
    config: ConfigDict,
    problem: Problem,
    params: Params,
    workdir: Path,
    *,
    output: str = "eval",
    progress: Any = None,
) -> Metrics:
    """Evaluates and writes `metrics.json` and `curves.npz`; returns the metrics.

    Raises:
      InputError: another process evaluates into the same folder; before any sampling.
      OSError: the folder can not be written; likewise.
    """
    folder = workdir / output
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        binary.write_atomically(folder / SETTINGS, json.dumps(_settings(config), indent=1) + "\n")
        return _evaluate_run(config, problem, params, workdir, folder, progress)


def _evaluate_run(
    config: ConfigDict, problem: Problem, params: Params, workdir: Path, folder: Path, progress: Any
) -> Metrics:
    reference = reference_distributions(config, problem)
    result = evaluate(config, problem, params, reference, progress)
    metrics, curves = result.metrics, result.curves
    negatives = read_negatives(workdir / "negatives.npz")
    if negatives is not None:
        more, extra = diagnose(
            problem,
            params,
            negatives,
            reference,
            float(metrics["spurious_threshold_ev"]),
            achiral=config.evaluation.achiral,
            engine=label_engine(config),
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


def consistency_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """One plain sentence on whether the reference is a Boltzmann sample of its own labels; none where
    there was no reference to compare with."""
    if "reference_virial_temperature_k" not in metrics:
        return []
    value, stderr, stated, spread, harmonic = (
        float(metrics[name])
        for name in (
            "reference_virial_temperature_k",
            "reference_virial_temperature_k_stderr",
            "temperature_k",
            "reference_energy_sd_ev",
            "harmonic_energy_sd_ev",
        )
    )
    found = (
        f"The reference frames' virial temperature is {value:.0f} ± {stderr:.0f} K (stated: {stated:.0f} K), "
        f"their energy spread {spread:.3f} eV (harmonic estimate at {stated:.0f} K: {harmonic:.3f} eV)"
    )
    if abs(value - stated) > 3 * stderr or abs(spread / harmonic - 1) > SPREAD_TOLERANCE:
        return [
            f"{found}: these frames are not a Boltzmann sample of their own labels, so even a perfect "
            "potential sampled without bias misses their energy distribution, and the KS statistic "
            "of energies says little here; spurious share, energy spread, h(r) and dihedral free "
            "energies decide."
        ]
    if stderr > RESOLUTION * stated:
        return [f"{found}: the error is too large to tell whether the frames sample their own labels."]
    return [f"{found}: they agree, and the energy distribution is a fair test."]


def dataset_name(config: ConfigDict) -> str:
    """The known name, or the file's."""
    return config.dataset.name or Path(config.dataset.path).name


def _show(bar: tqdm, step: int) -> None:
    bar.update(min(step, bar.total) - bar.n)


if __name__ == "__main__":
    binary.run(main)
