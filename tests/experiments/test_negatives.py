"""Diagnosis of negatives against SciPy, closed forms, and GFN2-xTB where tblite is installed."""

from __future__ import annotations

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import wasserstein_distance

from experiments.distributions import Distributions
from experiments.negatives import NegativeFrames, diagnose, read_negatives
from experiments.problem import Problem
from potentials import from_energy
from potentials.units import KCAL_PER_MOL
from tests.experiments.small_problem import small_problem

DRAWN, FINAL = {"k": jnp.float32(0.068)}, {"k": jnp.float32(0.05)}


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Ethanol under k Σ|x|² − 1.5 eV, relative to the training mean."""
    potential = from_energy(
        lambda params, positions: params["k"] * jnp.sum(positions**2) - 1.5,
        init=lambda key: dict(DRAWN),
    )
    return small_problem()[0]._replace(potential=potential)


@pytest.fixture(scope="module")
def reference(problem: Problem) -> Distributions:
    """The reference, its mean 0.1 eV above that of the training frames."""
    return small_problem()[1]._replace(energy_mean=np.array([problem.energy_shift + 0.1, 0.001]))


def energies(params: Any, frames: np.ndarray) -> np.ndarray:
    """[K], eV, relative to the training mean."""
    return float(params["k"]) * np.sum(np.asarray(frames, float) ** 2, axis=(1, 2)) - 1.5


def drawn(frames: np.ndarray) -> NegativeFrames:
    frames = np.asarray(frames, np.float32)
    return NegativeFrames(frames, energies(DRAWN, frames).astype(np.float32))


@pytest.fixture
def negatives(problem: Problem) -> NegativeFrames:
    """60 distorted frames, Å, too wide in the first half of the updates, too narrow later."""
    rng = np.random.default_rng(0)
    frames = np.resize(np.asarray(problem.test.positions), (60, 9, 3))
    scales = np.concatenate([rng.uniform(0.9, 1.4, 30), rng.uniform(0.8, 1.0, 30)])
    return drawn(frames * scales[:, None, None])


def judge(problem, negatives, reference, threshold=-0.3, params=FINAL, achiral=True, engine=""):
    return diagnose(problem, params, negatives, reference, threshold, achiral=achiral, engine=engine)


def test_negatives_are_read_evenly_and_finite(tmp_path):
    path = tmp_path / "negatives.npz"
    assert read_negatives(path) is None
    labels = np.arange(200, dtype=np.float32).reshape(10, 20)
    positions = labels[:, :, None, None] * np.ones((2, 3), np.float32)
    positions[3, 4, 1, 2] = np.nan
    positions[0, 0] = np.inf
    energies = labels / 2
    energies[5, 5] = np.nan
    np.savez(path, steps=np.arange(10), positions=positions, energies=energies)
    everything = read_negatives(path)
    assert everything.positions.shape == (197, 2, 3)
    assert set(range(200)) - set(everything.positions[:, 0, 0].astype(int).tolist()) == {0, 64, 105}
    np.testing.assert_array_equal(everything.energies, everything.positions[:, 0, 0] / 2)
    few = read_negatives(path, max_frames=5)
    np.testing.assert_array_equal(few.positions, everything.positions[[0, 49, 98, 147, 196]])
    np.testing.assert_array_equal(few.energies, everything.energies[[0, 49, 98, 147, 196]])
    np.savez(path, steps=np.arange(10), positions=np.full_like(positions, np.nan), energies=labels)
    assert read_negatives(path) is None


def test_energies_when_drawn_against_the_reference(problem, reference, negatives):
    metrics, curves = judge(problem, negatives, reference)
    now = energies(DRAWN, negatives.positions) - 0.1
    quantiles = reference.energy_quantiles - reference.energy_mean[0]
    below, above = now < quantiles[0], now > quantiles[-1]
    assert below.any() and above.any() and not (below | above).all()
    outside, spurious = (below | above).astype(float), (now < -0.3).astype(float)
    still = (energies(FINAL, negatives.positions) - 0.1 < -0.3).astype(float)
    assert 0 < spurious.mean() < 1 and still.mean() != spurious.mean()

    def error(values: np.ndarray) -> float:
        """Over twenty blocks of three neighbours."""
        return values.reshape(20, 3).mean(axis=1).std(ddof=1) / np.sqrt(20)

    expected = {
        "n_negatives": 60,
        "negatives_energy_mean_ev": now.mean(),
        "negatives_energy_mean_ev_stderr": error(now),
        "negatives_wasserstein_mev": 1000 * wasserstein_distance(now, quantiles),
        "negatives_outside_fraction": outside.mean(),
        "negatives_outside_fraction_stderr": error(outside),
        "negatives_spurious_fraction": spurious.mean(),
        "negatives_spurious_fraction_stderr": error(spurious),
        "negatives_still_spurious_fraction": still.mean(),
        "negatives_still_spurious_fraction_stderr": error(still),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert metrics["negatives_rmsd_median_angstrom"] == pytest.approx(np.median(curves["negatives_rmsd"]))
    assert set(curves) == {"negatives_rmsd", "reference_rmsd"}
    assert len(curves["negatives_rmsd"]) == 60
    assert json.loads(json.dumps(metrics)) == metrics


def test_distances_from_the_training_frames(problem, reference):
    """Rotated training frames have distance 0, mirrored ones too where mirror images are the same."""
    train = np.asarray(problem.train.positions, float)
    rotation = Rotation.random(random_state=1).as_matrix()
    copies = np.concatenate([train[:3] @ rotation.T, -train[3:6]])
    metrics, curves = judge(problem, drawn(copies), reference)
    assert curves["negatives_rmsd"].max() < 3e-3
    _, chiral = judge(problem, drawn(copies), reference, achiral=False)
    assert chiral["negatives_rmsd"][:3].max() < 3e-3
    assert chiral["negatives_rmsd"][3:].min() > 0.05
    # Far from every frame the nearest is about as far as its own unscaled copy.
    _, far = judge(problem, drawn(3 * train[:4]), reference)
    centred = train[:4] - train[:4].mean(axis=1, keepdims=True)
    own = 2 * np.sqrt(np.sum(centred**2, axis=(1, 2)) / 9)
    assert (far["negatives_rmsd"] <= own + 1e-3).all() and (far["negatives_rmsd"] > 0.9 * own).all()
    assert metrics["reference_rmsd_median_angstrom"] == pytest.approx(np.median(curves["reference_rmsd"]))
    assert len(curves["reference_rmsd"]) == 40, "each test frame once"
    assert 0.02 < metrics["reference_rmsd_median_angstrom"] < 0.5


def test_true_energies_come_from_the_engine(problem, reference):
    pytest.importorskip("tblite")
    frames = np.asarray(problem.test.positions)[:5].copy()
    true = problem.splits.test.energies[:4]
    frames[4] *= 0.5
    frames[4, 1] = frames[4, 0]  # two atoms in one place: no label
    negatives, mean = drawn(frames), reference.energy_mean[0]
    made = energies(DRAWN, frames) - 0.1
    threshold = float(np.median(made[:4]))  # two of the four labelled ones are below
    assert made[4] < threshold, "spurious, and not counted among those with a label"
    metrics, curves = judge(problem, negatives, reference, threshold, engine="gfn2")
    np.testing.assert_allclose(curves["negatives_energy_true"][:4], true - mean, atol=1e-3)
    assert np.isnan(curves["negatives_energy_true"][4])
    np.testing.assert_allclose(curves["negatives_energy_network"], made, rtol=1e-4, atol=1e-6)
    assert metrics["negatives_unlabelled"] == 1
    assert metrics["n_negatives_labelled"] == 4
    assert metrics["n_spurious_negatives_labelled"] == 2
    for name, rows in (("negatives", slice(None)), ("spurious_negatives", made[:4] < threshold)):
        for side, params in (("drawn", DRAWN), ("final", FINAL)):
            error = (energies(params, frames[:4]) - 0.1 - (true - mean))[rows] / KCAL_PER_MOL
            key = f"{name}_error_{side}_kcal_per_mol"
            assert metrics[key] == pytest.approx(error.mean(), abs=0.02)
            stderr = error.std(ddof=1) / np.sqrt(len(error))
            assert metrics[f"{key}_stderr"] == pytest.approx(stderr, abs=0.02)
