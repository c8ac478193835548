"""Replica exchange against closed forms of harmonic wells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from potentials.units import KB
from samplers import exchange

TEMPERATURES = (500.0, 650.0, 850.0)
MODES = 21  # harmonic: U is a gamma variable of shape MODES/2 and scale k_B T


def _energies(n_ladders: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.gamma(MODES / 2, KB * t, n_ladders) for t in TEMPERATURES]).astype(np.float32)


def _sweeps(energies: np.ndarray, n_sweeps: int) -> list[np.ndarray]:
    """The energies of each slot after some sweeps, and the sources of each sweep."""
    sources = []
    for key in jax.random.split(jax.random.PRNGKey(1), n_sweeps):
        source = np.asarray(exchange(key, jnp.asarray(energies), TEMPERATURES))
        energies = np.take_along_axis(energies, source, axis=0)
        sources.append(source)
    return [energies, *sources]


def test_every_level_keeps_its_distribution():
    energies, *_ = _sweeps(_energies(20_000), 10)
    for values, temperature in zip(energies, TEMPERATURES, strict=True):
        expected = stats.gamma(MODES / 2, scale=KB * temperature)
        assert abs(values.mean() - expected.mean()) < 4 * expected.std() / np.sqrt(values.size)
        assert stats.kstest(values, expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize("pair", [(0, 1), (1, 2)])
def test_acceptance_by_quadrature(pair):
    """min(1, exp(Δβ ΔU)) averaged over both gamma distributions; half of the sweeps try a pair."""
    temperatures = tuple(TEMPERATURES[level] for level in pair)
    energies = _energies(20_000)[list(pair)]
    keys = jax.random.split(jax.random.PRNGKey(2), 40)
    sources = [np.asarray(exchange(key, jnp.asarray(energies), temperatures)) for key in keys]
    tried = [source for source in sources if (source != [[0], [1]]).any()]
    assert abs(len(tried) - 20) < 4 * np.sqrt(10)
    rate = np.mean([(source[0] == 1).mean() for source in tried])
    shares = (np.arange(2000) + 0.5) / 2000
    cold, hot = (stats.gamma(MODES / 2, scale=KB * t).ppf(shares) for t in temperatures)
    gap = 1 / (KB * temperatures[0]) - 1 / (KB * temperatures[1])
    expected = np.minimum(1, np.exp(gap * (cold[:, None] - hot[None]))).mean()
    assert abs(rate - expected) < 4 * 0.5 / np.sqrt(20_000)  # the same energies in every sweep


def test_a_sweep_is_a_permutation_of_neighbours():
    _, *sources = _sweeps(_energies(200), 20)
    for source in sources:
        np.testing.assert_array_equal(np.sort(source, axis=0), np.tile([[0], [1], [2]], (1, 200)))
        assert abs(source - np.arange(3)[:, None]).max() <= 1
    assert any((s[0] == 1).any() for s in sources) and any((s[2] == 1).any() for s in sources)


def test_a_hole_goes_to_the_coldest_level():
    energies = _energies(100)
    energies[2] = -5.0
    energies, *_ = _sweeps(energies, 20)
    np.testing.assert_array_equal(energies[0], np.float32(-5.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_energies_that_are_no_numbers_stay(bad):
    energies = _energies(50)
    energies[1] = bad
    _, *sources = _sweeps(energies, 5)
    for source in sources:
        np.testing.assert_array_equal(source, np.tile([[0], [1], [2]], (1, 50)))


def test_one_level_has_nobody_to_exchange_with():
    source = exchange(jax.random.PRNGKey(0), jnp.zeros((1, 5)), (500.0,))
    np.testing.assert_array_equal(source, np.zeros((1, 5)))
