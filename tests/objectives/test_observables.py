"""Observables against direct sums, MDTraj, ASE, closed forms and the published rMD17 frames."""

from __future__ import annotations

import os
from pathlib import Path

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import observables
from potentials.units import KB, KCAL_PER_MOL

RNG = np.random.default_rng(20240)
POSITIONS = RNG.normal(size=(5, 9, 3)) * 1.5


def test_pair_distances_follow_triu_order():
    expected = [
        [np.linalg.norm(frame[i] - frame[j]) for i in range(9) for j in range(i + 1, 9)]
        for frame in POSITIONS
    ]
    np.testing.assert_allclose(observables.pair_distances(POSITIONS), expected, rtol=1e-5)


def test_bond_lengths_match_ase():
    bonds = [[0, 1], [7, 2], [3, 4]]
    atoms = ase.Atoms("H9", POSITIONS[0])
    expected = [atoms.get_distance(i, j) for i, j in bonds]
    np.testing.assert_allclose(observables.bond_lengths(POSITIONS[0], bonds), expected, rtol=1e-5)
    assert observables.bond_lengths(POSITIONS, bonds).shape == (5, 3)
    assert observables.bond_lengths(POSITIONS, []).shape == (5, 0)


def test_coincident_atoms_do_not_spoil_the_gradient():
    gradient = jax.grad(lambda x: observables.pair_distances(x).sum())(jnp.zeros((3, 3)).at[2, 0].set(1.0))
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[2], [2.0, 0.0, 0.0], atol=1e-6)


def test_hard_histogram_matches_numpy():
    grid = observables.distance_grid(4.0, 40)
    distances = np.asarray(observables.pair_distances(POSITIONS))
    edges = np.asarray(grid.edges)
    expected = [np.histogram(frame, edges)[0] / distances.shape[1] / np.diff(edges) for frame in distances]
    np.testing.assert_allclose(
        observables.distance_histogram(POSITIONS, grid), expected, rtol=1e-4, atol=1e-5
    )


def test_a_distance_on_an_edge_belongs_to_the_bin_above():
    pair = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    h = observables.distance_histogram(pair, observables.distance_grid(4.0, 4))
    np.testing.assert_allclose(h, [0, 1, 0, 0])


def test_smeared_histogram_tends_to_the_hard_one():
    grid = observables.distance_grid(10.0, 50)
    hard = observables.distance_histogram(POSITIONS[0], grid)
    errors = [
        np.abs(observables.distance_distribution(POSITIONS[0], grid, width) - hard).max()
        for width in (0.1, 0.01, 1e-5)
    ]
    assert errors[0] > 0.01
    assert errors[2] < 1e-5


