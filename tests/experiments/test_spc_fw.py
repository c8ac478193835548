"""SPC/Fw water through OpenMM against its own formula, and the binary that makes data of it."""

import json
import sys

import numpy as np
import pytest
from ase.units import kcal, mol
from numpy.testing import assert_allclose

from experiments import binary, water
from experiments.frame_files import read_frames
from experiments.spc_fw import WaterSettings, energy_and_forces, make_context, run_chain, start_positions

mm = pytest.importorskip("openmm")
# Table I of the paper: kcal/mol/Å², Å, kcal/mol/rad², degrees, e, kcal/mol, Å.
BOND_STIFFNESS, BOND, ANGLE_STIFFNESS, ANGLE = 1059.162, 1.012, 75.90, 113.24
CHARGE, EPSILON, SIGMA = -0.82, 0.1554253, 3.165492
COULOMB = 14.3996454  # e²/(4πε₀), eV Å
SMALL = WaterSettings(27, 9.32, picoseconds=0.6, equilibration_ps=0.5, record_fs=20.0)


def formula(positions):
    """V of molecules in vacuum, eV: the paper's equation, written out."""
    molecules = positions.reshape(-1, 3, 3)
    energy = 0.0
    for oxygen, first, second in molecules:
        a, b = first - oxygen, second - oxygen
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        angle = np.arccos(a @ b / np.prod(lengths))
        energy += sum(0.5 * BOND_STIFFNESS * (r - BOND) ** 2 for r in lengths)
        energy += 0.5 * ANGLE_STIFFNESS * (angle - np.radians(ANGLE)) ** 2
    energy *= kcal / mol
    charges = np.array([CHARGE, -CHARGE / 2, -CHARGE / 2])
    for i in range(len(molecules)):
        for j in range(i):
            distances = np.linalg.norm(molecules[i][:, None] - molecules[j][None], axis=-1)
            energy += COULOMB * np.sum(np.outer(charges, charges) / distances)
            power = (SIGMA / distances[0, 0]) ** 6
            energy += 4 * EPSILON * kcal / mol * (power**2 - power)
    return energy


def at(positions, edge):
    context = make_context(len(positions) // 3, edge, mm.VerletIntegrator(0.001))
    context.setPositions(positions / 10)
    return energy_and_forces(context)


def test_energy_and_forces_are_those_of_the_paper():
    # Images of two molecules in a box of 60 Å add less than 1e-3 eV (dipoles of 0.5 e Å: 14 μ²/L³).
    rng = np.random.default_rng(0)
    positions = start_positions(2, 60.0, rng) + 30.0
    positions[3:] += positions[0] - positions[3] + [2.9, 0.4, -0.3]
    positions += rng.normal(scale=0.05, size=positions.shape)
    energy, forces = at(positions, 60.0)
    assert_allclose(energy, formula(positions), atol=1e-3)
    numerical = np.zeros_like(positions)
    for index in np.ndindex(positions.shape):
        step = np.zeros_like(positions)
        step[index] = 1e-4
        numerical[index] = -(formula(positions + step) - formula(positions - step)) / 2e-4
    assert_allclose(forces, numerical, atol=2e-3 * np.abs(numerical).max())


def test_a_box_repeats_itself():
    rng = np.random.default_rng(1)
    positions = start_positions(27, 18.0, rng)
    energy, forces = at(positions, 18.0)
    elsewhere = positions.copy()
    elsewhere[6:9] += [18.0, -36.0, 0.0]  # one molecule, by vectors of the box
    moved, same = at(elsewhere, 18.0)
    assert_allclose(moved, energy, atol=2e-3)
    assert_allclose(same, forces, atol=0.02)
    assert_allclose(forces.sum(axis=0), 0, atol=0.02)
    assert abs(at(positions + np.repeat([[2.5, 0, 0], [0, 0, 0]], [3, 78], axis=0), 18.0)[0] - energy) > 1e-3


def test_the_thermostat_counts_the_degrees_of_freedom_there_are():
    integrator = mm.NoseHooverIntegrator(300.0, 1.0, 0.001)
    context = make_context(8, 18.0, integrator)
    assert integrator.getThermostat(0).getNumDegreesOfFreedom() == 3 * 24 - 3
    del context


def test_a_chain_is_kept_and_refuses_other_settings(tmp_path):
    path = run_chain(SMALL, 3, tmp_path)
    assert path.name == "chain_003.npz"
    with np.load(path) as file:
        assert file["positions"].shape == file["forces"].shape == (30, 81, 3)
        assert 150 < file["temperatures"].mean() < 450  # half a picosecond from a lattice
        energy, forces = at(file["positions"][-1].astype(float), SMALL.edge)
        assert_allclose(file["energies"][-1], energy, atol=1e-3)
        assert_allclose(file["forces"][-1], forces, atol=0.02)
    stamp = path.stat().st_mtime_ns
    assert run_chain(SMALL, 3, tmp_path).stat().st_mtime_ns == stamp
    other = WaterSettings(27, 9.32, picoseconds=0.6, equilibration_ps=0.5, record_fs=20.0, temperature=310.0)
    with pytest.raises(ValueError, match=r"chain_003\.npz: temperature is 300\.0 there, 310\.0 asked for"):
        run_chain(other, 3, tmp_path)
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"chain_003\.npz: no readable npz file"):
        run_chain(SMALL, 3, tmp_path)


