"""Exported models and the ASE calculator: the same energies and forces everywhere, one compile."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from safetensors.numpy import load_file

from experiments import binary
from experiments.calculator import PotentialCalculator
from experiments.model_files import CARD, FUNCTION, TEXT, WEIGHTS, labels, named, write_model
from experiments.train import prepare, train
from experiments.verdicts import format_value
from experiments.weights import load_params, weights_digest
from potentials import energy_and_forces
from tests.experiments.small_problem import small

ROOT = Path(__file__).resolve().parents[2]
METRICS = {"force_mae_mev_per_angstrom": 20.8, "force_mae_mev_per_angstrom_stderr": 0.4, "ks_energy": None}

BARE = """
import sys, jax, numpy as np
function = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
energies, forces = function.call(np.load(sys.argv[2]))
np.savez(sys.argv[3], energies=energies, forces=forces)
assert not {"experiments", "potentials", "flax"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that has seen a little, and its export: (workdir, folder, problem, params)."""
    config = small(
        **{"pre_training.n_updates": 20, "training.log_every": 20, "training.checkpoint_every": 20}
    )
    problem, objective = prepare(config)
    root = tmp_path_factory.mktemp("runs")
    workdir = binary.claim_workdir(str(root / "mse"), config)
    train(config, problem, objective, workdir)
    params = load_params(workdir, problem)
    write_model(root / "model", config, problem, params, METRICS, {"commit": "abc"})
    return workdir, root / "model", problem, params


def molecule(problem, frame=0):
    return Atoms(problem.system.numbers, np.asarray(problem.test.positions[frame], float))


def test_calculator_and_artefact_equal_the_potential(model, tmp_path):
    workdir, folder, problem, params = model
    positions = np.asarray(problem.test.positions[:5])
    energies, forces = jax.vmap(energy_and_forces(problem.potential), (None, 0))(params, positions)
    np.save(tmp_path / "x.npy", positions)
    files = [str(folder / FUNCTION), str(tmp_path / "x.npy"), str(tmp_path / "y.npz")]
    bare = [sys.executable, "-I", "-c", BARE, *files]
    subprocess.run(bare, cwd=tmp_path, check=True, capture_output=True)
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found["energies"], energies, atol=1e-5)
        np.testing.assert_allclose(found["forces"], forces, atol=1e-5)
    for calculator in (PotentialCalculator.from_export(folder), PotentialCalculator.from_run(workdir)):
        atoms = molecule(problem, 3)
        atoms.calc = calculator
        assert atoms.get_potential_energy() - problem.energy_shift == pytest.approx(
            float(energies[3]), abs=1e-5
        )
        np.testing.assert_allclose(atoms.get_forces(), forces[3], atol=1e-5)
        assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
        atoms.translate([500.0, -300.0, 20.0])  # float32 of such coordinates is off by 3e-5 Å
        np.testing.assert_allclose(atoms.get_forces(), forces[3], atol=1e-4)


def test_forces_are_the_slope_of_the_energy(model):
    atoms = molecule(model[2])
    atoms.calc = PotentialCalculator.from_export(model[1])
    forces, step = atoms.get_forces(), 0.02
    for atom, axis in ((0, 0), (2, 1), (8, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        # Third derivatives at 0.02 Å, and float32 energies.
        slope = -(energies[0] - energies[1]) / (2 * step)
        assert slope == pytest.approx(forces[atom, axis], abs=0.02 * np.abs(forces).max() + 1e-3)


@pytest.mark.parametrize("source", ["export", "run"])
def test_a_thousand_calls_compile_once(model, source, caplog):
    """In the first of them."""
    folders = {"export": model[1], "run": model[0]}
    atoms = molecule(model[2])
    atoms.calc = getattr(PotentialCalculator, f"from_{source}")(folders[source])
    rng = np.random.default_rng(0)

    def compiled(calls):
        caplog.clear()
        with jax.log_compiles():
            for _ in range(calls):
                atoms.positions += rng.normal(scale=1e-3, size=atoms.positions.shape)
                atoms.get_forces()
        return [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling ")]

    assert any("Compiling jit(" in message for message in compiled(1))
    assert compiled(999) == []


def test_products_of_matrices_are_in_full_precision(model):
    """Whatever the process has set: a GPU's default is TF32."""
    _, _, problem, params = model
    with jax.default_matmul_precision("bfloat16"):
        lowered = jax.jit(labels(problem.potential, params)).lower(problem.test.positions[:1]).as_text()
    products = [line for line in lowered.splitlines() if "stablehlo.dot_general" in line]
    assert products and all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_metrics_of_other_weights_are_left_out(model, tmp_path):
    params, workdir = model[3], tmp_path / "W"
    shutil.copytree(model[0], workdir)
    (workdir / "eval").mkdir()
    for digest, shown in (("other", False), (weights_digest(params), True)):
        (workdir / "eval" / "metrics.json").write_text(json.dumps(METRICS | {"run_weights": digest}))
        command = [sys.executable, "-m", "experiments.export", f"--workdir={workdir}"]
        result = subprocess.run([*command, f"--output={tmp_path / digest}"], capture_output=True, text=True)
        assert result.returncode == 0 and ("of other weights" in result.stderr) != shown, result.stderr
        card = json.loads((tmp_path / digest / CARD).read_text())
        assert bool(card["metrics"]) == shown and "jax" in card["trained_with"]


def test_what_is_written(model):
    _, folder, problem, params = model
    weights = load_file(folder / WEIGHTS)
    assert weights.keys() == named(params).keys() and "readout_1/bias" in weights
    for name, array in named(params).items():
        np.testing.assert_array_equal(weights[name], array)
    card = json.loads((folder / CARD).read_text())
    assert card["numbers"] == problem.system.numbers.tolist()
    assert card["energy_shift_ev"] == problem.energy_shift
    assert card["objective"] == "mse" and card["dataset"] == "ethanol_gfn2" and "jax" in card["versions"]
    text = (folder / TEXT).read_text()
    assert f"| `force_mae_mev_per_angstrom` | {format_value(20.8, 0.4)} |" in text and "ks_energy" not in text
    assert repr(problem.energy_shift) in text


def test_other_molecules_and_boxes_are_refused(model):
    calculator = PotentialCalculator.from_export(model[1])
    shuffled = molecule(model[2])[::-1]
    boxed = molecule(model[2])
    boxed.set_cell([9, 9, 9])
    boxed.pbc = True
    exploded = molecule(model[2])
    exploded.positions[0] = np.nan
    for atoms, error, words in (
        (shuffled, ValueError, "expected .*, in this order"),
        (boxed, ValueError, "expected a molecule in vacuum"),
        (exploded, CalculationFailed, "not finite"),
    ):
        atoms.calc = calculator
        with pytest.raises(error, match=words):
            atoms.get_potential_energy()


def test_damaged_exports(model, tmp_path):
    with pytest.raises(
        ValueError, match=r"card.json: no such file; expected a folder of experiments\.export"
    ):
        PotentialCalculator.from_export(tmp_path)
    (tmp_path / CARD).write_text((model[1] / CARD).read_text())
    (tmp_path / FUNCTION).write_bytes((model[1] / FUNCTION).read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"energy_forces\.stablehlo: damaged"):
        PotentialCalculator.from_export(tmp_path)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(ValueError, match=r"card\.json: not a readable card \('numbers'\)"):
        PotentialCalculator.from_export(tmp_path)


def test_the_binary_overwrites_nothing(model, tmp_path):
    command = [sys.executable, "-m", "experiments.export", f"--workdir={model[0]}"]
    run = subprocess.run([*command, f"--output={tmp_path / 'm'}"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and sorted(p.name for p in (tmp_path / "m").iterdir()) == sorted(
        [FUNCTION, WEIGHTS, CARD, TEXT]
    )
    assert "Not evaluated yet" in (tmp_path / "m" / TEXT).read_text()
    again = subprocess.run([*command, f"--output={tmp_path / 'm'}"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2 and "exists; expected a new folder" in again.stderr