def test_smeared_histogram_is_the_bin_average_of_a_gaussian():
    pair = np.array([[0.0, 0, 0], [1.234, 0, 0]])
    grid, width = observables.distance_grid(3.0, 12), 0.11
    fine = np.linspace(0, 3, 120001)
    gaussian = np.exp(-0.5 * ((fine - 1.234) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    expected = gaussian[:-1].reshape(12, -1).mean(axis=1)
    np.testing.assert_allclose(observables.distance_distribution(pair, grid, width), expected, atol=1e-3)


@pytest.mark.parametrize("width", [1e-3, 0.03, 0.2])
def test_normalisation(width):
    # An equilateral triangle of side 2 and a fourth atom far off: 3 of 6 pairs lie in the grid.
    triangle = np.array([[0.0, 0, 0], [2, 0, 0], [1, np.sqrt(3), 0], [0, 0, 50]])
    grid = observables.distance_grid(4.0, 80)
    for h in (
        observables.distance_distribution(triangle, grid, width),
        observables.distance_histogram(triangle, grid),
    ):
        assert float(jnp.sum(h * jnp.diff(grid.edges))) == pytest.approx(0.5, abs=1e-5)
    inside = observables.distance_distribution(triangle[:3], grid, width)
    assert float(jnp.sum(inside * jnp.diff(grid.edges))) == pytest.approx(1.0, abs=1e-5)


def test_smeared_histogram_gradient_matches_finite_differences():
    with jax.enable_x64(True):
        edges = np.linspace(0, 6, 31)
        grid = observables.Grid(jnp.asarray(edges), jnp.asarray((edges[1:] + edges[:-1]) / 2))
        weights = jnp.asarray(RNG.normal(size=30))

        def loss(x):
            return jnp.vdot(weights, observables.distance_distribution(x, grid, 0.1))

        x, direction = jnp.asarray(POSITIONS[0]), jnp.asarray(RNG.normal(size=(9, 3)))
        h = 1e-5
        expected = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
        assert float(jnp.vdot(jax.grad(loss)(x), direction)) == pytest.approx(float(expected), rel=1e-6)


def test_dihedrals_match_mdtraj_and_ase():
    mdtraj = pytest.importorskip("mdtraj")
    quadruples = np.array([RNG.permutation(9)[:4] for _ in range(20)])
    angles = np.asarray(observables.dihedral_angles(POSITIONS, quadruples))
    topology = mdtraj.Topology()
    residue = topology.add_residue("X", topology.add_chain())
    for _ in range(9):
        topology.add_atom("C", mdtraj.element.carbon, residue)
    trajectory = mdtraj.Trajectory(POSITIONS / 10, topology)
    expected = mdtraj.compute_dihedrals(trajectory, quadruples, periodic=False)
    np.testing.assert_allclose(np.exp(1j * angles), np.exp(1j * expected), atol=2e-5)
    by_ase = [[ase.Atoms("C9", x).get_dihedral(*q) for q in quadruples.tolist()] for x in POSITIONS]
    np.testing.assert_allclose(np.exp(1j * angles), np.exp(1j * np.radians(by_ase)), atol=2e-5)


@pytest.mark.parametrize("degrees", [-179.0, -120.0, -60.0, 0.0, 0.01, 60.0, 90.0, 179.0, 180.0])
def test_dihedral_sign_range_and_gradient(degrees):
    # Looking along +z from the front atom on the x axis; clockwise in that view is from x towards y.
    phi = np.radians(degrees)
    atoms = jnp.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1.5], [np.cos(phi), np.sin(phi), 1.5]])
    angle, gradient = jax.value_and_grad(lambda x: observables.dihedral_angles(x, [[0, 1, 2, 3]])[0])(atoms)
    assert float(angle) == pytest.approx(phi, abs=1e-5)
    # The end atom sits 1 Å off the axis: moving it along the arc by s turns the angle by s.
    np.testing.assert_allclose(gradient[3], [-np.sin(phi), np.cos(phi), 0.0], atol=1e-5)
    assert np.isfinite(gradient).all()


def test_trans_is_plus_pi_from_either_side():
    for y in (0.0, 1e-9, -1e-9):  # float32 rounds the last to atan2(-1e-9, -1) = −π
        atoms = jnp.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1.5], [-1.0, y, 1.5]])
        assert float(observables.dihedral_angles(atoms, [[0, 1, 2, 3]])[0]) == pytest.approx(np.pi)
        assert float(observables.dihedral_angles(atoms[::-1], [[0, 1, 2, 3]])[0]) == pytest.approx(np.pi)


def test_energy_histogram_shows_what_leaves_the_grid():
    reference = RNG.normal(size=1000)
    grid = observables.energy_grid(reference, bins=50, margin=0.5)
    span = np.ptp(reference)
    np.testing.assert_allclose(
        grid.edges[jnp.array([0, -1])], [reference.min() - span / 2, reference.max() + span / 2], rtol=1e-5
    )
    expected = np.histogram(reference, np.asarray(grid.edges), density=True)[0]
    np.testing.assert_allclose(observables.energy_histogram(reference, grid), expected, rtol=1e-4, atol=1e-6)
    lost = np.concatenate([reference[:500], np.full(200, -1e3), np.full(200, np.nan), np.full(100, -np.inf)])
    h = observables.energy_histogram(lost, grid)
    assert float(jnp.sum(h * jnp.diff(grid.edges))) == pytest.approx(0.5, abs=1e-5)


