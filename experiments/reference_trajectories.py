"""Trajectories without need of labels, whose means observables are trained towards (`stable.reference`)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.datasets import reading_settings
from experiments.frame_files import read_frames
from experiments.frames import Frames, same_cell
from experiments.known_datasets import Located, is_known, locate
from experiments.npz_files import section_sizes
from experiments.problem import Problem
from experiments.splits import read_row_csv
from objectives.averages import OBSERVABLES


def reference_trajectory(config: ConfigDict, problem: Problem) -> dict[str, jax.Array]:
    """`{"reference": positions [F, N, 3]}` (Å) where `stable.reference` names frames; nothing where it holds
    values, which the objective reads, or is of no use to it.

    Raises:
      ValueError, OSError: frames that can not be read, or are of another system.
    """
    source = config.get("stable", {}).get("reference", "")
    if not source or not config.objective.startswith("stable") or holds_values(source):
        return {}
    try:
        frames = reference_frames(source, config.dataset)
    except (ValueError, OSError) as error:
        raise ValueError(f"stable.reference: {error}") from error
    if not np.array_equal(frames.numbers, problem.system.numbers):
        raise ValueError(
            f"stable.reference: {source} has other atoms than the training data, or another order"
        )
    if not same_cell(frames.cell, problem.splits.train.cell):
        cells = (None if cell is None else cell.tolist() for cell in (frames.cell, problem.system.cell))
        raise ValueError("stable.reference: {} has the cell {}; expected {}".format(source, *cells))
    if not np.isfinite(frames.positions).all():
        raise ValueError(f"stable.reference: {source} has positions that are not finite")
    centred = frames.positions - frames.positions.mean(axis=1, keepdims=True)
    return {"reference": jnp.asarray(centred, jnp.float32)}


def holds_values(source: str) -> bool:
    """Whether a file is an npz of targets by observable, not of frames."""
    if not Path(source).is_file() or not zipfile.is_zipfile(source):
        return False
    with np.load(source, allow_pickle=False) as file:
        return bool(set(file.files) & set(OBSERVABLES))


def reference_frames(source: str, config: ConfigDict) -> Frames:
    """A reference trajectory: the training frames of a known set (all, of its own split where it has one), or
    a file. What ASE reads needs no labels; whatever it has of them is not for use.

    Args:
      source: a known name, or a path.
      config: of the data set, whose settings of reading hold for this file too.

    Raises:
      ValueError, OSError: as `read_frames` and `locate`.
    """
    located = locate(source) if is_known(source) else Located(Path(source))
    settings = reading_settings(config)
    if is_known(source):
        settings |= {"group": "", "labels": ""}
    frames = read_frames(located.path, **settings, labelled=False)
    if sizes := section_sizes(located.path):
        return frames.take(np.arange(sizes[0]))
    if located.train_indices:
        return frames.take(read_row_csv(located.train_indices, len(frames.energies)))
    return frames
