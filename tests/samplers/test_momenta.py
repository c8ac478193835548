"""Maxwell–Boltzmann momenta."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from potentials.units import KB
from samplers import maxwell_boltzmann

MASSES = np.array([1.008, 12.011, 15.999])
KT = KB * 350.0
N_DRAWS = 20000


@pytest.fixture(scope="module")
def draws():
    def draw(fixed_centre):
        keys = jax.random.split(jax.random.key(5), N_DRAWS)
        function = jax.vmap(lambda key: maxwell_boltzmann(key, MASSES, 350.0, fixed_centre=fixed_centre))
        return np.asarray(jax.jit(function)(keys), np.float64)

    return {fixed_centre: draw(fixed_centre) for fixed_centre in (False, True)}


def test_variance_for_each_mass(draws):
    variance = (draws[False] ** 2).mean(axis=(0, 2))
    error = MASSES * KT * np.sqrt(2 / (3 * N_DRAWS))
    assert (np.abs(variance - MASSES * KT) < 4 * error).all()


def test_components_are_normal(draws):
    scaled = draws[False] / np.sqrt(MASSES * KT)[:, None]
    for atom in range(3):
        assert stats.kstest(scaled[:, atom, 0], "norm").pvalue > 1e-3
        # Not a distribution of speeds, nor one that forgets the mass.
        assert stats.kstest(draws[False][:, atom, 0] / np.sqrt(KT), "norm").pvalue < 1e-6 or atom == 0
    correlation = np.corrcoef(scaled.reshape(N_DRAWS, 9).T) - np.eye(9)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(N_DRAWS)


def test_fixed_centre_has_no_total_momentum_and_three_fewer_degrees_of_freedom(draws):
    np.testing.assert_allclose(draws[True].sum(axis=1), 0.0, atol=1e-5)
    twice_kinetic = (draws[True] ** 2 / MASSES[:, None]).sum(axis=(1, 2)) / KT
    assert abs(twice_kinetic.mean() - 6) < 4 * np.sqrt(12 / N_DRAWS)
    assert stats.kstest(twice_kinetic, stats.chi2(6).cdf).pvalue > 1e-3
    # Conditioned on a resting centre, atom i keeps the variance m_i kT (1 − m_i/M).
    variance = (draws[True] ** 2).mean(axis=(0, 2))
    truth = MASSES * KT * (1 - MASSES / MASSES.sum())
    assert (np.abs(variance / truth - 1) < 4 * np.sqrt(2 / (3 * N_DRAWS))).all()


def test_shape_and_key():
    one = maxwell_boltzmann(jax.random.key(0), jnp.asarray(MASSES), 300.0)
    assert one.shape == (3, 3) and one.dtype == jnp.float32
    assert (one == maxwell_boltzmann(jax.random.key(0), MASSES, 300.0)).all()
    assert (one != maxwell_boltzmann(jax.random.key(1), MASSES, 300.0)).all()
