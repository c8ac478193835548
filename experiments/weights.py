"""Weights of trained runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import numpy as np

from experiments import binary
from experiments.checkpoints import Checkpoints
from experiments.problem import Problem, make_problem
from experiments.starting_points import data_room
from experiments.training import make_optimiser
from potentials import Params
from potentials.neighbours import room_in, with_room


def load_params(workdir: Path, problem: Problem) -> Params:
    """The averaged weights of the latest checkpoint; in a box with room for a simulation's first windows."""
    params = problem.potential.init(jax.random.PRNGKey(0))
    checkpoints = Checkpoints(workdir)
    # Clipping has no state, so any norm gives the template.
    _, average, _ = checkpoints.restore_weights(params, make_optimiser(1.0).init(params))
    checkpoints.close()
    return with_room(average, max(data_room(problem), room_in(average)))


def weights_digest(params: Params) -> str:
    """By which a simulation that goes on, or a model's card, tells weights from others."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def potential_of(workdir: Path, problem: Problem) -> tuple[Problem, Params]:
    """The problem and weights of another run, of the molecule or box of this one.

    Raises:
      ValueError, OSError: other atoms, or no checkpoint.
    """
    other = make_problem(binary.read_config(workdir))
    if not np.array_equal(other.system.numbers, problem.system.numbers):
        raise ValueError(f"--beside={workdir}: a run of other atoms, or of another order; expected the same")
    return other, load_params(workdir, other)
