"""What is checked before an evaluation, and hours of sampling: settings, data, where the results go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import binary
from experiments.configurations import difference
from experiments.distributions import Distributions
from experiments.kept_chains import CHAINS, WAYS_OUT
from experiments.limits import check_limits
from experiments.negatives import NEGATIVES, read_negatives
from experiments.problem import Problem, check_data, label_engine, make_problem
from experiments.reference_statistics import evaluation_temperature, reference_distributions
from experiments.runs import Run, load_run
from experiments.velocities import check_velocities

SETTINGS = "settings.json"  # of an evaluation, beside its metrics
TEMPERATURE_TOLERANCE = 0.02  # of the vibrations, from the stated temperature


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
      ValueError: the ends of its grid of energies, which the reference's own make, are others.
    """
    edges = reference.energy_edges - reference.energy_mean[0]
    found = run.curves.get("energy_edges", edges)
    if not np.allclose(found[[0, -1]], edges[[0, -1]], rtol=1e-6, atol=1e-9):
        raise ValueError(f"--beside: {run.label} was compared with another reference; expected the same")


def prepare_evaluation(config: ConfigDict, workdir: Path) -> Problem:
    """Reads and checks what an evaluation needs, before hours of sampling.

    Raises:
      ValueError, ImportError, OSError: bad settings, or an engine that is not installed; one line.
    """
    check_limits(config)
    problem = make_problem(config)
    check_data(workdir, problem)
    negatives = read_negatives(workdir / NEGATIVES)
    check_evaluation(config, problem, has_negatives=negatives is not None)
    if config.evaluation.sampler == "nose_hoover" and problem.system.cell is None:
        stated, frames = evaluation_temperature(config), config.dataset.temperature
        found = vibrational_temperature(len(problem.system.numbers), frames, stated)
        if abs(found / stated - 1) > TEMPERATURE_TOLERANCE:
            binary.LOG.warning(
                "Nosé–Hoover chains at %g K start from frames of %g K and keep |L| exp(ξ): their vibrations "
                "will be at some %.0f K; baoab has no such memory",
                *(stated, frames, found),
            )
    return problem


def vibrational_temperature(n_atoms: int, frames: float, stated: float) -> float:
    """Where vibrations of a molecule come to rest (K) under Nosé–Hoover chains, of momenta at `stated` and
    positions of frames at another temperature.

    A thermostat scales all momenta by one factor s, rotation cannot give its share away, and the kinetic
    temperature of both together is the stated one: of harmonic vibrations, T_vib = s (T + T_frames)/2,
    T_rot = s² T and (3N − 6) T_vib + 3 T_rot = (3N − 3) T.
    """
    modes = 3 * n_atoms - 6
    half = modes * (stated + frames) / 4
    scale = (np.sqrt(half**2 + 3 * (modes + 3) * stated**2) - half) / (3 * stated)
    return float(scale * (stated + frames) / 2)


def check_evaluation(config: ConfigDict, problem: Problem, *, has_negatives: bool) -> None:
    """Checks the sampler, the reference statistics and, for negatives, the label engine.

    Raises:
      ValueError, ImportError, OSError: as `prepare_evaluation`.
    """
    check_velocities(config)
    reference_distributions(config, problem)
    if has_negatives:
        label_engine(config, problem)


def check_output(workdir: Path, output: str, config: ConfigDict) -> None:
    """Checks that results can go where they are to go, so that no short trial replaces those of hours.

    Raises:
      ValueError: a folder outside the workdir, or one that holds an evaluation of other settings.
    """
    folder = workdir / output
    if workdir.resolve() not in folder.resolve().parents:
        raise ValueError(f"--output={output}: expected a folder's name, within the workdir")
    record = folder / SETTINGS
    if not (folder / "metrics.json").exists() and not (folder / CHAINS).exists():
        return
    if not record.exists():
        raise ValueError(f"{folder} holds an evaluation of unknown settings; expected another --output")
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        other = difference(found, settings_of(config))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{record}: no readable settings ({error}); move {folder} away") from error
    if other and (folder / "metrics.json").exists():
        raise ValueError(f"{folder} holds another evaluation: {other}; expected another --output")
    if other:
        raise ValueError(f"{folder} holds chains of another evaluation: {other}; {WAYS_OUT}")


def settings_of(config: ConfigDict) -> dict[str, Any]:
    """What decides an evaluation of given weights."""
    sampler = config.evaluation.sampler
    return json.loads(json.dumps({"evaluation": dict(config.evaluation), sampler: dict(config[sampler])}))
