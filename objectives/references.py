"""What observables are trained towards: values from a file, or means over a reference trajectory."""

from __future__ import annotations

import zipfile
from typing import Any

import ase.io
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from objectives.ensemble import Observables, mean_observable
from potentials.system import System

_POSITIONS = ("coords", "R")  # of rMD17's and MD17's files, Å
_NUMBERS = ("nuclear_charges", "z")


def read_targets(path: str, observables: Observables, system: System) -> dict[str, Any]:
    """g_ref by observable, each [K], from a file.

    The means over F frames carry the noise of F frames, to which a potential can be bent as well as to the
    truth; frames need no labels here, so a long trajectory makes the better targets.

    Args:
      path: an npz with targets by observable; or frames, as an npz with rMD17's or MD17's keys or in any
        format that ASE reads (Å).
      observables: whose means are taken over the frames.
      system: whose atoms the frames must have, in the same order.

    Raises:
      ValueError: a file that can not be read, or frames of another system; it is named.
    """
    try:
        if zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if not (keys := [name for name in _POSITIONS if name in arrays]):
                return arrays
            positions = arrays[keys[0]]
            kinds = [arrays[name] for name in _NUMBERS if name in arrays]
        else:
            frames = ase.io.read(path, ":")
            kinds = [frame.numbers for frame in frames]
            positions = [frame.positions for frame in frames]
    except Exception as error:  # ASE's readers have no common error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"stable.reference: {path} can not be read: {reason}") from error
    frames = _checked(path, positions, kinds, system)
    return {name: mean_observable(g, frames) for name, (_, g) in observables.items()}


def _checked(path: str, positions: Any, kinds: list[ArrayLike], system: System) -> ArrayLike:
    """Frames [F, N, 3], centred before float32."""
    if not all(np.array_equal(numbers, system.numbers) for numbers in kinds):
        raise ValueError(
            f"stable.reference: {path} is of other atoms than the training data, or in another order"
        )
    positions = np.asarray(positions, dtype=np.float64)
    n_atoms = len(system.numbers)
    if positions.ndim != 3 or positions.shape[1:] != (n_atoms, 3) or not np.isfinite(positions).all():
        raise ValueError(
            f"stable.reference: {path} has positions of shape {positions.shape}; expected finite "
            f"[frames, {n_atoms}, 3]"
        )
    return jnp.asarray(positions - positions.mean(axis=1, keepdims=True), jnp.float32)
