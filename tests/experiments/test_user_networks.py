"""Networks that are not ours train like ours: jax-md's NequIP, an MLP in 20 lines."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_md._nn.nequip import NequIPEnergyModel
from jraph import GraphsTuple

from potentials import POTENTIALS, from_energy
from tests.experiments.small_problem import assert_same
from tests.experiments.small_run import run, small


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


def jax_md_nequip(system):
    """jax-md's own network, of its own basis, cutoff and readout, on all ordered pairs."""
    kinds, kind = np.unique(system.numbers, return_inverse=True)
    receivers, senders = np.nonzero(~np.eye(len(kind), dtype=bool))
    network = NequIPEnergyModel(
        graph_net_steps=1,
        use_sc=True,
        nonlinearities={"e": "raw_swish", "o": "tanh"},
        n_elements=len(kinds),
        hidden_irreps="4x0e + 2x1o",
        sh_irreps="1x0e + 1x1o",
        radial_net_n_hidden=8,
        n_neighbors=8.0,
    )

    def graph(positions):
        vectors = positions[senders] - positions[receivers]
        count = [np.array([len(x)]) for x in (kind, senders)]
        return GraphsTuple(np.eye(len(kinds))[kind], vectors, receivers, senders, None, *count)

    return from_energy(
        lambda params, positions: network.apply(params, graph(positions))[0, 0],
        lambda key: network.init(key, graph(jnp.arange(3.0 * len(kind)).reshape(-1, 3))),
    )


@pytest.mark.parametrize(
    "build",
    [mlp, pytest.param(jax_md_nequip, marks=pytest.mark.slow)],  # a minute, most of it compiling
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
