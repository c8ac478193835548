"""Reference chains and engines; the parts with GFN2-xTB run where tblite is installed."""

import dataclasses
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from ase.build import molecule
from ase.io import write

from experiments import reference, reference_chains
from experiments.binary import InputError
from experiments.engines import EngineError, label, make_engine, require_engine
from experiments.reference import (
    assemble,
    check_lengths,
    find_molecule,
    frame_counts,
    sections,
    warn_of_temperature,
)
from experiments.reference_chains import ChainSettings, baoab, chain_path, check_chain, run_chain
from potentials import make_system
from potentials.units import KB


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
    for call in (require_engine, lambda name: make_engine(name, [1]), lambda name: label(name, [1], [])):
        with pytest.raises(ValueError, match="unknown engine 'gfn3'; nearest: 'gfn2'; known: gfn1, gfn2"):
            call("gfn3")


def test_a_missing_engine_is_told_before_any_frame(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite.interface", None)
    for call in (require_engine, lambda name: label(name, [1], np.zeros((0, 1, 3)))):
        with pytest.raises(ImportError, match="engine 'gfn2' needs tblite"):
            call("gfn2")


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


@pytest.fixture
def springs(monkeypatch):
    """Harmonic springs to the start in place of the quantum-chemistry engine."""
    start = molecule("CH3CH2OH").get_positions()

    def make(name, numbers):
        return lambda x: (10 * np.sum((x - start) ** 2), -20 * (x - start))

    monkeypatch.setattr(reference_chains, "make_engine", make)


def test_a_picosecond_warms_a_molecule_from_its_minimum(springs, tmp_path):
    """Springs have 3N k_B T in all, half of which a chain that begins in the minimum lacks."""
    atoms = molecule("CH3CH2OH")
    settings = ChainSettings(picoseconds=0.01, equilibration_ps=1.0)
    totals = []
    for chain in range(64):
        with np.load(run_chain(atoms, settings, chain, tmp_path)) as file:
            totals.append(float(file["energies"][-1] + file["kinetic"][-1]))
    share = np.array(totals) / (3 * len(atoms) * KB * settings.temperature)
    stderr = share.std(ddof=1) / np.sqrt(len(share))
    assert stderr < 0.04  # at 1/ps all along 0.82
    assert abs(share.mean() - 1) < 3 * stderr


def test_chains_at_another_temperature_are_told(caplog):
    with caplog.at_level("WARNING"):
        warn_of_temperature(np.array([495.0, 1.0]), 500.0, 0.5)
        warn_of_temperature(np.array([470.0, 1.0]), 500.0, 1.0)
        assert not caplog.text
        warn_of_temperature(np.array([468.0, 7.0]), 500.0, 0.5)
        assert "the chains are at 468.0 ± 7.0 K, not 500 K; a longer --equilibration" in caplog.text
        caplog.clear()
        warn_of_temperature(np.array([505.0, 1.0]), 500.0, 0.5)
        assert "505.0 ± 1.0 K" in caplog.text


SHORT = ChainSettings(picoseconds=0.2, equilibration_ps=0.0, checkpoint_ps=0.1)


def test_a_chain_is_continued_only_as_it_was_begun(springs, tmp_path):
    atoms = molecule("CH3CH2OH")
    path = run_chain(atoms, SHORT, 0, tmp_path)
    assert path == chain_path(tmp_path, 0)
    before = path.read_bytes()
    for field, value in dataclasses.asdict(SHORT).items():
        if field == "picoseconds":
            continue
        other = "gfn1" if field == "engine" else value + 1
        changed = dataclasses.replace(SHORT, **{field: other})
        for call in (
            lambda changed=changed: check_chain(path, atoms, changed),
            lambda changed=changed: run_chain(atoms, changed, 0, tmp_path),
        ):
            with pytest.raises(ValueError) as caught:
                call()
            assert str(caught.value) == f"{path}: {field} is {value} there, {other} asked for"
    with pytest.raises(ValueError, match=r"numbers is \[6, 6, 8, .*\] there, \[8, 1, 1\] asked for"):
        check_chain(path, molecule("H2O"), SHORT)
    with pytest.raises(ValueError, match=r"chain_000.npz: holds 0.2 ps, 0.1 asked for"):
        check_chain(path, atoms, dataclasses.replace(SHORT, picoseconds=0.1))
    assert path.read_bytes() == before
    check_chain(path, atoms, SHORT)
    check_chain(chain_path(tmp_path, 1), atoms, SHORT)
    run_chain(atoms, dataclasses.replace(SHORT, picoseconds=0.3), 0, tmp_path)
    with np.load(path) as longer:
        assert len(longer["energies"]) == 30 and longer["settings_picoseconds"] == 0.3


def test_chain_files_without_the_record_or_damaged_are_refused(springs, tmp_path):
    atoms = molecule("CH3CH2OH")
    path = run_chain(atoms, SHORT, 0, tmp_path)
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = {name: file[name] for name in file if not name.startswith("settings_")}
    np.savez(path, **arrays)
    with pytest.raises(
        ValueError, match=r"chain_000\.npz: it was made by another version, without settings_engine"
    ):
        check_chain(path, atoms, SHORT)
    for junk in (whole[: len(whole) // 2], b"", b"junk"):
        path.write_bytes(junk)
        with pytest.raises(ValueError, match=r"chain_000\.npz: no readable npz file .* can not be continued"):
            check_chain(path, atoms, SHORT)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(
            (name, value)
            for name in ("temperature", "timestep", "picoseconds", "friction")
            for value in (0.0, -1.0)
        ),
        ("temperature", float("nan")),
        ("picoseconds", float("inf")),
        ("equilibration", -0.1),
        ("processes", 0),
        ("chains", 0),
        ("seed", -1),
    ],
)
def test_flags_out_of_range(parsed, tmp_path, flag, value):
    output = tmp_path / "data.npz"
    with flagsaver.flagsaver(output=str(output), **{flag: value}), pytest.raises(InputError) as caught:
        reference.main()
    assert str(caught.value).startswith(f"--{flag} is {value}; expected")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def parsed():
    """The flags, as if the command line were empty; two of them have other defaults in other binaries."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(temperature=500.0, frames=["1000", "200", "2000"]):
        yield


def test_every_chain_is_checked_before_any_runs(parsed, springs, tmp_path, monkeypatch):
    pytest.importorskip("tblite")
    folder = tmp_path / "data.chains"
    folder.mkdir()
    run_chain(molecule("CH3CH2OH"), SHORT, 3, folder)

    def no_pool(*_):
        raise AssertionError("a chain was run")

    monkeypatch.setattr(reference, "run_jobs", no_pool)
    words = r"chain_003.npz: temperature is 500.0 there, 400.0 asked for"
    given = {
        "output": str(tmp_path / "data.npz"),
        "temperature": 400.0,
        "chains": 4,
        "frames": ["1000", "200", "2000"],  # a flag of the study too, should that be imported
    }
    with flagsaver.flagsaver(**given), pytest.raises(InputError, match=words):
        reference.main()


def test_the_binary_makes_the_parent_folder_and_leaves_no_partial_file(parsed, tmp_path):
    pytest.importorskip("tblite")
    write(tmp_path / "water.xyz", molecule("H2O"))
    output = tmp_path / "new" / "data.npz"
    given = {"picoseconds": 0.5, "equilibration": 0.0, "chains": 4, "frames": ["4", "2", "2"]}
    with flagsaver.flagsaver(output=str(output), molecule=str(tmp_path / "water.xyz"), **given):
        reference.main()
    assert sorted(path.name for path in output.parent.iterdir()) == ["data.chains", "data.npz"]
    with np.load(output) as file:
        assert file["train_positions"].shape == (4, 3, 3)
    (tmp_path / "file").write_text("")
    given["output"] = str(tmp_path / "file" / "data.npz")
    with flagsaver.flagsaver(**given), pytest.raises(InputError, match="file"):
        reference.main()


def test_sections_are_disjoint_chains(engine, tmp_path):
    atoms = molecule("CH3CH2OH")
    settings = ChainSettings(picoseconds=0.1, equilibration_ps=0.0, checkpoint_ps=0.1)
    paths = [run_chain(atoms, settings, chain, tmp_path) for chain in range(4)]
    arrays = assemble(atoms, settings, paths, (5, 4, 6), achiral=True)
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
    peptide = find_molecule("ac-ala3-nhme")
    assert peptide.get_chemical_formula() == "C12H22N4O4"
    system = make_system(peptide.numbers, peptide.positions, 500.0)
    assert len(system.bonds) == 41 and system.molecules.max() == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bad.txt", "hello"),
        ("empty.xyz", ""),
        ("element.xyz", "1\n\nQq 0 0 0\n"),
        ("bad.cif", "junk"),
        ("bad.sdf", "a"),
        ("POSCAR", "a\nb\n"),
        ("empty.pdb", "junk"),
    ],
)
def test_bad_molecule_files(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        find_molecule(str(path))
    assert str(caught.value).startswith(f"--molecule {path}: ") and "\n" not in str(caught.value)


def test_chains_too_short_for_the_frames_asked_for():
    settings = ChainSettings(picoseconds=1.0)  # 100 frames a chain
    check_lengths((200, 100, 100), settings, 4)  # two chains, one and one
    with pytest.raises(ValueError, match=r"--frames asks for 201 train frames from 2 chains of 100 each"):
        check_lengths((201, 0, 0), settings, 4)
