"""Bond angles against ASE and by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from numpy.testing import assert_allclose

from objectives.angles import angle_distribution, angle_grid, bond_angles, find_angles
from objectives.averages import OBSERVABLES


def test_angles_of_ethanol(ethanol):
    system, positions = ethanol
    triples = find_angles(system.bonds)
    assert triples.shape == (13, 3)  # 6 at each carbon, 1 at the oxygen
    ours = np.degrees(bond_angles(positions, triples))
    assert_allclose(ours, Atoms(system.numbers, positions).get_angles(triples), atol=1e-3)
    assert {tuple(sorted((a, c))) for a, _, c in triples}.__len__() == 13


def test_straight_and_folded_angles_have_finite_gradients():
    positions = jnp.array([[1.0, 0, 0], [0, 0, 0], [-1, 0, 0], [2.0, 0, 0]])
    triples = [[0, 1, 2], [0, 1, 3]]
    assert_allclose(bond_angles(positions, triples), [np.pi, 0.0])
    assert np.isfinite(jax.grad(lambda x: jnp.sum(bond_angles(x, triples)))(positions)).all()


def test_distribution(ethanol):
    system, positions = ethanol
    triples, grid = find_angles(system.bonds), angle_grid(90)
    width = float(grid.edges[1])
    density = angle_distribution(jnp.asarray(positions), triples, grid, 0.03)
    assert_allclose(np.sum(density) * width, 1.0, rtol=1e-4)
    mean = np.sum(density * grid.centers) * width
    assert_allclose(mean, np.mean(bond_angles(positions, triples)), rtol=1e-3)
    assert OBSERVABLES["angles"](system)(jnp.asarray(positions)).shape == (180,)


def test_no_angles():
    assert find_angles(np.zeros((0, 2), int)).shape == (0, 3)
    with pytest.raises(ValueError, match="at least one angle"):
        angle_distribution(np.zeros((2, 3)), np.zeros((0, 3), int), angle_grid(), 0.1)
