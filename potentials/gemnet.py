"""GemNet-T (Gasteiger et al., NeurIPS 2021, arXiv 2106.08903): messages between edges that see their angles.

The variant with triplets, one hop, whose forces are the energy's gradient. Where the paper fits scaling
factors to data, sums over neighbours are divided by their mean number and both bases are scaled alike;
Y_l0 is √(2l + 1) P_l, and the envelope's p is 6.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from potentials.base import Potential
from potentials.bessel import BesselBasis, polynomial_cutoff
from potentials.edges import Edges, safe_norm
from potentials.neighbours import potential_of_kinds
from potentials.spherical_bessel import legendre, radial_coefficients, radial_functions
from potentials.system import System

_HALF = 2**-0.5  # keeps the variance of a sum of two
_LEVEL = 0.5  # of the bases: with it features of ethanol neither grow nor die out from block to block


def _silu(x: Array) -> Array:
    """SiLU of unit gain."""
    return jax.nn.silu(x) / 0.6


class Dense(nn.Module):
    """A linear map without bias, and the activation unless `linear`."""

    size: int
    linear: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        start = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        y = nn.Dense(self.size, use_bias=False, kernel_init=start)(x)
        return y if self.linear else _silu(y)


class Residual(nn.Module):
    """(x + two dense layers of it)/√2."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size = x.shape[-1]
        return (x + Dense(size)(Dense(size)(x))) * _HALF


class Graph(NamedTuple):
    """The edges of a configuration, receiver by receiver, in K places each.

    Attributes:
      senders: [N, K].
      back: [N, K], where the edge in the other direction stands in the flat order.
      radial: [N, K, n_radial].
      circular: [N, K, n_spherical, n_radial], the part of the basis of distance and angle that is of the
        distance.
      angular: [N, K, K, n_spherical], that of the angle between two edges that end at one atom; 0 of an
        edge with itself.
    """

    senders: Array
    back: Array
    radial: Array
    circular: Array
    angular: Array


def make_graph(edges: Edges, n_atoms: int, radial: Array, n_spherical: int, cutoff: float) -> Graph:
    """The edges with their bases.

    Args:
      edges: D = N K of them, receiver by receiver, K each.
      n_atoms: N.
      radial: basis [D, n_radial].
      n_spherical: number of angular functions.
      cutoff: Å.

    Raises:
      ValueError: not as many edges for each atom.

    The work and memory are of the order N K².
    """
    room, left = divmod(len(edges.vectors), n_atoms)
    if left:
        raise ValueError(f"expected as many edges for each of {n_atoms} atoms, got {len(edges.vectors)}")
    shape = (n_atoms, room)
    distances = safe_norm(edges.vectors)
    senders = jnp.reshape(jnp.asarray(edges.senders), shape)
    near = jnp.reshape(distances < cutoff, shape)
    # Places without a neighbour are edges beyond the cutoff. What they find here enters their own messages
    # alone, and every use of a message is multiplied by a linear map of a basis that is 0 there.
    found = (senders[senders] == jnp.arange(n_atoms)[:, None, None]) & near[senders]
    back = senders * room + jnp.argmax(found, axis=2) if room else senders
    units = (edges.vectors / jnp.where(distances > 0, distances, 1.0)[:, None]).reshape(*shape, 3)
    cosines = jnp.einsum("nci,nbi->ncb", units, units, precision=jax.lax.Precision.HIGHEST)
    others = 1.0 - np.eye(room, dtype=np.float32)
    coefficients = radial_coefficients(n_spherical, radial.shape[1])
    circular = _LEVEL * cutoff**-0.5 * radial_functions(distances, cutoff, coefficients)
    circular *= polynomial_cutoff(distances, cutoff)[:, None, None]
    return Graph(
        senders=senders,
        back=back,
        radial=radial.reshape(*shape, radial.shape[1]),
        circular=circular.reshape(*shape, *circular.shape[1:]),
        angular=legendre(cosines, n_spherical) * others[:, :, None],
    )


class EdgeEmbedding(nn.Module):
    """Features of an edge from those of its atoms and its own."""

    size: int

    @nn.compact
    def __call__(self, h: Array, features: Array, graph: Graph) -> Array:
        """Atoms [N, A], edges [N, K, F] -> [N, K, size]."""
        of_receivers = jnp.broadcast_to(h[:, None], (*graph.senders.shape, h.shape[1]))
        return Dense(self.size)(jnp.concatenate([h[graph.senders], of_receivers, features], axis=-1))


class AtomEmbedding(nn.Module):
    """Features of an atom from the messages that arrive.

    Attributes: size, of the features; n_residual, layers; n_neighbours, which divides sums.
    """

    size: int
    n_residual: int
    n_neighbours: float

    @nn.compact
    def __call__(self, m: Array, basis: Array) -> Array:
        """Messages [N, K, F], basis [N, K, B], which is 0 from the cutoff on -> [N, size]."""
        weighed = m * Dense(m.shape[-1], linear=True)(basis)
        x = Dense(self.size)(weighed.sum(axis=1) / self.n_neighbours)
        for _ in range(self.n_residual):
            x = Residual()(x)
        return x


