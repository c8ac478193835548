"""Observables of molecular configurations, as pure jax functions of positions.

Histograms are densities over *all* the values they were given: what falls outside the grid is
missing from the integral instead of being spread over the bins, so that a sample that leaves the
grid shows. Target and prediction must be binned on one and the same `Grid`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from potentials.edges import nearest_image, safe_norm
from potentials.units import KB


class Grid(NamedTuple):
    """Equal bins of a histogram: edges [B+1] and centers [B], in the unit of the observable."""

    edges: jax.Array
    centers: jax.Array


def uniform_grid(low: float, high: float, bins: int) -> Grid:
    """`bins` equal bins from `low` to `high`. Raises ValueError unless low < high and bins ≥ 1."""
    if not (np.isfinite([low, high]).all() and low < high) or bins < 1:
        raise ValueError(f"a grid needs finite low < high and bins >= 1, got {low}, {high} and {bins}")
    edges = np.linspace(low, high, bins + 1)
    return Grid(jnp.asarray(edges), jnp.asarray((edges[1:] + edges[:-1]) / 2))


def distance_grid(r_max: float = 8.0, bins: int = 500) -> Grid:
    """The grid of h(r): `bins` equal bins over [0, r_max] (Å)."""
    return uniform_grid(0.0, r_max, bins)


def energy_grid(reference: ArrayLike, bins: int = 100, margin: float = 0.5) -> Grid:
    """A grid over the range of the reference energies [S] (eV), widened by `margin` ranges a side.

    Raises:
      ValueError: fewer than two distinct energies, or a non-finite one.
    """
    reference = np.asarray(reference, dtype=float)
    if reference.size < 2 or not np.isfinite(reference).all() or np.ptp(reference) == 0:
        raise ValueError("an energy grid needs at least two distinct reference energies, all finite")
    low, high = float(reference.min()), float(reference.max())
    pad = margin * (high - low)
    return uniform_grid(low - pad, high + pad, bins)


def pair_distances(positions: ArrayLike, cell: ArrayLike | None = None) -> jax.Array:
    """Distances [..., N(N−1)/2] (Å) of all pairs i < j of [..., N, 3] (Å), in `np.triu_indices` order; to the
    nearest image in a cell [3, 3] (Å)."""
    positions = jnp.asarray(positions)
    i, j = np.triu_indices(positions.shape[-2], k=1)
    steps = positions[..., i, :] - positions[..., j, :]
    return safe_norm(steps if cell is None else nearest_image(steps, cell))


def bond_lengths(positions: ArrayLike, bonds: ArrayLike, cell: ArrayLike | None = None) -> jax.Array:
    """Lengths of bonds [M, 2]: positions [..., N, 3] (Å) -> [..., M] (Å); to the nearest image in a cell
    [3, 3] (Å)."""
    positions, bonds = jnp.asarray(positions), jnp.asarray(bonds, dtype=int).reshape(-1, 2)
    steps = positions[..., bonds[:, 0], :] - positions[..., bonds[:, 1], :]
    return safe_norm(steps if cell is None else nearest_image(steps, cell))


def dihedral_angles(positions: ArrayLike, quadruples: ArrayLike) -> jax.Array:
    """Dihedral angles φ in (−π, π], IUPAC sign (clockwise from the front bond to the back one is positive).

    φ = atan2(|b₂| b₁·(b₂×b₃), (b₁×b₂)·(b₂×b₃)), which is accurate at every angle, unlike arccos.
    The gradient is finite wherever no three consecutive atoms are collinear.

    Args:
      positions: [..., N, 3], Å.
      quadruples: atom indices [D, 4].

    Returns:
      Angles [..., D], radians.
    """
    positions, quadruples = jnp.asarray(positions), jnp.asarray(quadruples, dtype=int).reshape(-1, 4)
    a, b, c, d = (positions[..., quadruples[:, k], :] for k in range(4))
    first, middle, last = b - a, c - b, d - c
    normal = jnp.cross(middle, last)
    sine = safe_norm(middle) * jnp.sum(first * normal, axis=-1)
    cosine = jnp.sum(jnp.cross(first, middle) * normal, axis=-1)
    angles = jnp.arctan2(sine, cosine)
    # atan2(-0, x < 0) is −π, which the half-open interval leaves out.
    return jnp.where(angles <= -jnp.pi, angles + 2 * jnp.pi, angles)


def _empirical_cdf(values: jax.Array, edges: jax.Array) -> jax.Array:
    """Share of values [..., P] strictly below each edge [E] -> [..., E]; a NaN lies above every edge."""

    def one(sample: jax.Array) -> jax.Array:
        return jnp.searchsorted(jnp.sort(sample), edges, side="left") / sample.shape[0]

    return jnp.vectorize(one, signature="(p)->(e)")(values)


def _density(cdf: jax.Array, edges: jax.Array) -> jax.Array:
    return jnp.diff(cdf, axis=-1) / jnp.diff(edges)


def distance_histogram(positions: ArrayLike, grid: Grid, cell: ArrayLike | None = None) -> jax.Array:
    """h(r): the density of interatomic distances, each frame by itself.

    Args:
      positions: [..., N, 3], Å.
      grid: bins in Å; a distance on an edge belongs to the bin above it.
      cell: [3, 3], Å, of a periodic box; distances are to the nearest image.

    Returns:
      h [..., B], 1/Å; Σ h·Δr is the share of the N(N−1)/2 pairs that lie in the grid.
    """
    return _density(_empirical_cdf(pair_distances(positions, cell), grid.edges), grid.edges)


def distance_distribution(positions: ArrayLike, grid: Grid, width: float) -> jax.Array:
    """Differentiable h(r): each distance is smeared by a Gaussian.

    h(r) of Raja et al., arXiv:2402.13984, appendix A.4. The Gaussian is integrated over each bin
    exactly, so the result is a bin average, normalised for any width, and it tends to
    `distance_histogram` as the width goes to 0.

    Args:
      positions: [..., N, 3], Å. Memory grows as pairs × bins: map over frames where there are many.
      grid: bins in Å, the same as the target's.
      width: standard deviation of the Gaussian, Å; at least about half a bin for useful gradients.

    Returns:
      h [..., B], 1/Å; Σ h·Δr is the share of the smeared pairs that lies in the grid.

    Raises:
      ValueError: width ≤ 0.
    """
    return smeared_density(pair_distances(positions), grid, width)


def smeared_density(values: jax.Array, grid: Grid, width: float) -> jax.Array:
    """Density [..., B] of values [..., P], each a Gaussian of standard deviation `width` (their unit).

    Raises:
      ValueError: width ≤ 0.
    """
    if not width > 0:
        raise ValueError(f"the width of the smearing must be positive, got {width}; see distance_histogram")
    reduced = (grid.edges - values[..., None]) / (np.sqrt(2) * width)
    # The CDF less its constant ½, which the difference over a bin takes out.
    cdf = jnp.mean(jax.lax.erf(reduced) / 2, axis=-2)
    return _density(cdf, grid.edges)


def energy_histogram(energies: ArrayLike, grid: Grid) -> jax.Array:
    """Density [..., B] (1/eV) of energies [..., S] (eV); Σ p·ΔE is the share of samples in the grid."""
    return _density(_empirical_cdf(jnp.asarray(energies), grid.edges), grid.edges)


def virial_temperature(positions: ArrayLike, forces: ArrayLike, masses: ArrayLike) -> jax.Array:
    """Temperature of a bound molecule from positions and forces alone, frame by frame.

    For a Boltzmann sample of the labels −⟨Σ_i (r_i − r_com)·F_i⟩ = (3N − 3) k_B T exactly, whatever the
    potential, so the mean over frames tests whether a reference set is a sample of its own labels.
    Single frames scatter widely and may be negative.

    Args:
      positions: [F, N, 3], Å.
      forces: [F, N, 3], eV/Å.
      masses: [N], amu; weights of the centre, which matters only where the forces do not sum to 0.

    Returns:
      Estimates [F], K.

    Raises:
      ValueError: the shapes do not agree, or fewer than two atoms.
    """
    positions, forces, masses = jnp.asarray(positions), jnp.asarray(forces), jnp.asarray(masses)
    n_atoms = masses.shape[0]
    expected = (len(positions), n_atoms, 3)
    if n_atoms < 2 or positions.shape != expected or forces.shape != expected:
        raise ValueError(
            "expected positions and forces [F, N, 3] and masses [N >= 2], "
            f"got {positions.shape}, {forces.shape} and {masses.shape}"
        )
    centre = jnp.einsum("n,fnd->fd", masses / jnp.sum(masses), positions)
    virial = -jnp.sum((positions - centre[:, None, :]) * forces, axis=(1, 2))
    return virial / ((3 * n_atoms - 3) * KB)


def energy_spread(temperature: float, n_atoms: int) -> float:
    """Spread k_B T √((3N − 6)/2) (eV) of the potential energy of classical harmonic vibrations.

    Args:
      temperature: K.
      n_atoms: atoms N of a non-linear molecule.

    Raises:
      ValueError: n_atoms < 3.
    """
    if n_atoms < 3:
        raise ValueError(f"a non-linear molecule has at least 3 atoms, got {n_atoms}")
    return KB * temperature * float(np.sqrt((3 * n_atoms - 6) / 2))
