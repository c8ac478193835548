"""Trains a potential: from scratch, or after another run with its optimiser's moments.

python -m experiments.train --config=experiments/configs/ethanol.py --workdir=W
python -m experiments.train --config=experiments/configs/ethanol.py --workdir=W1 \
    --config.objective=crmse --config.init_from=W
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import binary
from experiments.checkpoints import Checkpoints
from experiments.interruption import interruptible
from experiments.limits import check_limits
from experiments.locks import sole_writer
from experiments.logs import NegativesLog, TrainingLog
from experiments.problem import DIGEST, Problem, check_data, data_digest, make_problem
from experiments.training import OPTIMISERS, Schedule, TrainState, make_optimiser, make_update, start
from objectives import Objective, energy_force_errors, make_objective
from potentials.registry import lookup
from potentials.torch_weights import read_state_dict, schnet_params, schnet_settings

CONFIG = config_flags.DEFINE_config_file("config")
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the run; one that holds a run resumes it.", allow_override=True
)


def main() -> None:
    """The binary."""
    config = CONFIG.value
    with binary.reading_input():
        problem, objective = prepare(config)
    workdir = binary.claim_workdir(WORKDIR.value, config)
    train(config, problem, objective, workdir)


def prepare(config: ConfigDict) -> tuple[Problem, Objective]:
    """Reads and checks everything that a run needs, before any compile.

    Raises:
      ValueError, OSError: bad settings or data; one line.
    """
    check_limits(config)
    schedule = config.post_training if config.init_from else config.pre_training
    lookup(OPTIMISERS, schedule.get("optimiser", "adam"), "optimiser")
    settings = config.training
    for name, every in (("checkpoint_every", settings.checkpoint_every), ("n_updates", schedule.n_updates)):
        if every % settings.log_every:
            raise ValueError(
                f"{name} is {every}; expected a multiple of training.log_every, {settings.log_every}"
            )
    if config.init_from and config.get("weights"):
        raise ValueError("init_from and weights are both set; expected one of them to start from")
    if not schedule.n_updates and not config.get("weights"):
        raise ValueError("pre_training.n_updates is 0; expected 1 or more, or weights that need no training")
    problem = make_problem(config)
    objective = make_objective(config.objective, problem.potential, problem.system, config)
    if config.init_from:
        check_parent(config)
        check_data(Path(config.init_from), problem)
    if config.init_from or config.get("weights"):
        starting_weights(config, problem)
    return problem, objective


def check_parent(config: ConfigDict) -> None:
    """Checks that `config.init_from` holds a run on the same data with the same potential.

    Raises:
      ValueError: no checkpoints there, or another data set, seed of the split, or potential.
    """
    if not (Path(config.init_from) / "checkpoints").is_dir():
        raise ValueError(f"init_from: {config.init_from} holds no checkpoints; expected a trained run")
    shared = ("potential", config.potential, "zbl", "dataset")
    records = (json.loads(c.to_json()) for c in (binary.read_config(config.init_from), config))
    parent, own = (
        {name: record[name] for name in shared if name in record} for record in map(binary.complete, records)
    )
    if difference := binary.difference(parent, own):
        raise ValueError(f"init_from: {config.init_from} was trained on another problem: {difference}")


def starting_weights(config: ConfigDict, problem: Problem) -> tuple[Any, Any]:
    """(params, optimiser state) before the first update: new, those of `config.init_from`, or published
    ones from `config.weights`.

    Raises:
      ValueError, OSError, ImportError: the checkpoint or the weights can not be read.
    """
    key, _ = jax.random.split(jax.random.PRNGKey(config.seed))
    params = problem.potential.init(key)
    if config.get("weights"):
        params = published_weights(config, problem, params)
    moments = make_optimiser(1.0).init(params)  # clipping has no state
    if config.init_from:
        source = Checkpoints(config.init_from)
        params, _, moments = source.restore_weights(params, moments)
        source.close()
    return params, moments


def published_weights(config: ConfigDict, problem: Problem, template: Any) -> Any:
    """Params from the file `config.weights`. Energies are defined up to a constant: the readout's bias is
    moved so that the mean error on the training frames is zero.

    Raises:
      ValueError, OSError, ImportError: no SchNet, an unreadable file, or a network of another shape.
    """
    if config.potential != "schnet":
        raise ValueError(f"weights: expected the potential schnet for them, got {config.potential}")
    state = read_state_dict(config.weights)
    params = schnet_params(state)
    cutoff = schnet_settings(state)["cutoff"]
    if not np.isclose(cutoff, config.schnet.cutoff):
        raise ValueError(
            f"weights: {config.weights} has a cutoff of {cutoff} Å; expected config.schnet's, "
            f"{config.schnet.cutoff}"
        )
    shapes, expected = (jax.tree.map(np.shape, tree) for tree in (params, template))
    if found := binary.difference(shapes, expected):
        raise ValueError(f"weights: {config.weights} holds another network than config.schnet: {found}")
    energies = jax.lax.map(partial(problem.potential.energy, params), problem.train.positions, batch_size=50)
    offset = jnp.mean(energies - problem.train.energies) / len(problem.system.numbers)
    params["readout_1"]["bias"] -= offset
    return params


def train(
    config: ConfigDict,
    problem: Problem,
    objective: Objective,
    workdir: Path,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> TrainState:
    """Runs to the end of the schedule, from the latest checkpoint where there is one. SIGTERM saves after
    the jitted call that is under way and ends the process with status 0.

    Writes `checkpoints/`, `train_log.csv` (one row a jitted call: metrics averaged over its updates,
    validation errors of the averaged weights) and, for objectives with negatives, `negatives.npz`.

    Args:
      config: the experiment.
      problem, objective: from `prepare`.
      workdir: of the run.
      progress: called with each row of the log.

    Raises:
      InputError: the workdir's frames are others, another process writes to it, or the weights went
        non-finite; the checkpoints before that stay.
      OSError: no room, or no leave, to write; the checkpoints before that stay.
    """
    with sole_writer(workdir):
        binary.claim_workdir(str(workdir), config)  # once more: another may have come first
        return _train(config, problem, objective, workdir, progress)


def _train(
    config: ConfigDict,
    problem: Problem,
    objective: Objective,
    workdir: Path,
    progress: Callable[[dict[str, float]], None] | None,
) -> TrainState:
    binary.log_provenance(config.seed)
    with binary.reading_input():
        check_data(workdir, problem)
    if not (workdir / DIGEST).exists():
        binary.write_atomically(workdir / DIGEST, f"{data_digest(problem)}\n")
    settings = config.training
    section = dict(config.post_training if config.init_from else config.pre_training)
    optimiser = make_optimiser(section.pop("clip_norm"), section.pop("optimiser", "adam"))
    schedule = Schedule(**section)
    _, run_key = jax.random.split(jax.random.PRNGKey(config.seed))
    state = start(run_key, *starting_weights(config, problem), objective, problem.train)
    checkpoints = Checkpoints(workdir, write=True)
    with binary.reading_input():
        state = checkpoints.restore(state) or state
    if not schedule.n_updates and not checkpoints.steps():
        checkpoints.save(state)
    if int(state.step):
        binary.LOG.info("%s: resumed at update %d", workdir, int(state.step))

    update = make_update(
        objective,
        optimiser,
        schedule,
        batch_size=settings.batch_size,
        n_updates=settings.log_every,
    )
    errors = validation_errors(problem)
    log = TrainingLog(workdir / "train_log.csv", upto=int(state.step))
    negatives = NegativesLog(workdir / "negatives.npz", upto=int(state.step))
    began, first = time.monotonic(), int(state.step)
    with interruptible() as interrupted:
        while int(state.step) < schedule.n_updates:
            state, metrics, samples = update(state, problem.train)
            step = int(state.step)
            row = {"step": step, **{name: float(value) for name, value in metrics.items()}}
            row |= {name: float(value) for name, value in errors(state.average).items()}
            row["seconds"] = (time.monotonic() - began) / (step - first)  # an update
            log.write(row)
            negatives.add(step, samples)
            if progress is not None:
                progress(row)
            binary.LOG.info(
                "update %d/%d  loss %.4g  force MAE %.4g meV/Å  %.0f s left",
                step,
                schedule.n_updates,
                row["loss"],
                row.get("validation_force_mae_mev_per_angstrom", float("nan")),
                row["seconds"] * (schedule.n_updates - step),
            )
            if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.params)):
                last = max(checkpoints.steps(), default=0)
                raise binary.InputError(
                    f"{workdir}: weights that are not finite, at update {step}; expected a lower learning "
                    f"rate or clip_norm. The last checkpoint is of update {last}"
                )
            stop = interrupted() and step < schedule.n_updates
            if stop or step % settings.checkpoint_every == 0 or step == schedule.n_updates:
                negatives.write()
                checkpoints.save(state)
            if stop:
                binary.LOG.info(
                    "%s: stopped by SIGTERM, saved at update %d; go on by the same command", workdir, step
                )
                sys.exit(0)
    log.close()
    checkpoints.close()
    return state


def validation_errors(problem: Problem) -> Callable[[Any], dict[str, Any]]:
    """params -> MAE on the validation frames; empty where there are none."""
    if not len(problem.validation.energies):
        return lambda params: {}

    @jax.jit
    def errors(params: Any) -> dict[str, Any]:
        energy, force = energy_force_errors(problem.potential, params, problem.validation)
        return {
            "validation_energy_mae_mev": 1000 * abs(energy).mean(),
            "validation_force_mae_mev_per_angstrom": 1000 * abs(force).mean(),
        }

    return errors


if __name__ == "__main__":
    binary.run(main)
