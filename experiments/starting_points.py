"""Where a run starts from: new weights, those of another run with its moments, or published ones."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from experiments import binary
from experiments.checkpoints import Checkpoints
from experiments.configs import base
from experiments.configurations import complete, difference
from experiments.problem import Problem
from experiments.training import TrainState, make_optimiser, start
from objectives import Objective
from potentials.neighbours import MARGIN, SLOTS, room_in, with_room
from potentials.torch_weights import read_state_dict, schnet_params, schnet_settings


def with_data(config: ConfigDict) -> ConfigDict:
    """The configuration as it is or, of post-training that names no data, with those of `config.init_from`.

    Raises:
      ValueError: settings of the data, without their name, that are not those of that run.
      InputError: there is no run.
    """
    own, default = (json.loads(c.dataset.to_json()) for c in (config, base.get_config()))
    if not config.init_from or own.get("name") or own.get("path"):
        return config
    parent = binary.read_config(config.init_from).dataset
    for field, value in own.items():
        if value not in (default.get(field), parent.get(field)):
            raise ValueError(
                f"dataset.{field} is {value!r} and in {config.init_from}, whose data these are, "
                f"{parent.get(field)!r}; expected the same, or the data's name or path"
            )
    inherited = config.copy_and_resolve_references()
    inherited.dataset = parent
    return inherited


def with_schedule(config: ConfigDict, workdir: str) -> ConfigDict:
    """The configuration as it is or, of StABlE post-training that says nothing of its schedule, with its own:
    an update a window and a row for each, at one rate, without an average of the weights, which would hold
    those before training for hundreds of windows. A run that has begun with another keeps it."""
    default = base.get_config()
    if not config.get("init_from") or config.objective not in ("stable", "stable_compat"):
        return config
    if config.get("post_training") != default.post_training:
        return config
    if (Path(workdir) / "config.json").exists():
        begun = binary.read_config(workdir)
        if json.loads(begun.to_json()).get("post_training") == json.loads(default.post_training.to_json()):
            return config
    scheduled = config.copy_and_resolve_references()
    scheduled.post_training.update(base.stable_post_training("adam", 1e-4))
    if config.training == default.training:
        scheduled.training.update(log_every=1, checkpoint_every=10)
    return scheduled


def check_parent(config: ConfigDict) -> None:
    """Checks that `config.init_from` holds a run on the same data with the same potential.

    Raises:
      ValueError: no checkpoints there, or another data set or potential.
    """
    if not (Path(config.init_from) / "checkpoints").is_dir():
        raise ValueError(f"init_from: {config.init_from} holds no checkpoints; expected a trained run")
    shared = ("potential", config.potential, "zbl", "dataset")
    records = (json.loads(c.to_json()) for c in (binary.read_config(config.init_from), config))
    parent, own = (
        {name: record[name] for name in shared if name in record} for record in map(complete, records)
    )
    if other := difference(parent, own):
        raise ValueError(f"init_from: {config.init_from} was trained on another problem: {other}")


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
    if wanted := data_room(problem):
        params, moments = with_room((params, moments), max(wanted, room_in(params)))
    return params, moments


def first_state(key: Array, config: ConfigDict, problem: Problem, objective: Objective) -> TrainState:
    """The state before the first update. Without chains, which go where no frame is, neighbour lists have
    room for the frames' neighbours and one more: empty places cost as much as others, GemNet's their square.

    Args:
      key: of the objective and of the batches.
      config, problem, objective: of the run.

    Raises:
      ValueError, OSError, ImportError: as `starting_weights`.
    """
    state = start(key, *starting_weights(config, problem), objective, problem.train)
    if jax.tree.leaves(state.objective) or not (seen := data_room(problem, margin=1.0)):
        return state
    return with_room(state, min(seen + 1, len(problem.system.numbers) - 1))


def data_room(problem: Problem, margin: float = MARGIN) -> int:
    """Neighbours that the frames of a box want room for, times the margin; 0 for a molecule."""
    if problem.potential.room_for is None:
        return 0
    frames = [b.positions for b in (problem.train, problem.validation, problem.test) if len(b.energies)]
    return max(problem.potential.room_for(positions, margin) for positions in frames)


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
    if room := room_in(template):
        params[SLOTS] = jnp.zeros(room)
    shapes, expected = (jax.tree.map(np.shape, tree) for tree in (params, template))
    if found := difference(shapes, expected):
        raise ValueError(f"weights: {config.weights} holds another network than config.schnet: {found}")
    energies = jax.lax.map(partial(problem.potential.energy, params), problem.train.positions, batch_size=50)
    offset = jnp.mean(energies - problem.train.energies) / len(problem.system.numbers)
    params["readout_1"]["bias"] -= offset
    return params
