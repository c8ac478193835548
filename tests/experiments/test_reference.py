"""Reference chains and engines; the parts with GFN2-xTB run where tblite is installed."""

import numpy as np
import pytest
from ase.build import molecule

from experiments.engines import EngineError, label, make_engine
from experiments.reference import assemble, find_molecule, frame_counts, sections
from experiments.reference_chains import ChainSettings, baoab, run_chain


@pytest.fixture(scope="module")
def engine():
    pytest.importorskip("tblite")
    return make_engine("gfn2", molecule("CH3CH2OH").numbers)


def test_forces_are_the_energy_gradient(engine):
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(0)
    x = atoms.get_positions() + 0.05 * rng.normal(size=(9, 3))
    direction = rng.normal(size=(9, 3))
    _, forces = engine(x)
    h = 1e-4
    slope = (engine(x + h * direction)[0] - engine(x - h * direction)[0]) / (2 * h)
    assert abs(slope + np.sum(forces * direction)) < 1e-3 * abs(slope)


def test_engine_equals_tblites_own_ase_calculator(engine):
    from tblite.ase import TBLite

    atoms = molecule("CH3CH2OH")
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    energy, forces = engine(atoms.get_positions())
    # The two unit tables differ in the ninth digit.
    assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-4)


def test_engine_failures_are_errors_and_nan_labels(engine):
    x = molecule("CH3CH2OH").get_positions()
    with pytest.raises(EngineError, match="not finite"):
        engine(np.full((9, 3), np.nan))
    energies, forces = label("gfn2", molecule("CH3CH2OH").numbers, [x, np.full((9, 3), np.nan)])
    assert np.isfinite(energies[0]) and np.isnan(energies[1]) and np.isnan(forces[1]).all()
    assert np.isfinite(engine(x)[0]), "an engine must work again after a failure"


def test_unknown_engine():
    with pytest.raises(ValueError, match="unknown engine 'gfn3'; known: gfn2, gfn1"):
        make_engine("gfn3", [1])


def test_baoab_samples_a_harmonic_well():
    """Variance k_B T/k per coordinate, exactly, and 3N degrees of freedom."""
    from ase import units

    stiffness, masses = 8.0, np.ones(500)
    settings = ChainSettings(temperature=300.0, timestep_fs=0.5, friction_per_ps=50.0)

    def well(x):
        return 0.5 * stiffness * np.sum(x**2), -stiffness * x

    rng = np.random.default_rng(0)
    kT = units.kB * settings.temperature
    x = rng.normal(size=(500, 3)) * np.sqrt(kT / stiffness)
    p = rng.normal(size=(500, 3)) * np.sqrt(kT)
    f = well(x)[1]
    squares = []
    for _ in range(4000):
        x, p, _, f = baoab(well, masses, x, p, f, settings, rng)
        squares.append(x**2)
    per_walker = np.mean(squares, axis=0).ravel() * stiffness / kT
    stderr = per_walker.std(ddof=1) / np.sqrt(per_walker.size)
    assert stderr < 0.02
    assert abs(per_walker.mean() - 1) < 4 * stderr


def test_a_broken_chain_continues_to_the_same_numbers(engine, tmp_path):
    atoms = molecule("CH3CH2OH")
    settings = ChainSettings(picoseconds=0.2, equilibration_ps=0.05, checkpoint_ps=0.1)
    whole = np.load(run_chain(atoms, settings, 3, tmp_path))
    (tmp_path / "half").mkdir()
    half = ChainSettings(picoseconds=0.1, equilibration_ps=0.05, checkpoint_ps=0.1)
    run_chain(atoms, half, 3, tmp_path / "half")
    continued = np.load(run_chain(atoms, settings, 3, tmp_path / "half"))
    assert len(whole["energies"]) == 20
    np.testing.assert_array_equal(continued["positions"], whole["positions"])


def test_sections_are_disjoint_chains(engine, tmp_path):
    atoms = molecule("CH3CH2OH")
    settings = ChainSettings(picoseconds=0.1, equilibration_ps=0.0, checkpoint_ps=0.1)
    paths = [run_chain(atoms, settings, chain, tmp_path) for chain in range(4)]
    arrays = assemble(atoms, settings, paths, (5, 4, 6))
    members = [set(arrays[f"{s}_chains"].tolist()) for s in ("train", "validation", "test")]
    assert [len(arrays[f"{s}_energies"]) for s in ("train", "validation", "test")] == [5, 4, 6]
    assert not (members[0] & members[1] or members[0] & members[2] or members[1] & members[2])
    np.testing.assert_allclose(arrays["train_positions"][0].shape, (9, 3))
    assert sections(16) == [list(range(10)), [10, 11], [12, 13, 14, 15]]


@pytest.mark.parametrize(
    ("texts", "chains", "words"),
    [
        (["1", "2"], 8, "expected three numbers"),
        (["1", "1", "x"], 8, "expected three numbers"),
        (["9", "9", "9"], 3, "--chains is 3"),
    ],
)
def test_bad_frame_counts(texts, chains, words):
    with pytest.raises(ValueError, match=words):
        frame_counts(texts, chains)


def test_unknown_molecule():
    with pytest.raises(ValueError, match="'etanol' is no file and no known name"):
        find_molecule("etanol")
