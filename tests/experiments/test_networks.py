"""Networks trained for the same time: the row is of the run in the folder, and a run is not begun anew."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from experiments import networks
from experiments.binary import InputError
from experiments.configs import peptide
from experiments.reference import find_molecule
from experiments.train import prepare
from experiments.weights import load_params
from potentials import POTENTIALS, make_system
from tests.experiments.small_problem import small

BUDGET = {"seconds": 6.0, "each": 0.1}  # as if measured


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A tiny SchNet after 60 updates: (what `run` takes before the time, folder, row)."""
    config = networks.network_config(small(), "schnet")
    workdir = tmp_path_factory.mktemp("networks") / "schnet"
    workdir.mkdir()
    (workdir / "budget.json").write_text(json.dumps(BUDGET))
    prepared = (config, *prepare(config))
    return prepared, workdir, networks.run(*prepared, 6.0, workdir)


def test_row_is_of_the_weights_in_the_folder(done):
    (_, problem, _), workdir, row = done
    params, test, potential = load_params(workdir, problem), problem.test, problem.potential
    energies = jax.vmap(potential.energy, (None, 0))(params, test.positions)
    forces = -jax.vmap(jax.grad(potential.energy, 1), (None, 0))(params, test.positions)
    assert_allclose(row.energy_mae_mev, 1000 * np.abs(energies - test.energies).mean(), rtol=1e-4)
    assert_allclose(row.force_mae_mev_per_angstrom, 1000 * np.abs(forces - test.forces).mean(), rtol=1e-4)
    assert row.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert (row.network, row.frames, row.updates) == ("schnet", 60, 60)
    assert row.seconds == pytest.approx(6.0)


def test_what_is_trained_is_not_trained_again(done, monkeypatch):
    prepared, workdir, row = done
    monkeypatch.setattr(networks, "seconds_per_update", lambda *_: pytest.fail("measured again"))
    log = (workdir / "train_log.csv").read_text()
    assert networks.run(*prepared, 6.0, workdir) == row
    assert (workdir / "train_log.csv").read_text() == log
    with pytest.raises(InputError, match="holds a run of 6 s; expected 60 s"):
        networks.run(*prepared, 60.0, workdir)


def test_the_time_of_an_update_is_measured_without_compilation(done, monkeypatch):
    prepared, *_ = done
    monkeypatch.setattr(networks, "_MEASURED_SECONDS", 0.1)
    compiling = []
    make = networks.make_update

    def made(*arguments, **settings):
        update = make(*arguments, **settings)
        compiling.append(update)
        return update

    monkeypatch.setattr(networks, "make_update", made)
    each = networks.seconds_per_update(*prepared)
    assert each > 0
    (update,) = compiling
    assert update._cache_size() == 1  # what was timed had been compiled by the first call


def test_a_recipe_gives_way_to_the_configuration():
    for name, recipe in networks._RECIPES.items():
        config = networks.network_config(networks.base.get_config(), name)
        assert (config.potential, config.objective) == (name, "mse")
        for key, value in recipe.items():
            section, field = key.split(".")
            assert config[section][field] == value
    config = networks.network_config(small(objective="crmse"), "nequip")  # batches of 20
    assert config.training.batch_size == 20 and config.pre_training.initial == 5e-3
    assert config.objective == "mse"


def test_table_is_in_kcal_per_mol(done):
    row = done[2]._replace(
        parameters=1234567, seconds=90.0, energy_mae_mev=43.3641, energy_mae_mev_stderr=4.33641
    )
    line = networks.as_table([row]).splitlines()[2]
    assert line.startswith("| schnet | 1,234,567 | 60 | 1.5 | 1.000 ± 0.100 |")


def test_the_peptides_nequip_is_of_the_size_published_with_stable_training():
    atoms, config = find_molecule("ac-ala3-nhme"), peptide.get_config()
    assert (len(atoms), set(atoms.symbols)) == (42, {"H", "C", "N", "O"})
    system = make_system(atoms.numbers, atoms.positions, config.dataset.temperature)
    potential = POTENTIALS[config.potential](system, **config[config.potential])
    shapes = jax.eval_shape(potential.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 120_984  # theirs: 0.12 M
