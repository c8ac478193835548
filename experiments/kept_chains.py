"""Chains of an evaluation that is under way, window by window, so that a kill does not cost hours."""

from __future__ import annotations

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
"""Folder, in that of an evaluation, until its metrics are written."""
_STATE = "state.npz"


class Kept(NamedTuple):
    """Attributes: windows, done so far; state of the replicas; alive, intact, [R], see `simulate`."""

    windows: list[Window]
    state: State
    alive: Array
    intact: Array


class KeptChains:
    """Windows in a folder, and the state from which the next would start.

    Args:
      folder: of the evaluation.
      record: JSON of what decides the chains, and in whose absence they are not gone on with.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]):
        self._folder = folder / CHAINS
        self._record = record

    def restore(self, fresh: State) -> Kept:
        """What is there, or the beginning: of nothing, of other chains, of files that can not be read."""
        ones = jnp.ones(len(fresh.position), bool)
        beginning = Kept([], fresh, ones, ones)
        if not (self._folder / _STATE).exists():
            return beginning
        try:
            saved = read_state(self._folder / _STATE, fresh)
            if other := difference(saved.record, dict(self._record)):
                raise ValueError(f"they are of other chains: {other}")
            windows = [self._read(i) for i in range(int(saved.arrays["windows"]))]
            alive, intact = (jnp.asarray(saved.arrays[name]) for name in ("alive", "intact"))
        except (ValueError, KeyError, OSError) as error:
            binary.LOG.warning("%s: begun anew (%s)", self._folder, error)
            return beginning
        binary.LOG.info("%s: goes on after %d windows", self._folder, len(windows))
        return Kept(windows, saved.state, alive, intact)

    def keep(self, kept: Kept, windows: Iterator[tuple[Window, State, Array]]) -> Iterator[tuple]:
        """Those there, then new ones, each on the disk before it is handed on.

        Args:
          kept: from `restore`.
          windows: of a simulation from its state.
        """
        for window in kept.windows:
            yield window, kept.state, kept.alive
        done = len(kept.windows)
        steps = kept.windows[-1].step if done else 0
        intact_steps = kept.windows[-1].intact_steps if done else 0
        for window, state, alive in windows:
            window = window._replace(
                step=steps + window.step, intact_steps=(intact_steps + window.intact_steps).astype(np.int32)
            )
            self._folder.mkdir(parents=True, exist_ok=True)
            arrays = {name: value for name, value in window._asdict().items() if name != "observed"}
            write_arrays(self._path(done), **arrays)
            done += 1
            intact = window.intact_steps == window.step
            counts = {"windows": done, "alive": np.asarray(alive), "intact": intact}
            write_state(self._folder / _STATE, self._record, state, **counts)
            yield window, state, alive

    def remove(self) -> None:
        """When they are of no more use."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self._folder / f"window_{index:05d}.npz"

    def _read(self, index: int) -> Window:
        with open_npz(self._path(index)) as file:
            arrays = {name: file[name] for name in file}
        return Window(**{**arrays, "step": int(arrays["step"])})
