"""Updates whose chains outgrow their neighbour lists."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import binary
from experiments.problem import Problem
from experiments.training import TrainState, Update
from objectives import FULL_LIST, Metrics
from potentials.neighbours import MARGIN, room_in, with_room


def roomy_update(
    update: Update, state: TrainState, problem: Problem, limit: int
) -> tuple[TrainState, Metrics, Any]:
    """The updates of one jitted call. In a box they are made again, with more room in the neighbour lists,
    where a list of the objective's chains was full, or of an objective without chains the loss is no number;
    up to `limit` neighbours, beyond which a chain has collapsed and counts as failed."""
    if problem.potential.room_for is None:
        return update(state, problem.train)
    while True:
        begun = jax.tree.map(jnp.copy, state)  # the update takes the state's memory
        done = update(begun, problem.train)
        room = room_in(state.params)
        full = float(done[1].get(FULL_LIST, 0.0)) > 0
        if not jax.tree.leaves(state.objective):  # of its own frames it may make others
            full |= not np.isfinite(float(done[1].get("loss", 0.0)))
        if not full or room >= limit:
            return done
        room = min(int(np.ceil(MARGIN * room)), limit)
        if room == limit:
            binary.LOG.warning(
                "room for %d neighbours is the most that is made: a chain with an atom of more has "
                "collapsed, and counts as failed",
                limit,
            )
        state = with_room(state, room)
        binary.LOG.info("a neighbour list was full: the updates are made again with room for %d", room)
