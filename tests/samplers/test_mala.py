"""MALA's acceptance, its tuning, and proposals that leave the domain."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from potentials import from_energy, harmonic, make_system
from potentials.units import KB
from samplers import acceptance_rate, mala, tune_step_size

SYSTEM = make_system([6] * 6, 10.0 * np.arange(6)[:, None] * np.ones(3), 500.0)
POTENTIAL = harmonic([5.0, 10.0, 30.0])
PARAMS = POTENTIAL.init(None)
SAMPLER = mala(POTENTIAL, SYSTEM, step_size=3e-4)
REPLICAS = 64


@pytest.fixture(scope="module")
def initial():
    """64 replicas at the minimum."""
    return jax.jit(SAMPLER.init)(jax.random.key(0), PARAMS, jnp.zeros((REPLICAS, 6, 3)))


@jax.jit
def tune(state, target):
    return tune_step_size(SAMPLER, PARAMS, state, 800, target=target)


@jax.jit
def rate_after(state):
    return acceptance_rate(SAMPLER, PARAMS, state, 600)


def with_step_size(state, step_size):
    return state.set(step_size=jnp.full(REPLICAS, step_size, jnp.float32))


@pytest.mark.parametrize(("step_size", "target"), [(1e-5, 0.574), (2e-2, 0.574), (3e-4, 0.9)])
def test_tuning_reaches_the_target(initial, step_size, target):
    tuned, history = tune(with_step_size(initial, step_size), target)
    assert (tuned.step_size == tuned.step_size[0]).all()
    if target == 0.574:
        assert abs(float(history[:20].mean()) - target) > 0.2  # it was far off at first
    _, rate = rate_after(tuned)
    assert float(rate) == pytest.approx(target, abs=0.03)


def test_acceptance_falls_with_the_step_size(initial):
    rates = [float(rate_after(with_step_size(initial, eta))[1]) for eta in (1e-6, 4e-4, 1.6e-3, 1e-1)]
    assert 1 >= rates[0] > 0.99
    assert rates[0] > rates[1] > rates[2] > rates[3]
    assert 0 <= rates[3] < 0.01


def test_acceptance_probability_against_the_formula():
    # One step of many replicas from one point: the share accepted is the mean over proposals of
    # min(1, π(y) q(x|y) / (π(x) q(y|x))), here with densities from scipy.
    eta, beta, n = 2e-3, 1 / (KB * 500.0), 20000
    system = make_system([6], np.zeros((1, 3)), 500.0)
    sampler = mala(POTENTIAL, system, step_size=eta)
    k = np.array([5.0, 10.0, 30.0])
    x = np.array([0.15, -0.05, 0.05])
    positions = jnp.broadcast_to(jnp.asarray(x, jnp.float32), (n, 1, 3))

    @jax.jit
    def one_step(key):
        return sampler.step(PARAMS, sampler.init(key, PARAMS, positions)).accepted

    measured = float(one_step(jax.random.key(1)).mean())

    def log_q(to, origin):
        return stats.norm(origin - eta * beta * k * origin, np.sqrt(2 * eta)).logpdf(to).sum(axis=-1)

    y = x - eta * beta * k * x + np.sqrt(2 * eta) * np.random.default_rng(2).normal(size=(n, 3))
    log_pi = -0.5 * beta * (k * y**2).sum(axis=-1) + 0.5 * beta * (k * x**2).sum()
    expected = np.minimum(1, np.exp(log_pi + log_q(x, y) - log_q(y, x)))
    error = np.sqrt(measured * (1 - measured) / n + expected.var() / n)
    assert 0.1 < measured < 0.95
    assert abs(measured - expected.mean()) < 4 * error


def test_rejection_keeps_the_whole_state(initial):
    state, _ = rate_after(with_step_size(initial, 1.2e-3))
    new = jax.jit(SAMPLER.step)(PARAMS, state)
    moved = np.asarray((new.position != state.position).all(axis=(1, 2)))
    np.testing.assert_array_equal(moved, np.asarray(new.accepted) == 1.0)
    assert 0 < moved.sum() < REPLICAS
    for name in ("position", "energy", "force"):
        old_value, new_value = np.asarray(getattr(state, name)), np.asarray(getattr(new, name))
        np.testing.assert_array_equal(new_value[~moved], old_value[~moved])
    energies = jax.vmap(POTENTIAL.energy, (None, 0))(PARAMS, new.position)
    np.testing.assert_allclose(new.energy, energies, rtol=1e-5)
    assert (new.rng != state.rng).all()


def test_proposals_of_non_finite_energy_are_rejected():
    # U = kT x on x > 0 (NaN below): the density is exponential with mean 1 Å, and never left.
    kT = KB * 500.0

    def energy(positions):
        x = positions[:, 0]
        return jnp.sum(jnp.where(x > 0, kT * x, jnp.nan)) + 0.5 * jnp.sum(positions[:, 1:] ** 2)

    potential = from_energy(energy)
    system = make_system([6], np.zeros((1, 3)), 500.0)
    sampler = mala(potential, system, step_size=0.05)

    @jax.jit
    def run(key):
        state = sampler.init(key, {}, jnp.full((2000, 1, 3), 0.5))
        return jax.lax.fori_loop(0, 400, lambda _, s: sampler.step({}, s), state)

    x = np.asarray(run(jax.random.key(3)).position[:, 0, 0], np.float64)
    assert (x > 0).all()
    assert stats.kstest(x, stats.expon.cdf).pvalue > 1e-3
