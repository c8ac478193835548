"""Velocity autocorrelation and diffusion against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from objectives.dynamics import (
    ANGSTROM2_PER_FS,
    diffusivity,
    mean_squared_displacement,
    velocity_autocorrelation,
)


def ornstein_uhlenbeck(n_replicas=24, n_frames=4000, n_atoms=4, decay=0.95, seed=0):
    """Velocities of free Langevin particles, variance 1: correlation decay^lag."""
    rng = np.random.default_rng(seed)
    v = np.empty((n_replicas, n_frames, n_atoms, 3))
    v[:, 0] = rng.normal(size=v[:, 0].shape)
    for t in range(1, n_frames):
        v[:, t] = decay * v[:, t - 1] + np.sqrt(1 - decay**2) * rng.normal(size=v[:, 0].shape)
    return v


def test_vacf_of_langevin_particles():
    value, stderr = velocity_autocorrelation(ornstein_uhlenbeck(), 80)
    exact = 0.95 ** np.arange(80)
    assert value[0] == 1 and stderr[0] == 0
    assert (np.abs(value - exact)[1:] < 4.5 * stderr[1:]).all()
    assert stderr[1:].max() < 0.02


def test_vacf_of_an_oscillator_is_a_cosine():
    t = np.arange(20_000)
    phases = np.random.default_rng(1).uniform(0, 2 * np.pi, (3, 1, 5, 3))
    v = np.sin(0.05 * t[None, :, None, None] + phases)
    value, _ = velocity_autocorrelation(v, 100)
    assert_allclose(value, np.cos(0.05 * np.arange(100)), atol=5e-3)


def test_diffusivity_of_langevin_particles():
    # A sum of correlated steps: D = ½ (1 + a)/(1 − a) a frame for unit variance, past the ballistic start.
    positions = np.cumsum(ornstein_uhlenbeck(), axis=1)
    estimate = diffusivity(positions, frame_time=2.0, first_lag=150, last_lag=300)
    exact = 0.5 * (1 + 0.95) / (1 - 0.95) / 2.0
    assert abs(estimate.value - exact) < 4 * estimate.stderr < 0.3 * exact
    msd, _ = mean_squared_displacement(positions, 3)
    assert_allclose(msd[:2], [0.0, 3.0], rtol=0.05)
    assert_allclose(2.3e-9 / ANGSTROM2_PER_FS, 2.3e-4)


def test_a_single_replica_has_no_error():
    value, stderr = mean_squared_displacement(np.random.default_rng(0).normal(size=(1, 20, 2, 3)), 5)
    assert value.shape == (5,) and np.isnan(stderr).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: velocity_autocorrelation(np.zeros((2, 5, 3)), 2), r"expected \[R, T, N, 3\]"),
        (lambda: velocity_autocorrelation(np.ones((2, 5, 1, 3)), 6), "between 1 and the 5 frames"),
        (lambda: velocity_autocorrelation(np.zeros((2, 5, 1, 3)), 2), "all zero"),
        (lambda: mean_squared_displacement(np.full((2, 5, 1, 3), np.nan), 2), "not finite"),
        (lambda: diffusivity(np.ones((2, 5, 1, 3)), 1.0, 3, 3), "first_lag < last_lag"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