@pytest.fixture
def flags(monkeypatch, tmp_path):
    def call(*words):
        water.flags.FLAGS.unparse_flags()
        water.flags.FLAGS([sys.argv[0], f"--output={tmp_path / 'water.extxyz'}", *words])

    yield call
    water.flags.FLAGS.unparse_flags()


def test_from_the_command_to_frames(flags, tmp_path):
    flags(
        "--molecules=27",
        "--edge=9.32",
        "--picoseconds=0.4",
        "--equilibration=0.2",
        "--chains=4",
        "--frames=6,3",
    )
    water.main()
    frames = read_frames(tmp_path / "water.extxyz")
    assert frames.positions.shape == (6, 81, 3) and np.allclose(frames.cell, 9.32 * np.eye(3))
    energy, forces = at(frames.positions[-1], 9.32)
    assert_allclose(frames.energies[-1], energy, atol=2e-3)
    assert_allclose(frames.forces[-1], forces, atol=0.02)
    others = read_frames(tmp_path / "water_test.extxyz")
    chains = [np.load(tmp_path / "water.chains" / f"chain_00{chain}.npz") for chain in range(4)]
    starts = [chain["positions"][0] for chain in chains]
    assert_allclose(frames.positions[[0, 2, 4]], starts[:3], atol=1e-4)  # and of no other chain
    assert_allclose(others.positions[0], starts[3], atol=1e-4)
    assert len(others.energies) == 3
    metrics = json.loads((tmp_path / "water.json").read_text())
    assert 0.95 < metrics["oh_length_angstrom"] < 1.1 and metrics["oh_length_angstrom_stderr"] > 0
    assert 2.5 < metrics["rdf_oo_peak_angstrom"] < 3.2
    centers, curve = (np.array(metrics[name]) for name in ("rdf_centers_angstrom", "rdf_O-O"))
    assert centers[curve.argmax()] == pytest.approx(metrics["rdf_oo_peak_angstrom"], abs=1e-3)
    assert {f"rdf_{pair}{end}" for pair in ("O-O", "O-H", "H-H") for end in ("", "_stderr")} <= set(metrics)
    with pytest.raises(binary.InputError, match="it would be overwritten"):
        water.main()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--chains=3"], "--chains is 3"),
        (["--edge=-1"], "--edge is -1.0; expected a positive number"),
        (["--frames=5"], "--frames is '5'; expected two numbers"),
        (["--picoseconds=1", "--frames=500,5"], "expected between 1 and 120, or a larger"),
        (["--output=water.npz"], "expected a file ending in .extxyz"),
    ],
)
def test_bad_flags(flags, words, message):
    flags(*words)
    with pytest.raises(binary.InputError, match=message):
        water.main()


def test_the_correction_for_the_size_of_the_box():
    # 2.837297 × 1.380649e-23 J/K × 300 K / (6 π × 0.75e-3 Pa s × 12.42e-10 m), m²/s, in units of 1e-8.
    assert water.size_correction(300.0, 12.42) == pytest.approx(0.06693, rel=1e-3)
    assert water.size_correction(300.0, 24.84) == pytest.approx(0.06693 / 2, rel=1e-3)


@pytest.mark.slow
def test_the_liquid_has_the_published_properties(tmp_path):
    # Four chains of 25 ps of 64 molecules, with three standard errors: SPC/Fw at 298 K has O–H 1.031 Å,
    # H–O–H 107.7° and, in a box of 216 molecules, 2.32e-9 m²/s (Wu, Tepper and Voth, table II).
    settings = WaterSettings(picoseconds=25.0, equilibration_ps=10.0)
    chains = [dict(np.load(run_chain(settings, chain, tmp_path))) for chain in range(4)]
    metrics = water.liquid_metrics(settings, chains)
    larger = settings.edge * (216 / 64) ** (1 / 3)
    shift = water.size_correction(300.0, settings.edge) - water.size_correction(300.0, larger)
    metrics["diffusivity_216"] = metrics["diffusivity_angstrom2_per_ps"] + shift
    for name, expected, allowed in (
        ("temperature_k", 300.0, 0.0),
        ("oh_length_angstrom", 1.031, 0.002),
        ("hoh_angle_degrees", 107.7, 0.5),
        ("diffusivity_216", 0.232, 0.01),  # 2 K more are 4 % more
    ):
        error = metrics.get(f"{name}_stderr", metrics["diffusivity_angstrom2_per_ps_stderr"])
        assert abs(metrics[name] - expected) < 3 * error + allowed, name
    assert metrics["rdf_oo_peak_angstrom"] == pytest.approx(2.75, abs=0.06)
