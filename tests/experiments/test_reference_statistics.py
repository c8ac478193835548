"""Evaluation at another temperature than the data's: which reference, which chains, which metrics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evaluation import evaluate
from experiments.known_datasets import packaged_statistics
from experiments.reference_statistics import has_reference, reference_distributions
from experiments.verdicts import consistency_sentences
from potentials import from_energy
from potentials.units import KB
from tests.experiments.small_problem import small, small_problem


@pytest.mark.parametrize("temperature", [350.0, 700.0])
def test_the_package_has_references_at_other_temperatures(temperature):
    problem, at_500 = small_problem()
    config = small(**{"evaluation.temperature": temperature})
    assert has_reference(config)
    reference = reference_distributions(config, problem)
    # 3N − 6 vibrations of k_B T/2 each, 10 % left to anharmonicity.
    step = 21 / 2 * KB * (temperature - 500.0)
    assert reference.energy_mean[0] - at_500.energy_mean[0] == pytest.approx(step, rel=0.1)


def test_without_a_reference_there_stability_alone_is_judged():
    config = small(**{"evaluation.temperature": 600.0, "baoab.friction": 50.0, "evaluation.record_every": 4})
    problem, _ = small_problem()
    assert not has_reference(config)
    reference = reference_distributions(config, problem)
    assert reference.energy_mean[0] == small_problem()[1].energy_mean[0]
    # Free atoms: their momenta alone say at which temperature they were run.
    problem = problem._replace(potential=from_energy(lambda x: 0.0 * jnp.sum(x)))
    metrics, curves, trajectory = evaluate(config, problem, {}, reference)
    kinetic = trajectory.kinetic_temperatures
    assert kinetic.mean() == pytest.approx(600.0, abs=4 * 600 * np.sqrt(2 / 27 / 6))
    assert metrics["temperature_k"] == 600.0 and "spurious_fraction" in metrics
    assert not [name for name in metrics if name.startswith(("ks_", "reference_virial", "dihedral"))]
    assert "energy_edges" not in curves and "stable_time_ps" in curves
    assert consistency_sentences(metrics) == []


def test_a_file_of_another_temperature_is_refused():
    path = packaged_statistics("ethanol_gfn2", 700.0)
    config = small(**{"evaluation.temperature": 650.0, "evaluation.reference": str(path)})
    with pytest.raises(ValueError, match=r"700K\.npz holds statistics at 700 K; expected 650 K"):
        reference_distributions(config, small_problem()[0])
    config.evaluation.temperature = 700.0
    same = reference_distributions(small(**{"evaluation.temperature": 700.0}), small_problem()[0])
    named = reference_distributions(config, small_problem()[0])
    jax.tree.map(np.testing.assert_array_equal, named, same)


def test_no_such_file(tmp_path):
    config = small(**{"evaluation.reference": str(tmp_path / "none.npz")})
    with pytest.raises(OSError, match=r"none\.npz"):
        reference_distributions(config, small_problem()[0])
    np.savez(tmp_path / "none.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match=r"expected a file of experiments\.reference"):
        reference_distributions(config, small_problem()[0])
