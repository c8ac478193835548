"""The npz formats of labelled frames, told by their keys: rMD17's, MD17's, and the package's own."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.frames import MD17_KEYS, RMD17_KEYS, Frames

SECTIONS = ("train", "validation", "test")
_ORIGINAL_KEYS = ("nuclear_charges", "coords", "old_energies", "old_forces")
_PACKAGE_KEYS = ("numbers", *(f"{s}_{k}" for s in SECTIONS for k in ("positions", "energies", "forces")))
# What zipfile, zlib and NumPy raise on damaged archives.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError,
    TypeError, ValueError, OverflowError, MemoryError,
)  # fmt: skip
_NPZ_FORMATS = {"rMD17": RMD17_KEYS, "MD17": MD17_KEYS, "boltzfit": _PACKAGE_KEYS}


@contextmanager
def open_npz(path: str | Path) -> Iterator[Mapping[str, NDArray]]:
    """Arrays of an npz file by key, each read when it is asked for.

    Raises:
      OSError: no such file.
      ValueError, naming the file: no npz, or a damaged one; or what is found wrong with the arrays within.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            yield data
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ValueError) and str(path) in reason:
            raise
        raise ValueError(f"{path}: no readable npz file ({reason})") from error


def section_sizes(path: str | Path) -> tuple[int, int, int] | None:
    """Frames in train, validation and test of the package's npz; None for any other file."""
    if not zipfile.is_zipfile(path):
        return None
    with open_npz(path) as data:
        if not set(_PACKAGE_KEYS) <= set(data):
            return None
        train, validation, test = (len(data[f"{section}_energies"]) for section in SECTIONS)
        return train, validation, test


def read_arrays(path: Path, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, NDArray]:
    """Arrays of an npz file by key, those `optional` ones among them that it has.

    Raises:
      ValueError: a key is missing (the message names what comes nearest), or not a plain array.
    """
    arrays = {}
    with open_npz(path) as data:
        for key in (*keys, *optional):
            if key in data:
                try:
                    arrays[key] = data[key]
                except _UNREADABLE as error:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise ValueError(f"{path}: key '{key}' can not be read: {reason}") from error
            elif key in keys:
                nearest = _nearest(key, list(data))
                hint = f"; is it called '{nearest}'?" if nearest else ""
                found = ", ".join(sorted(data)) or "none"
                raise ValueError(
                    f"{path}: key '{key}' is missing{hint} (found: {found}; expected: {', '.join(keys)})"
                )
    return arrays


def _nearest(key: str, found: Sequence[str]) -> str | None:
    """The found key that is spelt most like this one, case aside."""
    folded = {name.lower(): name for name in found}
    close = difflib.get_close_matches(key.lower(), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def _npz_format(path: Path) -> tuple[str, ...]:
    """The keys of the npz format that the file's keys fit best."""
    with open_npz(path) as data:
        found = list(data)

    def likeness(keys: tuple[str, ...]) -> float:
        return sum(1.0 if key in found else 0.5 * bool(_nearest(key, found)) for key in keys) / len(keys)

    best = max(_NPZ_FORMATS.values(), key=likeness)
    if likeness(best) == 0:
        formats = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in _NPZ_FORMATS.items())
        raise ValueError(f"{path}: keys {', '.join(found) or 'none'} are of no known format ({formats})")
    return best


def read_npz(path: Path, labels: str) -> tuple[Frames, str, str]:
    """Frames in the file's own units, and these units."""
    keys = _npz_format(path)
    if labels not in ("", "original"):
        raise ValueError(f"dataset.labels is '{labels}'; expected 'original' or an empty string")
    if labels and keys != RMD17_KEYS:
        raise ValueError(f"{path}: labels '{labels}' are asked for, which only rMD17's npz files hold")
    if labels:
        keys = _ORIGINAL_KEYS
    arrays = read_arrays(path, keys, optional=("old_indices", "e_unit", "r_unit"))
    if keys == _PACKAGE_KEYS:
        sections = [
            labelled_frames(path, arrays, ("numbers", f"{s}_positions", f"{s}_energies", f"{s}_forces"))
            for s in SECTIONS
        ]
        joined = [np.concatenate([section[field] for section in sections]) for field in (1, 2, 3)]
        return Frames(sections[0].numbers, *joined, indices=np.arange(len(joined[1]))), "eV", "angstrom"
    frames = labelled_frames(path, arrays, keys)
    if keys in (RMD17_KEYS, _ORIGINAL_KEYS):
        return with_indices(path, frames, arrays), "kcal/mol", "angstrom"
    units = (("e_unit", "kcal/mol"), ("r_unit", "angstrom"))
    energy, length = (_text(path, key, arrays.get(key), default) for key, default in units)
    return frames, energy, length


def with_indices(path: Path, frames: Frames, arrays: Mapping[str, NDArray]) -> Frames:
    """The frames with rMD17's `old_indices`, where they are there, for the rows of the file."""
    if "old_indices" not in arrays:
        return frames
    _require_shape(path, "old_indices", arrays["old_indices"], frames.energies.shape)
    return frames._replace(indices=arrays["old_indices"].astype(np.int64))


def _text(path: Path, key: str, value: NDArray | None, default: str) -> str:
    """A string stored in an npz; sGDML stores bytes."""
    if value is None:
        return default
    if value.size != 1:
        raise ValueError(f"{path}: key '{key}' has shape {value.shape}, expected one string")
    item = value.item()
    return item.decode() if isinstance(item, bytes) else str(item)


def _require_shape(path: Path, key: str, array: NDArray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{path}: key '{key}' has shape {array.shape}, expected {expected}")


def labelled_frames(path: Path, arrays: Mapping[str, NDArray], keys: tuple[str, ...]) -> Frames:
    """Frames from four arrays whose shapes and types are checked here, with the file's own key names."""
    for key in keys:
        kind = arrays[key].dtype
        if not (np.issubdtype(kind, np.integer) or np.issubdtype(kind, np.floating)):
            raise ValueError(f"{path}: key '{key}' holds {kind}, expected numbers")
    numbers, positions, energies, forces = (arrays[key] for key in keys)
    if not np.array_equal(numbers, np.round(numbers)):
        raise ValueError(
            f"{path}: key '{keys[0]}' holds {numbers.ravel()[:3]}…, expected whole atomic numbers"
        )
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise ValueError(f"{path}: key '{keys[1]}' has shape {positions.shape}, expected (frames, atoms, 3)")
    count, atoms = positions.shape[:2]
    if numbers.ndim == 2 and len(numbers) == count > 0:
        differing = np.flatnonzero(np.any(numbers != numbers[0], axis=1))
        if differing.size:
            raise ValueError(
                f"{path}: key '{keys[0]}': frame {differing[0]} is another molecule than frame 0;"
                " expected the same atomic numbers in every frame"
            )
        numbers = numbers[0]
    _require_shape(path, keys[0], numbers, (atoms,))
    if energies.shape == (count, 1):
        energies = energies[:, 0]
    _require_shape(path, keys[2], energies, (count,))
    _require_shape(path, keys[3], forces, (count, atoms, 3))
    return Frames(
        numbers.astype(np.int64),
        positions.astype(np.float64),
        energies.astype(np.float64),
        forces.astype(np.float64),
        np.arange(count),
    )
