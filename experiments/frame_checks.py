"""Whether labelled frames can be what they are said to be: hard faults, and doubts about units.

Doubts rest on two relations that hold in any unit system, so that a broken one betrays a mixed one:
between neighbouring frames the energy changes by minus force times displacement, and a molecule of N
atoms near equilibrium has var(U) = (3N - 6)/2 (k_B T)^2 (equipartition over 3N - 6 harmonic modes).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from experiments.frames import ENERGY_UNITS, Frames
from potentials.units import KB

CLOSEST_ATOMS = 0.3  # Å; no bond is shorter than half of H2's 0.74 Å
FORCE_RMS_RANGE = (0.05, 20.0)  # eV/Å; molecules at 300 to 1000 K have 0.5 to 3
SPREAD_FACTOR = 5.0  # anharmonicity and soft modes change the spread by less than 2
NEAR_PAIR = 0.1  # Å, the farthest an atom may move for the trapezoid to hold
_PAIRS_NEEDED = 10
_COMPARED = 500  # test frames at most
_ALIKE = 0.1  # the share of them from which on it is worth a warning
_CHUNK = 2_000_000  # pair distances held at once


def check_frames(frames: Frames, source: str, *, temperature: float | None = None) -> list[str]:
    """Judges the frames of one file.

    Args:
      frames: in eV, Å, eV/Å, all of the file's in its order: messages count frames from its first.
      source: the file, for the messages.
      temperature: K, that of the dynamics that made the frames; None or 0 leaves out the energy spread.

    Returns:
      One line for each doubt: implausible forces or energies, forces that are not the energy's gradient,
      duplicate frames.

    Raises:
      ValueError: fewer than two frames, wrong shapes, impossible atomic numbers, values that are not
        finite, or two atoms closer than 0.3 Å.
    """
    _require_shapes(frames, source)
    _require_cell(frames, source)
    _require_numbers(frames, source)
    for field in ("positions", "energies", "forces"):
        _require_finite(getattr(frames, field), field, source)
    _require_distances(frames, source)
    doubts = [
        _doubt_forces(frames),
        _doubt_spread(frames, temperature) if temperature else None,
        _doubt_gradient(frames),
        _doubt_duplicates(frames),
    ]
    return [f"{source}: {doubt}" for doubt in doubts if doubt]


def are_shared(one: Frames, other: Frames) -> NDArray[np.bool_]:
    """Which frames [F] of `other` have exactly the positions of a frame of `one`."""
    return np.isin(_row_bytes(other.positions), _row_bytes(one.positions))


def doubt_neighbours(train: Frames, test: Frames) -> str | None:
    """Whether test frames come so soon before or after a training frame of the same trajectory that the two
    are alike: their interatomic distances differ by less than half of what those of test and training frames
    at random differ by in the median. Where that holds of a tenth more of the test frames than by chance,
    their error says little about others."""
    if not len(test.indices) or len(test.numbers) < 2:
        return None  # nothing to compare
    order = np.argsort(train.indices, kind="stable")
    times = train.indices[order]
    after = np.clip(np.searchsorted(times, test.indices), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    sooner = np.abs(times[before] - test.indices) <= np.abs(times[after] - test.indices)
    rows = np.linspace(0, len(test.indices) - 1, min(len(test.indices), _COMPARED)).astype(int)
    beside = train.take(order[np.where(sooner, before, after)[rows]])
    at_random = train.take(np.random.default_rng(0).integers(len(times), size=len(rows)))
    near_by, far = (difference(test.take(rows), other) for other in (beside, at_random))
    half = 0.5 * np.median(far)
    alike = float(np.mean(near_by < half) - np.mean(far < half))
    if alike <= _ALIKE:
        return None
    return (
        f"{100 * alike:.0f} % of the test frames come so soon before or after a training frame that they are"
        " like it, and their error says little about other frames; expected dataset.split=blocks and a"
        " dataset.test"
    )


def difference(one: Frames, other: Frames) -> NDArray[np.float64]:
    """[F]: RMS difference of the interatomic distances of each pair of frames, Å, which no drift and no
    rotation changes."""
    return np.sqrt(np.mean(np.square(_distances(one) - _distances(other)), axis=1))


def _distances(frames: Frames) -> NDArray[np.float64]:
    first, second = np.triu_indices(len(frames.numbers), 1)
    return np.linalg.norm(frames.nearest(frames.positions[:, first] - frames.positions[:, second]), axis=-1)


def _require_shapes(frames: Frames, source: str) -> None:
    count, atoms = len(frames.energies), len(frames.numbers)
    expected = {
        "numbers": (atoms,),
        "positions": (count, atoms, 3),
        "energies": (count,),
        "forces": (count, atoms, 3),
        "indices": (count,),
    }
    for field, shape in expected.items():
        found = np.shape(getattr(frames, field))
        if found != shape:
            raise ValueError(f"{source}: {field} have shape {found}, expected {shape}")
    if count < 2:
        raise ValueError(f"{source}: holds {count} frames, expected at least 2")


def _require_cell(frames: Frames, source: str) -> None:
    cell = frames.cell
    if cell is None:
        return
    if np.shape(cell) != (3, 3) or not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1e-6:
        raise ValueError(f"{source}: cell is {np.asarray(cell).tolist()}; expected three lattice vectors, Å")


def _require_numbers(frames: Frames, source: str) -> None:
    wrong = np.flatnonzero((frames.numbers < 1) | (frames.numbers > 118))
    if wrong.size:
        atom = wrong[0]
        raise ValueError(
            f"{source}: numbers: atom {atom} has atomic number {frames.numbers[atom]}, expected 1 to 118"
        )


def _require_finite(values: NDArray, field: str, source: str) -> None:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{source}: {field} of frame {np.argmax(bad)} are not finite ({bad.sum()} such frames)"
        )


def _require_distances(frames: Frames, source: str) -> None:
    first, second = np.triu_indices(len(frames.numbers), 1)
    if not first.size:
        return
    rows = max(1, _CHUNK // first.size)
    for start in range(0, len(frames.positions), rows):
        block = frames.positions[start : start + rows]
        steps = frames.nearest(block[:, first] - block[:, second])  # [chunk, pairs, 3]
        squared = np.square(steps).sum(axis=-1)
        row, pair = np.unravel_index(squared.argmin(), squared.shape)
        if squared[row, pair] < CLOSEST_ATOMS**2:
            raise ValueError(
                f"{source}: positions of frame {start + row}: atoms {first[pair]} and {second[pair]} are"
                f" {squared[row, pair] ** 0.5:.3g} Å apart, expected {CLOSEST_ATOMS} or more"
                " (wrong length unit?)"
            )


def _doubt_forces(frames: Frames) -> str | None:
    rms = float(np.sqrt(np.mean(np.square(frames.forces))))
    low, high = FORCE_RMS_RANGE
    if low <= rms <= high:
        return None
    return f"forces have an RMS of {rms:.3g} eV/Å, expected {low} to {high} (wrong force unit?)"


def _doubt_spread(frames: Frames, temperature: float) -> str | None:
    modes = 3 * len(frames.numbers) - 6
    if modes < 1:
        return None
    expected = KB * temperature * np.sqrt(modes / 2)
    ratio = float(np.std(frames.energies) / expected)
    if 1 / SPREAD_FACTOR <= ratio <= SPREAD_FACTOR:
        return None
    return (
        f"energies spread by {ratio * expected:.3g} eV, expected about {expected:.3g} eV at {temperature:g} K"
        f" (ratio {ratio:.3g}){_unit_hint(ratio, 'energies')}"
    )


def _doubt_gradient(frames: Frames) -> str | None:
    """Slope of the energy change over the work, between frames next to each other in time."""
    order = np.argsort(frames.indices, kind="stable")
    positions = frames.positions[order]
    moves = np.abs(np.diff(positions, axis=0)).max(axis=(1, 2), initial=0.0)  # [F-1]
    near = np.flatnonzero((moves > 0) & (moves < NEAR_PAIR))
    if len(near) < _PAIRS_NEEDED:
        return None
    before, after = order[near], order[near + 1]
    middle = 0.5 * (frames.forces[before] + frames.forces[after])
    work = np.sum(middle * (frames.positions[after] - frames.positions[before]), axis=(1, 2))
    change = frames.energies[after] - frames.energies[before]
    total = np.sum(work**2)
    if total == 0:
        return "forces are zero or do no work between neighbouring frames"
    slope = float(-np.sum(change * work) / total)
    if 0.5 < slope < 2:
        return None
    if -2 < slope < -0.5:
        return "forces have the wrong sign: the energy rises along them (gradients stored as forces?)"
    return (
        f"energies change by {slope:.3g} times what the forces say between {len(near)} pairs of neighbouring"
        f" frames, expected 1{_unit_hint(slope, 'energies')}"
    )


def _doubt_duplicates(frames: Frames) -> str | None:
    _, first, inverse = np.unique(_row_bytes(frames.positions), return_index=True, return_inverse=True)
    # return_index gives a first occurrence, so every other row of its group is a repeat.
    original = first[inverse]
    repeats = np.flatnonzero(original != np.arange(len(original)))
    if not repeats.size:
        return None
    row = repeats[0]
    return f"{repeats.size} duplicate frames (first: frame {row} has the positions of frame {original[row]})"


def _row_bytes(positions: NDArray[np.float64]) -> NDArray[np.void]:
    """Each frame's positions as one comparable item: exact equality without a tolerance."""
    count, atoms, dimensions = positions.shape
    flat = np.ascontiguousarray(positions.reshape(count, atoms * dimensions)) + 0.0  # makes -0.0 equal 0.0
    return flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()


def _unit_hint(ratio: float, what: str) -> str:
    """Which mistaken units would make `what` too large by `ratio`."""
    fits = [
        f"{true} read as {read} (factor {size / ENERGY_UNITS[true]:.4g})"
        for read, size in ENERGY_UNITS.items()
        for true in ENERGY_UNITS
        if true != read and 1 / 1.8 < ratio * ENERGY_UNITS[true] / size < 1.8
    ]
    return f": it would fit {what} in {' or '.join(fits)}" if fits else ""
