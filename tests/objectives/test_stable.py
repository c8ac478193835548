"""The state machine of StABlE training, on replicas whose fate is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import static
from objectives.averages import make_observables
from objectives.stable import DONE, LEARNING, SIMULATING, stable
from tests.objectives.growing_bonds import (
    BETA,
    CRITERION,
    FRAMES,
    NO_QM,
    PAIR,
    PARAMS,
    POTENTIAL,
    STILL,
    lengths,
    machine,
    pair,
    walkers,
)


def test_unstable_replicas_wait_at_the_start_of_their_window_until_there_are_enough():
    # After 10 steps at 0.001 a step: +0.01; at 0.02: +0.2; the threshold is 0.25.
    _, sample, state = machine([0.001, 0.02, 0.03, 0.001])
    samples, state = sample(PARAMS, state)
    np.testing.assert_array_equal(state.unstable, [False, False, True, False])
    np.testing.assert_allclose(lengths(state), [1.51, 1.7, 1.5, 1.51], atol=1e-5)
    assert state.phase == SIMULATING and samples.rate == 0 and samples.unstable_fraction == 0.25

    samples, state = sample(PARAMS, state)
    np.testing.assert_array_equal(state.unstable, [False, True, True, False])
    np.testing.assert_allclose(lengths(state), [1.52, 1.7, 1.5, 1.52], atol=1e-5)
    assert state.phase == LEARNING and samples.phase == SIMULATING and samples.rate == 0


def test_learning_starts_from_there_again_and_again_until_nothing_breaks():
    _, sample, state = machine([0.001, 0.02, 0.03, 0.001])
    for _ in range(2):
        _, state = sample(PARAMS, state)
    before = lengths(state)
    for _ in range(3):
        samples, state = sample(PARAMS, state)
        np.testing.assert_allclose(lengths(state), before, atol=1e-6)
        assert state.phase == samples.phase == LEARNING and samples.rate == 1
        assert samples.unstable_fraction == 0.5 and samples.cycle == 0
    # All four run, and every 5th frame is a sample.
    recorded = np.linalg.norm(np.diff(samples.ensemble.positions, axis=2)[:, :, 0], axis=-1)
    step = np.array([0.001, 0.02, 0.03, 0.001])
    np.testing.assert_allclose(recorded, before + 5 * np.array([[1], [2]]) * step, atol=1e-5)
    np.testing.assert_allclose(samples.ensemble.energies, 10 * (recorded - 1.5) ** 2, rtol=1e-4, atol=1e-6)

    # Learnt: the next window is intact, its ends are where the second cycle begins.
    samples, state = sample(STILL, state)
    assert samples.phase == LEARNING and samples.rate == 1 and samples.unstable_fraction == 0
    assert state.phase == SIMULATING and samples.cycle == 1 and not state.unstable.any()
    for _ in range(3):
        _, state = sample(PARAMS, state)
    assert state.phase == LEARNING
    samples, state = sample(STILL, state)
    assert state.phase == DONE and samples.cycle == 2
    samples, after = sample(PARAMS, state)
    assert samples.phase == DONE and samples.rate == 0
    np.testing.assert_array_equal(lengths(after), lengths(state))


def test_those_that_break_below_f_min_stay_behind():
    _, sample, state = machine([0.0, 0.03, 0.03, 0.03], f_max=0.75, f_min=0.3)
    _, state = sample(PARAMS, state)
    assert state.phase == LEARNING
    # One of four breaks: at or below f_min.
    slower = state._replace(replicas=state.replicas.set(speed=jnp.array([0.0, 0.01, 0.01, 0.03])))
    samples, state = sample(PARAMS, slower)
    assert samples.unstable_fraction == 0.25 and state.phase == SIMULATING
    np.testing.assert_array_equal(state.unstable, [False, False, False, True])
    np.testing.assert_allclose(lengths(state), [1.5, 1.6, 1.6, 1.5], atol=1e-5)


def test_all_replicas_break_in_the_first_window():
    _, sample, state = machine([0.1] * 4)
    samples, state = sample(PARAMS, state)
    assert samples.unstable_fraction == 1 and state.phase == LEARNING
    np.testing.assert_allclose(lengths(state), 1.5, atol=1e-6)


def test_a_cycle_without_success_ends_and_starts_the_lost_ones_from_data():
    _, sample, state = machine([0.0, 0.03, 0.03, 0.0], max_learning_windows=3)
    state = state._replace(replicas=state.replicas.set(position=pair([1.6, 1.6, 1.7, 1.6])))
    _, state = sample(PARAMS, state)
    for window in range(3):
        assert state.phase == LEARNING and state.learned == window
        samples, state = sample(PARAMS, state)
    assert state.phase == SIMULATING and samples.cycle == 1 and not state.unstable.any()
    np.testing.assert_allclose(lengths(state)[[0, 3]], 1.6, atol=1e-6)
    assert {round(float(x), 3) for x in lengths(state)[1:3]} <= {1.49, 1.5, 1.51}


def test_a_replica_that_goes_nan_is_unstable_and_leaves_no_samples():
    _, sample, state = machine([0.001, 0.001, np.nan, 0.001], f_max=0.25)
    samples, state = sample(PARAMS, state)
    np.testing.assert_array_equal(state.unstable, [False, False, True, False])
    assert np.isfinite(state.replicas.position).all() and state.phase == LEARNING
    samples, state = sample(PARAMS, state)
    np.testing.assert_array_equal(samples.ensemble.valid, [[True, True, False, True]] * 2)
    assert samples.unstable_fraction == 0.25 and np.isfinite(samples.ensemble.positions).all()


def test_all_replicas_nan_leave_only_the_supervised_term():
    qm = static(lambda params, batch: (params["k"] ** 2, {}))
    objective, sample, state = machine([np.nan] * 4, supervised=qm, qm_weight=3.0)
    for _ in range(2):
        samples, state = sample(PARAMS, state)
    assert samples.phase == LEARNING and not samples.ensemble.valid.any()
    (value, metrics), slope = jax.value_and_grad(objective.loss, has_aux=True)(PARAMS, FRAMES, samples)
    np.testing.assert_allclose(value, 3 * 400.0)
    np.testing.assert_allclose(slope["k"], 3 * 40.0)
    assert metrics["effective_samples"] == 0


def test_nothing_is_learnt_while_simulating():
    objective, sample, state = machine([0.001] * 4)
    samples, _ = sample(PARAMS, state)
    (value, metrics), slope = jax.value_and_grad(objective.loss, has_aux=True)(PARAMS, FRAMES, samples)
    assert value == 0 and all(s == 0 for s in slope.values())
    assert objective.rate(samples) == 0 and np.isnan(metrics["loss_observables"])
    assert metrics["unstable_fraction"] == 0 and metrics["phase"] == SIMULATING


def test_the_rate_drops_on_a_plateau_and_recovers_with_the_next_cycle():
    _, sample, state = machine([0.03] * 4, plateau_patience=2, plateau_factor=0.5)
    _, state = sample(PARAMS, state)
    rates = []
    for _ in range(8):
        samples, state = sample(PARAMS, state)
        rates.append(float(samples.rate))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    _, state = sample(STILL, state)
    _, state = sample(PARAMS, state)
    samples, _ = sample(PARAMS, state)
    assert samples.phase == LEARNING and samples.rate == 1


@pytest.mark.parametrize("factor", [0.5, 0.995, 0.0])
def test_learning_ends_at_the_drop_after_the_last(factor):
    _, sample, state = machine([0.03] * 4, plateau_patience=0, plateau_factor=factor, max_reductions=2)
    _, state = sample(PARAMS, state)
    windows = 0
    while state.phase == LEARNING:
        samples, state = sample(PARAMS, state)
        windows += 1
    assert windows == 4 and state.reductions == 3  # the first sets the mark, each of the others drops
    assert state.phase == SIMULATING and samples.cycle == 1


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_stable_replicas_may_be_sent_back_to_data_after_learning(fraction):
    _, sample, state = machine([0.0, 0.0, 0.03, 0.03], reset_fraction=fraction)
    state = state._replace(replicas=state.replicas.set(position=pair([1.6] * 4)))
    _, state = sample(PARAMS, state)
    assert state.phase == LEARNING
    _, state = sample(STILL, state)  # nothing breaks any more
    assert state.phase == SIMULATING
    at_data = np.isin(np.round(lengths(state), 3), np.float32([1.49, 1.5, 1.51]))
    assert at_data.all() if fraction else not at_data.any()


def test_minibatches_without_samples_do_not_count():
    objective, sample, state = machine([0.0, np.nan, 0.0, 0.03], n_steps=10, minibatch=2, cross_fitted=False)
    for _ in range(2):
        samples, state = sample(PARAMS, state)
    assert samples.rate == 1
    lost = samples.ensemble.valid.at[1].set(False)  # the later two minibatches
    samples = samples._replace(ensemble=samples.ensemble._replace(valid=lost))
    _, metrics = objective.loss(PARAMS, FRAMES, samples)
    x = np.linalg.norm(np.diff(samples.ensemble.positions[0], axis=1)[:, 0], axis=-1)
    parts = [(x[0] - 1.5) ** 2, (x[2:].mean() - 1.5) ** 2]
    np.testing.assert_allclose(metrics["deviation_length"], np.mean(parts), rtol=1e-4)
    np.testing.assert_allclose(metrics["effective_samples"], 3, rtol=1e-4)


def test_the_factor_on_the_gradient_leaves_the_value():
    slopes = {}
    for factor in (1.0, 0.25):
        objective, sample, state = machine([0.01, 0.02, 0.03, 0.04], gradient_factor=factor)
        for _ in range(2):
            samples, state = sample(PARAMS, state)
        (value, _), slope = jax.value_and_grad(objective.loss, has_aux=True)(PARAMS, FRAMES, samples)
        slopes[factor] = value, slope["k"]
    assert slopes[1.0][1] != 0
    np.testing.assert_allclose(slopes[0.25][1], 0.25 * slopes[1.0][1], rtol=1e-5)
    np.testing.assert_allclose(slopes[0.25][0], slopes[1.0][0], rtol=1e-6)


def test_samples_are_used_again_while_they_are_worth_something():
    _, sample, state = machine([0.03] * 4, max_uses=3, min_effective=0.9)
    _, state = sample(PARAMS, state)
    first, state = sample(PARAMS, state)
    second, state = sample(PARAMS, state)
    np.testing.assert_array_equal(first.ensemble.positions, second.ensemble.positions)
    assert second.rate == 1 and state.uses == 2
    moved = {**PARAMS, "speed": jnp.float32(0.9)}
    third, state = sample(moved, state)
    assert state.uses == 3
    fourth, state = sample(moved, state)  # the third use was the last
    assert state.uses == 1 and (fourth.ensemble.positions != third.ensemble.positions).any()
    stiff = {**moved, "k": jnp.float32(500.0)}  # nearly all weight on the shortest bonds
    _, state = sample(stiff, state)
    assert state.uses == 1


def test_targets_are_the_training_means_unless_given():
    _, _, state = machine([0.0] * 4)
    np.testing.assert_allclose(state.latest.targets["length"], [1.5], rtol=1e-6)
    _, _, state = machine([0.0] * 4, targets={"length": [1.7]})
    np.testing.assert_allclose(state.latest.targets["length"], [1.7])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"f_min": 0.6, "f_max": 0.5}, "f_min is 0.6 and f_max 0.5; expected 0 <= f_min < f_max <= 1"),
        ({"f_max": 1.5}, "f_max 1.5"),
        ({"record_every": 4}, "n_steps is 10; expected a multiple of stable.record_every, 4"),
        ({"n_cycles": 0}, "stable.n_cycles is 0; expected 1 or more"),
        ({"minibatch": 2}, "cross_fitted needs four or more replicas, and no minibatches"),
        ({"minibatch": 1, "cross_fitted": False}, "minibatch is 1; expected 0, or 2 or more"),
        ({"targets": {"length": [1.0, 2.0]}}, r"target 'length' has shape \(2,\); expected .*\(1,\)"),
        ({"targets": {"length": [np.nan]}}, "target 'length'"),
        ({"targets": {"lenght": [1.0]}}, "target 'lenght' is of no observable; known: length"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        machine([0.0] * 4, **settings)


def test_no_observables():
    with pytest.raises(ValueError, match="no observables"):
        stable(POTENTIAL, walkers([0.0]), CRITERION, {}, NO_QM, PAIR.masses, BETA)
    with pytest.raises(ValueError, match="unknown observable 'distance'; nearest: 'distances'"):
        make_observables({"distance": 1.0}, PAIR)
