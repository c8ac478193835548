"""Names of objectives, and a new one added without a change to anything else."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from experiments.configs import base
from experiments.training import Schedule, make_optimiser, make_update, start
from objectives import OBJECTIVES, Batch, Negatives, energy_force_errors, make_objective, static
from potentials import energy_and_forces
from tests.objectives.pair_well import (
    OTHER,
    REFERENCE,
    frames_at,
    pair_potential,
    pair_system,
    params_of,
    unlabelled,
)

POTENTIAL, SYSTEM = pair_potential(), pair_system()


def _frames(count: int) -> jax.Array:
    return jnp.asarray(frames_at(np.random.default_rng(0).random(count), REFERENCE, seed=1))


def _labelled(count: int, wrong: int = 0) -> Batch:
    """Frames with the reference's labels; in the first `wrong`, 20 eV/Å pull the atoms apart."""
    positions = _frames(count)
    energies, forces = jax.vmap(energy_and_forces(POTENTIAL), (None, 0))(params_of(REFERENCE), positions)
    pull = jnp.array([[-20.0, 0, 0], [20.0, 0, 0]])
    return Batch(positions, energies, forces.at[:wrong].add(pull))


def _config() -> ConfigDict:
    config = base.get_config()
    config.contrastive.update({"n_chains": 8, "n_steps": 2, "burn_in": 0})
    return config


@pytest.mark.parametrize(("typed", "nearest"), [("crmes", "crmse"), ("contrast", "contrastive")])
def test_unknown_name(typed, nearest):
    with pytest.raises(ValueError, match=f"unknown objective '{typed}'; nearest: '{nearest}'; ") as caught:
        make_objective(typed, POTENTIAL, SYSTEM, _config())
    assert {"mse", "contrastive", "crmse"} <= set(OBJECTIVES)
    assert str(caught.value).endswith("known: " + ", ".join(sorted(OBJECTIVES)))


def test_crmse_is_the_sum_of_its_parts_with_the_weights_of_the_configuration():
    config, batch, params = _config(), _labelled(16), params_of(OTHER)
    config.crmse.weight = 0.25
    config.mse.energy_weight = 3.0
    negatives = Negatives(_frames(8), jnp.ones(8, bool), jnp.zeros(8), jnp.zeros(8, bool), jnp.ones(8))
    samples = {"mse": (), "contrastive": negatives}
    names = ("mse", "contrastive", "crmse")
    mse, contrastive, crmse = (make_objective(name, POTENTIAL, SYSTEM, config).loss for name in names)
    value, metrics = jax.jit(crmse)(params, batch, samples)
    first, first_metrics = jax.jit(mse)(params, batch, ())
    second, second_metrics = jax.jit(contrastive)(params, batch, samples["contrastive"])
    assert float(value) == pytest.approx(float(first + 0.25 * second), rel=1e-5)
    assert set(metrics) == {"loss_mse", "loss_contrastive", *first_metrics, *second_metrics}
    energy_error, force_error = energy_force_errors(POTENTIAL, params, batch)
    by_hand = 3.0 * jnp.mean(energy_error**2) + 0.95 * jnp.mean(force_error**2)
    assert float(metrics["loss_mse"]) == pytest.approx(float(by_hand), rel=1e-5)


@pytest.mark.parametrize("sampler", ["mala", "baoab", "ula"])
def test_the_configuration_names_the_sampler_of_the_negatives(sampler):
    config = _config()
    config.contrastive.sampler = sampler
    objective = make_objective("contrastive", POTENTIAL, SYSTEM, config)
    chains = jax.eval_shape(
        objective.init, jax.random.PRNGKey(0), params_of(OTHER), unlabelled(_frames(10))
    ).levels[0]
    assert chains.position.shape == (8, 2, 3)
    kind = "mala" if hasattr(chains, "accepted") else "baoab" if hasattr(chains, "momentum") else "ula"
    assert kind == sampler


# --- a new objective: this function, and the line OBJECTIVES["huber"] = huber


def huber(potential, system, config):
    """Errors beyond `delta` count linearly: a few wrong labels do not rule the fit."""

    def loss(params, batch):
        energy_error, force_error = energy_force_errors(potential, params, batch)
        energy = optax.huber_loss(energy_error, delta=config.huber.delta).mean()
        force = optax.huber_loss(force_error, delta=config.huber.delta).mean()
        return energy + force, {"force_error_max_ev_per_angstrom": abs(force_error).max()}

    return static(loss)


def _trainer(name: str, config: ConfigDict) -> Callable[[Batch], tuple[dict[str, float], list[float]]]:
    """frames -> the parameters after 200 updates from `OTHER`, and the mean loss of every 20."""
    objective = make_objective(name, POTENTIAL, SYSTEM, config)
    optimiser, params = make_optimiser(clip_norm=10.0), params_of(OTHER)
    schedule = Schedule(n_updates=200, initial=5e-3, final=1e-4, average_decay=0.0)
    update = make_update(objective, optimiser, schedule, batch_size=20, n_updates=20)

    def train(frames: Batch) -> tuple[dict[str, float], list[float]]:
        state = start(jax.random.PRNGKey(0), params, optimiser.init(params), objective, frames)
        losses = []
        for _ in range(10):
            state, metrics, _ = update(state, frames)
            losses.append(float(metrics["loss"]))
        return {key: float(value) for key, value in state.params.items()}, losses

    return train


def _distance(params: dict[str, float]) -> float:
    return float(np.hypot(*(params[key] - value for key, value in REFERENCE.items())))


def test_a_new_objective_needs_no_change_elsewhere(monkeypatch):
    assert len(inspect.getsource(huber).splitlines()) + 1 < 30
    monkeypatch.setitem(OBJECTIVES, "huber", huber)
    config = _config()
    config.huber = ConfigDict({"delta": 0.1})
    train = _trainer("huber", config)
    params, losses = train(_labelled(100))
    assert losses[-1] < 0.01 * losses[0]
    assert _distance(params) < 1e-3

    # With 5 % of wrong labels it is still near the truth, where the squared error is not.
    robust, _ = train(_labelled(100, wrong=5))
    squared, _ = _trainer("mse", config)(_labelled(100, wrong=5))
    assert _distance(robust) < 0.02 and _distance(squared) > 5 * _distance(robust)
