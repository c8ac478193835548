"""Systems read off a geometry, units, and look-ups by name."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units as ase_units
from ase.build import molecule
from ase.data import atomic_masses

from potentials import POTENTIALS, make_system, units
from potentials.registry import lookup


def test_ethanol(ethanol):
    system, positions = ethanol
    assert len(system.bonds) == 8
    pairs = [sorted(system.numbers[bond]) for bond in system.bonds]
    assert {tuple(p): pairs.count(p) for p in pairs} == {(1, 6): 5, (1, 8): 1, (6, 6): 1, (6, 8): 1}
    assert (system.bonds[:, 0] < system.bonds[:, 1]).all()
    lengths = np.linalg.norm(np.diff(positions[system.bonds], axis=1), axis=-1)
    assert lengths.max() < 1.6
    np.testing.assert_array_equal(system.molecules, 0)
    np.testing.assert_allclose(system.masses, atomic_masses[system.numbers])
    assert system.masses.sum() == pytest.approx(46.07, abs=0.01)
    assert system.cell is None and system.temperature == 500.0


def test_aspirin(aspirin):
    system, _ = aspirin
    assert len(system.bonds) == 21
    valence = np.bincount(system.bonds.ravel(), minlength=21)
    assert (valence[system.numbers == 1] == 1).all()
    assert sorted(valence[system.numbers == 8]) == [1, 1, 2, 2]
    np.testing.assert_array_equal(system.molecules, 0)


def test_two_molecules():
    water = molecule("H2O")
    positions = np.concatenate([water.positions, water.positions + np.array([3.0, 0, 0])])
    order = [0, 3, 1, 4, 2, 5]  # interleaved, so that numbering by blocks would fail
    system = make_system(np.tile(water.numbers, 2)[order], positions[order], 300.0)
    assert len(system.bonds) == 4
    first, second = system.molecules[[0, 1]]
    assert first != second
    np.testing.assert_array_equal(system.molecules, [first, second] * 3)


def test_bonds_cross_the_box():
    cell = np.eye(3) * 10.0
    positions = [[0.3, 5, 5], [9.5, 5, 5]]  # 0.8 Å apart through the wall
    assert len(make_system([1, 8], positions, 300.0, cell=cell).bonds) == 1
    assert len(make_system([1, 8], positions, 300.0).bonds) == 0
    assert make_system([1, 8], positions, 300.0).molecules.tolist() == [0, 1]


def test_tolerance_decides_what_is_a_bond():
    stretched = [[0, 0, 0], [1.4, 0, 0]]  # radii 0.31 + 0.76 Å
    assert len(make_system([1, 6], stretched, 300.0).bonds) == 0
    assert len(make_system([1, 6], stretched, 300.0, bond_tolerance=1.4).bonds) == 1


@pytest.mark.parametrize(
    ("numbers", "positions", "temperature", "message"),
    [
        ([1, 1], np.zeros((3, 3)), 300.0, r"\(2,\) and positions \(3, 3\); expected \[N\] and \[N, 3\]"),
        ([1, 1], np.zeros((2, 2)), 300.0, "expected"),
        ([[1]], np.zeros((1, 3)), 300.0, "expected"),
        ([1], np.zeros((1, 3)), 0.0, "temperature is 0.0 K; expected a positive number"),
        ([1], np.zeros((1, 3)), -5.0, "positive"),
        ([1], np.zeros((1, 3)), float("nan"), "positive"),
    ],
)
def test_errors(numbers, positions, temperature, message):
    with pytest.raises(ValueError, match=message):
        make_system(numbers, positions, temperature)


def test_units_against_ase():
    assert pytest.approx(ase_units.fs, rel=1e-6) == units.FEMTOSECOND
    assert pytest.approx(ase_units.kB, rel=1e-6) == units.KB
    assert pytest.approx(ase_units.kcal / ase_units.mol, rel=1e-6) == units.KCAL_PER_MOL


def test_lookup():
    assert lookup(POTENTIALS, "schnet", "potential") is POTENTIALS["schnet"]
    table = {"mse": 1, "crmse": 2, "stable": 3}
    assert lookup(table, "crmse", "objective") == 2
    with pytest.raises(ValueError) as error:
        lookup(table, "stabel", "objective")
    assert str(error.value) == "unknown objective 'stabel'; nearest: 'stable'; known: crmse, mse, stable"
    with pytest.raises(ValueError, match=r"unknown sampler 'x'; known: $"):
        lookup({}, "x", "sampler")
