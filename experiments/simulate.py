"""Samples with a trained potential: python -m experiments.simulate --workdir=W --output=traj.extxyz

Writes energies, forces and momenta with the positions, to extxyz or ASE's .traj, and beside it the
state from which the same command goes on: after a kill, or with more --n_steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array
from ml_collections import ConfigDict
from numpy.typing import NDArray
from tqdm import tqdm

from experiments import binary
from experiments.configurations import difference
from experiments.evaluate import change
from experiments.evaluation import start_chains
from experiments.interruption import interruptible
from experiments.limits import check_limits
from experiments.locks import sole_writer
from experiments.problem import Problem, check_data, make_problem
from experiments.state_files import read_state, write_state
from experiments.trajectories import TrajectoryFiles
from experiments.weights import load_params, weights_digest
from potentials import Params, Potential, energy_and_forces
from potentials.registry import lookup
from samplers import SAMPLERS, Sampler, simulate
from samplers.base import State

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a trained run.", allow_override=True)
OUTPUT = flags.DEFINE_string("output", "", "Trajectory, .extxyz or .traj.", allow_override=True)
SAMPLER = flags.DEFINE_string("sampler", "baoab", "baoab, nose_hoover, ula or mala.", allow_override=True)
TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "K; 0: the data set's.", allow_override=True)
N_STEPS = flags.DEFINE_integer("n_steps", 20_000, "Length, in steps.", lower_bound=1, allow_override=True)
RECORD_EVERY = flags.DEFINE_integer(
    "record_every", 100, "Steps between frames.", lower_bound=1, allow_override=True
)
N_REPLICAS = flags.DEFINE_integer(
    "n_replicas", 1, "Independent replicas, a file each.", lower_bound=1, allow_override=True
)
SEED = flags.DEFINE_integer("seed", 0, "Of velocities and noise.", allow_override=True)
SET = flags.DEFINE_multi_string(
    "set", [], "A sampler's setting to change, such as baoab.friction=10.", allow_override=True
)

WINDOW_FRAMES = 50  # between two saved states


class Progress(NamedTuple):
    """Attributes: done, frames simulated; state of the replicas; alive, [R]; written, [R], frames in their
    files, which end where a replica died."""

    done: int
    state: State
    alive: Array
    written: NDArray[np.int64]


def main() -> None:
    """The binary."""
    if not WORKDIR.value or not OUTPUT.value:
        raise binary.InputError("--workdir and --output must be set: a trained run, and a file to write")
    workdir, output = Path(WORKDIR.value), Path(OUTPUT.value)
    config = binary.read_config(workdir)
    with binary.reading_input():
        settings = read_flags(config)
        problem = make_problem(config)
        check_data(workdir, problem)
        if not output.parent.is_dir():
            raise ValueError(f"--output={output}: {output.parent} is no folder; expected one that exists")
        files = TrajectoryFiles(output, problem.system, config.evaluation.n_chains)
        params = load_params(workdir, problem)
        settings["weights"] = weights_digest(params)
        sampler, fresh = start_chains(config, problem, params)
    binary.log_provenance(SEED.value)
    with sole_writer(output):
        with binary.reading_input():
            progress = restore(output, files, settings, fresh)
        run(config, problem, params, sampler, files, output, settings, progress)


def read_flags(config: ConfigDict) -> dict[str, Any]:
    """Puts the flags into the configuration; returns what a simulation shares with the one it continues.

    Raises:
      ValueError: an unknown sampler or setting, or a number out of range.
    """
    lookup(SAMPLERS, SAMPLER.value, "sampler")
    for assignment in SET.value:
        change(config, assignment)
    own = config.evaluation
    own.sampler, own.temperature, own.seed = SAMPLER.value, TEMPERATURE.value, SEED.value
    own.n_steps, own.record_every = N_STEPS.value, RECORD_EVERY.value
    check_limits(config)
    own.n_chains = N_REPLICAS.value
    if own.n_steps % own.record_every:
        raise ValueError(f"--n_steps={own.n_steps}: expected a multiple of --record_every={own.record_every}")
    return {
        "sampler": own.sampler,
        **{f"{own.sampler}.{name}": value for name, value in config[own.sampler].items()},
        "temperature": own.temperature or config.dataset.temperature,
        "n_replicas": own.n_chains,
        "record_every": own.record_every,
        "seed": own.seed,
    }


def run(
    config: ConfigDict,
    problem: Problem,
    params: Params,
    sampler: Sampler,
    files: TrajectoryFiles,
    output: Path,
    settings: dict[str, Any],
    progress: Progress,
) -> None:
    """Simulates to `evaluation.n_steps`, appends to the files and saves the state window by window.
    SIGTERM ends the process after the window that is under way, with status 0."""
    every = config.evaluation.record_every
    total = config.evaluation.n_steps // every
    timestep = config[config.evaluation.sampler].get("timestep", 0.0)
    observe = observer(problem.potential)
    save(output, settings, progress)  # or a run killed in its first window could not begin again
    with (
        interruptible() as interrupted,
        tqdm(total=total, initial=progress.done, unit="frame", desc=str(output)) as bar,
    ):
        while progress.done < total and np.any(progress.alive):
            size = min(WINDOW_FRAMES, total - progress.done)
            # Each from the room that the run had, as after a kill: what comes out does not depend on those.
            ((window, state, alive),) = simulate(
                sampler,
                problem.potential,
                problem.system,
                params,
                progress.state,
                n_steps=size * every,
                record_every=every,
                window_frames=size,
                alive=progress.alive,
                observe=observe,
            )
            steps = every * (progress.done + 1 + np.arange(size))
            files.append(window, steps, timestep, problem.energy_shift)
            written = progress.written + np.asarray(window.alive).sum(axis=0)
            progress = Progress(progress.done + size, state, alive, written)
            save(output, settings, progress)
            bar.update(size)
            if interrupted():
                binary.LOG.info("%s: stopped by SIGTERM; go on by the same command", output)
                sys.exit(0)
    dead = np.flatnonzero(~np.asarray(progress.alive))
    if len(dead):
        died = f"{len(dead)} of {len(progress.alive)}"
        box = problem.potential.room_for is not None
        full = ", or had an atom of more neighbours than room is made for" if box else ""
        binary.LOG.warning("%s replicas went non-finite%s; their files end there", died, full)
    if progress.done > total:
        binary.LOG.info("%s: has %d frames already, more than --n_steps asks for", output, progress.done)


def observer(potential: Potential) -> Callable[[Params, State], dict[str, Array]]:
    """(params, state) -> forces, eV/Å, and momenta where there are any, [R, n, 3]."""
    function = jax.vmap(energy_and_forces(potential), (None, 0))

    def observe(params: Params, state: State) -> dict[str, Array]:
        momenta = {"momenta": state.momentum} if hasattr(state, "momentum") else {}
        return {"forces": function(params, state.position)[1], **momenta}

    return observe


def save(output: Path, settings: Mapping[str, Any], progress: Progress) -> None:
    """Replaces the state beside the trajectory, whole."""
    counts = {"done": progress.done, "alive": np.asarray(progress.alive), "written": progress.written}
    write_state(state_file(output), settings, progress.state, **counts)


def restore(output: Path, files: TrajectoryFiles, settings: Mapping[str, Any], fresh: State) -> Progress:
    """The state from which to go on, with the files cut to its frames; the beginning where there is none.

    Args:
      output: the trajectory.
      files: its files.
      settings: of this simulation.
      fresh: what it would begin with.

    Raises:
      ValueError: files without a state, an unreadable state, or one of other settings. Nothing is
        changed then.
    """
    path = state_file(output)
    if not path.exists():
        for file in files.paths:
            if file.exists():
                raise ValueError(f"{file} exists and is no simulation that could go on; move it away")
        n_replicas = len(fresh.position)
        return Progress(0, fresh, jnp.ones(n_replicas, bool), np.zeros(n_replicas, np.int64))
    try:
        saved = read_state(path)
        record = saved.arrays
        done, alive = int(record["done"]), jnp.asarray(record["alive"])
        if "written" not in record and bool(alive.all()):
            record["written"] = np.full(len(alive), done)  # of a version that did not note it
        written = record["written"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: no readable state ({error}); move it and the trajectory away") from error
    if other := difference(saved.record, dict(settings)):
        raise ValueError(f"{output} is of another simulation: {other}; expected another --output")
    state = saved.state(fresh)
    files.keep(written)
    binary.LOG.info("%s: goes on at frame %d", output, done)
    return Progress(done, state, alive, written)


def state_file(output: Path) -> Path:
    """Beside the trajectory."""
    return output.with_name(f"{output.name}.state.npz")


if __name__ == "__main__":
    binary.run(main)
