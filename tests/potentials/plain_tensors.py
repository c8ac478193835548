"""What the plain equivariant networks are made of, in NumPy and float64: real spherical harmonics up to
l = 2, their couplings from integrals over the sphere, linear maps, the radial basis.

A feature of order l is an array [channels, 2l + 1]. Components are in the order of the harmonics below: of
l = 1, x, y and z. Weights are those of the Flax modules, found by what they map.
"""

from __future__ import annotations

import functools
import re

import numpy as np
from scipy.special import expit, ndtri

LETTERS = {1: "e", -1: "o"}


def harmonics(r):
    """r [3], of length 1 -> {l: Y_l [2l + 1]}, whose squares sum to 2l + 1.

    As polynomials, which they stay for other lengths: √3 r_a and √15 rᵀQr.
    """
    return {0: np.ones(1), 1: np.sqrt(3) * r, 2: np.sqrt(15) * np.einsum("qab,a,b->q", _QUADRATIC, r, r)}


def gradients(r):
    """{l: ∇Y_l [2l + 1, 3]} of these polynomials, of l = 1 and 2."""
    return {1: np.sqrt(3) * np.eye(3), 2: 2 * np.sqrt(15) * _QUADRATIC @ r}


_QUADRATIC = 0.5 * np.array(  # Q of xz, xy, (2y² - x² - z²)/√12, yz and (z² - x²)/2
    [
        [[0, 0, 1], [0, 0, 0], [1, 0, 0]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]],
        np.diag([-1, 2, -1]) / np.sqrt(3),
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]],
        np.diag([-1, 0, 1]),
    ]
)


def mean_over_sphere(function):
    """∫ function(r) dΩ / 4π, exact for polynomials of degree 7: Gauss-Legendre in z, even steps around it."""
    total = 0.0
    for z, weight in zip(*np.polynomial.legendre.leggauss(4), strict=True):
        for angle in 2 * np.pi * np.arange(8) / 8:
            across = np.sqrt(1 - z**2)
            r = np.array([across * np.cos(angle), across * np.sin(angle), z])
            total = total + weight / 2 / 8 * function(r)
    return total


@functools.cache
def coupling(one, two, three):
    """C [2l₁ + 1, 2l₂ + 1, 2l₃ + 1], up to a factor the only tensor that turning all three leaves as it is;
    ΣC² = 1.

    Where l₁ + l₂ + l₃ is even it is the integral of the three harmonics; where it is odd, that of
    Y₁ r·(∇Y₂ × ∇Y₃). The signs that these have are e3nn's too.
    """

    def even(r):
        y = harmonics(r)
        return np.einsum("i,j,k->ijk", y[one], y[two], y[three])

    def odd(r):
        g = gradients(r)
        return np.einsum("i,jka,a->ijk", harmonics(r)[one], np.cross(g[two][:, None], g[three]), r)

    tensor = mean_over_sphere(odd if (one + two + three) % 2 else even)
    return tensor / np.sqrt(np.sum(tensor**2))


def turned(order, rotation):
    """D [2l + 1, 2l + 1] of a matrix of O(3), with Y_l(rotation r) = D Y_l(r)."""
    return mean_over_sphere(lambda r: np.outer(harmonics(rotation @ r)[order], harmonics(r)[order]))


def neighbours(positions, cutoff):
    """[[(j, unit vector from i to j, distance), ...] for each atom i], of pairs closer than the cutoff."""
    found = []
    for i, here in enumerate(positions):
        steps = [(j, there - here) for j, there in enumerate(positions) if j != i]
        near = [(j, step, np.linalg.norm(step)) for j, step in steps]
        found.append([(j, step / r, r) for j, step, r in near if r < cutoff])
    return found


def radial_basis(frequencies, r, cutoff):
    """√(2/r_c) sin(ω_n r/r_c)/r under the polynomial envelope with p = 6."""
    x = r / cutoff
    envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    return np.sqrt(2 / cutoff) * np.sin(frequencies * x) / r * envelope


def weight(module, name):
    """[..., in, out] of a linear map from the features of that name ("0e", "1o", ...) to those of the same
    name, all of them, in order."""
    parts = []
    for key, value in module.items():
        indices, source = re.match(r"w\[([\d,]+)\] \d+x(\d[eo]),", key).groups()
        if source == name:
            parts.append((int(indices.split(",")[-1]), value))
    return np.concatenate([value for _, value in sorted(parts, key=lambda part: part[0])], axis=-1)


def linear(matrix, x):
    """Channels mixed: Σ_u W_uw x_um / √(number of u)."""
    return np.einsum("uw,um->wm", matrix, x) / np.sqrt(len(x))


def silu(x):
    return x * expit(x)


@functools.cache
def scale(function):
    """√⟨f²⟩ over a standard normal, by which activations are divided, as e3nn-jax estimates it: from a
    million quantiles, 2e-5 below the integral."""
    n = 1_000_001
    return np.sqrt(np.mean(function(ndtri(np.arange(1, n + 1) / (n + 1))) ** 2))