def harmonic_sample(temperature: float, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact Boltzmann frames and forces of six atoms joined by springs of random stiffness, far from 0."""
    rng = np.random.default_rng(7)
    stiffness = np.triu(rng.uniform(0.5, 40.0, size=(6, 6)), 1)
    stiffness = stiffness + stiffness.T
    laplacian = np.diag(stiffness.sum(1)) - stiffness
    values, vectors = np.linalg.eigh(laplacian)
    modes = rng.normal(size=(frames, 5, 3)) * np.sqrt(KB * temperature / values[1:])[:, None]
    internal = np.einsum("nk,fkd->fnd", vectors[:, 1:], modes)
    return internal + rng.normal(size=(frames, 1, 3)) * 10, -np.einsum("ij,fjd->fid", laplacian, internal)


@pytest.mark.parametrize("temperature", [300.0, 500.0])
def test_virial_temperature_of_an_exact_sample(temperature):
    positions, forces = harmonic_sample(temperature, 4000)
    masses = np.array([1.0, 12.0, 16.0, 1.0, 1.0, 14.0])
    estimates = np.asarray(observables.virial_temperature(positions, forces, masses), dtype=float)
    stderr = estimates.std() / np.sqrt(len(estimates))
    assert abs(estimates.mean() - temperature) < 3 * stderr
    # 2U/kT of 3N − 3 harmonic modes is chi-squared, so the scatter of single frames is known too.
    assert estimates.std() == pytest.approx(temperature * np.sqrt(2 / 15), rel=0.06)
    assert stderr < 0.01 * temperature


def test_virial_temperature_takes_out_the_mass_weighted_centre():
    positions = np.array([[[0.0, 0, 0], [4.0, 0, 0]]])
    forces = np.array([[[0.0, 0, 0], [-1.0, 0, 0]]])
    estimate = observables.virial_temperature(positions, forces, np.array([3.0, 1.0]))
    np.testing.assert_allclose(estimate, [3.0 / (3 * KB)], rtol=1e-5)


def test_energy_spread_of_harmonic_modes():
    # N = 9: 21 modes of kT/2 each; the energy in units of kT is gamma-distributed with shape 21/2.
    energies = KB * 500 * np.random.default_rng(1).gamma(21 / 2, size=40000)
    assert observables.energy_spread(500.0, 9) == pytest.approx(energies.std(), rel=0.02)
    assert observables.energy_spread(500.0, 9) / KCAL_PER_MOL == pytest.approx(3.22, abs=0.01)


@pytest.mark.parametrize(("key", "expected"), [("forces", -86.0), ("old_forces", 542.0)])
def test_virial_temperature_of_rmd17_ethanol(key, expected):
    """Neither rMD17's labels nor MD17's make these 500 K frames a Boltzmann sample at 500 K."""
    root = Path(os.environ.get("BOLTZFIT_DATA", "."), "rmd17")
    files = sorted(root.glob("rmd17_ethanol_*.npz"))
    if not files:
        pytest.skip("rMD17 ethanol is not under BOLTZFIT_DATA")
    frames: dict[int, float] = {}
    for file in files:
        with np.load(file) as data:
            estimates = observables.virial_temperature(
                data["coords"], data[key] * KCAL_PER_MOL, ase.data.atomic_masses[data["nuclear_charges"]]
            )
            frames.update(zip(data["old_indices"].tolist(), np.asarray(estimates).tolist(), strict=True))
    values = np.array(list(frames.values()))
    # The expected numbers are means over the 9,633 frames of all splits, of which these may be a part.
    missing = max(0.0, 1 - len(values) / 9633)
    tolerance = 4 * np.sqrt(missing) * values.std() / np.sqrt(len(values)) + 1.0
    assert values.mean() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: observables.distance_grid(0.0, 10), "low < high"),
        (lambda: observables.distance_grid(1.0, 0), "bins"),
        (lambda: observables.energy_grid([1.0, 1.0]), "distinct"),
        (lambda: observables.energy_grid([1.0, np.nan]), "finite"),
        (
            lambda: observables.distance_distribution(np.eye(3), observables.distance_grid(), 0.0),
            "must be positive",
        ),
        (
            lambda: observables.virial_temperature(np.ones((2, 3, 3)), np.ones((2, 3, 3)), np.ones(4)),
            "expected",
        ),
        (lambda: observables.energy_spread(500.0, 2), "at least 3"),
    ],
)
def test_bad_input_raises(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
