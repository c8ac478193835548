"""What is in a file of labelled frames: counts, ranges, bonds, and the frames that stand out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.figure_style import panels_of
from experiments.frame_checks import check_frames, difference
from experiments.frames import Frames
from experiments.problem import typical_geometry
from experiments.verdicts import RESOLUTION
from objectives.observables import bond_lengths, virial_temperature
from objectives.statistics import autocorrelation_time, block_stderr
from potentials import System, make_system
from potentials.units import KB

OUTLIER = 8.0  # robust standard deviations
SPREAD = 0.25  # share by which energies may spread otherwise than harmonic ones
BROKEN = 0.5  # Å, of a bond from its median length
LISTED = 8  # frames a line
LISTED_BONDS = 60  # one a line; more are pooled by their elements
SHOWN = 2_000_000  # distances in the histogram, at most
_COMPARED = 500  # pairs of frames


class Inspection(NamedTuple):
    """Attributes: lines, to print; doubts, one line each; outliers, [F], the frames that stand out."""

    lines: list[str]
    doubts: list[str]
    outliers: NDArray[np.bool_]


def inspect_frames(frames: Frames, source: str, temperature: float | None = None) -> Inspection:
    """Describes frames in eV, Å, eV/Å.

    Args:
      frames: of one file, in its order.
      source: the file, for the messages.
      temperature: K, at which they were sampled; None leaves out what needs it.

    Raises:
      ValueError: frames that can not be what they are said to be, see `check_frames`.
    """
    doubts = check_frames(frames, source, temperature=temperature)
    system = make_system(frames.numbers, typical_geometry(frames), temperature or 1.0, cell=frames.cell)
    energies, norms = frames.energies, np.linalg.norm(frames.forces, axis=-1)  # [F], [F, N]
    mean = energies.mean()
    lines = [
        f"{source}: {len(energies)} frames of {Atoms(frames.numbers).get_chemical_formula()}, "
        f"{len(frames.numbers)} atoms",
        f"energies: mean {mean:.4f} eV, sd {energies.std():.4f}, {energies.min() - mean:+.4f} to "
        f"{energies.max() - mean:+.4f} around it",
        f"forces: RMS of a component {np.sqrt(np.mean(frames.forces**2)):.4g} eV/Å, largest on an atom "
        f"{norms.max():.4g} (frame {norms.max(axis=1).argmax()})",
        _order(frames),
    ]
    if frames.cell is not None:
        vectors = "; ".join(" ".join(f"{x:.4g}" for x in vector) for vector in frames.cell)
        lines.insert(1, f"periodic, lattice vectors {vectors} Å")
    elif len(frames.numbers) > 2:
        virial = np.asarray(virial_temperature(frames.positions, frames.forces, system.masses), float)
        error = block_stderr(virial) if len(virial) >= 40 else np.inf
        lines.append(
            f"virial temperature: {virial.mean():.0f} ± {error:.0f} K, the temperature at which these frames "
            "would be a Boltzmann sample of their own labels"
        )
        if temperature and abs(virial.mean() - temperature) <= 3 * error > 3 * RESOLUTION * temperature:
            lines[-1] += ": too uncertain to tell"
        if temperature and abs(virial.mean() - temperature) > 3 * error:
            doubts.append(
                f"{source}: the virial temperature is not {temperature:g} K: no potential that fits these "
                "labels samples these frames' energies"
            )
    if temperature and frames.cell is None and len(energies) >= 40:
        line, *doubt = _spread(frames, source, temperature)
        lines.append(line)
        doubts += doubt
    lengths = np.asarray(bond_lengths(frames.positions, system.bonds, frames.cell), float)
    lines += _bonds(frames.numbers, system, lengths)
    wrong = {
        f"energy more than {OUTLIER:g} robust sd from the median": _far(energies),
        f"force more than {OUTLIER:g} robust sd above the median": _far(norms.max(axis=1), above=True),
        f"bond more than {BROKEN} Å from its median": (
            np.abs(lengths - np.median(lengths, axis=0)) > BROKEN
        ).any(axis=1),
    }
    lines += [f"outliers, {what}: {_list(rows)}" for what, rows in wrong.items()]
    return Inspection(lines, doubts, np.any(list(wrong.values()), axis=0))


def _spread(frames: Frames, source: str, temperature: float) -> list[str]:
    """How energies spread, and a doubt where it is otherwise than those of a harmonic molecule of 3N − 6
    modes (or 3N, where something holds it) by more than anharmonicity and three standard errors would have
    it."""
    n_modes = np.array([3 * len(frames.numbers) - 6, 3 * len(frames.numbers)])
    low, high = KB * temperature * np.sqrt(np.maximum(n_modes, 1) / 2)
    spread = frames.energies.std()
    g = autocorrelation_time(frames.energies[None]) if spread > 0 else 1.0
    error = spread * np.sqrt(g / (2 * len(frames.energies)))
    text = (
        f"energies spread by {spread:.3f} ± {error:.3f} eV, those of a harmonic molecule at "
        f"{temperature:g} K by {low:.3f}"
    )
    if (1 - SPREAD) * low - 3 * error < spread < (1 + SPREAD) * high + 3 * error:
        return [text]
    return [text, f"{source}: {text}: another temperature, or frames that are no sample of their labels"]


def _order(frames: Frames) -> str:
    """Whether the file is a trajectory, or frames in no order."""
    g = autocorrelation_time(frames.energies[None]) if np.ptp(frames.energies) > 0 else 1.0
    count = len(frames.energies)
    rows = np.linspace(0, count - 2, min(count - 1, _COMPARED)).astype(int)
    near, far = (difference(frames.take(rows), frames.take((rows + k) % count)) for k in (1, count // 2))
    steps, apart = np.median(near), np.median(far)
    if steps < 0.5 * apart:
        what = "neighbouring frames are alike: a trajectory, to be split in blocks and not at random"
    else:
        what = "neighbouring frames are as different as distant ones"
    return (
        f"order: {what} (interatomic distances differ by {steps:.3g} Å from a frame to the next and by "
        f"{apart:.3g} Å between distant frames; energies forget themselves in {g:.1f} frames)"
    )


def _bonds(numbers: NDArray, system: System, lengths: NDArray) -> list[str]:
    symbols = Atoms(numbers).get_chemical_symbols()
    if len(system.bonds) > LISTED_BONDS:
        kinds = np.array(["-".join(sorted((symbols[i], symbols[j]))) for i, j in system.bonds])
        of_kind = {kind: lengths[:, kinds == kind] for kind in np.unique(kinds)}
        return [
            f"bonds, from covalent radii at a typical frame: {len(system.bonds)}",
            *(
                f"  {kind}: {x.shape[1]} bonds, mean {x.mean():.3f} Å, {x.min():.3f} to {x.max():.3f}"
                for kind, x in of_kind.items()
            ),
        ]
    rows = [
        f"  {symbols[i]}{i}-{symbols[j]}{j}: mean {x.mean():.3f} Å, {x.min():.3f} to {x.max():.3f}"
        for (i, j), x in zip(system.bonds, lengths.T, strict=True)
    ]
    return [f"bonds, from covalent radii at a typical frame: {len(rows)}", *rows]


def _far(values: NDArray, above: bool = False) -> NDArray[np.bool_]:
    """Which values lie far from the median, in units of the scaled median absolute deviation."""
    distance = values - np.median(values)
    scale = 1.4826 * np.median(np.abs(distance))
    return (distance if above else np.abs(distance)) > OUTLIER * max(scale, 1e-12)


def _list(rows: NDArray[np.bool_]) -> str:
    found = np.flatnonzero(rows)
    if not len(found):
        return "none"
    more = ", …" if len(found) > LISTED else ""
    return f"{len(found)} (frames {', '.join(map(str, found[:LISTED]))}{more})"


def inspection_figure(frames: Frames, outliers: NDArray[np.bool_]) -> Figure:
    """Energies in the file's order and their histogram, forces, and interatomic distances."""
    figure, (series, spread, forces, distances) = panels_of(4, 2, 2.8)
    energies = frames.energies - frames.energies.mean()
    rows = np.arange(len(energies))
    series.plot(rows, energies, ".", markersize=2, color="#0072B2")
    series.plot(rows[outliers], energies[outliers], "x", color="#D55E00", label=f"{outliers.sum()} outliers")
    series.legend(fontsize=9)
    series.set(xlabel="Frame", ylabel="Energy − mean (eV)")
    spread.hist(energies, bins=60, color="#0072B2")
    spread.set(xlabel="Energy − mean (eV)", ylabel="Frames")
    forces.hist(np.linalg.norm(frames.forces, axis=-1).ravel(), bins=60, color="#0072B2", log=True)
    forces.set(xlabel="Force on an atom (eV/Å)", ylabel="Atoms")
    first, second = np.triu_indices(len(frames.numbers), 1)
    stride = max(1, -(-len(energies) * len(first) // SHOWN))
    shown = frames.positions[::stride]
    lengths = np.linalg.norm(frames.nearest(shown[:, first] - shown[:, second]), axis=-1)
    distances.hist(lengths.ravel(), bins=150, color="#0072B2")
    distances.set(xlabel="Interatomic distance (Å)", ylabel="Pairs")
    return figure
