"""Weights against closed forms."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from objectives.reweighting import boltzmann_weights, effective_samples, temperature_weights
from potentials.units import KB


def test_a_harmonic_mode_at_another_temperature():
    # ⟨U⟩ = n k_B T/2; from 500 K to 420 K, energies around −4,000 eV as total energies are.
    n_modes, n = 6, 400_000
    rng = np.random.default_rng(0)
    energies = -4212.5 + KB * 500 * rng.gamma(n_modes / 2, size=n)
    weights = np.asarray(temperature_weights(energies, 500.0, 420.0), np.float64)
    assert_allclose(weights.sum(), 1.0, rtol=1e-4)
    effective = float(effective_samples(jnp.asarray(weights)))
    assert n / 3 < effective < n
    mean = np.sum(weights * (energies + 4212.5))
    error = np.sqrt(np.sum(weights**2 * (energies + 4212.5 - mean) ** 2))
    assert abs(mean - n_modes / 2 * KB * 420) < 4 * error


def test_effective_samples():
    assert_allclose(effective_samples(jnp.full(8, 1 / 8)), 8.0, rtol=1e-6)
    assert_allclose(effective_samples(jnp.array([1.0, 0, 0])), 1.0)
    assert_allclose(effective_samples(temperature_weights(np.arange(10.0), 300, 300)), 10.0, rtol=1e-5)
    assert float(effective_samples(temperature_weights(np.arange(10.0), 300, 10))) < 1.01


def test_invalid_samples_weigh_nothing():
    weights = boltzmann_weights([0.0, -1e30, jnp.nan, 0.0], [True, False, False, True])
    assert_allclose(weights, [0.5, 0, 0, 0.5])
    assert_allclose(boltzmann_weights([0.0, jnp.nan], [False, False]), [0.0, 0.0])


@pytest.mark.parametrize(
    ("energies", "temperatures", "message"),
    [
        ([0.0], (0.0, 300.0), "temperatures are 0.0 and 300.0 K"),
        ([0.0, np.nan], (500.0, 300.0), "finite energies"),
        ([], (500.0, 300.0), "finite energies"),
    ],
)
def test_errors(energies, temperatures, message):
    with pytest.raises(ValueError, match=message):
        temperature_weights(energies, *temperatures)
