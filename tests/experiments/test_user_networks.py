"""Networks that are not ours train like ours: jax-md's Behler-Parrinello, an MLP in 20 lines."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax_md import energy as jax_md_energy
from jax_md import space

from potentials import POTENTIALS, from_energy
from tests.experiments.small_problem import assert_same
from tests.experiments.test_train import run, small


def mlp(system, n_hidden=16):
    """A user's own: inverse distances of all pairs into a multilayer perceptron."""

    first, second = np.triu_indices(len(system.numbers), 1)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, positions):
            distances = jnp.linalg.norm(positions[first] - positions[second], axis=1)
            hidden = nn.tanh(nn.Dense(n_hidden)(1 / distances))
            return nn.Dense(1)(hidden)[0]

    network, example = Network(), np.arange(3.0 * len(system.numbers)).reshape(-1, 3)
    return from_energy(
        lambda params, positions: network.apply({"params": params}, positions),
        lambda key: network.init(key, example)["params"],
    )


def behler_parrinello(system):
    """jax-md's, an NNX module, as a function of its parameters."""
    species = jnp.asarray(np.unique(system.numbers, return_inverse=True)[1])
    one = jnp.ones(1)
    few = {"radial_etas": jnp.array([0.1, 1.0]), "angular_etas": 0.1 * one, "lambdas": one, "zetas": one}

    def module(key):
        return jax_md_energy.behler_parrinello(
            space.free()[0], key=key, species=species, mlp_sizes=(8,), sym_kwargs=few
        ).model

    graph, _ = nnx.split(module(jax.random.PRNGKey(0)))
    return from_energy(
        lambda params, positions: nnx.merge(graph, params)(positions),
        lambda key: nnx.to_pure_dict(nnx.split(module(key))[1]),
    )


@pytest.mark.parametrize(
    "build",
    [mlp, pytest.param(behler_parrinello, marks=pytest.mark.slow)],  # it takes minutes to compile
    ids=lambda build: build.__name__,
)
def test_another_network_goes_through_every_objective(build, tmp_path, monkeypatch):
    name = build.__name__
    monkeypatch.setitem(POTENTIALS, name, build)
    longer = {"pre_training.initial": 0.02, "pre_training.n_updates": 300}
    first = run(small(potential=name, **longer), tmp_path / "mse")
    log = np.genfromtxt(tmp_path / "mse" / "train_log.csv", delimiter=",", names=True)
    assert log["force_mae_mev_per_angstrom"][-1] < 0.97 * log["force_mae_mev_per_angstrom"][0]
    for objective in ("crmse", "stable"):
        changes = {"objective": objective, "potential": name, "init_from": str(tmp_path / "mse")}
        last = run(small(**changes), tmp_path / objective)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(last.params))
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first.params, last.params)
        assert max(jax.tree.leaves(moved)) > 0
        again = run(small(**changes), tmp_path / objective)  # finished: restored, not trained
        assert_same(again.params, last.params)
