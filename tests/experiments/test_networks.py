"""Networks trained for the same time: the row is of the run in the folder, and a run is not begun anew."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from experiments import networks
from experiments.evaluate import load_params
from experiments.problem import make_problem
from tests.experiments.small_problem import small


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A tiny SchNet that had no time: (configuration, folder, row)."""
    config = networks.network_config(small(), "schnet")
    workdir = tmp_path_factory.mktemp("networks") / "schnet"
    return config, workdir, networks.run(config, 1e-9, workdir)


def test_row_is_of_the_weights_in_the_folder(done):
    config, workdir, row = done
    problem = make_problem(config)
    params, test = load_params(workdir, problem), problem.test
    potential = problem.potential
    energies = jax.vmap(potential.energy, (None, 0))(params, test.positions)
    forces = -jax.vmap(jax.grad(potential.energy, 1), (None, 0))(params, test.positions)
    assert_allclose(row.energy_mae_mev, 1000 * np.abs(energies - test.energies).mean(), rtol=1e-4)
    assert_allclose(row.force_mae_mev_per_angstrom, 1000 * np.abs(forces - test.forces).mean(), rtol=1e-4)
    assert row.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (row.network, row.frames, row.updates) == ("schnet", 60, 20)
    assert row.seconds > 0


def test_what_is_trained_is_not_trained_again(done, monkeypatch):
    config, workdir, row = done
    monkeypatch.setattr(networks, "updates_within", lambda *_: pytest.fail("measured again"))
    again = networks.run(config, 3600.0, workdir)
    assert again._replace(seconds=row.seconds) == row


def test_more_time_is_more_updates(done):
    config, *_ = done
    few, many = (networks.updates_within(s, config, *networks.prepare(config)) for s in (1e-9, 30.0))
    assert few == 20 and many > 100 and many % 20 == 0


def test_every_network_gets_its_recipe():
    for name, recipe in networks._RECIPES.items():
        config = networks.network_config(small(objective="crmse"), name)
        assert (config.potential, config.objective) == (name, "mse")
        for key, value in recipe.items():
            section, field = key.split(".")
            assert config[section][field] == value


def test_table_is_in_kcal_per_mol(done):
    row = done[2]._replace(
        parameters=1234567, seconds=90.0, energy_mae_mev=43.3641, energy_mae_mev_stderr=4.33641
    )
    line = networks.as_table([row]).splitlines()[2]
    assert line.startswith("| schnet | 1,234,567 | 20 | 1.5 | 1.000 ± 0.100 |")
