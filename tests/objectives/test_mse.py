"""Energy and force errors against NumPy in float64 and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import Batch, energy_force_errors, mse
from potentials import from_energy

RNG = np.random.default_rng(0)
POSITIONS = RNG.normal(size=(5, 3, 3))
ENERGIES = RNG.normal(size=5)
FORCES = RNG.normal(size=(5, 3, 3))
PARAMS = {"stiffness": 1.7, "range": 0.6}


def _energy(params, x):
    """Gaussian bumps on the coordinates: not linear in its parameters."""
    return params["stiffness"] * jnp.sum(jnp.exp(-params["range"] * x**2))


POTENTIAL = from_energy(_energy, lambda key: PARAMS)


def _numpy_errors(params, dtype=np.float64):
    k, r, x = params["stiffness"], params["range"], POSITIONS.astype(dtype)
    bumps = np.exp(-r * x**2)
    return k * bumps.sum(axis=(1, 2)) - ENERGIES, 2 * k * r * x * bumps - FORCES


def _numpy_loss(params, energy_weight, force_weight):
    energy_error, force_error = _numpy_errors(params)
    return energy_weight * np.mean(energy_error**2) + force_weight * np.mean(force_error**2)


def _batch():
    return Batch(jnp.asarray(POSITIONS), jnp.asarray(ENERGIES), jnp.asarray(FORCES))


@pytest.mark.parametrize("weights", [(0.05, 0.95), (1.0, 0.0), (0.0, 3.0)])
def test_value_and_metrics_by_hand(weights):
    objective = mse(POTENTIAL, energy_weight=weights[0], force_weight=weights[1])
    with jax.enable_x64(True):
        value, metrics = objective.loss(PARAMS, _batch(), ())
        assert value.dtype == jnp.float64 and value.shape == ()
    energy_error, force_error = _numpy_errors(PARAMS)
    assert float(value) == pytest.approx(_numpy_loss(PARAMS, *weights), rel=1e-12)
    assert float(metrics["energy_mae_mev"]) == pytest.approx(1000 * np.abs(energy_error).mean(), rel=1e-12)
    force_mae = 1000 * np.abs(force_error).mean()
    assert float(metrics["force_mae_mev_per_angstrom"]) == pytest.approx(force_mae, rel=1e-12)


def test_default_weights_and_float32():
    value, _ = mse(POTENTIAL).loss(PARAMS, _batch(), ())
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(_numpy_loss(PARAMS, 0.05, 0.95), rel=1e-5)


def test_errors_are_predicted_minus_labelled():
    energy_error, force_error = energy_force_errors(POTENTIAL, PARAMS, _batch())
    expected_energy, expected_force = _numpy_errors(PARAMS)
    np.testing.assert_allclose(energy_error, expected_energy, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(force_error, expected_force, rtol=1e-4, atol=1e-5)


def test_gradient_against_finite_differences():
    objective, step = mse(POTENTIAL, energy_weight=0.3, force_weight=0.7), 1e-5
    with jax.enable_x64(True):
        gradient = jax.grad(lambda p: objective.loss(p, _batch(), ())[0])(PARAMS)
        gradient = {name: float(value) for name, value in gradient.items()}
    for name, value in gradient.items():
        up, down = (_numpy_loss(PARAMS | {name: PARAMS[name] + s}, 0.3, 0.7) for s in (step, -step))
        assert value == pytest.approx((up - down) / (2 * step), rel=1e-8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"energies": ENERGIES[:, None]},  # [B, 1] would broadcast to [B, B]
        {"energies": ENERGIES[:4]},
        {"energies": ENERGIES[0]},
        {"forces": FORCES[:1]},
        {"forces": FORCES[:, :1]},
        {"forces": FORCES[..., 0]},
    ],
)
def test_shapes_that_do_not_fit(wrong):
    batch = _batch()._replace(**{name: jnp.asarray(value) for name, value in wrong.items()})
    with pytest.raises(ValueError, match=r"expected \[B, N, 3\], \[B\], \[B, N, 3\]") as caught:
        mse(POTENTIAL).loss(PARAMS, batch, ())
    assert "\n" not in str(caught.value)


def test_it_draws_no_samples():
    objective = mse(POTENTIAL)
    state = objective.init(jax.random.PRNGKey(0), PARAMS, _batch())
    assert objective.sample(PARAMS, state) == ((), state)