class Triplets(nn.Module):
    """What an edge learns from the others at its end, by way of the angles: the efficient bilinear layer,
    and the exchange with the edge in the other direction (symmetric message passing).

    Attributes: size, of the messages inside; n_bilinear, of those that come out; n_neighbours, which
    divides sums.
    """

    size: int
    n_bilinear: int
    n_neighbours: float

    @nn.compact
    def __call__(self, m: Array, basis: Array, circular: Array, graph: Graph) -> Array:
        """Messages [N, K, F], basis [N, K, B], circular basis after its weights [N, K, S, C] -> [N, K, F]."""
        width, n_basis = m.shape[-1], circular.shape[-1]
        x = Dense(self.size)(Dense(width)(m) * Dense(width, linear=True)(basis))
        summed = jnp.einsum("ncbs,nbt->ncst", graph.angular, x) / self.n_neighbours
        mixed = jnp.einsum("ncsi,ncst->ncti", circular, summed)
        start = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=(0, 1))
        weights = self.param("bilinear", start, (self.size, n_basis, self.n_bilinear), jnp.float32)
        out = jnp.einsum("ncti,tib->ncb", mixed, weights)
        flat = Dense(width)(out).reshape(graph.back.size, width)
        return (Dense(width)(out) + flat[graph.back]) * _HALF


class GemNetT(nn.Module):
    """Atomic energies from directed edges.

    Attributes:
      n_elements: kinds of atoms.
      n_atom: features of an atom.
      n_edge: of an edge.
      n_triplet: of an edge while it looks at angles.
      n_bilinear: that come out of the bilinear layer.
      n_basis: of each basis after its first weights, which all blocks share.
      n_radial, n_spherical: sizes of the bases.
      n_blocks: interaction blocks.
      n_residual: layers after a sum over edges.
      n_neighbours: by which sums over neighbours are divided; their mean number.
      cutoff: Å.
    """

    n_elements: int
    n_atom: int = 128
    n_edge: int = 128
    n_triplet: int = 64
    n_bilinear: int = 64
    n_basis: int = 16
    n_radial: int = 6
    n_spherical: int = 7
    n_blocks: int = 4
    n_residual: int = 2
    n_neighbours: float = 8.0
    cutoff: float = 5.0

    @nn.compact
    def __call__(self, species: Array, edges: Edges) -> Array:
        """One-hot kinds [N, n_elements], edges -> atomic energies [N], eV."""
        n_atoms = len(species)
        radial = _LEVEL * self.cutoff * BesselBasis(self.n_radial, self.cutoff)(safe_norm(edges.vectors))
        graph = make_graph(edges, n_atoms, radial, self.n_spherical, self.cutoff)
        for_triplets, for_atoms, for_output = (
            Dense(self.n_basis, linear=True)(graph.radial) for _ in range(3)
        )
        start = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=(0, 1))
        weights = self.param("circular", start, (self.n_spherical, self.n_radial, self.n_basis), jnp.float32)
        circular = jnp.einsum("ncsr,sri->ncsi", graph.circular, weights)

        def to_atoms() -> AtomEmbedding:
            return AtomEmbedding(self.n_atom, self.n_residual, self.n_neighbours)

        def output(m: Array) -> Array:
            return Dense(1, linear=True)(to_atoms()(m, for_output))[:, 0]

        uniform = nn.initializers.uniform(2 * 3**0.5)
        kinds = self.param(
            "kinds", lambda *a: uniform(*a) - 3**0.5, (self.n_elements, self.n_atom), jnp.float32
        )
        h = species @ kinds
        m = EdgeEmbedding(self.n_edge)(h, graph.radial, graph)
        energies = output(m)
        for _ in range(self.n_blocks):
            angles = Triplets(self.n_triplet, self.n_bilinear, self.n_neighbours)
            x = (Dense(self.n_edge)(m) + angles(m, for_triplets, circular, graph)) * _HALF
            m = Residual()((m + Residual()(x)) * _HALF)
            h = (h + to_atoms()(m, for_atoms)) * _HALF
            m = (m + Residual()(EdgeEmbedding(self.n_edge)(h, m, graph))) * _HALF
            energies += output(m)
        return energies


def gemnet_t(system: System, **settings: float) -> Potential:
    """GemNet-T, energies in eV.

    Args:
      system: a molecule in vacuum, or a periodic box.
      **settings: the attributes of `GemNetT` but for `n_elements`, which the system has;
        for `n_neighbours` see `potential_of_kinds`.

    Raises:
      ValueError: a box too small for the cutoff.
    """
    return potential_of_kinds(GemNetT, system, settings)
