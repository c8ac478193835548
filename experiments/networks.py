"""Trains every network on one data set for the same time: what accuracy does an hour buy?

python -m experiments.networks --config=experiments/configs/rmd17_ethanol.py --minutes=10 --workdir=W

How many updates fill the time is measured once a network and kept in its folder under W, so that an
interrupted run goes on as it began. The rate falls along a cosine to its end.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import binary
from experiments.configs import base
from experiments.evaluation import test_errors
from experiments.problem import Problem
from experiments.starting_points import first_state
from experiments.train import prepare, train
from experiments.training import Schedule, make_optimiser, make_update
from experiments.weights import load_params
from objectives import Objective
from potentials import POTENTIALS
from potentials.neighbours import room_in
from potentials.registry import lookup
from potentials.units import KCAL_PER_MOL

CONFIG = config_flags.DEFINE_config_file("config", allow_override=True)
WORKDIR = flags.DEFINE_string("workdir", "", "Folder for the runs, one each.", allow_override=True)
OUTPUT = flags.DEFINE_string("output", "", "JSON file for the table.", allow_override=True)
MINUTES = flags.DEFINE_float("minutes", 10.0, "Of updates; compilation and validation come on top.")
NETWORKS = flags.DEFINE_list("networks", list(POTENTIALS), "Which networks.")

_BUDGET = "budget.json"
_LOG_EVERY = 20
_MEASURED_CALLS, _MEASURED_SECONDS = 3, 3.0
_RECIPES: dict[str, dict[str, Any]] = {
    "schnet": {"training.batch_size": 20},
    "nequip": {"training.batch_size": 5, "pre_training.initial": 5e-3},
    "mace": {"training.batch_size": 5, "pre_training.initial": 5e-3},
    "gemnet_t": {"training.batch_size": 5, "pre_training.initial": 1e-3},
}
"""What a network wants where the configuration has the base's value: small batches where frames are dear."""


class Row(NamedTuple):
    """Attributes: network; its parameters; frames, of training; updates made; seconds that they take, as
    measured before; errors on the test frames with standard errors over blocks of frames, meV and meV/Å."""

    network: str
    parameters: int
    frames: int
    updates: int
    seconds: float
    energy_mae_mev: float
    energy_mae_mev_stderr: float
    force_mae_mev_per_angstrom: float
    force_mae_mev_per_angstrom_stderr: float


def main() -> None:
    """The binary."""
    with binary.reading_input():
        for name in NETWORKS.value:
            lookup(POTENTIALS, name, "network")
        if not WORKDIR.value:
            raise ValueError("--workdir is not set; expected a folder for the runs")
        if not MINUTES.value > 0:
            raise ValueError(f"--minutes is {MINUTES.value:g}; expected a positive number")
        configs = [network_config(CONFIG.value, name) for name in NETWORKS.value]
        prepared = [(config, *prepare(config)) for config in configs]
    seconds, root = 60 * MINUTES.value, Path(WORKDIR.value)
    rows = [run(*each, seconds, root / each[0].potential) for each in prepared]
    print(as_table(rows))
    if OUTPUT.value:
        record = {
            "versions": binary.provenance(),
            "dataset": CONFIG.value.dataset.to_dict(),
            "seed": CONFIG.value.seed,
            "minutes": MINUTES.value,
            "rows": [row._asdict() for row in rows],
        }
        binary.write_atomically(Path(OUTPUT.value), json.dumps(record, indent=1) + "\n")


def network_config(config: ConfigDict, name: str) -> ConfigDict:
    """A copy of the configuration for one network, by energies and forces alone."""
    copy = config.copy_and_resolve_references().lock()
    copy.update_from_flattened_dict({"potential": name, "objective": "mse", "init_from": "", "weights": ""})
    for key, value in _RECIPES.get(name, {}).items():
        section, field = key.split(".")
        if copy[section][field] == base.get_config()[section][field]:
            copy[section][field] = value
    copy.training.log_every = copy.training.checkpoint_every = _LOG_EVERY
    copy.pre_training.n_updates = _LOG_EVERY  # until the rate is known
    return copy


def run(config: ConfigDict, problem: Problem, objective: Objective, seconds: float, workdir: Path) -> Row:
    """One network's row; trains it as far as that is not done.

    Raises:
      InputError: the folder holds a run of another time or configuration.
    """
    path = workdir / _BUDGET
    if not path.exists():
        budget = {"seconds": seconds, "each": seconds_per_update(config, problem, objective)}
        workdir.mkdir(parents=True, exist_ok=True)
        binary.write_atomically(path, json.dumps(budget) + "\n")
    budget = json.loads(path.read_text())
    if budget["seconds"] != seconds:
        raise binary.InputError(f"{workdir} holds a run of {budget['seconds']:g} s; expected {seconds:g} s")
    n_updates = max(round(seconds / budget["each"] / _LOG_EVERY), 1) * _LOG_EVERY
    config.pre_training.n_updates = n_updates
    config.training.checkpoint_every = _LOG_EVERY * max(n_updates // (10 * _LOG_EVERY), 1)
    workdir = binary.claim_workdir(str(workdir), config)
    train(config, problem, objective, workdir)
    params = load_params(workdir, problem)
    errors = {key: value for key, value in test_errors(problem, params).items() if key in Row._fields}
    return Row(
        network=config.potential,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)) - room_in(params),
        frames=len(problem.train.energies),
        updates=n_updates,
        seconds=n_updates * budget["each"],
        **errors,
    )


def seconds_per_update(config: ConfigDict, problem: Problem, objective: Objective) -> float:
    """Median over jitted calls after the first."""
    section = config.pre_training
    update = make_update(
        objective,
        make_optimiser(section.clip_norm),
        Schedule(10 * _LOG_EVERY, section.initial, section.final, section.average_decay),
        batch_size=config.training.batch_size,
        n_updates=_LOG_EVERY,
    )
    state = first_state(jax.random.PRNGKey(0), config, problem, objective)
    state = jax.block_until_ready(update(state, problem.train)[0])
    calls: list[float] = []
    while len(calls) < _MEASURED_CALLS or sum(calls) < _MEASURED_SECONDS:
        began = time.perf_counter()
        state = jax.block_until_ready(update(state, problem.train)[0])
        calls.append(time.perf_counter() - began)
    return float(np.median(calls)) / _LOG_EVERY


def as_table(rows: list[Row]) -> str:
    """As Markdown; errors in kcal/mol and kcal/mol/Å."""
    lines = ["| | parameters | updates | minutes | energy MAE | force MAE |", "|---|---|---|---|---|---|"]
    for row in rows:
        energy, force = (
            f"{value / (1000 * KCAL_PER_MOL):.3f} ± {error / (1000 * KCAL_PER_MOL):.3f}"
            for value, error in (
                (row.energy_mae_mev, row.energy_mae_mev_stderr),
                (row.force_mae_mev_per_angstrom, row.force_mae_mev_per_angstrom_stderr),
            )
        )
        cells = [
            row.network,
            f"{row.parameters:,}",
            f"{row.updates:,}",
            f"{row.seconds / 60:.1f}",
            energy,
            force,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    binary.run(main)
