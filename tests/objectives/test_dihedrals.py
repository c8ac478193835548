"""Finding and naming torsions, and their free energies against von Mises and binomial closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from objectives import dihedrals
from potentials.units import KB

ETHANOL = [6, 6, 8, 1, 1, 1, 1, 1, 1]
ETHANOL_BONDS = [[0, 1], [0, 2], [0, 3], [0, 4], [1, 5], [1, 6], [1, 7], [2, 8]]


def as_dict(found: list[dihedrals.Dihedral]) -> dict[str, list[tuple[int, ...]]]:
    return {name: sorted(map(tuple, quadruples.tolist())) for name, quadruples in found}


def test_ethanol_has_exactly_two():
    assert as_dict(dihedrals.find_dihedrals(ETHANOL, ETHANOL_BONDS)) == {
        "H-C-C-O": [(5, 1, 0, 2), (6, 1, 0, 2), (7, 1, 0, 2)],
        "H-O-C-C": [(8, 2, 0, 1)],
    }


def test_numbering_and_direction_of_bonds_do_not_matter():
    order = np.random.default_rng(3).permutation(9)
    place = np.argsort(order)
    bonds = [[place[j], place[i]] for i, j in ETHANOL_BONDS][::-1]
    found = as_dict(dihedrals.find_dihedrals(np.array(ETHANOL)[order], np.array(bonds)))
    back = {
        name: sorted(tuple(order[list(q)].tolist()) for q in quadruples) for name, quadruples in found.items()
    }
    assert back == as_dict(dihedrals.find_dihedrals(ETHANOL, ETHANOL_BONDS))


def test_ethane_pools_nine_and_water_has_none():
    ethane = dihedrals.find_dihedrals([6, 6] + [1] * 6, [[0, 1]] + [[k // 3, k + 2] for k in range(6)])
    assert [(name, len(quadruples)) for name, quadruples in ethane] == [("H-C-C-H", 9)]
    assert dihedrals.find_dihedrals([8, 1, 1], [[0, 1], [0, 2]]) == []
    assert dihedrals.find_dihedrals([18], []) == []


def test_repeated_names_are_numbered():
    # The carbon skeleton of pentane: C-C-C-C twice.
    found = dihedrals.find_dihedrals([6] * 5, [[k, k + 1] for k in range(4)])
    assert [name for name, _ in found] == ["C-C-C-C", "C-C-C-C #2"]


def ring(size: int) -> list[list[int]]:
    return [[k, (k + 1) % size] for k in range(size)]


@pytest.mark.parametrize(("size", "count"), [(3, 0), (5, 0), (6, 0), (7, 7), (8, 8)])
def test_small_rings_are_rigid(size, count):
    assert len(dihedrals.find_dihedrals([6] * size, ring(size))) == count


def test_equivalent_ends_are_pooled_and_different_ones_are_not():
    # Phenol without its ring hydrogens: both ortho carbons are equivalent.
    numbers, bonds = [6] * 6 + [8, 1], [*ring(6), [0, 6], [6, 7]]
    assert as_dict(dihedrals.find_dihedrals(numbers, bonds)) == {"H-O-C-C": [(7, 6, 0, 1), (7, 6, 0, 5)]}
    # A nitrogen on one ortho carbon makes that end the heavier one.
    substituted = dihedrals.find_dihedrals([*numbers, 7], [*bonds, [5, 8]])
    assert as_dict(substituted) == {"H-O-C-C": [(7, 6, 0, 5)]}


def test_the_heaviest_element_defines_an_end():
    # Chloroacetic acid's heavy atoms: Cl0-C1-C2(=O3)-O4-H5; the two oxygens differ by their hydrogen.
    found = dihedrals.find_dihedrals([17, 6, 6, 8, 8, 1], [[0, 1], [1, 2], [2, 3], [2, 4], [4, 5]])
    assert as_dict(found) == {"O-C-C-Cl": [(4, 2, 1, 0)], "H-O-C-O": [(5, 4, 2, 3)]}


def test_user_dihedral():
    found = dihedrals.user_dihedral("3-2-0-1", [6, 8, 6, 1])
    assert found.name == "H3-C2-C0-O1"
    assert found.quadruples.tolist() == [[3, 2, 0, 1]]


@pytest.mark.parametrize(
    "text", ["", "1-2-3", "0-1-2-3-4", "0-1-2-9", "0-1-1-2", "a-1-2-3", "0--1-2-3", "0-1-2-²"]
)
def test_bad_user_dihedrals_are_named(text):
    with pytest.raises(ValueError, match="expected four different 0-based atom indices") as caught:
        dihedrals.user_dihedral(text, [6, 6, 8, 1])
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize("bonds", [[[0, 0]], [[0, 9]], [[-1, 2]], [[0, 1, 2]], [[0.0, 1.0]]])
def test_bad_bonds_raise(bonds):
    with pytest.raises(ValueError, match="bonds must"):
        dihedrals.find_dihedrals(ETHANOL, bonds)


def test_histogram_bins_are_open_below_and_closed_above():
    angles = np.array([np.pi, -np.pi, -np.pi / 2, 0.0, 1e-9, np.pi / 2])
    np.testing.assert_allclose(dihedrals.dihedral_histogram(angles, 4) * 6, [1, 1, 2, 2])
    np.testing.assert_allclose(dihedrals.dihedral_centers(4), np.pi * np.array([-0.75, -0.25, 0.25, 0.75]))


def test_mirror_averages_both_signs_and_periods_fold():
    angles = np.random.default_rng(0).uniform(0.3, 1.2, size=(3, 50))
    one = dihedrals.dihedral_histogram(angles, 36, mirror=True)
    both = dihedrals.dihedral_histogram(np.concatenate([angles, -angles]), 36)
    np.testing.assert_allclose(one, both)
    folded = dihedrals.dihedral_histogram(angles + 4 * np.pi, 36)
    np.testing.assert_allclose(folded, dihedrals.dihedral_histogram(angles, 36))


def test_free_energy_of_a_von_mises_sample():
    # p ∝ exp(κ cos φ), so F = k_B T κ (1 − cos φ) but for the bin average, κ(Δφ)²/24 at most.
    kappa, temperature, bins, samples = 1.5, 400.0, 60, 400_000
    angles = np.random.default_rng(5).vonmises(0.0, kappa, size=samples)
    p = dihedrals.dihedral_histogram(angles, bins)
    profile = dihedrals.free_energy(p, temperature)
    assert np.nanmin(profile) == 0.0
    mask = dihedrals.populated(p)
    exact = KB * temperature * kappa * (1 - np.cos(dihedrals.dihedral_centers(bins)))
    difference = (profile - exact)[mask]
    stderr = KB * temperature / np.sqrt(samples * p[mask])
    # Both have an arbitrary zero: the sample's is set by its luckiest bin.
    score = (difference - np.average(difference, weights=p[mask])) / stderr
    assert np.abs(score).max() < 4.5
    assert np.sqrt(np.mean(score**2)) == pytest.approx(1.0, abs=0.3)
    assert 0 < mask.sum() < bins


def test_unpopulated_bins_are_nan():
    profile = dihedrals.free_energy([[0.5, 0.0, 0.5], [0.8, 0.2, 0.0]], 300.0)
    np.testing.assert_array_equal(np.isnan(profile), [[False, True, False], [False, False, True]])
    assert profile[1, 1] == pytest.approx(KB * 300 * np.log(4))
    np.testing.assert_array_equal(dihedrals.populated([0.9, 0.066, 0.034]), [True, False, False])
    np.testing.assert_array_equal(dihedrals.populated([0.9, 0.066, 0.034], 0.05), [True, True, False])


def test_stderr_of_the_free_energy_matches_the_binomial():
    rng, p, samples, temperature = np.random.default_rng(11), np.array([0.5, 0.3, 0.2, 0.0]), 500, 300.0
    counts = rng.multinomial(samples, p, size=2000)
    expected = KB * temperature * np.sqrt((1 - p[:3]) / (p[:3] * samples * 2000))
    stderr = dihedrals.free_energy_stderr(counts, temperature)
    np.testing.assert_allclose(stderr[:3], expected, rtol=0.06)
    assert np.isnan(stderr[3])
    # Probabilities of equally long chains give the same.
    np.testing.assert_allclose(dihedrals.free_energy_stderr(counts / samples, temperature), stderr)


def test_stderr_of_the_free_energy_with_unequal_chains():
    # Long chains must count for more: the error follows the pooled counts, 100 × (1000 + 10) here.
    rng, p, temperature = np.random.default_rng(12), np.array([0.6, 0.4]), 300.0
    counts = np.concatenate([rng.multinomial(1000, p, size=1000), rng.multinomial(10, p, size=1000)])
    expected = KB * temperature * np.sqrt((1 - p) / (p * 1010 * 1000))
    np.testing.assert_allclose(dihedrals.free_energy_stderr(counts, temperature), expected, rtol=0.08)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: dihedrals.dihedral_histogram([], 10), "got 0 angles"),
        (lambda: dihedrals.dihedral_histogram([0.0, np.nan], 10), "1 not finite"),
        (lambda: dihedrals.dihedral_histogram([0.0], 0), "bins=0"),
        (lambda: dihedrals.free_energy([0.0, 0.0], 300.0), "not all 0"),
        (lambda: dihedrals.free_energy([-0.1, 1.1], 300.0), ">= 0"),
        (lambda: dihedrals.free_energy_stderr([[1, 2]], 300.0), "C >= 2"),
        (lambda: dihedrals.free_energy_stderr([[1, -2], [1, 2]], 300.0), ">= 0"),
    ],
)
def test_bad_input_raises(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
