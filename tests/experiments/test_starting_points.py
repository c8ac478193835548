"""What a run starts from: another run, published weights."""

import jax
import numpy as np
import pytest

from experiments import binary
from experiments.checkpoints import Checkpoints
from experiments.configs import base
from experiments.problem import make_problem
from experiments.starting_points import with_data, with_schedule
from experiments.train import prepare
from experiments.training import make_optimiser
from experiments.weights import load_params
from potentials.torch_weights import read_state_dict, schnet_params
from tests.experiments.small_problem import assert_same
from tests.experiments.small_run import run, small
from tests.potentials.torch_state import small_state


def test_post_training_starts_from_weights_and_moments(pretrained):
    workdir, state = pretrained
    config = small(objective="crmse", init_from=str(workdir))
    problem = make_problem(config)
    params = problem.potential.init(jax.random.PRNGKey(5))
    found, _, moments = Checkpoints(workdir).restore_weights(params, make_optimiser(1.0).init(params))
    assert_same(found, state.params)
    assert_same(moments, state.optimiser)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(moments))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset.train": 40}, "another problem: dataset.train is 60 there and 40 here"),
        ({"zbl.enabled": True}, "another problem: zbl.enabled is False there"),
        ({"schnet.cutoff": 4.0}, "another problem: schnet.cutoff is 5.0 there"),
    ],
)
def test_post_training_of_another_problem_is_refused(pretrained, changes, words):
    with pytest.raises(binary.InputError, match=words), binary.reading_input():
        prepare(small(objective="crmse", init_from=str(pretrained[0]), **changes))


def test_post_training_that_names_no_data_has_its_parents(pretrained):
    config = small(objective="crmse", init_from=str(pretrained[0]))
    silent = config.copy_and_resolve_references()
    silent.dataset = base.get_config().dataset
    assert with_data(silent).dataset == config.dataset
    assert silent.dataset.name == ""  # the caller's own is left alone
    silent.dataset.train = config.dataset.train  # as there: no matter
    assert with_data(silent).dataset == config.dataset
    silent.dataset.train = 12
    with pytest.raises(ValueError, match=r"dataset\.train is 12 and in .*, whose data these are, 60"):
        with_data(silent)
    fresh = small(init_from="", **{"dataset.name": ""})
    assert with_data(fresh) is fresh


def test_stable_training_that_says_nothing_of_its_schedule_has_its_own(tmp_path):
    config = base.get_config()
    config.objective, config.init_from = "stable", "W0"
    scheduled = with_schedule(config, "")
    assert scheduled.post_training.average_decay == 0 and scheduled.post_training.warmup == 0
    assert (scheduled.training.log_every, scheduled.training.checkpoint_every) == (1, 10)
    assert config.post_training == base.get_config().post_training
    for own in ({"objective": "crmse"}, {"post_training.final": 1e-6}):
        config = base.get_config()
        config.objective, config.init_from = "stable", "W0"
        config.update_from_flattened_dict(own)
        assert with_schedule(config, "") is config
    config = base.get_config()
    config.objective = "stable"
    assert with_schedule(config, "") is config  # no post-training
    config.init_from = "W0"
    (tmp_path / "config.json").write_text(config.to_json())
    assert with_schedule(config, str(tmp_path)) is config  # begun so


@pytest.fixture
def published(tmp_path):
    """A file of weights of the shape of `small`, with PyTorch Geometric's names."""
    state = small_state(n_interactions=1, width=16, n_filters=16, n_gaussians=25, n_elements=100, cutoff=5.0)
    np.savez(tmp_path / "weights.npz", **state)
    return tmp_path / "weights.npz"


def test_published_weights_are_a_run_without_updates(published, tmp_path):
    config = small(weights=str(published), **{"pre_training.n_updates": 0})
    problem, _ = prepare(config)
    state = run(config, tmp_path / "run")
    assert state.step == 0
    loaded = load_params(tmp_path / "run", problem)
    assert_same(loaded, state.params)
    given = schnet_params(read_state_dict(published))
    bias = loaded["readout_1"].pop("bias"), given["readout_1"].pop("bias")
    assert_same(loaded, given)
    loaded["readout_1"]["bias"] = bias[0]
    energies = jax.vmap(problem.potential.energy, (None, 0))(loaded, problem.train.positions)
    offset = np.mean(energies - problem.train.energies)
    assert abs(offset) < 1e-5 * np.abs(energies).max()
    assert run(config, tmp_path / "run").step == 0  # once more, from the checkpoint
    follower = small(objective="stable", init_from=str(tmp_path / "run"))
    prepare(follower)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": ""}, "pre_training.n_updates is 0; expected 1 or more, or weights"),
        ({"weights": "/nowhere.npz"}, "/nowhere.npz: no such weights file"),
        ({"schnet.n_features": 8}, "holds another network than config.schnet: "),
        ({"schnet.cutoff": 6.0}, "has a cutoff of 5.0 Å; expected config.schnet's, 6.0"),
        ({"init_from": "somewhere"}, "init_from and weights are both set"),
    ],
)
def test_weights_that_do_not_do(published, changes, words):
    settings = {"weights": str(published), "pre_training.n_updates": 0, **changes}
    with pytest.raises(binary.InputError, match=words), binary.reading_input():
        prepare(small(**settings))
