"""MACE written out: one edge, one path and one product at a time, in NumPy and float64.

The equations of Batatia et al. (arXiv 2206.07697), numbered as there, with the constants that
`potentials.mace` states: sums over neighbours divided by their mean number, linear maps by the square root of
the channels they mix, activations by their root mean square; couplings times √(2 l₃ + 1).
"""

from __future__ import annotations

import e3nn_jax as e3nn
import numpy as np

from tests.potentials.plain_tensors import (
    LETTERS,
    coupling,
    harmonics,
    linear,
    neighbours,
    radial_basis,
    scale,
    silu,
    weight,
)


def plain_mace(
    weights, kinds, positions, *, cutoff, l_max, hidden_l_max, correlation, n_layers, n_neighbours
):
    """Atomic energies [N] of a molecule.

    Args:
      weights: of the Flax module, below "params".
      kinds: [N], index of the element.
      positions: [N, 3], Å.
      cutoff, l_max, hidden_l_max, correlation, n_layers, n_neighbours: as of the module.
    """
    near = neighbours(positions, cutoff)
    frequencies = weights["BesselBasis_0"]["frequencies"]
    radial = [[cutoff * radial_basis(frequencies, r, cutoff) for _, _, r in around] for around in near]
    h = [{0: weights["Dense_0"]["kernel"][kind][:, None]} for kind in kinds]
    energies = np.zeros(len(kinds))
    for layer in range(n_layers):
        last = layer == n_layers - 1
        mix, residual = weights[f"Linear_{2 * layer}"], weights[f"Linear_{2 * layer + 1}"]
        sums = two_body(weights[f"Interaction_{layer}"], h, near, radial, l_max, n_neighbours)
        after = []
        for atom, kind in enumerate(kinds):
            new = {}
            for order in range(1 if last else hidden_l_max + 1):
                message = many_body(weights[f"Products_{layer}"], sums[atom], kind, order, correlation)
                new[order] = linear(weight(mix, _name(order)), message)
                if order in h[atom]:  # eq. 12: the second term, with weights of the atom's kind
                    new[order] += linear(weight(residual, _name(order))[kind], h[atom][order])
            after.append(new)
        h = after
        readout = weights[f"MultiLayerPerceptron_{layer}"]  # eq. 13: linear but for the last
        energies += [perceptron(readout, features[0][:, 0], 2 if last else 1)[0] for features in h]
    return energies


def two_body(w, h, near, radial, l_max, n_neighbours):
    """A of each atom, {l: [K, 2l + 1]}: eq. 8, and eq. 9 where h is of l = 0 alone."""
    before, orders = list(h[0]), range(l_max + 1)
    paths = [
        (one, two, three)
        for three in orders
        for one in before
        for two in orders
        if abs(one - two) <= three <= one + two and (one + two + three) % 2 == 0
    ]
    h = [{order: linear(weight(w["Linear_0"], _name(order)), x[order]) for order in before} for x in h]
    n_channels, found = len(h[0][0]), []
    for around, bases in zip(near, radial, strict=True):
        sums = [np.zeros((n_channels, 2 * three + 1)) for _, _, three in paths]
        for (j, direction, _), basis in zip(around, bases, strict=True):
            y = harmonics(direction)
            filters = perceptron(w["MultiLayerPerceptron_0"], basis, 4).reshape(n_channels, len(paths))
            for number, (one, two, three) in enumerate(paths):
                c = np.sqrt(2 * three + 1) * coupling(one, two, three)
                for k in range(n_channels):
                    product = np.einsum("a,b,abm->m", h[j][one][k], y[two], c)
                    sums[number][k] += filters[k, number] * product / n_neighbours
        a = {}
        for order in orders:
            own = [sums[number] for number, path in enumerate(paths) if path[2] == order]
            of_all = np.stack(own, axis=1).reshape(-1, 2 * order + 1)  # channel by channel, paths within
            a[order] = linear(weight(w["Linear_1"], _name(order)), of_all)
        found.append(a)
    return found


def many_body(w, a, kind, order, correlation):
    """The message m [K, 2L + 1] of an atom: all products of up to ν of its A, each coupled to L (eq. 10),
    with weights of its kind (eq. 11)."""
    of_all = np.concatenate(list(a.values()), axis=1)
    message = np.zeros((len(of_all), 2 * order + 1))
    for degree in range(1, correlation + 1):
        basis = symmetric_basis(len(a) - 1, degree, order)
        chosen = w[f"{_name(order)}_{degree}"][kind]
        for k, x in enumerate(of_all):
            for path in range(basis.shape[-2]):
                product = basis[..., path, :]
                for _ in range(degree):
                    product = np.tensordot(x, product, axes=1)
                message[k] += chosen[path, k] * product
    return message


def symmetric_basis(l_max, degree, order):
    """[d, ..., d, paths, 2L + 1] with d = (l_max + 1)²: the couplings of eq. 10, of degree equal factors.

    Which basis of their space is a convention, e3nn-jax's here; that it is one is tested.
    """
    irreps, ir = e3nn.Irreps.spherical_harmonics(l_max), e3nn.Irrep(_name(order))
    basis = e3nn.reduced_symmetric_tensor_product_basis(irreps, degree, keep_ir=[ir])
    return np.asarray(basis.array, np.float64).reshape(*basis.shape[:-1], -1, ir.dim)


def perceptron(w, x, n_layers):
    """Layers without biases, SiLU between them."""
    assert len(w) == n_layers
    for number in range(n_layers):
        x = x @ w[f"Dense_{number}"]["kernel"] / np.sqrt(len(x))
        if number < n_layers - 1:
            x = silu(x) / scale(silu)
    return x


def _name(order):
    return f"{order}{LETTERS[(-1) ** order]}"
