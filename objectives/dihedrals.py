"""Dihedral angles of a molecule: which ones there are, their histograms and free-energy profiles."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from potentials.units import KB

RIGID_RING = 6
"""Bonds in rings of up to this many atoms are not taken as rotatable."""


class Dihedral(NamedTuple):
    """A torsion: its name and the equivalent quadruples [K, 4] whose angles make one histogram."""

    name: str
    quadruples: NDArray[np.int64]


def _neighbours(n_atoms: int, bonds: ArrayLike) -> list[set[int]]:
    pairs = np.asarray(bonds)
    if pairs.size == 0:
        return [set() for _ in range(n_atoms)]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"bonds must be integers [M, 2], got {pairs.dtype} {pairs.shape}")
    if pairs.min() < 0 or pairs.max() >= n_atoms or (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError(f"bonds must join two different atoms among 0..{n_atoms - 1}")
    neighbours: list[set[int]] = [set() for _ in range(n_atoms)]
    for i, j in pairs.tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    return neighbours


def _ring_size(neighbours: list[set[int]], i: int, j: int) -> int | None:
    """Atoms in the smallest ring through the bond i–j; None where there is no ring."""
    size, queue = {i: 1}, deque([i])
    while queue:
        atom = queue.popleft()
        for other in neighbours[atom]:
            if {atom, other} == {i, j} or other in size:
                continue
            size[other] = size[atom] + 1
            if other == j:
                return size[other]
            queue.append(other)
    return None


def _ranks(numbers: list[int], neighbours: list[set[int]]) -> list[int]:
    """Topological rank of each atom: equal for equivalent ones, higher for heavier surroundings.

    Colour refinement (Weisfeiler and Leman 1968) that starts from the elements: it finds the atoms
    that the bond graph cannot tell apart. Mirror images (prochiral hydrogens) stay equivalent.
    """
    keys: list[tuple] = [(number,) for number in numbers]
    for _ in range(len(numbers) + 1):
        order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
        ranks = [order[key] for key in keys]
        keys = [
            (rank, tuple(sorted((ranks[other] for other in neighbours[atom]), reverse=True)))
            for atom, rank in enumerate(ranks)
        ]
        if len(set(keys)) == len(order):
            break
    return ranks


def _end_atoms(centre: int, other: int, ranks: list[int], neighbours: list[set[int]]) -> list[int]:
    """The equivalent atoms on `centre` that define its end of the torsion about centre–other.

    Ranks refine the elements, so the highest rank is the heaviest element and, within it, the one
    with the heaviest surroundings; hydrogens on one atom all share one rank.
    """
    candidates = sorted(neighbours[centre] - {other})
    best = max(ranks[atom] for atom in candidates)
    return [atom for atom in candidates if ranks[atom] == best]


def find_dihedrals(numbers: ArrayLike, bonds: ArrayLike) -> list[Dihedral]:
    """One torsion for every bond whose two atoms both have another neighbour, unless in a ring of ≤ 6 atoms.

    At each end the heaviest neighbouring element is taken, hydrogens only where there is nothing
    else. Of several atoms of that element those with the heaviest surroundings are taken, and all
    of them where the bond graph cannot tell them apart (the three hydrogens of a methyl, the two
    ortho carbons of a phenyl): then K > 1 quadruples describe one torsion and their angles are
    pooled. Names read from the lighter end ('H-O-C-C'); a repeated name gets ' #2', ' #3', ….
    Bond orders are not known here, so double bonds are listed too, and so are near-linear centres
    (alkynes, nitriles), whose angles mean nothing: leave those out by choosing with `user_dihedral`.

    Args:
      numbers: atomic numbers [N].
      bonds: atom indices [M, 2].

    Returns:
      The torsions, ordered by their central bonds.

    Raises:
      ValueError: bonds that are not pairs of different atoms of the molecule.
    """
    elements = np.asarray(numbers, dtype=int).tolist()
    neighbours = _neighbours(len(elements), bonds)
    ranks = _ranks(elements, neighbours)
    found: list[Dihedral] = []
    seen: dict[str, int] = {}
    for b, c in sorted((i, j) for i in range(len(elements)) for j in neighbours[i] if i < j):
        ring = _ring_size(neighbours, b, c)
        if len(neighbours[b]) < 2 or len(neighbours[c]) < 2 or (ring is not None and ring <= RIGID_RING):
            continue
        quadruples = np.array(
            [
                (a, b, c, d)
                for a in _end_atoms(b, c, ranks, neighbours)
                for d in _end_atoms(c, b, ranks, neighbours)
            ]
        )
        chain = [elements[atom] for atom in quadruples[0]]
        if chain[::-1] < chain:
            quadruples, chain = quadruples[:, ::-1], chain[::-1]
        name = "-".join(chemical_symbols[number] for number in chain)
        seen[name] = seen.get(name, 0) + 1
        found.append(Dihedral(name if seen[name] == 1 else f"{name} #{seen[name]}", quadruples))
    return found


def user_dihedral(text: str, numbers: ArrayLike) -> Dihedral:
    """The torsion of four 0-based atom indices written 'a-b-c-d', named like 'H3-C1-C0-O2'.

    Raises:
      ValueError: not four different indices of atoms 0..N-1.
    """
    elements = np.asarray(numbers, dtype=int)
    expected = f"expected four different 0-based atom indices like '3-1-0-2', each below {len(elements)}"
    parts = [part.strip() for part in text.split("-")]
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"dihedral '{text}': {expected}")
    atoms = [int(part) for part in parts]
    if len(set(atoms)) != 4 or max(atoms) >= len(elements):
        raise ValueError(f"dihedral '{text}': {expected}")
    name = "-".join(f"{chemical_symbols[elements[atom]]}{atom}" for atom in atoms)
    return Dihedral(name, np.array([atoms]))


def dihedral_centers(bins: int) -> NDArray[np.float64]:
    """Centres [bins] (radians) of `bins` equal bins over (−π, π]."""
    return -np.pi + (np.arange(bins) + 0.5) * 2 * np.pi / bins


def dihedral_histogram(angles: ArrayLike, bins: int, *, mirror: bool = False) -> NDArray[np.float64]:
    """Probabilities [bins], summing to 1, of angles [...] (radians, any period) over (−π, π].

    Args:
      angles: all pooled, whatever their shape.
      bins: number of equal bins, each open below and closed above.
      mirror: average φ and −φ, which an achiral molecule samples equally.

    Raises:
      ValueError: no angles, a non-finite one, or bins < 1.
    """
    angles = np.asarray(angles, dtype=float).ravel()
    bad = int(np.count_nonzero(~np.isfinite(angles)))
    if angles.size == 0 or bad or bins < 1:
        raise ValueError(
            "a dihedral histogram needs finite angles and bins >= 1, "
            f"got {angles.size} angles ({bad} not finite) and bins={bins}"
        )
    index = np.ceil((angles + np.pi) * bins / (2 * np.pi)).astype(int) - 1
    counts = np.bincount(index % bins, minlength=bins)
    if mirror:
        counts = counts + counts[::-1]
    return counts / counts.sum()


def free_energy(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """F = −k_B T ln p (eV) of probabilities [..., B], with its minimum at 0; NaN where p = 0.

    Raises:
      ValueError: a negative or non-finite probability, or a histogram that is empty.
    """
    p = np.asarray(probabilities, dtype=float)
    if not np.isfinite(p).all() or (p < 0).any() or (p.sum(axis=-1) == 0).any():
        raise ValueError("a free energy needs finite probabilities >= 0 that are not all 0")
    profile = -KB * temperature * np.log(np.where(p > 0, p, np.nan))
    return profile - np.nanmin(profile, axis=-1, keepdims=True)


def populated(probabilities: ArrayLike, minimum: float | None = None) -> NDArray[np.bool_]:
    """Mask [..., B] of the bins with p ≥ minimum, by default a fifth of the uniform 1/B.

    At 0.2/B the free energy is k_B T ln 5 above a flat profile; rarer bins are mostly noise.
    """
    p = np.asarray(probabilities, dtype=float)
    return p >= (0.2 / p.shape[-1] if minimum is None else minimum)


def free_energy_stderr(chain_counts: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Standard error [B] (eV) of −k_B T ln p from independent chains; NaN where p = 0.

    Delta method: k_B T · stderr(p)/p, where p = Σ_c counts_c / Σ_c total_c is a ratio estimator, so
    chains may differ in length. It is the error before the shift of the minimum to 0.

    Args:
      chain_counts: counts [C, B] of each chain; probabilities do as well where chains are equally long.
      temperature: K.

    Raises:
      ValueError: fewer than two chains, a negative or non-finite count, or no counts.
    """
    counts = np.asarray(chain_counts, dtype=float)
    if counts.ndim != 2 or counts.shape[0] < 2:
        raise ValueError(f"a standard error over chains needs counts [C >= 2, B], got {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() == 0:
        raise ValueError("chain counts must be finite and >= 0, and not all 0")
    n_chains, totals = counts.shape[0], counts.sum(axis=1, keepdims=True)
    p = counts.sum(axis=0) / totals.sum()
    residuals = counts - p * totals
    stderr = np.sqrt(n_chains / (n_chains - 1) * np.sum(residuals**2, axis=0)) / totals.sum()
    return KB * temperature * stderr / np.where(p > 0, p, np.nan)
