"""Checkpoints: one pytree through Orbax, whole or not at all; a damaged one is passed over."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from experiments.training import TrainState
from potentials.neighbours import room_in, with_room

FORMAT = 1
"""Of what is written; another number is another layout."""

# What Orbax and the file system raise for a truncated, altered or foreign checkpoint.
_UNREADABLE = (ValueError, OSError, KeyError, TypeError)


class LaterFormat(ValueError):
    """A checkpoint that a later version of boltzfit has written."""


class Checkpoints:
    """The checkpoints of one run, under `workdir/checkpoints/<step>`.

    Each holds two items: `weights` (params, their average, the optimiser's moments), which
    post-training and evaluation read, and `progress` (step, key, the objective's state), which only
    resuming needs; and a `record` of the format's number, of both items' digests, by which a damaged
    one is told, and of the room in a box's neighbour lists. Those of the first runs have no record, and are
    read as they are.
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
        digests = {"weights": _digest(weights), "progress": _digest(progress)}
        items = ocp.args.Composite(
            weights=ocp.args.StandardSave(weights),
            progress=ocp.args.StandardSave(progress),
            record=ocp.args.JsonSave({"format": FORMAT, **digests, "room": room_in(state.params)}),
        )
        try:
            saved, reason = self._manager.save(int(state.step), args=items), "refused"
        except (OSError, ValueError) as error:  # TensorStore's, of a full disk too, are ValueErrors
            saved, reason = False, (str(error) or type(error).__name__).splitlines()[0]
            for torn in self._folder.glob("*.orbax-checkpoint-tmp*"):  # on a full disk, what is left of it
                shutil.rmtree(torn, ignore_errors=True)
        if not saved:
            last = max(self.steps(), default=None)
            kept = "none was written before" if last is None else f"the last one is of update {last}"
            raise OSError(
                errno.EIO,
                f"checkpoint of update {int(state.step)} not written ({reason}); {kept}",
                str(self._folder),
            )

    def restore(self, template: TrainState) -> TrainState | None:
        """The latest state that can be read, of the structure of `template`; None if there is none.

        Later ones that can not be read are renamed `unreadable_<step>`, so that the run can write
        them again.

        Raises:
          ValueError: checkpoints exist and none can be read.
        """

        def items(room: int) -> dict[str, Any]:
            weights, progress = _items(_roomy(template, room))
            return {"weights": weights, "progress": progress}

        found = self._latest(items)
        if found is None:
            return None
        weights, progress = found["weights"], found["progress"]
        for step in self.steps():
            if step > int(progress["step"]):
                (self._folder / str(step)).rename(self._free(f"unreadable_{step}"))
        self._manager.reload()
        return TrainState(
            step=progress["step"],
            params=weights["params"],
            average=weights["average"],
            optimiser=_unflatten(template.optimiser, weights["optimiser"]),
            objective=_unflatten(template.objective, progress["objective"]),
            key=progress["key"],
        )

    def _free(self, name: str) -> Path:
        """A folder of this name that is not there yet: the step may have been damaged before."""
        names = itertools.chain([name], (f"{name}_{again}" for again in itertools.count(2)))
        return next(path for path in map(self._folder.joinpath, names) if not path.exists())

    def restore_weights(self, params: Any, optimiser: Any) -> tuple[Any, Any, Any]:
        """(params, average, optimiser state) of the latest readable checkpoint.

        Args:
          params, optimiser: templates of the structure.

        Raises:
          ValueError: no checkpoint, none readable, or one of another network.
        """

        def items(room: int) -> dict[str, Any]:
            own, moments = _roomy((params, optimiser), room)
            return {"weights": {"params": own, "average": own, "optimiser": _leaves(moments)}}

        found = self._latest(items)
        if found is None:
            raise ValueError(f"{self._folder}: no checkpoint; expected the workdir of a trained run")
        weights = found["weights"]
        return weights["params"], weights["average"], _unflatten(optimiser, weights["optimiser"])

    def _latest(self, items: Callable[[int], dict[str, Any]]) -> dict[str, Any] | None:
        """Of the structure that `items` gives for the room of a checkpoint's neighbour lists."""
        problems = []
        for step in reversed(self.steps()):
            try:
                record = self._record(step)
                templates = items(record.get("room", 0))
                arguments = {
                    name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
                    for name, tree in templates.items()
                }
                found = self._manager.restore(step, args=ocp.args.Composite(**arguments))
                for name in templates:
                    if record and _digest(found[name]) != record[name]:
                        raise ValueError(f"{name} are not those that were written")
                return {name: jax.tree.map(jnp.asarray, found[name]) for name in templates}
            except LaterFormat:
                raise  # it is not damaged: nothing may be renamed, nor older weights taken for it
            except _UNREADABLE as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                logging.warning("%s/%d: unreadable, passed over: %s", self._folder, step, reason)
                problems.append(f"{step}: {reason}")
        if problems:
            raise ValueError(f"{self._folder}: no readable checkpoint ({problems[0]})")
        return None

    def _record(self, step: int) -> dict[str, Any]:
        """What was written beside the items; empty for checkpoints from before there was a record.

        Raises:
          LaterFormat: of a later version than this.
          ValueError: a damaged record.
        """
        folder = self._folder / str(step) / "record"
        if not folder.exists():
            return {}
        record = json.loads((folder / "metadata").read_text(encoding="utf-8"))
        if record["format"] > FORMAT:
            raise LaterFormat(
                f"{self._folder}/{step}: of format {record['format']}; "
                f"this version of boltzfit reads up to {FORMAT}"
            )
        return record

    def close(self) -> None:
        """Releases the manager's threads."""
        self._manager.close()


def _roomy(tree: Any, room: int) -> Any:
    return with_room(tree, room) if room else tree


def _items(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    weights = {
        "params": state.params,
        "average": state.average,
        "optimiser": _leaves(state.optimiser),
    }
    return weights, {"step": state.step, "objective": _leaves(state.objective), "key": state.key}


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _leaves(tree: Any) -> dict[str, Any]:
    """Leaves by number: jax-md's states have no names that Orbax could use."""
    return {f"{index:04d}": leaf for index, leaf in enumerate(jax.tree.leaves(tree))}


def _unflatten(template: Any, leaves: dict[str, Any]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[name] for name in sorted(leaves)])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype)
