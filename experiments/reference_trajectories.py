"""Trajectories without need of labels: frames of the distribution that the contrastive term learns
(`contrastive.reference`), or whose means observables are trained towards (`stable.reference`)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.binary import LOG
from experiments.datasets import reading_settings
from experiments.frame_checks import are_shared
from experiments.frame_files import read_frames
from experiments.frames import Frames, same_cell
from experiments.known_datasets import Located, is_known, locate
from experiments.npz_files import section_sizes
from experiments.problem import Problem, centred
from experiments.splits import read_row_csv
from objectives.averages import OBSERVABLES

SECTIONS = {
    "contrastive": "contrastive",
    "crmse": "contrastive",
    "stable": "stable",
    "stable_compat": "stable",
}
"""Objective -> section of the configuration whose `reference` it takes."""


def reference_trajectory(config: ConfigDict, problem: Problem) -> dict[str, jax.Array]:
    """`{"reference": positions [F, N, 3]}` (Å) where the objective's section names frames, without those that
    are test frames too; nothing where it holds values, which StABlE reads, or names none.

    Raises:
      ValueError, OSError: frames that can not be read, or are of another system, or test frames alone.
    """
    section = SECTIONS.get(config.objective, "")
    source = config.get(section, {}).get("reference", "")
    if not source or (section == "stable" and holds_values(source)):
        return {}
    setting = f"{section}.reference"
    try:
        frames = reference_frames(source, config.dataset)
    except (ValueError, OSError) as error:
        raise ValueError(f"{setting}: {error}") from error
    if not np.array_equal(frames.numbers, problem.system.numbers):
        raise ValueError(f"{setting}: {source} has other atoms than the training data, or another order")
    if not same_cell(frames.cell, problem.splits.train.cell):
        cells = (None if cell is None else cell.tolist() for cell in (frames.cell, problem.system.cell))
        raise ValueError("{}: {} has the cell {}; expected {}".format(setting, source, *cells))
    if not np.isfinite(frames.positions).all():
        raise ValueError(f"{setting}: {source} has positions that are not finite")
    tested = are_shared(problem.splits.test, frames)
    if tested.any():
        LOG.info("%s: %d of %d frames are test frames and left out", setting, tested.sum(), len(tested))
    if tested.all():
        raise ValueError(f"{setting}: {source} has no frames but test frames")
    return {"reference": centred(frames.positions[~tested], problem.system)}


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
