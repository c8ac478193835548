"""GemNet-T written out: one edge, one triplet and one sum at a time, in NumPy and float64.

The equations of Gasteiger et al. (arXiv 2106.08903) with the constants that `potentials.gemnet` states:
sums over neighbours divided by their mean number, bases at half scale, SiLU / 0.6, no scaling factors.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import eval_legendre, spherical_jn


def plain_gemnet(weights, kinds, positions, *, cutoff, n_blocks, n_residual, n_neighbours):
    """Atomic energies [N] of a molecule.

    Args:
      weights: of the Flax module, below "params".
      kinds: [N], row of the table of elements.
      positions: [N, 3], Å.
      cutoff, n_blocks, n_residual, n_neighbours: as of the module.
    """
    return _Plain(weights, positions, cutoff, n_residual, n_neighbours).energies(kinds, n_blocks)


class _Plain:
    def __init__(self, weights, positions, cutoff, n_residual, n_neighbours):
        self.weights, self.n_residual, self.n_neighbours = weights, n_residual, n_neighbours
        n = len(positions)
        vector = {(c, a): positions[c] - positions[a] for c in range(n) for a in range(n) if c != a}
        self.length = {e: np.linalg.norm(v) for e, v in vector.items() if np.linalg.norm(v) < cutoff}
        self.edges, self.atoms = list(self.length), range(n)  # (c, a): from c to a
        self.cosine = {
            (c, b, a): vector[c, a] @ vector[b, a] / (self.length[c, a] * self.length[b, a])
            for c, a in self.edges
            for b, end in self.edges
            if end == a and b != c
        }
        frequencies = weights["BesselBasis_0"]["frequencies"]
        n_spherical, n_radial = weights["circular"].shape[:2]
        roots = [_roots(order, n_radial) for order in range(n_spherical)]
        self.radial, self.circular = {}, {}
        for edge, r in self.length.items():
            x = r / cutoff
            envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
            waves = np.sqrt(2 / cutoff) * np.sin(frequencies * x) / r
            self.radial[edge] = 0.5 * cutoff * waves * envelope
            functions = np.zeros((n_spherical, n_radial))
            for order, z in enumerate(roots):
                functions[order] = spherical_jn(order, z * x) / np.abs(spherical_jn(order + 1, z))
            self.circular[edge] = 0.5 * np.sqrt(2 / cutoff) * functions * envelope

    def energies(self, kinds, n_blocks):
        w = self.weights
        for_triplets, for_atoms, for_output = (
            {e: _linear(w[f"Dense_{k}"], self.radial[e]) for e in self.edges} for k in range(3)
        )
        h = {a: w["kinds"][kinds[a]] for a in self.atoms}
        m = self.embedding(w["EdgeEmbedding_0"], h, self.radial)
        total = self.output(0, m, for_output)
        for block in range(n_blocks):
            # Flax numbers layers as they are made: of f(g(x)), f first.
            last, first, after = (w[f"Residual_{3 * block + k}"] for k in range(3))
            seen = self.triplets(w[f"Triplets_{block}"], m, for_triplets)
            skip = w[f"Dense_{4 + 2 * block}"]
            x = {e: _residual(first, (_dense(skip, m[e]) + seen[e]) / np.sqrt(2)) for e in self.edges}
            m = {e: _residual(last, (m[e] + x[e]) / np.sqrt(2)) for e in self.edges}
            found = self.to_atoms(w[f"AtomEmbedding_{1 + 2 * block}"], m, for_atoms)
            h = {a: (h[a] + found[a]) / np.sqrt(2) for a in self.atoms}
            again = self.embedding(w[f"EdgeEmbedding_{1 + block}"], h, m)
            m = {e: (m[e] + _residual(after, again[e])) / np.sqrt(2) for e in self.edges}
            total = total + self.output(1 + block, m, for_output)
        return total

    def embedding(self, w, h, features):
        own = w["Dense_0"]
        return {(c, a): _dense(own, np.concatenate([h[c], h[a], features[c, a]])) for c, a in self.edges}

    def to_atoms(self, w, m, basis):
        found = {}
        for atom in self.atoms:
            x = np.zeros(w["Dense_1"]["Dense_0"]["kernel"].shape[0])
            for edge in self.edges:
                if edge[1] == atom:
                    x = x + m[edge] * _linear(w["Dense_0"], basis[edge])
            x = _dense(w["Dense_1"], x / self.n_neighbours)
            for k in range(self.n_residual):
                x = _residual(w[f"Residual_{k}"], x)
            found[atom] = x
        return found

    def output(self, number, m, basis):
        w = self.weights
        own = w["Dense_3" if number == 0 else f"Dense_{3 + 2 * number}"]
        found = self.to_atoms(w[f"AtomEmbedding_{2 * number}"], m, basis)
        return np.array([_linear(own, found[a])[0] for a in self.atoms])

    def triplets(self, w, m, basis):
        down = {
            e: _dense(w["Dense_0"], _dense(w["Dense_1"], m[e]) * _linear(w["Dense_2"], basis[e]))
            for e in self.edges
        }
        out = {e: np.zeros(w["bilinear"].shape[2]) for e in self.edges}
        for (c, b, a), cosine in self.cosine.items():
            orders = np.arange(len(self.circular[c, a]))
            y = np.sqrt(2 * orders + 1) * eval_legendre(orders, cosine)
            of_angle = np.einsum("sr,s,sri->i", self.circular[c, a], y, self.weights["circular"])
            out[c, a] += np.einsum("t,i,tio->o", down[b, a], of_angle, w["bilinear"]) / self.n_neighbours
        return {
            (c, a): (_dense(w["Dense_4"], out[c, a]) + _dense(w["Dense_3"], out[a, c])) / np.sqrt(2)
            for c, a in self.edges
        }


def _linear(w, x):
    return x @ w["Dense_0"]["kernel"]


def _dense(w, x):
    y = _linear(w, x)
    return y / (1 + np.exp(-y)) / 0.6


def _residual(w, x):
    return (x + _dense(w["Dense_0"], _dense(w["Dense_1"], x))) / np.sqrt(2)


def _roots(order, count):
    """The first positive zeros of j_l, by sign changes on a fine grid."""
    x = np.linspace(0.5, np.pi * (count + order + 1), 20_000)
    values = spherical_jn(order, x)
    steps = np.flatnonzero(values[:-1] * values[1:] < 0)[:count]
    return np.array([brentq(lambda z: spherical_jn(order, z), x[i], x[i + 1]) for i in steps])
