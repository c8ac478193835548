"""g(r) against the ideal gas and against MDTraj."""

from __future__ import annotations

import jax.numpy as jnp
import mdtraj
import numpy as np
import pytest
from numpy.testing import assert_allclose

from objectives.averages import make_observables
from objectives.observables import uniform_grid
from objectives.pair_correlation import (
    WIDTH,
    element_pairs,
    largest_radius,
    pair_grid,
    radial_distribution,
    window_deviations,
)
from objectives.survival import first_times
from potentials import make_system

TRICLINIC = np.array([[12.0, 0, 0], [3.0, 11.0, 0], [-2.0, 2.5, 10.0]])


def water_like(cell, n=6):
    """n molecules O–H₂ far apart, for numbers, bonds and molecules alone."""
    oxygen = np.arange(n)[:, None] * np.array([20.0, 0, 0])
    water = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    positions = oxygen[:, None] + water
    system = make_system(np.tile([8, 1, 1], n), positions.reshape(-1, 3), 300.0)
    return system._replace(cell=cell)


@pytest.mark.parametrize("cell", [np.diag([12.0, 11.0, 13.0]), TRICLINIC])
def test_an_ideal_gas_is_one_everywhere(cell):
    rng = np.random.default_rng(0)
    system = water_like(cell)
    fractional = rng.uniform(size=(4000, 18, 3))
    positions = jnp.asarray((fractional + rng.integers(-2, 3, fractional.shape)) @ cell, jnp.float32)
    pairs = element_pairs(system, 8, 1)
    assert len(pairs) == 72
    grid = uniform_grid(1.0, largest_radius(cell), 20)
    per_block = np.stack(
        [np.mean(radial_distribution(x, pairs, cell, grid, 0.01), axis=0) for x in np.split(positions, 20)]
    )
    stderr = per_block.std(axis=0, ddof=1) / np.sqrt(20)
    # The last bin loses what is smeared beyond the grid's end, and gains from outside of it.
    deviation = np.abs(per_block.mean(axis=0) - 1) / stderr
    assert (deviation[:-1] < 4.5).all() and stderr.max() < 0.1


def test_against_mdtraj():
    cell = np.diag([12.0, 12.0, 12.0])
    system = water_like(cell)
    positions = np.random.default_rng(1).uniform(0, 12, (50, 18, 3)).astype(np.float32)
    topology = mdtraj.Topology()
    residue = topology.add_residue("X", topology.add_chain())
    for number in system.numbers:
        topology.add_atom("X", mdtraj.element.Element.getByAtomicNumber(int(number)), residue)
    trajectory = mdtraj.Trajectory(
        positions / 10,
        topology,
        unitcell_lengths=np.full((50, 3), 1.2),
        unitcell_angles=np.full((50, 3), 90.0),
    )
    pairs = element_pairs(system, 1, 1)
    _, theirs = mdtraj.compute_rdf(trajectory, pairs, r_range=(0.1, 0.6), n_bins=25)
    grid = uniform_grid(1.0, 6.0, 25)
    ours = np.mean(radial_distribution(jnp.asarray(positions), pairs, cell, grid, 1e-4), axis=0)
    assert_allclose(ours, theirs, rtol=0.02, atol=0.02)


def test_pairs_between_molecules():
    system = water_like(np.eye(3) * 50)
    assert len(element_pairs(system, 8, 1, between_molecules=True)) == 60
    assert len(element_pairs(system, 8, 8)) == 15
    with pytest.raises(ValueError, match="no pair of elements 8 and 7"):
        element_pairs(system, 8, 7)


def test_as_an_observable_to_train_for():
    system = water_like(np.diag([12.0, 11.0, 13.0]))
    positions = np.random.default_rng(0).uniform(0, 12, size=(18, 3))
    observable = make_observables({"radial_distributions": 2.0}, system)["radial_distributions"][1]
    grid, expected = pair_grid(system), []
    for first, second in ((8, 8), (8, 1), (1, 1)):
        pairs = element_pairs(system, first, second, between_molecules=True)
        expected.append(radial_distribution(positions, pairs, system.cell, grid, WIDTH))
    found = observable(jnp.asarray(positions))
    assert found.shape == (3 * len(grid.centers),)
    assert_allclose(found, np.concatenate(expected), rtol=1e-6)
    alone = make_system([8, 1, 1], positions[:3], 300.0)
    with pytest.raises(ValueError, match="'radial_distributions' is of periodic boxes"):
        make_observables({"radial_distributions": 1.0}, alone)


def test_a_grid_beyond_half_the_cell():
    assert_allclose(largest_radius(np.diag([12.0, 11.0, 13.0])), 5.5)
    system = water_like(np.eye(3) * 10)
    with pytest.raises(ValueError, match=r"ends at 6\.000 Å; expected at most half the cell, 5\.000 Å"):
        radial_distribution(
            jnp.zeros((18, 3)), element_pairs(system, 8, 8), system.cell, uniform_grid(0, 6, 4), 0.1
        )


def test_a_liquid_that_orders_is_unstable_from_the_window_in_which_it_does():
    """An ideal gas of pairs at random, whose g(r) is 1, and replicas in which they gather in one shell."""
    rng = np.random.default_rng(3)
    cell, grid = np.diag([12.0, 12.0, 12.0]), uniform_grid(1.0, 6.0, 25)
    system = water_like(cell, n=40)
    pairs = element_pairs(system, 8, 8)
    oxygen = np.flatnonzero(system.numbers == 8)
    positions = rng.uniform(0, 12, size=(2, 40, 120, 3))
    ordered = positions[1, 20:]  # from frame 20 of the second replica all oxygens sit on a lattice
    lattice = 4.0 * np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)
    ordered[:, oxygen[:27]] = lattice
    ordered[:, oxygen[27:]] = lattice[:13] + 2.0
    densities = radial_distribution(jnp.asarray(positions), pairs, cell, grid, 0.05)
    deviations = window_deviations(densities, np.ones(25), grid, 10)
    assert deviations.shape == (2, 4)
    # By hand for one window.
    mean = np.asarray(densities, float)[0, 10:20].mean(axis=0)
    assert_allclose(deviations[0, 1], np.sum(np.abs(mean - 1) * 0.2), rtol=1e-6)
    assert deviations[0].max() < 0.5 and deviations[1, 2:].min() > 3.0
    times, broken = first_times(deviations, 3.0, 1.0)
    assert_allclose(times, [4, 2])
    assert_allclose(broken, [False, True])
    alive = np.arange(40) < np.array([[35], [40]])  # the first replica fails in the fourth window
    times, broken = first_times(window_deviations(densities, np.ones(25), grid, 10, alive), 3.0, 1.0)
    assert_allclose(times, [3, 2])
    assert broken.all()


@pytest.mark.parametrize(
    ("shape", "window", "words"),
    [((2, 5, 24), 2, "densities"), ((5, 25), 2, "densities"), ((2, 5, 25), 6, "a window of 6 frames")],
)
def test_windows_that_do_not_fit(shape, window, words):
    with pytest.raises(ValueError, match=words):
        window_deviations(np.ones(shape), np.ones(25), uniform_grid(0, 5, 25), window)
