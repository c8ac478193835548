"""SchNet (Schütt et al., J. Chem. Phys. 148, 241722) in Flax, with PyTorch Geometric's conventions.

Shifted softplus, Gaussian expansion with width equal to the spacing, cosine cutoff on the filters,
an atom embedding and an atomwise readout, so that published weights load
(`potentials.torch_weights`).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from potentials.base import Params, Potential, from_atomic_energies
from potentials.edges import Edges, dense_edges
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

    @nn.compact
    def __call__(self, numbers: Array, edges: Edges) -> Array:
        """Atomic numbers [N] and edges -> atomic energies [N], in units of the scale."""
        dense = _torch_dense
        expansion = gaussian_expansion(edges.distances, self.n_gaussians, self.cutoff)
        envelope = cosine_cutoff(edges.distances, self.cutoff)[:, None]
        normal = nn.initializers.normal(1.0)
        h = nn.Embed(self.n_elements, self.n_features, embedding_init=normal, name="embedding")(numbers)
        for block in range(self.n_interactions):
            name = f"interaction_{block}"
            filters = shifted_softplus(dense(self.n_filters, f"{name}_filter_0")(expansion))
            filters = dense(self.n_filters, f"{name}_filter_1")(filters) * envelope
            messages = dense(self.n_filters, f"{name}_in", use_bias=False)(h)
            messages = edges.sum_neighbours(filters, messages)
            messages = shifted_softplus(dense(self.n_features, f"{name}_message")(messages))
            h = h + dense(self.n_features, f"{name}_out")(messages)
        h = shifted_softplus(dense(self.n_features // 2, "readout_0")(h))
        return dense(1, "readout_1")(h)[:, 0]


def _torch_dense(width: int, name: str, use_bias: bool = True) -> nn.Dense:
    return nn.Dense(width, use_bias, kernel_init=nn.initializers.xavier_uniform(), name=name)


def schnet(system: System, **settings: float) -> Potential:
    """SchNet for one molecule in vacuum, energies in eV.

    Args:
      system: the molecule; `system.cell` must be None.
      **settings: the attributes of `SchNet`.

    Raises:
      ValueError: a periodic system, or an atomic number without a row in the embedding.
    """
    if system.cell is not None:
        raise ValueError("schnet: periodic boxes are not supported; the system has a cell")
    network = SchNet(**settings)
    if system.numbers.max() >= network.n_elements:
        raise ValueError(f"schnet: atomic number {system.numbers.max()} needs n_elements above it")
    edges: Callable[[Array], Edges] = dense_edges(len(system.numbers))
    numbers = np.asarray(system.numbers)

    def init(key: Array) -> Params:
        grid = np.arange(len(numbers) * 3, dtype=np.float32).reshape(-1, 3)
        return network.init(key, numbers, edges(grid))["params"]

    def atomic_energies(params: Params, positions: Array) -> Array:
        return network.apply({"params": params}, numbers, edges(positions))

    return from_atomic_energies(init, atomic_energies)
