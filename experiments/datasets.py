"""Training, validation and test frames from a configuration: the entry point for data.

    splits = load_splits(config.dataset, seed=config.seed)
    splits.train.positions  # [F, N, 3] Å

The parts, each in its own module: `frames` (the types and units), `frame_files` (the formats),
`frame_checks` (is it sound?), `splits` (which rows), `known_datasets` and `downloads` (sets with a name).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from experiments.frame_checks import are_shared, check_frames, doubt_neighbours
from experiments.frame_files import read_frames
from experiments.frames import Frames, Splits, same_cell
from experiments.known_datasets import Located, locate
from experiments.npz_files import section_sizes
from experiments.splits import (
    Counts,
    block_rows,
    end_rows,
    indexed_rows,
    random_rows,
    read_row_csv,
    strided_rows,
)

__all__ = ["DatasetConfig", "Frames", "Splits", "check_frames", "load_splits", "read_frames"]


class DatasetConfig(Protocol):
    """What `load_splits` reads; an `ml_collections.ConfigDict` with these fields will do."""

    name: str  # a known set, or ''
    path: str  # the user's own file, or ''
    test_path: str  # a separate test file beside `path`, or ''
    train: int
    validation: int
    test: int  # 0: all that are left
    # 'file', 'random', 'blocks', an index npz, or '': 'file' if the set comes with a split, else 'random'
    split: str
    units: str  # 'energy,length,force', of which parts may be left out; '': the format's own
    label_names: str  # names of energy and forces in what ASE reads; '': 'energy,forces'
    group: str  # of an HDF5 file's molecules; '': it has one
    labels: str  # 'original': MD17's, of an rMD17 file; '': the file's own
    ignore_cell: bool  # frames that call themselves periodic are molecules in vacuum
    temperature: float  # K, of the dynamics that made the frames; 0: unknown


def load_splits(dataset_config: DatasetConfig, seed: int) -> Splits:
    """Reads, checks and splits a data set; doubts about it are logged as warnings.

    With split 'file':
      - rMD17, and a user's `path` with a `test_path`: training takes the first frames of the training
        file, validation its last, test the first of the test file;
      - the package's format: evenly spaced frames of each of its sections.
    With 'blocks' the three are stretches of the trajectory: only those test frames at a border have a
    neighbour in training. With 'random' a permutation by `seed` comes first; where there is a `test_path`,
    test is the first of that file all the same. An index file lists the rows of each set, of which the
    first are taken.

    Args:
      dataset_config: see `DatasetConfig`; exactly one of `name` and `path` is set.
      seed: for 'random'.

    Returns:
      Disjoint train, validation (empty if 0 frames are asked for) and test frames, in eV, Å, eV/Å.

    Raises:
      ValueError: contradicting or unknown settings, more frames asked for than there are, unsound data.
      OSError: a file that is missing or can not be downloaded.
    """
    config = dataset_config
    counts = Counts(config.train, config.validation, config.test)
    _require_settings(config, counts)
    if config.name:
        located = locate(config.name, whole=config.split not in ("", "file"))
    else:
        located = Located(Path(config.path), Path(config.test_path) if config.test_path else None)
    splits = _split(_read_checked(located.path, config), located, config, counts, seed)
    leaked = int(are_shared(splits.train, splits.test).sum())
    if leaked:
        logging.warning("%s: %d test frames are training frames too", located.path, leaked)
    elif located.test_path is None and (doubt := doubt_neighbours(splits.train, splits.test)):
        logging.warning("%s: %s", located.path, doubt)
    return splits


def reading_settings(config: DatasetConfig) -> dict[str, Any]:
    """What `read_frames` takes beside the file."""
    return {
        "units": config.units,
        "label_names": config.label_names,
        "labels": config.labels,
        "group": config.group,
        "ignore_cell": config.ignore_cell,
    }


def _require_settings(config: DatasetConfig, counts: Counts) -> None:
    if bool(config.name) == bool(config.path):
        both = f"name '{config.name}' and path '{config.path}'" if config.name else "neither"
        raise ValueError(f"expected one of dataset.name and dataset.path, got {both}")
    if config.test_path and config.name:
        raise ValueError(f"dataset.test_path goes with dataset.path, not with dataset.name '{config.name}'")
    for field, least in (("train", 1), ("validation", 0), ("test", 0)):
        if getattr(counts, field) < least:
            raise ValueError(f"dataset.{field} is {getattr(counts, field)}, expected {least} or more")


def _read_checked(path: Path, config: DatasetConfig) -> Frames:
    frames = read_frames(path, **reading_settings(config))
    for doubt in check_frames(frames, str(path), temperature=config.temperature):
        logging.warning("%s", doubt)
    return frames


def _split(frames: Frames, located: Located, config: DatasetConfig, counts: Counts, seed: int) -> Splits:
    source, total = str(located.path), len(frames.energies)
    sizes = section_sizes(located.path)
    own_split = sizes or located.test_path or located.train_indices
    split = config.split or ("file" if own_split else "random")
    if split == "random":
        if located.test_path is None:
            return Splits(*map(frames.take, random_rows(total, counts, seed, source)))
        frames = frames.take(np.random.default_rng(seed).permutation(total))
    elif split == "blocks":
        if located.test_path:
            raise ValueError("dataset.test_path and dataset.split 'blocks' exclude each other")
        frames = frames.take(np.argsort(frames.indices, kind="stable"))
        return Splits(*map(frames.take, block_rows(total, counts, source)))
    elif split != "file":
        if located.test_path:
            raise ValueError(f"dataset.test_path and the index file '{split}' exclude each other")
        return Splits(*map(frames.take, indexed_rows(Path(split), total, counts)))
    elif not own_split:
        raise ValueError(
            f"{source}: dataset.split is 'file', but the file holds no split; expected 'random',"
            " an index npz, or a dataset.test_path"
        )
    if located.test_path:
        test = _test_frames(frames, located.test_path, config, counts)
    elif located.train_indices:
        test = _first(frames.take(read_row_csv(located.test_indices, total)), counts.test, source)
        frames = frames.take(read_row_csv(located.train_indices, total))
    else:
        return Splits(*map(frames.take, strided_rows(sizes, counts, source)))
    train, validation = end_rows(len(frames.energies), counts, source)
    return Splits(frames.take(train), frames.take(validation), test)


def _test_frames(frames: Frames, path: Path, config: DatasetConfig, counts: Counts) -> Frames:
    """The first frames of a test file, which must be of the same molecule or box."""
    test = _read_checked(path, config)
    if not np.array_equal(test.numbers, frames.numbers):
        raise ValueError(
            f"{path}: atomic numbers {test.numbers.tolist()} are not those of the training file,"
            f" {frames.numbers.tolist()}"
        )
    if not same_cell(test.cell, frames.cell):
        raise ValueError(f"{path}: its cell is not that of the training file")
    return _first(test, counts.test, str(path))


def _first(frames: Frames, count: int, source: str) -> Frames:
    """The first `count` frames, or all for 0."""
    if count > len(frames.energies):
        raise ValueError(f"{source}: dataset.test = {count}, but it has {len(frames.energies)} test frames")
    return frames.take(np.arange(count or len(frames.energies)))
