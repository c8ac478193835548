"""NequIP (Batzner et al., Nat. Commun. 13, 2453, 2022): equivariant messages between atoms.

The interaction block is jax-md's; ours are the radial basis, the cutoff and the readout, so that atomic
energies come out and forces are smooth at the cutoff.
"""

from __future__ import annotations

import e3nn_jax as e3nn
import flax.linen as nn
from e3nn_jax.flax import Linear
from jax import Array
from jax_md._nn.nequip import NequIPConvolution

from potentials.base import Potential
from potentials.bessel import BesselBasis
from potentials.edges import Edges, safe_norm
from potentials.neighbours import potential_of_kinds
from potentials.system import System

_ACTIVATIONS = {"e": "raw_swish", "o": "tanh"}


class NequIP(nn.Module):
    """Atomic energies from directed edges.

    Attributes:
      n_elements: kinds of atoms.
      n_features: channels of each l.
      l_max: highest order of features and of spherical harmonics.
      parity: features of both parities at each l; without, those of the spherical harmonics alone. With fewer
        than four layers the others do not reach the energy: at three, l = 1, two weights in five are idle.
      n_layers: interaction blocks.
      n_bessel: size of the radial basis.
      n_hidden: width of the two hidden layers of the radial network.
      n_neighbours: by which sums over neighbours are divided; their mean number.
      cutoff: Å.
    """

    n_elements: int
    n_features: int = 32
    l_max: int = 1
    parity: bool = True
    n_layers: int = 4
    n_bessel: int = 8
    n_hidden: int = 64
    n_neighbours: float = 8.0
    cutoff: float = 5.0

    @nn.compact
    def __call__(self, species: Array, edges: Edges) -> Array:
        """One-hot kinds [N, n_elements], edges -> atomic energies [N], eV."""
        hidden = e3nn.Irreps(
            [
                (self.n_features, (order, p))
                for order in range(self.l_max + 1)
                for p in ((1, -1) if self.parity else ((-1) ** order,))
            ]
        )
        harmonics = e3nn.spherical_harmonics(
            e3nn.Irreps.spherical_harmonics(self.l_max),
            edges.vectors,
            normalize=True,
            normalization="component",
        )
        radial = BesselBasis(self.n_bessel, self.cutoff)(safe_norm(edges.vectors))
        attributes = e3nn.IrrepsArray(f"{self.n_elements}x0e", species)
        h = Linear(f"{self.n_features}x0e")(attributes)
        for _ in range(self.n_layers):
            h = NequIPConvolution(
                hidden_irreps=hidden,
                use_sc=True,
                nonlinearities=_ACTIVATIONS,
                radial_net_n_hidden=self.n_hidden,
                num_basis=self.n_bessel,
                n_neighbors=self.n_neighbours,
            )(h, attributes, harmonics, edges.senders, edges.receivers, radial)
        h = Linear(f"{max(self.n_features // 2, 1)}x0e")(h)
        return Linear("1x0e")(h).array[:, 0]


def nequip(system: System, **settings: float) -> Potential:
    """NequIP, energies in eV.

    Args:
      system: a molecule in vacuum, or a periodic box.
      **settings: the attributes of `NequIP` but for `n_elements`, which the system has;
        for `n_neighbours` see `potential_of_kinds`.

    Raises:
      ValueError: a box too small for the cutoff.
    """
    return potential_of_kinds(NequIP, system, settings)
