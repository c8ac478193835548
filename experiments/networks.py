"""Trains every network on one data set for the same time: what accuracy does an hour buy?

python -m experiments.networks --config=experiments/configs/rmd17_ethanol.py --minutes=10 --workdir=W

The number of updates that fill the time is measured once a network and kept in its folder under W, so that
an interrupted run goes on as it began. The rate falls along a cosine to its end.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import binary
from experiments.evaluate import load_params
from experiments.evaluation import test_errors
from experiments.problem import Problem
from experiments.starting_points import starting_weights
from experiments.train import prepare, train
from experiments.training import Schedule, make_optimiser, make_update, start
from objectives import Objective
from potentials import POTENTIALS
from potentials.registry import lookup
from potentials.units import KCAL_PER_MOL

CONFIG = config_flags.DEFINE_config_file("config", allow_override=True)
WORKDIR = flags.DEFINE_string("workdir", "", "Folder for the runs, one each.", allow_override=True)
OUTPUT = flags.DEFINE_string("output", "", "JSON file for the table.", allow_override=True)
MINUTES = flags.DEFINE_float("minutes", 10.0, "Of training, compilation apart.", lower_bound=0.0)
NETWORKS = flags.DEFINE_list("networks", list(POTENTIALS), "Which networks.")

_LOG_EVERY = 20
_RECIPES: dict[str, dict[str, Any]] = {
    "schnet": {"training.batch_size": 20, "pre_training.initial": 2e-3},
    "nequip": {"training.batch_size": 5, "pre_training.initial": 5e-3},
    "mace": {"training.batch_size": 5, "pre_training.initial": 5e-3},
    "gemnet_t": {"training.batch_size": 5, "pre_training.initial": 1e-3},
}
"""Settings of a network that the configuration does not know: small batches where a frame costs much."""


class Row(NamedTuple):
    """Attributes: network; its parameters; frames, of training; updates made; seconds that they took;
    errors on the test frames with standard errors over blocks of frames, meV and meV/Å."""

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
        if not MINUTES.value:
            raise ValueError("--minutes is 0; expected a time")
        configs = {name: network_config(CONFIG.value, name) for name in NETWORKS.value}
        for config in configs.values():
            prepare(config)
    rows = [run(config, 60 * MINUTES.value, Path(WORKDIR.value) / name) for name, config in configs.items()]
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
    copy.update_from_flattened_dict(_RECIPES.get(name, {}))
    copy.training.log_every = _LOG_EVERY
    return copy


def run(config: ConfigDict, seconds: float, workdir: Path) -> Row:
    """One network's row; trains it as far as that is not done."""
    with binary.reading_input():
        problem, objective = prepare(config)
        if (workdir / "config.json").exists():
            n_updates = binary.read_config(workdir).pre_training.n_updates
        else:
            n_updates = updates_within(seconds, config, problem, objective)
    config.pre_training.n_updates = n_updates
    config.training.checkpoint_every = _LOG_EVERY * max(n_updates // (10 * _LOG_EVERY), 1)
    workdir = binary.claim_workdir(str(workdir), config)
    train(config, problem, objective, workdir)
    params = load_params(workdir, problem)
    errors = {key: value for key, value in test_errors(problem, params).items() if key in Row._fields}
    with (workdir / "train_log.csv").open() as file:
        *_, last = csv.DictReader(file)
    return Row(
        network=config.potential,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        frames=len(problem.train.energies),
        updates=n_updates,
        seconds=n_updates * float(last["seconds"]),
        **errors,
    )


def updates_within(seconds: float, config: ConfigDict, problem: Problem, objective: Objective) -> int:
    """How many updates fill the time, by the second of two jitted calls; whole calls."""
    section = config.pre_training
    update = make_update(
        objective,
        make_optimiser(section.clip_norm),
        Schedule(10 * _LOG_EVERY, section.initial, section.final, section.average_decay),
        batch_size=config.training.batch_size,
        n_updates=_LOG_EVERY,
    )
    state = start(jax.random.PRNGKey(0), *starting_weights(config, problem), objective, problem.train)
    state, *_ = update(state, problem.train)
    jax.block_until_ready(state)
    began = time.perf_counter()
    jax.block_until_ready(update(state, problem.train))
    each = (time.perf_counter() - began) / _LOG_EVERY
    return max(round(seconds / each / _LOG_EVERY), 1) * _LOG_EVERY


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
