"""Files from which sampling goes on: replicas' states beside a record of what they are of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from experiments.npz_files import open_npz
from samplers.base import State

_LEAF = "leaf_"


class SavedState(NamedTuple):
    """Attributes: record, what was noted with it; arrays, by name; leaves, of the state."""

    record: dict[str, Any]
    arrays: dict[str, NDArray]
    leaves: list[Array]

    def state(self, like: State) -> State:
        """The state, of the structure of another.

        Raises:
          ValueError: the structure is not this one's.
        """
        return jax.tree.unflatten(jax.tree.structure(like), self.leaves)


def write_arrays(path: Path, **arrays: ArrayLike) -> None:
    """Writes an npz whole or not at all, to the disk."""
    partial = path.with_name(f".{path.name}.partial.npz")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
        os.fsync(file.fileno())
    partial.replace(path)


def write_state(path: Path, record: Mapping[str, Any], state: State, **arrays: ArrayLike) -> None:
    """Replaces the state in a file, whole.

    Args:
      path: an npz.
      record: JSON.
      state: of replicas.
      **arrays: what else belongs to it.
    """
    leaves = {f"{_LEAF}{i:03d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    write_arrays(path, settings=json.dumps(record, sort_keys=True), **arrays, **leaves)


def read_state(path: Path) -> SavedState:
    """What `write_state` wrote.

    Raises:
      OSError: no such file.
      ValueError: an unreadable file.
    """
    with open_npz(path) as file:
        arrays = {name: file[name] for name in file}
    if "settings" not in arrays:
        raise ValueError(f"{path}: no settings in it; expected a state of this package")
    record = json.loads(str(arrays.pop("settings")))
    names = sorted(name for name in arrays if name.startswith(_LEAF))
    leaves = [jnp.asarray(arrays.pop(name)) for name in names]
    return SavedState(record, arrays, leaves)
