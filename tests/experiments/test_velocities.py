"""Velocity autocorrelation of the evaluation chains."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluation, velocities
from experiments.chain_figures import velocity_autocorrelation
from experiments.evaluation_checks import check_evaluation
from experiments.figures import figures
from experiments.runs import Run
from potentials import from_energy
from potentials.units import FEMTOSECOND
from samplers import make_sampler, never
from tests.experiments.small_problem import small, small_problem


def wells(config, n_chains, stiffness=20.0):
    """Each atom of the small problem in a harmonic well: (params, sampler, states at the centres)."""
    system = small_problem()[0].system
    start = small_problem()[0].test.positions[0]
    potential = from_energy(
        lambda params, x: 0.5 * stiffness * jnp.sum((x - start) ** 2), lambda key: {"unused": jnp.zeros(())}
    )
    sampler = make_sampler(config.evaluation.sampler, potential, system, config)
    params = potential.init(jax.random.PRNGKey(0))
    state = sampler.init(jax.random.PRNGKey(1), params, jnp.stack([start] * n_chains))
    return params, sampler, state


def test_vacf_of_langevin_oscillators(monkeypatch):
    """Σ_i ⟨v_i²⟩ c_i(t) / Σ_i ⟨v_i²⟩ with ⟨v_i²⟩ ~ 1/m_i and, at rates below their frequencies,
    c_i = e^(−γt/2) (cos ω_i t − γ/(2ω_i) sin ω_i t), ω_i² = k/m_i − γ²/4."""
    monkeypatch.setattr(velocities, "BURN_IN", 400)
    config = small(**{"evaluation.vacf_lags": 60, "baoab.friction": 20.0})
    curves = velocities.velocity_curves(config, *wells(config, 64), never)
    times, value, stderr = (curves[f"vacf_{key}"] for key in ("time_fs", "model", "model_stderr"))
    np.testing.assert_allclose(times, 0.5 * np.arange(61))
    masses = small_problem()[0].system.masses
    gamma = 20.0 / 1000  # 1/fs
    omega = np.sqrt(20.0 / masses * FEMTOSECOND**2 - gamma**2 / 4)
    phase = omega * times[:, None]
    modes = np.exp(-gamma * times[:, None] / 2) * (np.cos(phase) - gamma / 2 / omega * np.sin(phase))
    expected = (modes / masses).sum(axis=1) / (1 / masses).sum()
    assert np.abs(expected).min() < 0.05 and expected.min() < -0.1  # more than a decay
    assert value[0] == pytest.approx(1, abs=1e-6)
    assert (np.abs(value - expected)[1:] < 4.5 * stderr[1:] + 0.003).all()  # and the timestep's error
    assert stderr.max() < 0.03


def test_broken_replicas_are_left_out(monkeypatch):
    monkeypatch.setattr(velocities, "BURN_IN", 10)
    config = small(**{"evaluation.vacf_lags": 5})
    params, sampler, state = wells(config, 4)

    def gone(positions):
        return jnp.abs(positions[..., 0, 0]) > 50.0

    lost = state.set(position=state.position.at[0].add(100.0))
    _, intact = velocities.record_velocities(sampler, params, lost, 20, gone)
    np.testing.assert_array_equal(intact, [False, True, True, True])
    three = velocities.velocity_curves(config, params, sampler, lost, gone)
    kept = jax.tree.map(lambda leaf: leaf[1:], state)
    alone = velocities.velocity_curves(config, params, sampler, kept, gone)
    np.testing.assert_allclose(three["vacf_model"], alone["vacf_model"], rtol=1e-5)
    few = jax.tree.map(lambda leaf: leaf[:2], lost)
    assert velocities.velocity_curves(config, params, sampler, few, gone) == {}


def test_only_where_it_is_wanted_and_there_are_velocities(monkeypatch):
    monkeypatch.setattr(velocities, "BURN_IN", 1)  # an untrained network holds no bond for long
    problem, reference = small_problem()
    params = problem.potential.init(jax.random.PRNGKey(0))
    _, curves, _ = evaluation.evaluate(small(), problem, params, reference)
    assert "vacf_model" not in curves
    _, curves, _ = evaluation.evaluate(small(**{"evaluation.vacf_lags": 2}), problem, params, reference)
    assert curves["vacf_model"].shape == (3,)
    figure = figures([Run("MSE", {}, curves, {})])["velocity_autocorrelation"]
    assert figure.axes[0].get_xlabel() == "Lag (fs)"
    config = small(**{"evaluation.vacf_lags": 8, "evaluation.sampler": "mala"})
    with pytest.raises(ValueError, match="vacf_lags is 8, but the sampler mala has no velocities"):
        check_evaluation(config, problem, has_negatives=False)


def test_figure_shows_every_run_that_has_it():
    lags = {"vacf_time_fs": np.arange(3.0), "vacf_model": np.ones(3), "vacf_model_stderr": np.zeros(3)}
    runs = [Run(label, {}, lags if label != "ULA" else {}, {}) for label in ("before", "ULA", "after")]
    figure = velocity_autocorrelation(runs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["before", "after"]
