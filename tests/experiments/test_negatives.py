"""Diagnosis of negatives against SciPy, closed forms, and GFN2-xTB where tblite is installed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import wasserstein_distance

from experiments.negatives import diagnose, read_negatives
from experiments.problem import Problem
from potentials import from_energy
from potentials.units import KCAL_PER_MOL
from tests.experiments.small_problem import small_problem

STIFF, SOFT = {"k": jnp.float32(0.04)}, {"k": jnp.float32(0.02)}


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Ethanol under k Σ|x|² − 1.5 eV, relative to the training mean."""
    potential = from_energy(
        lambda params, positions: params["k"] * jnp.sum(positions**2) - 1.5,
        init=lambda key: dict(STIFF),
    )
    return small_problem()[0]._replace(potential=potential)


@pytest.fixture
def frames(problem: Problem) -> np.ndarray:
    """50 distorted frames [50, 9, 3], Å."""
    rng = np.random.default_rng(0)
    positions = np.resize(np.asarray(problem.test.positions), (50, 9, 3))
    return (positions * rng.uniform(0.7, 1.3, size=(50, 1, 1))).astype(np.float32)


def energies(params: Any, frames: np.ndarray) -> np.ndarray:
    """[K], eV, relative to the training mean."""
    return float(params["k"]) * np.sum(np.asarray(frames, float) ** 2, axis=(1, 2)) - 1.5


def test_negatives_are_read_evenly_and_finite(tmp_path):
    path = tmp_path / "negatives.npz"
    assert read_negatives(path) is None
    positions = np.arange(10 * 20, dtype=np.float32).reshape(10, 20, 1, 1) * np.ones((2, 3), np.float32)
    positions[3, 4, 1, 2] = np.nan
    positions[0, 0] = np.inf
    np.savez(path, steps=np.arange(10), positions=positions)
    everything = read_negatives(path)
    assert everything.shape == (198, 2, 3)
    assert not {0, 64} & set(everything[:, 0, 0].astype(int).tolist())
    few = read_negatives(path, max_frames=5)
    np.testing.assert_array_equal(few, everything[[0, 49, 98, 147, 197]])
    np.savez(path, steps=np.arange(10), positions=np.full_like(positions, np.nan))
    assert read_negatives(path) is None


def test_energies_against_the_reference(problem, frames):
    mean = float(problem.energy_shift + 0.1)
    metrics, curves = diagnose(problem, STIFF, frames, mean, -0.3)
    now = energies(STIFF, frames) - 0.1
    test = problem.splits.test.energies - mean
    outside = np.sum(now < test.min()) + np.sum(now > test.max())
    assert 0 < outside < 50
    share = outside / 50
    expected = {
        "n_negatives": 50,
        "negatives_energy_mean_ev": now.mean(),
        "negatives_energy_mean_ev_stderr": now.std(ddof=1) / np.sqrt(50),
        "negatives_wasserstein_mev": 1000 * wasserstein_distance(now, test),
        "negatives_outside_fraction": share,
        "negatives_outside_fraction_stderr": np.sqrt(share * (1 - share) / 49),
        "negatives_spurious_fraction": np.mean(now < -0.3),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert 0 < metrics["negatives_spurious_fraction"] < 1
    assert set(curves) == {"negatives_rmsd", "reference_rmsd"}
    assert len(curves["negatives_rmsd"]) == 50


def test_spurious_means_spurious_to_the_potential_that_made_them(problem, frames):
    mean = float(problem.energy_shift)
    threshold = float(np.median(energies(SOFT, frames)))
    metrics, _ = diagnose(problem, STIFF, frames, mean, threshold, before=SOFT)
    assert metrics["negatives_spurious_fraction"] == pytest.approx(0.5)
    assert np.mean(energies(STIFF, frames) < threshold) < 0.5
    assert metrics["negatives_energy_mean_ev"] == pytest.approx(energies(STIFF, frames).mean(), rel=1e-4)


def test_distances_from_the_training_frames(problem):
    """Rotated and mirrored training frames have distance 0; scaled ones scale − 1 of their size."""
    train = np.asarray(problem.train.positions, float)
    rotation = Rotation.random(random_state=1).as_matrix()
    copies = np.concatenate([train[:3] @ rotation.T, -train[3:6]])
    metrics, curves = diagnose(problem, STIFF, copies, problem.energy_shift, 0.0)
    assert curves["negatives_rmsd"].max() < 3e-3
    # Far from every frame the nearest is about as far as its own unscaled copy.
    _, far = diagnose(problem, STIFF, 3 * train[:4], problem.energy_shift, 0.0)
    centred = train[:4] - train[:4].mean(axis=1, keepdims=True)
    own = 2 * np.sqrt(np.sum(centred**2, axis=(1, 2)) / 9)
    assert (far["negatives_rmsd"] <= own + 1e-3).all() and (far["negatives_rmsd"] > 0.9 * own).all()
    assert metrics["reference_rmsd_median_angstrom"] == pytest.approx(np.median(curves["reference_rmsd"]))
    assert len(curves["reference_rmsd"]) == 40
    assert 0.02 < metrics["reference_rmsd_median_angstrom"] < 0.5


def test_true_energies_come_from_the_engine(problem):
    pytest.importorskip("tblite")
    frames = np.asarray(problem.test.positions)[:5].copy()
    true = problem.splits.test.energies[:4]
    frames[4, 1] = frames[4, 0]  # two atoms in one place: no label
    mean = float(problem.energy_shift)
    made = energies(SOFT, frames)
    threshold = float(np.sort(made[:4])[1]) + 1e-6  # two of the four labelled ones are below
    metrics, curves = diagnose(problem, STIFF, frames, mean, threshold, before=SOFT, engine="gfn2")
    np.testing.assert_allclose(curves["negatives_energy_true"][:4], true - mean, atol=1e-3)
    assert np.isnan(curves["negatives_energy_true"][4])
    np.testing.assert_allclose(curves["negatives_energy_network"], made, rtol=1e-4)
    assert metrics["negatives_unlabelled"] == 1
    assert metrics["n_negatives_labelled"] == 4
    assert metrics["n_spurious_negatives_labelled"] == 2
    for name, rows in (("negatives", slice(None)), ("spurious_negatives", made[:4] < threshold)):
        for side, params in (("before", SOFT), ("after", STIFF)):
            error = (energies(params, frames[:4]) - (true - mean))[rows] / KCAL_PER_MOL
            key = f"{name}_error_{side}_kcal_per_mol"
            assert metrics[key] == pytest.approx(error.mean(), abs=0.02)
            assert metrics[f"{key}_stderr"] == pytest.approx(
                error.std(ddof=1) / np.sqrt(len(error)), abs=0.02
            )
