"""The trainer: batches, schedule, averages, resuming bit for bit, and convergence to known parameters."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training import Schedule, TrainState, draw_batch, make_optimiser, make_update, start
from objectives import Batch, Objective, combine, contrastive, mse, static
from potentials import energy_and_forces
from samplers import baoab, ula
from tests.objectives.pair_well import (
    OTHER,
    REFERENCE,
    TEMPERATURE,
    even_frames,
    pair_potential,
    pair_system,
    params_of,
    unlabelled,
)

POTENTIAL, SYSTEM = pair_potential(), pair_system()
OPTIMISER = make_optimiser(clip_norm=10.0)
SCHEDULE = Schedule(n_updates=40, initial=3e-3, final=1e-4, average_decay=0.9)
KEY = jax.random.PRNGKey(0)


def _frames() -> Batch:
    positions, params = jnp.asarray(even_frames(40, REFERENCE)), params_of(REFERENCE)
    return Batch(positions, *jax.vmap(energy_and_forces(POTENTIAL), (None, 0))(params, positions))


FRAMES = _frames()


@cache
def _crmse() -> Objective:
    """Errors and chains: parameters, moments, chains with their keys, restarts."""
    settings = {"n_chains": 16, "n_steps": 5, "restart_fraction": 0.1, "burn_in": 20}
    chains = contrastive(POTENTIAL, [ula(POTENTIAL, SYSTEM)], SYSTEM.masses, [TEMPERATURE], **settings)
    return combine({"mse": (1.0, mse(POTENTIAL)), "contrastive": (0.01, chains)})


@cache
def _update(n_updates: int, objective: Objective | None = None, schedule: Schedule = SCHEDULE):
    return make_update(objective or _crmse(), OPTIMISER, schedule, batch_size=8, n_updates=n_updates)


def _start(objective: Objective | None = None) -> TrainState:
    params = params_of(OTHER)
    return start(KEY, params, OPTIMISER.init(params), objective or _crmse(), FRAMES)


def _assert_same_bits(one: object, other: object) -> None:
    leaves, structure = jax.tree.flatten(one)
    others, other_structure = jax.tree.flatten(other)
    assert structure == other_structure and len(leaves) > 0
    for a, b in zip(leaves, others, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


# --- batches


def test_batches_cover_every_frame_once_an_epoch_in_a_new_order():
    frames = Batch(jnp.arange(36.0).reshape(12, 1, 3), jnp.arange(12.0), -jnp.arange(36.0).reshape(12, 1, 3))
    epochs = []
    for epoch in range(3):
        batches = [draw_batch(frames, KEY, jnp.int32(3 * epoch + i), 4) for i in range(3)]
        for batch in batches:
            np.testing.assert_array_equal(batch.positions[:, 0, 0], 3 * batch.energies)
            np.testing.assert_array_equal(batch.forces, -batch.positions)
        epochs.append(np.concatenate([batch.energies for batch in batches]))
        assert sorted(epochs[-1]) == list(range(12))
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])
    other = draw_batch(frames, jax.random.PRNGKey(1), jnp.int32(0), 4)
    assert not np.array_equal(other.energies, epochs[0][:4])


def test_frames_left_over_differ_from_epoch_to_epoch():
    frames = Batch(jnp.zeros((11, 1, 3)), jnp.arange(11.0), jnp.zeros((11, 1, 3)))
    left_over = set()
    for epoch in range(12):
        steps = (jnp.int32(2 * epoch + i) for i in range(2))
        drawn = [int(energy) for step in steps for energy in draw_batch(frames, KEY, step, 5).energies]
        assert len(set(drawn)) == 10
        left_over |= set(range(11)) - set(drawn)
    assert len(left_over) > 3


# --- updates


def test_two_calls_of_ten_updates_are_one_of_twenty():
    halves = _start()
    for _ in range(2):
        halves, _, _ = _update(10)(halves, FRAMES)
    whole, _, _ = _update(20)(_start(), FRAMES)
    assert int(whole.step) == 20
    _assert_same_bits(halves, whole)


def test_resumed_run_equals_an_unbroken_one():
    unbroken = _start()
    for _ in range(2):
        unbroken, metrics, samples = _update(10)(unbroken, FRAMES)
    half, _, _ = _update(10)(_start(), FRAMES)
    stored = jax.tree.map(np.array, half)  # what a checkpoint holds
    del half
    resumed, *rest = _update(10)(jax.tree.map(jnp.asarray, stored), FRAMES)
    _assert_same_bits((resumed, *rest), (unbroken, metrics, samples))


def test_runs_with_other_keys_differ():
    one, _, _ = _update(10)(_start(), FRAMES)
    params = params_of(OTHER)
    other = start(jax.random.PRNGKey(1), params, OPTIMISER.init(params), _crmse(), FRAMES)
    other, _, _ = _update(10)(other, FRAMES)
    assert float(one.params["barrier"]) != float(other.params["barrier"])


def test_state_is_donated_but_what_the_caller_gave_is_not():
    params = params_of(OTHER)
    moments = OPTIMISER.init(params)
    state = start(KEY, params, moments, _crmse(), FRAMES)
    after, _, _ = _update(10)(state, FRAMES)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.objective)))
    for leaf in jax.tree.leaves((params, moments, FRAMES, KEY, after)):
        assert not leaf.is_deleted()
    assert float(params["barrier"]) == pytest.approx(OTHER["barrier"])


def _linear() -> Objective:
    """The barrier itself: its gradient is 1, so that an update can be followed by hand."""
    return static(lambda params, batch: (params["barrier"], {"x": params["barrier"]}))


def test_learning_rate_runs_along_half_a_cosine():
    objective = _linear()
    update = _update(1, objective)
    state = _start(objective)
    quarter = 1e-4 + 2.9e-3 * (2 + np.sqrt(2)) / 4
    for step, expected in ((0, 3e-3), (10, quarter), (20, 1.55e-3), (40, 1e-4), (99, 1e-4)):
        state, metrics, _ = update(state._replace(step=jnp.int32(step)), FRAMES)
        assert float(metrics["learning_rate"]) == pytest.approx(expected, rel=1e-4)
        assert int(state.step) == step + 1


def test_learning_rate_rises_over_the_warmup():
    objective = _linear()
    update = _update(1, objective, SCHEDULE._replace(final=3e-3, warmup=10))
    state = _start(objective)
    for step, share in ((0, 0.1), (4, 0.5), (9, 1.0), (30, 1.0)):
        state, metrics, _ = update(state._replace(step=jnp.int32(step)), FRAMES)
        assert float(metrics["learning_rate"]) == pytest.approx(share * 3e-3, rel=1e-5)


def test_update_is_adam_and_metrics_are_means_over_the_call():
    objective = _linear()
    state, metrics, _ = _update(5, objective, SCHEDULE._replace(final=3e-3))(_start(objective), FRAMES)
    # A constant gradient of 1 gives Adam's direction 1 at every step, at a constant rate of 3e-3.
    values = OTHER["barrier"] - 3e-3 * np.arange(6)
    assert float(state.params["barrier"]) == pytest.approx(values[-1], rel=1e-4)
    assert float(state.params["tilt"]) == pytest.approx(OTHER["tilt"])
    assert float(metrics["x"]) == pytest.approx(values[:5].mean(), rel=1e-4)
    assert float(metrics["loss"]) == pytest.approx(values[:5].mean(), rel=1e-4)
    assert float(metrics["gradient_norm"]) == pytest.approx(1.0)


def test_gradient_is_clipped_before_adam():
    """Moments hold the clipped gradient; the metric is of the whole one."""
    objective = static(lambda params, batch: (1e4 * params["barrier"], {}))
    state, metrics, _ = _update(1, objective)(_start(objective), FRAMES)
    assert float(metrics["gradient_norm"]) == pytest.approx(1e4)
    first_moment = state.optimiser[1].mu["barrier"]
    assert float(first_moment) == pytest.approx(0.1 * 10.0)  # (1 − β₁) · clip_norm


def test_plain_gradients_carry_the_moments_along():
    objective = _linear()
    sgd = make_optimiser(clip_norm=0.5, name="sgd")
    update = make_update(objective, sgd, SCHEDULE._replace(final=3e-3), batch_size=8, n_updates=1)
    state = _start(objective)
    moments = jax.tree.map(lambda leaf: leaf + 1, state.optimiser)
    state, _, _ = update(state._replace(optimiser=jax.tree.map(jnp.copy, moments)), FRAMES)
    assert float(state.params["barrier"]) == pytest.approx(OTHER["barrier"] - 3e-3 * 0.5, rel=1e-5)
    _assert_same_bits(state.optimiser, moments)


def test_unknown_optimiser():
    with pytest.raises(ValueError, match="unknown optimiser 'sdg'; nearest: 'sgd'"):
        make_optimiser(1.0, "sdg")


def test_an_objective_that_only_simulates_changes_nothing_but_its_state():
    def sample(params, state):
        return state, state + 1

    objective = Objective(
        init=lambda key, params, frames: jnp.int32(0),
        sample=sample,
        loss=lambda params, batch, samples: (params["barrier"], {}),
        rate=lambda samples: jnp.where(samples < 2, 0.0, 0.5),  # two calls without learning
    )
    update = _update(1, objective, SCHEDULE._replace(final=3e-3))
    first = state = _start(objective)
    kept = jax.tree.map(jnp.copy, (first.params, first.average, first.optimiser))
    for calls in (1, 2):
        state, metrics, _ = update(state, FRAMES)
        _assert_same_bits((state.params, state.average, state.optimiser), kept)
        assert int(state.objective) == int(state.step) == calls and metrics["learning_rate"] == 0
    state, metrics, _ = update(state, FRAMES)
    assert float(metrics["learning_rate"]) == pytest.approx(1.5e-3)
    assert float(state.params["barrier"]) == pytest.approx(OTHER["barrier"] - 1.5e-3, rel=1e-4)


@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_average_of_the_weights(decay):
    objective = _linear()
    update = _update(1, objective, SCHEDULE._replace(average_decay=decay))
    state = _start(objective)
    expected = np.array(OTHER["barrier"])
    for _ in range(4):
        state, _, _ = update(state, FRAMES)
        expected = decay * expected + (1 - decay) * float(state.params["barrier"])
        assert float(state.average["barrier"]) == pytest.approx(expected, rel=1e-5)
    assert (float(state.average["barrier"]) == float(state.params["barrier"])) is (decay == 0)


# --- the answer is known


def test_contrastive_training_finds_the_parameters_of_the_reference():
    """Positions alone, no labels: at the minimum of the Kullback–Leibler divergence p_θ is p_ref."""
    sampler = baoab(POTENTIAL, SYSTEM, timestep=8.0, friction=50.0)
    settings = {"n_chains": 128, "n_steps": 20, "burn_in": 200}
    objective = contrastive(POTENTIAL, [sampler], SYSTEM.masses, [TEMPERATURE], **settings)
    schedule = Schedule(n_updates=300, initial=4e-3, final=1e-4, average_decay=0.95)
    update = make_update(objective, OPTIMISER, schedule, batch_size=250, n_updates=300)
    frames = unlabelled(even_frames(250, REFERENCE))
    found = []
    for seed in range(6):
        params = params_of(OTHER)
        state = start(jax.random.PRNGKey(seed), params, OPTIMISER.init(params), objective, frames)
        state, metrics, _ = update(state, frames)
        assert float(metrics["chain_alive_fraction"]) == 1
        found.append([float(state.average[name]) for name in REFERENCE])
    mean = np.mean(found, axis=0)
    stderr = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    for name, value, error in zip(REFERENCE, mean, stderr, strict=True):
        assert error < 0.1 * abs(REFERENCE[name] - OTHER[name]), (name, value, error)
        assert abs(value - REFERENCE[name]) < 4 * error, (name, value, error)
