"""Close contacts against counts by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from numpy.testing import assert_allclose
from scipy.special import expit

from objectives.averages import make_observables
from objectives.contacts import (
    REACH_BETWEEN,
    REACH_HYDROGEN_BOND,
    REACH_WITHIN,
    WIDTH,
    contact_pairs,
    contacts,
)
from objectives.neighbourhoods import one_molecule_each
from potentials import make_system
from tests.objectives.test_neighbourhoods import waters

H = 1.20  # van der Waals radius (Alvarez 2013), Å


def test_pairs_are_those_without_a_bond():
    ethanol = molecule("CH3CH2OH")
    system = make_system(ethanol.numbers, ethanol.positions, 500.0)
    kinds = contact_pairs(system)
    pairs = np.concatenate([k.atoms for k in kinds])
    assert len(pairs) == 36 - 8 and len(np.unique(pairs, axis=0)) == 28
    assert not {tuple(p) for p in pairs} & {tuple(b) for b in system.bonds}
    for kind in kinds:
        assert len(np.unique(np.sort(system.numbers[kind.atoms], axis=1), axis=0)) == 1
    assert kinds[-1].reach == pytest.approx(REACH_WITHIN * 2 * H)  # H-H, the last
    assert not any(float(contacts(jnp.asarray(ethanol.positions), k, None)[0]) > 0.2 for k in kinds)


def test_a_contact_counts_by_its_distance():
    system = make_system([1, 1], [[0, 0, 0], [5.0, 0, 0]], 300.0)
    (kind,) = contact_pairs(system)  # two atoms so far apart are two molecules
    for r in (1.0, 1.6, 1.68, 1.75, 3.0):
        expected = 1 / (1 + np.exp((r - REACH_BETWEEN * 2 * H) / WIDTH))
        found = contacts(jnp.asarray([[0.0, 0, 0], [0, r, 0]]), kind, None)
        assert_allclose(found, [expected] * len(found), rtol=1e-4, atol=1e-12)


def test_hydrogen_bonds_are_none():
    system, _ = waters(4, 12.0)
    by_reach = {round(k.reach / 1.2, 3) for k in contact_pairs(system)}
    expected = (REACH_BETWEEN * 3.0, REACH_HYDROGEN_BOND * 2.7, REACH_BETWEEN * 2.4, REACH_WITHIN * 2.4)
    assert by_reach == {round(r / 1.2, 3) for r in expected}  # O-O, O-H, H-H, and H-H within


def test_sound_water_has_hardly_any(data):
    folder = data / "water_64" / "data_0"
    positions = np.load(folder / "set.000" / "coord.npy").reshape(-1, 192, 3)
    cell = np.load(folder / "set.000" / "box.npy")[0].reshape(3, 3)
    numbers = np.array([8, 1])[np.loadtxt(folder / "type.raw", dtype=int)]
    system = make_system(numbers, positions[0], 330.0, cell=cell)
    observable = make_observables({"contacts": 1.0}, system)["contacts"][1]
    found = np.mean([observable(jnp.asarray(x, jnp.float32)) for x in positions[::10]], axis=0)
    assert (found < [1e-3, 0.1, 0.02, 0.2]).all()  # O-O, O-H, H-H, H-H within; of H bonds 3.5


def test_of_each_molecule_of_a_box_and_their_mean():
    system, positions = waters(4, 12.0)
    hoods = one_molecule_each(system)
    _, box = make_observables({"contacts": 1.0}, system)["contacts"]
    _, local = make_observables({"contacts": 1.0}, system, hoods)["contacts"]
    sound = jnp.asarray(positions, jnp.float32)
    first, second = hoods.atoms[[0, 2]]
    # A hydrogen 1 Å beside another molecule's, across the box's edge.
    moved = sound.at[first[1]].set(positions[second[1]] + np.float32([0, 0, 1.0]) + np.float32([12.0, 0, 0]))
    each = local(moved)
    assert each.shape == (4, 4)  # O-O, O-H, H-H between molecules, H-H within
    assert_allclose(each.mean(axis=0), box(moved), atol=1e-5)
    hydrogens = np.asarray(moved)[hoods.atoms[:, 1:]]  # [4, 2, 3]
    steps = hydrogens[:, None, :, None] - hydrogens[None, :, None, :]
    steps -= 12.0 * np.round(steps / 12.0)
    counted = expit((REACH_BETWEEN * 2 * H - np.linalg.norm(steps, axis=-1)) / WIDTH)
    expected = (counted.sum(axis=(2, 3)) * (1 - np.eye(4))).sum(axis=1)
    assert expected[0] > 1 and expected[1] < 1e-3
    assert_allclose(each[:, 2], expected, rtol=1e-3, atol=1e-5)


def test_molecules_without_such_a_pair_have_none():
    numbers = [8, 1, 1, 2]
    positions = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [0, 0, 1.5]])
    cell = 20.0 * np.eye(3)
    system = make_system(numbers, positions, 300.0, cell=cell)
    *_, within = contact_pairs(system)
    np.testing.assert_array_equal(np.asarray(contacts(jnp.asarray(positions), within, cell)).shape, [2])
    # O-He and H-He between, H-H within.
    assert make_observables({"contacts": 1.0}, system)["contacts"][1](jnp.asarray(positions)).shape == (3,)


def test_errors():
    alone = make_system([1, 1], [[0, 0, 0], [0.74, 0, 0]], 300.0)
    with pytest.raises(ValueError, match="'contacts': the system has no two atoms without a bond"):
        make_observables({"contacts": 1.0}, alone)
    system, _ = waters(4, 12.0)
    hoods = one_molecule_each(system)
    mixed = hoods._replace(atoms=hoods.atoms.T.reshape(hoods.atoms.shape))
    with pytest.raises(ValueError, match="'contacts': expected molecules as neighbourhoods"):
        make_observables({"contacts": 1.0}, system, mixed)
