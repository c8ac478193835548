"""Whether a reference is a Boltzmann sample of its own labels, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.configs import rmd17_ethanol
from experiments.evaluation import consistency_metrics
from experiments.problem import make_problem
from experiments.reference_statistics import reference_distributions
from experiments.verdicts import consistency_sentences
from potentials.units import KB
from tests.experiments.small_problem import small, small_problem


def virial(frames, masses):
    """−Σ (r − r_com)·F / ((3N − 3) k_B) of each frame, K, in double precision."""
    centres = np.einsum("n,fnk->fk", masses / masses.sum(), frames.positions)
    products = np.sum((frames.positions - centres[:, None]) * frames.forces, axis=(1, 2))
    return -products / (24 * KB)


def sentence(metrics, reference) -> str:
    spread = {"reference_energy_sd_ev": reference.energy_sd[0], "temperature_k": 500.0}
    (text,) = consistency_sentences(metrics | spread)
    return text


def test_the_package_reference_samples_its_own_labels():
    problem, reference = small_problem()
    metrics = consistency_metrics(small(), problem, reference)
    assert metrics["reference_kinetic_temperature_k"] == reference.kinetic_temperature[0]
    value, stderr = (metrics[f"reference_virial_temperature_k{end}"] for end in ("", "_stderr"))
    assert stderr > 0 and abs(value - 500) < 4 * stderr
    # The few frames at hand scatter about the value of all frames.
    own = np.concatenate([virial(frames, problem.system.masses) for frames in problem.splits])
    assert abs(own.mean() - value) < 5 * np.hypot(own.std(ddof=1) / np.sqrt(len(own)), stderr)
    text = sentence(metrics, reference)
    assert "they agree" in text and f"{value:.0f} ± {stderr:.0f} K (stated: 500 K)" in text


def test_rmd17s_labels_are_not_those_that_its_frames_sample(data):
    config = rmd17_ethanol.get_config()
    problem = make_problem(config)
    reference = reference_distributions(config, problem)
    metrics = consistency_metrics(config, problem, reference)
    # The published split as a whole: 1,000 frames to train and validate, 1,000 to test.
    own = np.concatenate([virial(frames, problem.system.masses) for frames in problem.splits])
    assert len(own) == 2000
    assert metrics["reference_virial_temperature_k"] == pytest.approx(own.mean(), abs=0.5)
    # Frames drawn at random from a long trajectory are nearly independent.
    error = own.std(ddof=1) / np.sqrt(2000)
    assert metrics["reference_virial_temperature_k_stderr"] == pytest.approx(error, rel=0.6)
    assert metrics["reference_virial_temperature_k"] < 0
    assert np.isnan(metrics["reference_kinetic_temperature_k"])
    text = sentence(metrics, reference)
    assert "not a Boltzmann sample of their own labels" in text and "they agree" not in text


def test_harmonic_energy_spread():
    metrics = consistency_metrics(small(), *small_problem())
    assert metrics["harmonic_energy_sd_ev"] == pytest.approx(KB * 500 * np.sqrt(21 / 2))


@pytest.mark.parametrize(
    ("value", "stderr", "spread", "words"),
    [
        (505.0, 10.0, 0.14, "they agree"),
        (529.0, 10.0, 0.14, "they agree"),
        (531.0, 10.0, 0.14, "not a Boltzmann sample"),
        (469.0, 10.0, 0.14, "not a Boltzmann sample"),
        (500.0, 10.0, 0.18, "not a Boltzmann sample"),
        (500.0, 10.0, 0.10, "not a Boltzmann sample"),
        (560.0, 60.0, 0.14, "too large to tell"),
        (-375.0, 60.0, 0.14, "not a Boltzmann sample"),
    ],
)
def test_the_sentence_weighs_temperature_error_and_spread(value, stderr, spread, words):
    (text,) = consistency_sentences(
        {
            "reference_virial_temperature_k": value,
            "reference_virial_temperature_k_stderr": stderr,
            "temperature_k": 500.0,
            "reference_energy_sd_ev": spread,
            "harmonic_energy_sd_ev": 0.14,
        }
    )
    assert words in text
