"""Which rows of a file go to training, validation and test.

Every function returns three arrays of row numbers; none shares a row with another.
"""

from __future__ import annotations

import zipfile
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.npz_files import SECTIONS, read_arrays


class Counts(NamedTuple):
    """How many frames each set is to have."""

    train: int
    validation: int
    test: int  # 0: all that are left


class Rows(NamedTuple):
    """Row numbers of the three sets."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def random_rows(frames: int, counts: Counts, seed: int, source: str) -> Rows:
    """The first rows of a permutation for training, the next for validation, then test.

    Raises:
      ValueError: more rows are asked for than the file has, or none is left for a test of 'all'.
    """
    _require_enough(frames, counts, source)
    order = np.random.default_rng(seed).permutation(frames)
    train, validation, rest = np.split(order, np.cumsum(counts[:2]))
    return Rows(train, validation, rest[: counts.test] if counts.test else rest)


def end_rows(frames: int, counts: Counts, source: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first rows of a training file for training, its last for validation.

    Raises:
      ValueError: the two would overlap.
    """
    if counts.train + counts.validation > frames:
        raise ValueError(
            f"{source}: dataset.train + dataset.validation = {counts.train} + {counts.validation} exceed its"
            f" {frames} frames"
        )
    return np.arange(counts.train), np.arange(frames - counts.validation, frames)


def strided_rows(sizes: tuple[int, int, int], counts: Counts, source: str) -> Rows:
    """Evenly spaced rows of each section of the package's file, whose sections follow one another.

    Its frames lie chain after chain: the first few hundred would be of one or two chains only.

    Raises:
      ValueError: more rows are asked for than a section has.
    """
    rows = []
    offset = 0
    for section, size, count in zip(SECTIONS, sizes, counts, strict=True):
        if count > size:
            raise ValueError(f"{source}: dataset.{section} = {count}, but that section has {size} frames")
        wanted = size if section == "test" and count == 0 else count
        # Where each is at least one row from the next, rounding can not make two fall together.
        rows.append(offset + np.linspace(0, size - 1, wanted).round().astype(np.int64))
        offset += size
    return Rows(*rows)


def block_rows(frames: int, counts: Counts, source: str) -> Rows:
    """Evenly spaced rows of three stretches of a trajectory, in its order: training, validation, test. The
    stretches are as long as the counts say in proportion.

    Raises:
      ValueError: no count for the test, without which there is no proportion, or more rows than there are.
    """
    if not counts.test:
        raise ValueError(
            f"{source}: dataset.split is 'blocks' and dataset.test 0; expected the number of test frames, by"
            " which the trajectory is divided"
        )
    _require_enough(frames, counts, source)
    ends = np.cumsum([0, *counts]) * frames // sum(counts)
    # A stretch is never shorter than its count, so that rounding can not make two rows fall together.
    return Rows(
        *(
            start + np.linspace(0, end - start - 1, count).round().astype(np.int64)
            for start, end, count in zip(ends, ends[1:], counts, strict=False)
        )
    )


def indexed_rows(path: Path, frames: int, counts: Counts) -> Rows:
    """The first rows that each array of an index file (npz: `train`, `validation`, `test`) lists.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a missing key, something other than distinct row numbers of the data file, a row in two
        arrays, or an array shorter than the count asked for.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"dataset.split '{path}': no such file; expected 'file', 'random', 'blocks' or an index npz"
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: expected an npz of the arrays train, validation and test")
    arrays = read_arrays(path, SECTIONS)
    for section, rows in arrays.items():
        _require_rows(path, section, rows, frames)
    for one, other in combinations(SECTIONS, 2):
        shared = np.intersect1d(arrays[one], arrays[other])
        if shared.size:
            raise ValueError(
                f"{path}: {shared.size} rows are in both '{one}' and '{other}' (first: {shared[0]})"
            )
    chosen = []
    for section, count in zip(SECTIONS, counts, strict=True):
        rows = arrays[section]
        if count > len(rows):
            raise ValueError(f"{path}: dataset.{section} = {count}, but '{section}' lists {len(rows)} rows")
        chosen.append(rows if section == "test" and count == 0 else rows[:count])
    return Rows(*chosen)


def read_row_csv(path: Path, frames: int) -> NDArray[np.int64]:
    """One of rMD17's split files: a row number a line, no header.

    Raises:
      ValueError: not distinct row numbers of the data file.
    """
    try:
        rows = np.loadtxt(path, dtype=np.int64, ndmin=1)
    except ValueError as error:
        raise ValueError(f"{path}: expected a row number a line ({error})") from error
    _require_rows(path, "rows", rows, frames)
    return rows


def _require_enough(frames: int, counts: Counts, source: str) -> None:
    asked = sum(counts)
    if asked > frames or (asked == frames and counts.test == 0):
        left = " and one or more for test" if counts.test == 0 else ""
        raise ValueError(
            f"{source}: dataset.train + validation + test = {counts.train} + {counts.validation} +"
            f" {counts.test} frames{left}, but it has {frames}"
        )


def _require_rows(path: Path, key: str, rows: NDArray, frames: int) -> None:
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{path}: '{key}' is {rows.dtype} {rows.shape}, expected a list of row numbers")
    outside = rows[(rows < 0) | (rows >= frames)]
    if outside.size:
        raise ValueError(f"{path}: '{key}' lists row {outside[0]}, expected 0 to {frames - 1}")
    values, times = np.unique(rows, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"{path}: '{key}' lists row {values[times > 1][0]} more than once")
