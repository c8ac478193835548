"""MACE (Batatia et al., NeurIPS 2022, arXiv 2206.07697): messages of high body order between atoms.

Equation numbers are the paper's. Tensor products, their symmetric bases and linear maps are e3nn-jax's.
"""

from __future__ import annotations

import e3nn_jax as e3nn
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from e3nn_jax.flax import Linear, MultiLayerPerceptron
from jax import Array

from potentials.base import Potential
from potentials.bessel import BesselBasis
from potentials.edges import Edges, safe_norm
from potentials.neighbours import potential_of_kinds
from potentials.system import System

_FULL = jax.lax.Precision.HIGHEST


class Interaction(nn.Module):
    """The features A of an atom: a sum over its neighbours, which makes them two-body (eqs. 8, 9).

    Attributes:
      irreps: of A, one of each.
      n_hidden: width of the radial network's three hidden layers.
      n_neighbours: by which the sum is divided.
    """

    irreps: e3nn.Irreps
    n_hidden: int
    n_neighbours: float

    @nn.compact
    def __call__(
        self, h: e3nn.IrrepsArray, harmonics: e3nn.IrrepsArray, radial: Array, edges: Edges
    ) -> e3nn.IrrepsArray:
        """Features [N, K, ...], Y_lm [E, ...], radial basis [E, B] -> A [N, K, irreps.dim]."""
        n_channels = h.shape[1]
        h = Linear(h.irreps, channel_out=n_channels)(h)
        paths = e3nn.tensor_product(h[edges.senders], harmonics[:, None], filter_ir_out=list(self.irreps))
        # Neither biases nor f(0) ≠ 0: where the radial basis ends, so does the message.
        sizes = (self.n_hidden,) * 3 + (n_channels * paths.irreps.num_irreps,)
        weights = MultiLayerPerceptron(sizes, jax.nn.silu, output_activation=False)(radial)
        messages = paths * weights.reshape(*paths.shape[:2], paths.irreps.num_irreps)
        start = jnp.zeros((len(h.array), *messages.shape[1:]), messages.array.dtype)
        summed = start.at[edges.receivers].add(messages.array)
        a = e3nn.IrrepsArray(messages.irreps, summed / self.n_neighbours)
        return Linear(self.irreps, channel_out=n_channels, force_irreps_out=True)(a)


class Products(nn.Module):
    """All symmetric products of up to ν of an atom's A, channel by channel, and the message made of them with
    weights of the atom's kind (eqs. 10, 11).

    Attributes:
      irreps: of the message, one of each.
      correlation: ν; the message is of body order ν + 1.
    """

    irreps: e3nn.Irreps
    correlation: int

    @nn.compact
    def __call__(self, a: e3nn.IrrepsArray, species: Array) -> e3nn.IrrepsArray:
        """A [N, K, ...], one-hot kinds [N, n_elements] -> message [N, K, irreps.dim]."""
        n_channels, messages = a.shape[1], []
        for _, ir in self.irreps:
            total = jnp.zeros((), a.array.dtype)
            # From the highest degree down, as in Horner's scheme: each step uses up one index of the bases.
            for degree in range(self.correlation, 0, -1):
                basis = e3nn.reduced_symmetric_tensor_product_basis(a.irreps, degree, keep_ir=[ir])
                n_paths = basis.irreps.count(ir)
                shape = (species.shape[1], n_paths, n_channels)
                weights = self.param(
                    f"{ir}_{degree}", nn.initializers.normal(1 / n_paths), shape, jnp.float32
                )
                couplings = np.asarray(basis.array).reshape(*basis.shape[:-1], n_paths, ir.dim)
                of_kind = jnp.einsum("ne,epk->nkp", species, weights)
                # In full precision, where the default on an accelerator is less: products magnify errors.
                couplings = couplings.astype(weights.dtype)
                total += jnp.einsum("...pm,nkp->nk...m", couplings, of_kind, precision=_FULL)
                total = jnp.einsum("nki...m,nki->nk...m", total, a.array, precision=_FULL)
            messages.append(e3nn.IrrepsArray(e3nn.Irreps([(1, ir)]), total))
        return e3nn.concatenate(messages, axis=-1)


class MACE(nn.Module):
    """Atomic energies from directed edges.

    Attributes:
      n_elements: kinds of atoms.
      n_features: channels k.
      l_max: highest order of spherical harmonics and of A.
      hidden_l_max: highest order of the features that pass from layer to layer; at most l_max.
      correlation: ν, of the products; messages are of body order ν + 1.
      n_layers: message passes.
      n_bessel: size of the radial basis.
      n_hidden: width of the three hidden layers of the radial network.
      n_readout: width of the hidden layer of the last readout.
      n_neighbours: by which sums over neighbours are divided; their mean number.
      cutoff: Å.
    """

    n_elements: int
    n_features: int = 32
    l_max: int = 2
    hidden_l_max: int = 1
    correlation: int = 3
    n_layers: int = 2
    n_bessel: int = 8
    n_hidden: int = 64
    n_readout: int = 16
    n_neighbours: float = 8.0
    cutoff: float = 5.0

    @nn.compact
    def __call__(self, species: Array, edges: Edges) -> Array:
        """One-hot kinds [N, n_elements], edges -> atomic energies [N], eV."""
        irreps = e3nn.Irreps.spherical_harmonics(self.l_max)
        harmonics = e3nn.spherical_harmonics(irreps, edges.vectors, normalize=True, normalization="component")
        # Times r_c it is of order one; products of A would magnify what it is off by.
        radial = self.cutoff * BesselBasis(self.n_bessel, self.cutoff)(safe_norm(edges.vectors))
        start = nn.initializers.normal(0.5)  # of any number of kinds
        kinds = nn.Dense(self.n_features, use_bias=False, kernel_init=start)(species)
        h = e3nn.IrrepsArray("0e", kinds[:, :, None])
        kind = jnp.argmax(species, axis=1)
        energies = jnp.zeros(len(species), radial.dtype)
        for layer in range(self.n_layers):
            last = layer == self.n_layers - 1
            hidden = e3nn.Irreps.spherical_harmonics(0 if last else self.hidden_l_max)
            a = Interaction(irreps, self.n_hidden, self.n_neighbours)(h, harmonics, radial, edges)
            message = Products(hidden, self.correlation)(a, species)
            update = Linear(hidden, channel_out=self.n_features)(message)
            by_kind = {"num_indexed_weights": self.n_elements, "force_irreps_out": True}
            h = update + Linear(hidden, channel_out=self.n_features, **by_kind)(kind, h)  # eq. 12
            invariants = h.filter("0e").array[:, :, 0]
            sizes = (self.n_readout, 1) if last else (1,)  # eq. 13
            readout = MultiLayerPerceptron(sizes, jax.nn.silu, output_activation=False)
            energies += readout(invariants)[:, 0]
        return energies


def mace(system: System, **settings: float) -> Potential:
    """MACE, energies in eV.

    Args:
      system: a molecule in vacuum, or a periodic box.
      **settings: the attributes of `MACE` but for `n_elements`, which the system has;
        for `n_neighbours` see `potential_of_kinds`.

    Raises:
      ValueError: a box too small for the cutoff, or hidden_l_max above l_max.
    """
    l_max, hidden = settings.get("l_max", MACE.l_max), settings.get("hidden_l_max", MACE.hidden_l_max)
    if hidden > l_max:
        raise ValueError(f"mace.hidden_l_max is {hidden}; expected at most mace.l_max, {l_max}")
    return potential_of_kinds(MACE, system, settings)
