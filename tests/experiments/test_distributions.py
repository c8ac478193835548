"""Distributions of chains with known contents; what goes into a file comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from experiments.distributions import (
    DIHEDRAL_BINS,
    Distributions,
    as_blocks,
    bins_to_merge,
    energy_bin_edges,
    from_arrays,
    measure,
    over_chains,
    to_arrays,
)
from objectives.dihedrals import find_dihedrals
from potentials import System, make_system


def measured(system: System, *arguments: object, achiral: bool = True, **known: object) -> Distributions:
    """`measure` with all the dihedrals that the bonds show."""
    dihedrals = find_dihedrals(system.numbers, system.bonds)
    return measure(system, *arguments, dihedrals, achiral=achiral, **known)


@pytest.fixture
def sampled(ethanol) -> tuple[Distributions, np.ndarray, np.ndarray]:
    """Three chains of 40 distorted ethanols, with momenta: (distributions, positions, energies)."""
    system, positions = ethanol
    rng = np.random.default_rng(1)
    frames = positions + 0.05 * rng.normal(size=(3, 40, 9, 3))
    energies = rng.normal(-4000.0, 0.15, size=(3, 40))
    kinetic = rng.normal(500.0, 30.0, size=(3, 40))
    edges = energy_bin_edges(energies)
    return measured(system, list(frames), energies, edges, kinetic_temperatures=kinetic), frames, energies


def test_a_file_gives_back_what_was_written(sampled, tmp_path):
    distributions, *_ = sampled
    np.savez(tmp_path / "x.npz", **to_arrays(distributions))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        found = from_arrays(file)
    assert isinstance(found.n_frames, int) and found.n_frames == 40
    for name, value in distributions._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), value)
        assert np.asarray(getattr(found, name)).dtype == np.asarray(value).dtype


@pytest.mark.parametrize("field", Distributions._fields)
def test_a_missing_field_is_named(sampled, field):
    arrays = to_arrays(sampled[0], prefix="set_")
    del arrays[f"set_{field}"]
    with pytest.raises(ValueError, match=f"lack 'set_{field}'"):
        from_arrays(arrays, prefix="set_")


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [
        (20_000, 1),  # 2 · 0.5 · 160,000^(−1/3) = 0.018 of a width of 0.02
        (130, 5),  # 0.099: 4.9 bins
        (115, 6),  # 0.103: 5.1 bins
        (40, 8),  # 0.146: 7.3 bins, and 8 divide 120
        (1, 30),  # 0.5: 25 bins
    ],
)
def test_figures_have_wider_bins_where_frames_are_few(sampled, n_frames, expected):
    uniform = sampled[0]._replace(
        energy_quantiles=np.linspace(-4000.0, -3999.0, 2001),
        energy_edges=np.linspace(-4000.7, -3998.3, 121),
        energy_density=np.zeros((8, 120), np.float32),
        n_frames=n_frames,
    )
    assert bins_to_merge(uniform) == expected


def test_energies_of_chains_with_known_means(ethanol):
    """Chains ±a about their own means m_c: mean and standard error are those of the m_c alone."""
    system, positions = ethanol
    means, a = np.array([-1.0, 0.0, 0.0, 3.0]) - 4000.0, 0.25
    energies = means[:, None] + a * (-1.0) ** np.arange(10)
    frames = [np.broadcast_to(positions, (10, 9, 3))] * 4
    found = measured(system, frames, energies, np.linspace(-4001.5, -3999.5, 21))
    assert found.energy_mean[0] == pytest.approx(-3999.5)
    assert found.energy_mean[1] == pytest.approx(means.std(ddof=1) / 2)
    assert found.energy_sd[0] == pytest.approx(energies.std(ddof=1))
    assert found.energy_quantiles[[0, -1]] == pytest.approx([-4001.25, -3996.75])
    # Half of the frames are within the edges of a chain at -4000; the last chain is not in the grid.
    integral = found.energy_density.sum(axis=1) * 0.1
    np.testing.assert_allclose(integral, [1, 1, 1, 0], atol=1e-5)
    assert found.n_frames == 10
    assert np.isnan(found.kinetic_temperature).all() and np.isnan(found.virial_temperature).all()


def test_standard_errors_over_chains_are_unbiased():
    """⟨stderr²⟩ = σ²/C for C chains whose values scatter by σ."""
    n_chains, sets, sigma = 5, 20_000, 3.0
    values = 7.0 + sigma * np.random.default_rng(2).normal(size=(n_chains, sets))
    mean, stderr = over_chains(values)
    assert mean.shape == stderr.shape == (sets,)
    expected = sigma**2 / n_chains
    tolerance = 4 * expected * np.sqrt(2 / (n_chains - 1) / sets)
    assert np.mean(stderr**2) == pytest.approx(expected, abs=tolerance)
    assert mean.mean() == pytest.approx(7.0, abs=4 * np.sqrt(expected / sets))


def test_temperatures_and_their_errors(ethanol):
    system, positions = ethanol
    kinetic = np.array([[400.0, 600.0], [500.0, 520.0]])
    frames = [np.broadcast_to(positions, (2, 9, 3))] * 2
    found = measured(
        system,
        frames,
        np.arange(4.0).reshape(2, 2),
        np.arange(5.0),
        kinetic_temperatures=kinetic,
        virial_temperatures=2 * kinetic,
    )
    np.testing.assert_allclose(found.kinetic_temperature, [505.0, 5.0])
    np.testing.assert_allclose(found.virial_temperature, [1010.0, 10.0])


def test_distances_equal_ases_in_chains_longer_than_a_piece(ethanol):
    system, positions = ethanol
    frames = positions + 0.1 * np.random.default_rng(3).normal(size=(2, 2100, 9, 3))
    found = measured(system, list(frames), np.random.default_rng(4).normal(size=(2, 2100)), np.arange(3.0))
    first, second = np.triu_indices(9, 1)
    for chain, density in zip(frames, found.hr_density, strict=True):
        distances = np.concatenate(
            [Atoms(system.numbers, x).get_all_distances()[first, second] for x in chain]
        )
        counts = np.histogram(distances, found.hr_edges)[0]
        shares = density * np.diff(found.hr_edges)
        # A few distances lie within rounding of an edge.
        np.testing.assert_allclose(shares, counts / len(distances), atol=3e-5)
        assert shares.sum() == pytest.approx(1.0, abs=1e-5)


def test_dihedral_probabilities_are_normalised_and_mirrored(sampled):
    probability = sampled[0].dihedral_probability
    assert probability.shape == (3, 2, DIHEDRAL_BINS)
    np.testing.assert_allclose(probability.sum(axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(probability, probability[..., ::-1], atol=1e-7)


@pytest.mark.parametrize("achiral", [True, False])
def test_a_dihedral_set_by_ase_lands_in_its_bins(achiral):
    atoms = molecule("CH3CH2OH")  # CH3 is atom 0, CH2 1, O 2 and its H 3
    system = make_system(atoms.numbers, atoms.positions, 500.0)
    chains = []
    for angle in (65.0, -115.0):
        atoms.set_dihedral(0, 1, 2, 3, angle, indices=[3])
        chains.append(np.stack([atoms.get_positions()] * 4))
    found = measured(system, chains, np.arange(8.0).reshape(2, 4), np.arange(9.0), achiral=achiral)
    index = found.dihedral_names.tolist().index("H-O-C-C")
    centres = -175.0 + 10.0 * np.arange(DIHEDRAL_BINS)
    for row, angle in zip(found.dihedral_probability[:, index], (65.0, -115.0), strict=True):
        expected = 0.5 * (np.abs(centres) == abs(angle)) if achiral else centres == angle
        np.testing.assert_allclose(row, expected)


def test_a_molecule_without_dihedrals(tmp_path):
    water = molecule("H2O")
    system = make_system(water.numbers, water.positions, 300.0)
    frames = [np.stack([water.positions] * 5)] * 2
    found = measured(system, frames, np.arange(10.0).reshape(2, 5), np.arange(11.0))
    assert found.dihedral_probability.shape == (2, 0, DIHEDRAL_BINS)
    np.savez(tmp_path / "x.npz", **to_arrays(found))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert from_arrays(file).dihedral_names.tolist() == []


def test_one_chain_is_refused(ethanol):
    system, positions = ethanol
    with pytest.raises(ValueError, match="at least 2 chains for their errors, got 1"):
        measured(system, [positions[None]], np.zeros((1, 1)), np.arange(3.0))


def test_energy_bins_cover_the_reference_and_a_margin():
    edges = energy_bin_edges(np.array([2.0, 4.0, 3.0]))
    assert edges[[0, -1]] == pytest.approx([1.4, 4.6])
    np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])


def test_blocks_are_whole_and_in_order_of_time():
    np.testing.assert_array_equal(as_blocks(np.arange(23), 4), np.arange(20).reshape(4, 5))
    assert as_blocks(np.zeros((23, 9, 3)), 4).shape == (4, 5, 9, 3)


def test_blocks_hold_the_error_of_a_correlated_trajectory():
    """x' = ρ x + √(1 − ρ²) ξ: a mean of F frames has variance (1 + ρ)/(1 − ρ)/F."""
    rho, n_frames, rng = 0.9, 40_000, np.random.default_rng(6)
    x, noise = np.empty(n_frames), np.sqrt(1 - rho**2) * rng.normal(size=n_frames)
    x[0] = rng.normal()
    for step in range(1, n_frames):
        x[step] = rho * x[step - 1] + noise[step]
    _, stderr = over_chains(as_blocks(x, 20).mean(axis=1))
    expected = np.sqrt((1 + rho) / (1 - rho) / n_frames)
    assert stderr == pytest.approx(expected, rel=4 / np.sqrt(2 * 19))
    assert stderr > 2 / np.sqrt(n_frames)


def test_fewer_frames_than_blocks_are_refused():
    with pytest.raises(ValueError, match="at least 20 frames, got 19"):
        as_blocks(np.zeros(19), 20)
