"""Chains of an evaluation that is under way, window by window, so that a kill does not cost hours."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments import binary
from experiments.configurations import difference
from experiments.npz_files import open_npz
from experiments.state_files import read_state, write_arrays, write_state
from samplers import Window
from samplers.base import State

CHAINS = "chains.partial"
"""Folder, in that of an evaluation, until its report is written."""
WAYS_OUT = f"expected another --output, or {CHAINS} in it removed, to begin anew"
_STATE = "state.npz"
_CODE = ("potentials/*.py", "samplers/*.py", "experiments/evaluation.py", "experiments/stability.py")
_PACKAGES = ("jax", "jaxlib", "jax-md", "flax", "e3nn-jax", "numpy")


class Kept(NamedTuple):
    """Attributes: windows, done so far; state of the replicas."""

    windows: list[Window]
    state: State

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.windows[-1].step if self.windows else 0

    @property
    def before(self) -> dict[str, Any]:
        """What `simulate` is to know of them."""
        if not self.windows:
            return {}
        last = self.windows[-1]
        intact = jnp.asarray(last.intact_steps == last.step)
        return {"alive": jnp.asarray(last.alive[-1]), "intact": intact, "room": last.room}


class KeptChains:
    """Windows in a folder, and the state from which the next would start.

    Args:
      folder: of the evaluation.
      record: JSON of what decides the chains. Those of another record are not gone on with.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]):
        self._folder = folder / CHAINS
        self._record = record

    def restore(self, fresh: State) -> Kept:
        """What is there, or the beginning where there is nothing.

        Args:
          fresh: the state of the beginning.

        Raises:
          InputError: chains of something else, or files that can not be read. Nothing is changed then.
        """
        if not (self._folder / _STATE).exists():
            return Kept([], fresh)
        try:
            saved = read_state(self._folder / _STATE)
            if other := difference(saved.record, dict(self._record)):
                raise binary.InputError(f"{self._folder} holds chains of something else: {other}; {WAYS_OUT}")
            windows = [self._read(i) for i in range(int(saved.arrays["windows"]))]
            state = saved.state(fresh)
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise binary.InputError(f"{self._folder}: no readable chains ({error}); {WAYS_OUT}") from error
        binary.LOG.info("%s: goes on after %d windows", self._folder, len(windows))
        return Kept(windows, state)

    def keep(
        self, kept: Kept, windows: Iterator[tuple[Window, State, Array]]
    ) -> Iterator[tuple[Window, State, Array]]:
        """Those there, then new ones, each on the disk before it is handed on.

        Args:
          kept: from `restore`.
          windows: of a simulation from its state.
        """
        for window in kept.windows:
            yield window, kept.state, jnp.asarray(window.alive[-1])
        intact_steps = kept.windows[-1].intact_steps if kept.windows else np.int32(0)
        for done, (window, state, alive) in enumerate(windows, start=len(kept.windows)):
            window = window._replace(
                step=kept.step + window.step, intact_steps=intact_steps + window.intact_steps
            )
            self._folder.mkdir(parents=True, exist_ok=True)
            arrays = {name: value for name, value in window._asdict().items() if name != "observed"}
            write_arrays(self._path(done), **arrays)
            write_state(self._folder / _STATE, self._record, state, windows=done + 1)
            yield window, state, alive

    def _path(self, index: int) -> Path:
        return self._folder / f"window_{index:05d}.npz"

    def _read(self, index: int) -> Window:
        with open_npz(self._path(index)) as file:
            arrays = {name: file[name] for name in file}
        return Window(**{**arrays, "step": int(arrays["step"]), "room": int(arrays["room"])})


def remove_chains(folder: Path) -> None:
    """Removes the chains of an evaluation, when they are of no more use."""
    shutil.rmtree(folder / CHAINS, ignore_errors=True)


def code_digest() -> str:
    """By which chains of other code are told: the package's that makes them, and versions of what it uses."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for pattern in _CODE:
        for path in sorted(root.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    for package in _PACKAGES:
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()[:16]
