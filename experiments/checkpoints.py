"""Checkpoints: one pytree through Orbax, whole or not at all; a damaged one is passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from experiments.training import TrainState

# What Orbax and the file system raise for a truncated, altered or foreign checkpoint.
_UNREADABLE = (ValueError, OSError, KeyError, TypeError)


class Checkpoints:
    """The checkpoints of one run, under `workdir/checkpoints/<step>`.

    Each holds two items: `weights` (params, their average, the optimiser's moments), which
    post-training and evaluation read, and `progress` (step, key, the objective's state), which only
    resuming needs.
    """

    def __init__(self, workdir: str | Path, *, write: bool = False, keep: int = 3):
        """Args: workdir: of the run; write: make the folder; keep: how many of the latest to keep."""
        self._folder = Path(workdir).resolve() / "checkpoints"
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=write, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def steps(self) -> list[int]:
        """The steps there are, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState) -> None:
        """Writes to a temporary folder and renames it; a killed save leaves nothing behind.

        Raises:
          OSError: it was not written.
        """
        state = jax.device_get(state)
        weights, progress = _items(state)
        saved = self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                weights=ocp.args.StandardSave(weights), progress=ocp.args.StandardSave(progress)
            ),
        )
        if not saved:
            raise OSError(f"{self._folder}/{int(state.step)}: checkpoint not written")

    def restore(self, template: TrainState) -> TrainState | None:
        """The latest state that can be read, of the structure of `template`; None if there is none.

        Later ones that can not be read are renamed `unreadable_<step>`, so that the run can write
        them again.

        Raises:
          ValueError: checkpoints exist and none can be read.
        """
        weights, progress = _items(template)
        found = self._latest({"weights": weights, "progress": progress})
        if found is None:
            return None
        weights, progress = found["weights"], found["progress"]
        for step in self.steps():
            if step > int(progress["step"]):
                (self._folder / str(step)).rename(self._folder / f"unreadable_{step}")
        self._manager.reload()
        return TrainState(
            step=progress["step"],
            params=weights["params"],
            average=weights["average"],
            optimiser=_unflatten(template.optimiser, weights["optimiser"]),
            objective=_unflatten(template.objective, progress["objective"]),
            key=progress["key"],
        )

    def restore_weights(self, params: Any, optimiser: Any) -> tuple[Any, Any, Any]:
        """(params, average, optimiser state) of the latest readable checkpoint.

        Args:
          params, optimiser: templates of the structure.

        Raises:
          ValueError: no checkpoint, none readable, or one of another network.
        """
        template = {"params": params, "average": params, "optimiser": _leaves(optimiser)}
        found = self._latest({"weights": template})
        if found is None:
            raise ValueError(f"{self._folder}: no checkpoint; expected the workdir of a trained run")
        weights = found["weights"]
        return weights["params"], weights["average"], _unflatten(optimiser, weights["optimiser"])

    def _latest(self, templates: dict[str, Any]) -> dict[str, Any] | None:
        problems = []
        for step in reversed(self.steps()):
            arguments = {
                name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
                for name, tree in templates.items()
            }
            try:
                found = self._manager.restore(step, args=ocp.args.Composite(**arguments))
                return {name: jax.tree.map(jnp.asarray, found[name]) for name in templates}
            except _UNREADABLE as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                logging.warning("%s/%d: unreadable, passed over: %s", self._folder, step, reason)
                problems.append(f"{step}: {reason}")
        if problems:
            raise ValueError(f"{self._folder}: no readable checkpoint ({problems[0]})")
        return None

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()


def _items(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    weights = {
        "params": state.params,
        "average": state.average,
        "optimiser": _leaves(state.optimiser),
    }
    return weights, {"step": state.step, "objective": _leaves(state.objective), "key": state.key}


def _leaves(tree: Any) -> dict[str, Any]:
    """Leaves by number: jax-md's states have no names that Orbax could use."""
    return {f"{index:04d}": leaf for index, leaf in enumerate(jax.tree.leaves(tree))}


def _unflatten(template: Any, leaves: dict[str, Any]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[name] for name in sorted(leaves)])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype)
