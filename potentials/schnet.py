"""SchNet (Schütt et al., J. Chem. Phys. 148, 241722) in Flax, with PyTorch Geometric's conventions.

Shifted softplus, Gaussian expansion with width equal to the spacing, cosine cutoff on the filters,
an atom embedding and an atomwise readout, so that published weights load
(`potentials.torch_weights`).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from potentials.base import Params, Potential
from potentials.edges import Edges
from potentials.neighbours import potential_on_edges
from potentials.radial_table import look_up, make_table
from potentials.system import System


@jax.custom_jvp
def shifted_softplus(x: Array) -> Array:
    """ln(1 + e^x) − ln 2, zero at zero."""
    return jnp.maximum(x, 0.0) + jnp.log(0.5 + 0.5 * jnp.exp(-jnp.abs(x)))


@shifted_softplus.defjvp
def _shifted_softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The logistic function itself: differentiating through abs and max costs a third of a force call.
    (x,), (tangent,) = primals, tangents
    return shifted_softplus(x), nn.sigmoid(x) * tangent


def gaussian_expansion(distances: Array, n_gaussians: int, cutoff: float) -> Array:
    """Distances [E] (Å) on Gaussians centred evenly over [0, cutoff] -> [E, n_gaussians]."""
    centres, spacing = np.linspace(0.0, cutoff, n_gaussians, retstep=True)
    return jnp.exp(-0.5 * ((distances[:, None] - centres.astype(np.float32)) / spacing) ** 2)


def cosine_cutoff(distances: Array, cutoff: float) -> Array:
    """(cos(π r / cutoff) + 1)/2 inside the cutoff, 0 outside; value and slope vanish at the cutoff."""
    return jnp.where(distances < cutoff, 0.5 * (jnp.cos(distances * (np.pi / cutoff)) + 1.0), 0.0)


class SchNet(nn.Module):
    """Atomic energies from edges.

    Attributes:
      n_features, n_filters: widths of the atom features and of the filters.
      n_interactions: number of interaction blocks.
      n_gaussians: size of the distance expansion.
      cutoff: Å.
      n_elements: rows of the embedding; atomic numbers must be below it.
    """

    n_features: int = 64
    n_filters: int = 64
    n_interactions: int = 3
    n_gaussians: int = 25
    cutoff: float = 5.0
    n_elements: int = 100

    def setup(self) -> None:
        normal = nn.initializers.normal(1.0)
        self.embedding = nn.Embed(self.n_elements, self.n_features, embedding_init=normal)
        for block in range(self.n_interactions):
            for part in ("filter_0", "filter_1", "in"):
                setattr(self, f"interaction_{block}_{part}", _torch_dense(self.n_filters, part != "in"))
            for part in ("message", "out"):
                setattr(self, f"interaction_{block}_{part}", _torch_dense(self.n_features))
        self.readout_0 = _torch_dense(self.n_features // 2)
        self.readout_1 = _torch_dense(1)

    def filters(self, distances: Array) -> list[Array]:
        """Distances [E] (Å) -> the filters [E, n_filters] of each interaction."""
        expansion = gaussian_expansion(distances, self.n_gaussians, self.cutoff)
        envelope = cosine_cutoff(distances, self.cutoff)[:, None]
        filters = []
        for block in range(self.n_interactions):
            hidden = shifted_softplus(self._layer(block, "filter_0")(expansion))
            filters.append(self._layer(block, "filter_1")(hidden) * envelope)
        return filters

    def __call__(self, numbers: Array, edges: Edges, filters: list[Array] | None = None) -> Array:
        """Atomic numbers [N], edges and, where they are known, filters -> atomic energies [N], eV."""
        filters = self.filters(edges.distances) if filters is None else filters
        h = self.embedding(numbers)
        for block in range(self.n_interactions):
            messages = self._layer(block, "in")(h)
            messages = edges.sum_neighbours(filters[block], messages)
            messages = shifted_softplus(self._layer(block, "message")(messages))
            h = h + self._layer(block, "out")(messages)
        return self.readout_1(shifted_softplus(self.readout_0(h)))[:, 0]

    def _layer(self, block: int, part: str) -> nn.Dense:
        return getattr(self, f"interaction_{block}_{part}")


def _torch_dense(width: int, use_bias: bool = True) -> nn.Dense:
    return nn.Dense(width, use_bias, kernel_init=nn.initializers.xavier_uniform())


_TABLE = "filter_table"


def schnet(system: System, **settings: float) -> Potential:
    """SchNet, energies in eV.

    Args:
      system: a molecule in vacuum, or a periodic box.
      **settings: the attributes of `SchNet`.

    Raises:
      ValueError: an atomic number without a row in the embedding, or a box too small for the cutoff.
    """
    network = SchNet(**settings)
    if system.numbers.max() >= network.n_elements:
        raise ValueError(f"schnet: atomic number {system.numbers.max()} needs n_elements above it")
    numbers = np.asarray(system.numbers)
    spacing = min(0.01, network.cutoff / (network.n_gaussians - 1) / 20)  # Å, of the table

    def init(key: Array, edges: Edges) -> Params:
        return network.init(key, numbers, edges)["params"]

    def atomic_energies(params: Params, edges: Edges) -> Array:
        filters = None
        if _TABLE in params:
            rows = look_up(params[_TABLE], edges.distances, spacing)
            filters = jnp.split(rows, network.n_interactions, axis=1)
        return network.apply({"params": params}, numbers, edges, filters)

    def tabulate(params: Params) -> Params:
        def filters(distances: Array) -> Array:
            return jnp.concatenate(network.apply({"params": params}, distances, method="filters"), axis=1)

        return {**params, _TABLE: make_table(filters, network.cutoff, spacing)}

    return potential_on_edges(system, network.cutoff, init, atomic_energies, tabulate)
