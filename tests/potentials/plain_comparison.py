"""A network with random weights beside the same network written out plainly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.build import molecule

from potentials import POTENTIALS, make_system

FORMIC_ACID = molecule("HCOOH")  # five atoms of three kinds
KINDS = np.unique(FORMIC_ACID.numbers, return_inverse=True)[1]
SURROUNDINGS = {"cutoff": 2.2, "n_neighbours": 2.5}  # Å: of its ten pairs three are longer
TOLERANCE = 1e-11  # of what an atom's energy differs by between the geometries


def geometries() -> list[np.ndarray]:
    """Planar, bent twice, and with an atom that nothing else sees; each [5, 3], Å."""
    rng, flat = np.random.default_rng(0), FORMIC_ACID.positions
    apart = flat + 0.15 * rng.normal(size=flat.shape)
    apart[3] += 9.0
    return [flat, *(flat + 0.15 * rng.normal(size=flat.shape) for _ in range(2)), apart]


def check_against_plain(name: str, plain: Callable[..., np.ndarray], sizes: dict, settings: dict) -> None:
    """Compares energies of atoms and of the molecule, at all geometries.

    Args:
      name: of the network.
      plain: (weights, kinds, positions, **settings) -> [N], eV.
      sizes: settings that the plain network reads off the weights.
      settings: the others.
    """
    settings = {**settings, **SURROUNDINGS}
    system = make_system(FORMIC_ACID.numbers, FORMIC_ACID.positions, 300.0)
    with jax.enable_x64(True):
        potential = POTENTIALS[name](system, **sizes, **settings)
        weights = random_weights(jax.eval_shape(potential.init, jax.random.key(0)))
        both = jax.jit(lambda w, x: (potential.energy(w, x), potential.atomic_energies(w, x)))
        found = [jax.tree.map(np.asarray, both(weights, jnp.asarray(x))) for x in geometries()]
    expected = [plain(weights, KINDS, x, **settings) for x in geometries()]
    spread = np.ptp(expected, axis=0)
    assert (spread > 0.1 * np.abs(expected).max(axis=0)).all()  # the geometry matters to every atom
    for (total, atomic), energies in zip(found, expected, strict=True):
        np.testing.assert_allclose(atomic / spread, energies / spread, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(total, energies.sum(), rtol=0, atol=TOLERANCE * spread.sum())


def random_weights(shapes: Any) -> Any:
    """Of these shapes, in float64; large enough that activations and products are far from linear."""
    rng = np.random.default_rng(1)
    weights = jax.tree.map(lambda leaf: rng.normal(scale=1.4, size=leaf.shape), shapes)
    waves = weights["BesselBasis_0"]
    # Positive, apart, and not the multiples of π that they start from.
    waves["frequencies"] = np.pi * np.arange(1, len(waves["frequencies"]) + 1) + 0.2 * waves["frequencies"]
    return weights
