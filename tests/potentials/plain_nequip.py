"""NequIP written out: one edge and one path at a time, in NumPy and float64.

The interaction block, convolution and gate of Batzner et al. (arXiv 2101.03164, Methods), with the constants
of `potentials.nequip` and jax-md's block: sums over neighbours divided by their mean number, linear maps by
the square root of what they sum over, activations by their root mean square but for the radial network's;
couplings times √(2 l₃ + 1). A feature's key is (l, parity).
"""

from __future__ import annotations

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


def plain_nequip(weights, kinds, positions, **settings):
    """Atomic energies [N] of a molecule; for the arguments see `plain_features`."""
    energies = []
    for features in plain_features(weights, kinds, positions, **settings)[-1]:
        x = linear(weight(weights["Linear_1"], "0e"), features[0, 1])
        energies.append(linear(weight(weights["Linear_2"], "0e"), x)[0, 0])
    return np.array(energies)


def plain_features(weights, kinds, positions, *, cutoff, l_max, parity, n_layers, n_neighbours):
    """[{(l, parity): [channels, 2l + 1]} for each atom], after each block.

    Args:
      weights: of the Flax module, below "params".
      kinds: [N], index of the element.
      positions: [N, 3], Å.
      cutoff, l_max, parity, n_layers, n_neighbours: as of the module.
    """
    near = neighbours(positions, cutoff)
    frequencies = weights["BesselBasis_0"]["frequencies"]
    radial = [[radial_basis(frequencies, r, cutoff) for _, _, r in around] for around in near]
    hidden = [(order, p) for order in range(l_max + 1) for p in ((1, -1) if parity else ((-1) ** order,))]
    embedding = weight(weights["Linear_0"], "0e")
    h = [{(0, 1): embedding[kind][:, None] / np.sqrt(len(embedding))} for kind in kinds]
    after = []
    for layer in range(n_layers):
        w = weights[f"NequIPConvolution_{layer}"]
        paths = possible_paths(list(h[0]), l_max, hidden)
        sums = convolution(w, h, near, radial, paths, n_neighbours)
        reached = [ir for ir in hidden if any(path[2] == ir for path in paths)]
        h = [block(w, h[atom], kind, sums[atom], reached) for atom, kind in enumerate(kinds)]
        after.append(h)
    return after


def possible_paths(before, l_max, hidden):
    """Each (feature, l of the harmonics, product) whose product the features have room for: of a harmonic the
    parity is (-1)^l."""
    return [
        ((one, p), two, (three, p * (-1) ** two))
        for one, p in before
        for two in range(l_max + 1)
        for three in range(abs(one - two), one + two + 1)
        if (three, p * (-1) ** two) in hidden
    ]


def convolution(w, h, near, radial, paths, n_neighbours):
    """Of each atom {product: [paths x channels, 2l + 1]}: the neighbours' features, mixed first, times
    R(r) Y(r̂)."""
    h = [{ir: linear(weight(w["Linear_0"], _name(ir)), x) for ir, x in features.items()} for features in h]
    n_channels, found = len(h[0][0, 1]), []
    for around, bases in zip(near, radial, strict=True):
        sums = [np.zeros((n_channels, 2 * product[0] + 1)) for _, _, product in paths]
        for (j, direction, _), x in zip(around, bases, strict=True):
            y = harmonics(direction)
            first, second, last = (w["MLP_0"][f"Dense_{number}"]["kernel"] for number in range(3))
            filters = (silu(silu(x @ first) @ second) @ last).reshape(len(paths), n_channels)
            for number, (feature, order, product) in enumerate(paths):
                c = np.sqrt(2 * product[0] + 1) * coupling(feature[0], order, product[0])
                for k in range(n_channels):
                    coupled = np.einsum("a,b,abm->m", h[j][feature][k], y[order], c)
                    sums[number][k] += filters[number, k] * coupled / n_neighbours
        grouped = {}
        for number, (_, _, product) in enumerate(paths):
            grouped.setdefault(product, []).append(sums[number])
        found.append({product: np.concatenate(parts) for product, parts in grouped.items()})
    return found


def block(w, h, kind, sums, reached):
    """New features of an atom: sums mixed, the self-connection with weights of the atom's kind, the gate."""
    mixed = {}
    for ir in reached:
        mixed[ir] = linear(weight(w["Linear_1"], _name(ir)), sums[ir])
        if ir in h:
            own = weight(w["FullyConnectedTensorProductE3nn_0"], _name(ir))  # [channels, kinds, out]
            mixed[ir] = mixed[ir] + linear(own[:, kind], h[ir]) / np.sqrt(own.shape[1])
    # Of the even scalars the first are features; of the others one gates one channel of an l > 0.
    n_channels = len(h[0, 1])
    gates = silu(mixed[0, 1][n_channels:, 0]) / scale(silu)
    new = {(0, 1): silu(mixed[0, 1][:n_channels]) / scale(silu)}
    if (0, -1) in reached:
        new[0, -1] = np.tanh(mixed[0, -1]) / scale(np.tanh)
    vectors = [ir for ir in reached if ir[0] > 0]
    assert len(gates) == n_channels * len(vectors)
    for number, ir in enumerate(vectors):
        new[ir] = gates[number * n_channels : (number + 1) * n_channels, None] * mixed[ir]
    return new


def _name(ir):
    return f"{ir[0]}{LETTERS[ir[1]]}"
