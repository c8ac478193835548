"""The contrastive gradient against quadrature, and how its chains persist."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from objectives import Negatives, contrastive_loss
from samplers import baoab, ula
from tests.objectives.pair_well import (
    BETA,
    OTHER,
    REFERENCE,
    TEMPERATURE,
    even_frames,
    exact_gradient,
    frames_at,
    params_of,
    unlabelled,
)
from tests.objectives.walled_pair import (
    DATA,
    FRAMES,
    KEY,
    PARAMS,
    POTENTIAL,
    build,
    contrastive_gradient,
    from_data,
    make_negatives,
    mala_chains,
    ula_chains,
    with_chains,
)


def _assert_unbiased(blocks: dict[str, Array], precision: float) -> None:
    """Means over independent blocks [K] within 4 standard errors of the exact gradient."""
    for name, exact in exact_gradient(REFERENCE, OTHER).items():
        values = np.asarray(blocks[name], dtype=float)
        stderr = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - exact) < 4 * stderr, (name, values.mean(), exact, stderr)
        assert stderr < precision * abs(exact), (name, stderr, exact)


# --- the gradient


def test_value_and_metrics_by_hand():
    positions = frames_at(np.array([0.2, 0.5, 0.9]), OTHER)
    negatives = make_negatives(positions, alive=[True, False, True], accepted=[1.0, 0.0, 0.0])
    # No energy is below 0: a failed chain must not count as 0 eV.
    params = {"barrier": 0.1, "tilt": 0.0, "wall": 0.0}
    loss = jax.jit(partial(contrastive_loss, POTENTIAL, TEMPERATURE))
    value, metrics = loss(params_of(params), FRAMES.positions, negatives)

    def energies(frames):
        x = np.asarray(frames, dtype=float)
        return 0.1 * ((x[:, 1, 0] - x[:, 0, 0]) ** 2 - 1) ** 2

    alive = energies(positions)[[0, 2]]
    assert float(value) == pytest.approx(BETA * (energies(FRAMES.positions).mean() - alive.mean()), rel=1e-4)
    assert {name: float(metric) for name, metric in metrics.items()} == pytest.approx(
        {
            "chain_energy_mean_ev": alive.mean(),
            "chain_energy_min_ev": alive.min(),
            "chain_alive_fraction": 2 / 3,
            "chain_fallen_fraction": 0.0,
            "acceptance": 1 / 3,
        },
        rel=1e-4,
    )


def test_the_temperature_of_the_chains():
    objective = build(baoab, n_chains=256, n_steps=1, timestep=0.1)
    params = params_of(OTHER | {"wall": 0.0})
    state = objective.init(KEY, params, FRAMES)
    for factor in (1.0, 2.0):
        hot = with_chains(state, momentum=factor * state.levels[0].momentum)
        negatives, _ = objective.sample(params, hot)
        expected = factor**2 * TEMPERATURE
        _, metrics = contrastive_loss(POTENTIAL, TEMPERATURE, params, FRAMES.positions, negatives)
        stderr = 1.25 * expected * np.sqrt(2 / 6 / 256)  # of a median, six degrees of freedom
        assert abs(float(metrics["chain_temperature_k"]) - expected) < 4 * stderr
        alive = jnp.arange(256) < 128
        _, metrics = contrastive_loss(
            POTENTIAL, TEMPERATURE, params, FRAMES.positions, negatives._replace(alive=alive)
        )
        assert float(metrics["chain_temperature_k"]) == pytest.approx(
            np.median(negatives.kinetic[:128]) / 0.893, rel=1e-3
        )
    none = negatives._replace(alive=jnp.zeros(256, bool))
    _, metrics = contrastive_loss(POTENTIAL, TEMPERATURE, params, FRAMES.positions, none)
    assert np.isnan(metrics["chain_temperature_k"])


def test_fallen_chains_count_more():
    """By hand: w (mean over the reference − mean over the fallen that are alive)."""
    positions = frames_at(np.array([0.2, 0.4, 0.5, 0.9]), OTHER)
    negatives = make_negatives(positions, alive=[True, True, False, True], fallen=[False, True, True, True])
    params = params_of({"barrier": 0.1, "tilt": 0.0, "wall": 0.0})
    energy = jax.vmap(POTENTIAL.energy, (None, 0))

    def by_hand(params):
        reference = energy(params, FRAMES.positions).mean()
        e = energy(params, jnp.asarray(positions))
        plain = reference - (e[0] + e[1] + e[3]) / 3
        return BETA * (plain + 7.0 * ((reference - e[1]) + (reference - e[3])) / 2)

    def loss(params):
        return contrastive_loss(POTENTIAL, TEMPERATURE, params, FRAMES.positions, negatives, 7.0)

    (value, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(params)
    expected, expected_slopes = jax.value_and_grad(by_hand)(params)
    assert float(value) == pytest.approx(float(expected), rel=1e-4)
    for name in ("barrier", "tilt"):
        assert float(slopes[name]) == pytest.approx(float(expected_slopes[name]), rel=1e-4)
    assert float(metrics["chain_fallen_fraction"]) == 0.5


def test_gradient_from_exact_samples():
    shares = np.random.default_rng(0).random((2, 40, 1000))  # 40 blocks of 1000 frames
    reference = frames_at(shares[0], REFERENCE, seed=1)
    model = frames_at(shares[1], OTHER, seed=2)
    none = jnp.zeros((40, 1000))
    negatives = Negatives(jnp.asarray(model), none == 0, none, none > 0)
    blocks = jax.vmap(contrastive_gradient, (None, 0, 0))(PARAMS, jnp.asarray(reference), negatives)
    _assert_unbiased(blocks, 0.04)


@pytest.mark.parametrize("hotter", [(), (800.0, 1200.0)])
def test_gradient_from_persistent_mala_chains(hotter):
    objective = mala_chains(hotter)
    reference = even_frames(2000, REFERENCE)
    state = objective.init(KEY, PARAMS, FRAMES)
    windows = []
    for _ in range(10):
        negatives, state = objective.sample(PARAMS, state)
        by_block = jax.tree.map(lambda leaf: leaf.reshape(16, 64, *leaf.shape[1:]), negatives)
        windows.append(jax.vmap(contrastive_gradient, (None, None, 0))(PARAMS, reference, by_block))
    _assert_unbiased(jax.tree.map(lambda *window: sum(window) / len(window), *windows), 0.06)
    _, metrics = objective.loss(PARAMS, FRAMES, negatives)
    assert float(metrics["acceptance"]) == pytest.approx(0.574, abs=0.08)  # what burn-in tunes for


def test_negatives_are_constants():
    objective = ula_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    fixed, _ = objective.sample(PARAMS, state)

    def through_the_chains(params):
        return objective.loss(params, FRAMES, objective.sample(params, state)[0])[0]

    expected = contrastive_gradient(PARAMS, FRAMES.positions, fixed)
    found = jax.jit(jax.grad(through_the_chains))(PARAMS)
    for name in ("barrier", "tilt"):
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-4)
        assert abs(expected[name]) > 1e-3
    slope = jax.grad(lambda x: objective.loss(PARAMS, FRAMES, fixed._replace(positions=x))[0])(
        fixed.positions
    )
    assert not slope.any()


def test_the_first_mean_runs_over_the_reference_where_there_is_one():
    # Trained on frames of one distribution, with frames of another given: the gradient is the other's.
    frames, trained_on = even_frames(3000, REFERENCE), unlabelled(even_frames(1000, OTHER))
    objective = build.__wrapped__(ula, n_chains=64, n_steps=3, reference=frames, n_reference=1000)
    known = {frame.tobytes() for frame in np.asarray(frames)}
    state = objective.init(KEY, PARAMS, trained_on)
    assert {frame.tobytes() for frame in np.asarray(state.levels[0].position)} <= known
    fixed = make_negatives(even_frames(1000, OTHER))
    gradient = jax.jit(jax.grad(objective.loss, has_aux=True))
    blocks = []
    for _ in range(40):
        drawn, state = objective.sample(PARAMS, state)
        means = {frame.tobytes() for frame in np.asarray(drawn.reference)}
        assert len(means) == 1000 and means <= known
        blocks.append(gradient(PARAMS, trained_on, fixed._replace(reference=drawn.reference))[0])
    _assert_unbiased(jax.tree.map(lambda *values: jnp.stack(values), *blocks), 0.04)


# --- chains


def test_chains_start_from_different_data_frames_and_persist():
    objective = ula_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    assert {frame.tobytes() for frame in np.asarray(state.levels[0].position)} == DATA
    for _ in range(3):
        negatives, state = objective.sample(PARAMS, state)
        np.testing.assert_array_equal(negatives.positions, state.levels[0].position)
        assert not any(from_data(negatives.positions)) and negatives.alive.all()
        assert negatives.accepted is None


def test_frames_are_centred_between_windows():
    objective = ula_chains()
    state = objective.init(KEY, PARAMS, unlabelled(FRAMES.positions + 5.0))
    negatives, state = objective.sample(PARAMS, state)
    np.testing.assert_allclose(negatives.positions.mean(axis=1), 0, atol=1e-5)


def test_restart_fraction_is_the_share_that_starts_again():
    objective = build(ula, n_chains=64, n_steps=3, restart_fraction=0.25)
    state = objective.init(KEY, PARAMS, FRAMES)
    restarted = []
    for _ in range(50):
        negatives, state = objective.sample(PARAMS, state)
        restarted.append(from_data(state.levels[0].position))
        # The negatives are where the chains went; only their next window begins at data.
        assert not any(from_data(negatives.positions))
    share = np.mean(restarted)
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 3200)
    both = np.mean(np.array(restarted[1:]) & restarted[:-1])  # independent from update to update
    assert abs(both - share**2) < 4 * np.sqrt(0.0625 / 3136)


def test_tuned_step_size_survives_restarts():
    objective = mala_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    tuned = np.asarray(state.levels[0].step_size)
    assert np.ptp(tuned) == 0 and tuned[0] > 1e-2
    lost = with_chains(state, position=state.levels[0].position.at[:9].set(jnp.nan))
    negatives, state = objective.sample(PARAMS, lost)
    assert not negatives.alive[:9].any() and all(from_data(state.levels[0].position[:9]))
    np.testing.assert_array_equal(state.levels[0].step_size, tuned)


def test_caches_are_refreshed_when_the_parameters_change():
    objective = mala_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    new = params_of({"barrier": 0.3, "tilt": 0.2, "wall": 0.0})
    # Steps so long that none is accepted: what is left is what the refresh computed.
    stuck = with_chains(state, step_size=jnp.full(1024, 100.0))
    negatives, after = objective.sample(new, stuck)
    assert not negatives.accepted.any() and negatives.alive.all()
    energies = jax.vmap(POTENTIAL.energy, (None, 0))(new, state.levels[0].position)
    np.testing.assert_allclose(after.levels[0].energy, energies, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"n_chains": 0}, {"n_steps": 0}, {"restart_fraction": -0.1}, {"restart_fraction": 1.1}],
)
def test_settings_out_of_range(settings):
    name, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=f"contrastive: .*{name}={value}") as caught:
        build(ula, **settings)
    assert "\n" not in str(caught.value)
