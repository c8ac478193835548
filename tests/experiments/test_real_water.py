"""Density-functional water in a box, DeePMD-kit's: trained on, simulated and judged."""

import numpy as np
import pytest

from experiments import binary, evaluate
from experiments.configs import small_water
from experiments.runs import load_run, named_groups
from experiments.train import prepare, train


@pytest.fixture
def config(data):
    """A minute of `small_water` with a network that is no good."""
    config = small_water.get_config()
    config.dataset.path, config.dataset.temperature = str(data / "water_64"), 330.0
    config.dataset.train, config.dataset.validation, config.dataset.test = 40, 4, 8
    config.potential = "schnet"
    config.schnet.n_features = config.schnet.n_filters = 8
    config.schnet.n_interactions, config.schnet.cutoff = 1, 3.0
    config.pre_training.n_updates = config.post_training.n_updates = 4
    config.training.log_every = config.training.checkpoint_every = 2
    config.stable.update({"n_replicas": 2, "n_steps": 4, "record_every": 2})
    config.stable.minimum_distance = 2.5  # any hydrogen bond is shorter: learning begins at once
    config.evaluation.update({"n_chains": 2, "n_steps": 4, "record_every": 1, "discard": 0.0})
    return config


def test_trained_judged_and_trained_by_the_local_estimator(config, tmp_path):
    problem, objective = prepare(config)
    assert len(problem.system.bonds) == 128 and len(np.unique(problem.system.molecules)) == 64
    np.testing.assert_allclose(problem.system.cell, 12.444661 * np.eye(3), atol=1e-5)
    workdir = tmp_path / "mse"
    state = train(config, problem, objective, binary.claim_workdir(str(workdir), config))
    metrics = evaluate.evaluate_run(config, problem, state.average, workdir)
    assert all(metrics[f"rdf_mae_{pair}"] > 0 for pair in ("O-O", "O-H", "H-H"))
    drawn = load_run(workdir, "mse")
    assert sorted(named_groups(drawn, "rdf").values()) == ["H-H", "O-H", "O-O"]
    # A liquid: no two oxygens within 2.3 Å, a first shell at 2.6 to 2.9 Å.
    centers, expected = (drawn.curves[f"rdf_0_{name}"] for name in ("centers", "reference"))
    assert str(drawn.curves["rdf_names"][0]) == "O-O" and expected[centers < 2.25].max() < 0.05
    assert 2.6 < centers[expected.argmax()] < 2.9 and 2 < expected.max() < 4

    config.objective, config.init_from = "stable", str(workdir)
    problem, objective = prepare(config)
    local = train(config, problem, objective, binary.claim_workdir(str(tmp_path / "stable"), config))
    np.testing.assert_allclose(local.objective.latest.targets["mean_bond_length"], [0.98], atol=0.01)
    log = np.genfromtxt(tmp_path / "stable" / "train_log.csv", delimiter=",", names=True)
    assert np.isfinite(log["loss_observables"][-1]) and log["gradient_norm"][-1] > 0
