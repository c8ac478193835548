"""Trains a potential: from scratch, or after another run with its optimiser's moments.

python -m experiments.train --config=experiments/configs/ethanol.py --workdir=W
python -m experiments.train --config=experiments/configs/ethanol.py --workdir=W1 \
    --config.objective=crmse --config.init_from=W
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import binary
from experiments.checkpoints import Checkpoints
from experiments.configurations import check_sections
from experiments.full_lists import roomy_update
from experiments.interruption import interruptible
from experiments.limits import check_limits
from experiments.locks import sole_writer
from experiments.logs import NegativesLog, TrainingLog
from experiments.negatives import NEGATIVES
from experiments.problem import DIGEST, Problem, check_data, data_digest, make_problem
from experiments.reference_trajectories import (
    REFERENCE_DIGEST,
    check_reference,
    reference_digest,
    reference_trajectory,
)
from experiments.remarks import closing_remarks, progress_line
from experiments.starting_points import (
    check_parent,
    data_room,
    first_state,
    starting_weights,
    with_data,
    with_schedule,
)
from experiments.training import (
    OPTIMISERS,
    Schedule,
    TrainState,
    make_optimiser,
    make_update,
)
from experiments.validation import FORCE_ERROR, validation_errors
from objectives import Objective, make_objective
from potentials.neighbours import ROOM_LIMIT
from potentials.registry import lookup

CONFIG = config_flags.DEFINE_config_file("config")
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of the run; one that holds a run resumes it.", allow_override=True
)


def main() -> None:
    """The binary."""
    config = CONFIG.value
    with binary.reading_input():
        getattr(config, "objective", None)  # of a file that can not be read, this says why
        if not isinstance(config, ConfigDict):
            raise ValueError(f"--config: get_config() gives {type(config).__name__}; expected a ConfigDict")
        check_sections(config, "--config")
        config = with_schedule(with_data(config), WORKDIR.value)
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
    if config.init_from and config.objective.startswith("stable") and schedule.average_decay > 0:
        binary.LOG.warning(
            "post_training.average_decay is %g: the average, which is what is evaluated, holds mostly the "
            "weights before StABlE for some %.0f learning windows; expected 0",
            *(schedule.average_decay, 1 / (1 - min(schedule.average_decay, 0.999))),
        )
    contrasts = config.objective in ("contrastive", "crmse")
    if config.init_from and contrasts and schedule.get("optimiser") == "sgd":
        binary.LOG.warning(
            "post_training.optimiser is sgd, as in StABlE's published settings, at a rate of %g: at 0.001 "
            "chains stay in holes; expected adam, with post_training's other defaults of base.py",
            schedule.initial,
        )
    problem = make_problem(config)
    if config.init_from and schedule.get("max_force_rise") and not len(problem.validation.energies):
        raise ValueError("post_training.max_force_rise is of validation frames; dataset.validation is 0")
    objective = make_objective(
        config.objective, problem.potential, problem.system, config, **reference_trajectory(config, problem)
    )
    if config.init_from:
        check_parent(config)
        check_data(Path(config.init_from), problem)
    if config.init_from or config.get("weights"):
        starting_weights(config, problem)
    return problem, objective


def train(
    config: ConfigDict,
    problem: Problem,
    objective: Objective,
    workdir: Path,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> TrainState:
    """Runs to the end of the schedule, from the latest checkpoint where there is one. SIGTERM saves after
    the update that is under way (where nothing is sampled, the row of the log) and ends the process with
    status 0.

    Writes `checkpoints/`, `train_log.csv` (a row every `training.log_every` updates: metrics averaged over
    them, or those since a resumption, validation errors of the averaged weights) and, for objectives with
    negatives, `negatives.npz`.

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
        of_reference = reference_digest(config)
        check_reference(workdir, of_reference, config)
    if not (workdir / DIGEST).exists():
        binary.write_atomically(workdir / DIGEST, f"{data_digest(problem)}\n")
    if of_reference and not (workdir / REFERENCE_DIGEST).exists():
        binary.write_atomically(workdir / REFERENCE_DIGEST, f"{of_reference}\n")
    settings = config.training
    section = dict(config.post_training if config.init_from else config.pre_training)
    optimiser = make_optimiser(section.pop("clip_norm"), section.pop("optimiser", "adam"))
    rise = section.pop("max_force_rise", 0.0)
    schedule = Schedule(**section)
    _, run_key = jax.random.split(jax.random.PRNGKey(config.seed))
    state = first_state(run_key, config, problem, objective)
    errors = validation_errors(problem)
    before = errors(state.average).get(FORCE_ERROR, math.inf) if config.init_from else math.inf
    limit = (1 + rise) * before if rise else math.inf
    checkpoints = Checkpoints(workdir, write=True)
    with binary.reading_input():
        state = checkpoints.restore(state) or state
    if not schedule.n_updates and not checkpoints.steps():
        checkpoints.save(state)
    if int(state.step) < schedule.n_updates or not (workdir / binary.PROVENANCE).exists():
        provenance = json.dumps(binary.provenance(), indent=1)
        binary.write_atomically(workdir / binary.PROVENANCE, f"{provenance}\n")
    if int(state.step):
        binary.LOG.info("%s: resumed at update %d", workdir, int(state.step))

    # An objective that samples takes its time over each update: SIGTERM is answered after one.
    size = 1 if jax.tree.leaves(state.objective) else settings.log_every
    update = make_update(objective, optimiser, schedule, batch_size=settings.batch_size, n_updates=size)
    room_limit = min(ROOM_LIMIT * data_room(problem), len(problem.system.numbers) - 1)
    log = TrainingLog(workdir / "train_log.csv", upto=int(state.step))
    negatives = NegativesLog(workdir / NEGATIVES, upto=int(state.step))
    began, first, row = time.monotonic(), int(state.step), {}
    sizes = (len(batch.energies) for batch in (problem.train, problem.validation, problem.test))
    binary.LOG.info("%d training, %d validation and %d test frames; the force MAE is of validation", *sizes)
    at_row = int(state.step) % settings.log_every == 0  # where an unbroken run looks
    ended = bool(rise) and at_row and errors(state.average)[FORCE_ERROR] > limit
    with interruptible() as interrupted:
        while int(state.step) < schedule.n_updates and not ended:
            found = []
            while True:
                state, metrics, samples = roomy_update(update, state, problem, room_limit)
                found.append({name: float(value) for name, value in metrics.items()})
                step = int(state.step)
                if step % settings.log_every == 0 or interrupted():
                    break
            _require_finite(state, workdir, checkpoints)
            if interrupted() and step % settings.log_every:
                negatives.write()
                checkpoints.save(state)
                _stop(workdir, step)
            compiled = bool(row)
            row = {"step": step, **{name: _over_updates(name, [f[name] for f in found]) for name in found[0]}}
            row |= {name: float(value) for name, value in errors(state.average).items()}
            row["seconds"] = (time.monotonic() - began) / (step - first)  # an update
            if not compiled:  # in the first row's time; what is left will be done without
                began, first = time.monotonic(), step
            log.write(row)
            negatives.add(step, samples)
            if progress is not None:
                progress(row)
            binary.LOG.info("%s", progress_line(row, schedule.n_updates))
            ended = row.get(FORCE_ERROR, 0.0) > limit
            stop = interrupted() and step < schedule.n_updates and not ended
            if stop or ended or step % settings.checkpoint_every == 0 or step == schedule.n_updates:
                negatives.write()
                checkpoints.save(state)
            if stop:
                _stop(workdir, step)
    log.close()
    checkpoints.close()
    binary.LOG.info("%s: %d updates done; experiments.evaluate judges the sampler", workdir, int(state.step))
    if ended:
        binary.LOG.warning(
            "%s: ended at update %d, with a validation force MAE above %.4g meV/Å, %g %% more than at the "
            "start (post_training.max_force_rise)",
            *(workdir, int(state.step), limit, 100 * rise),
        )
    lowest = min([before, *log.column(FORCE_ERROR)]) if config.init_from else math.inf
    about = (row, lowest, settings.log_every, problem.system.temperature)
    for remark in closing_remarks(*about, box=problem.system.cell is not None):
        binary.LOG.warning("%s: %s", workdir, remark)
    return state


def _require_finite(state: TrainState, workdir: Path, checkpoints: Checkpoints) -> None:
    if all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.params)):
        return
    last = max(checkpoints.steps(), default=0)
    raise binary.InputError(
        f"{workdir}: weights that are not finite, at update {int(state.step)}; expected a lower learning "
        f"rate or clip_norm. The last checkpoint is of update {last}"
    )


def _over_updates(name: str, values: list[float]) -> float:
    """The mean over the updates in which a metric was defined; of a minimum, the lowest."""
    defined = [value for value in values if not math.isnan(value)]
    if defined and "_min_" in name:
        return min(defined)
    return math.fsum(defined) / len(defined) if defined else math.nan


def _stop(workdir: Path, step: int) -> NoReturn:
    binary.LOG.info("%s: stopped by SIGTERM, saved at update %d; go on by the same command", workdir, step)
    sys.exit(0)


if __name__ == "__main__":
    binary.run(main)
