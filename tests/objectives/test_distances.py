"""Distances between samples against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

from objectives import distances

RNG = np.random.default_rng(99)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (7, 3), (500, 1234)])
def test_sample_distances_match_scipy(n, m):
    a, b = RNG.normal(size=n), RNG.normal(0.3, 2.0, size=m)
    assert distances.ks_statistic(a, b) == pytest.approx(ks_2samp(a, b, method="asymp").statistic, abs=1e-12)
    assert distances.wasserstein1(a, b) == pytest.approx(wasserstein_distance(a, b), rel=1e-10)


def test_ties_match_scipy():
    a, b = RNG.integers(5, size=40), RNG.integers(2, 6, size=55)
    assert distances.ks_statistic(a, b) == pytest.approx(ks_2samp(a, b, method="asymp").statistic, abs=1e-12)
    assert distances.wasserstein1(a, b) == pytest.approx(wasserstein_distance(a, b), rel=1e-10)
    assert distances.ks_statistic(a, a) == 0.0
    assert distances.wasserstein1(a, a[::-1]) == 0.0


def test_closed_forms():
    u = (np.arange(1000) + 0.5) / 1000
    # Uniform on [0, 1] against [0.25, 1.25], and against [0, 2].
    assert distances.ks_statistic(u, u + 0.25) == pytest.approx(0.25, abs=2e-3)
    assert distances.wasserstein1(u, u + 0.25) == pytest.approx(0.25)
    assert distances.ks_statistic(u, 2 * u) == pytest.approx(0.5, abs=2e-3)
    assert distances.wasserstein1(u, 2 * u) == pytest.approx(0.5)
    assert distances.ks_statistic([0.0, 1.0], [5.0]) == 1.0


@pytest.mark.parametrize("shape", [(10,), (6, 7)])
def test_jensen_shannon_matches_scipy(shape):
    p, q = RNG.uniform(size=shape), RNG.uniform(size=shape) ** 3
    p[p < 0.2] = 0.0
    expected = jensenshannon(p.ravel(), q.ravel()) ** 2
    assert distances.jensen_shannon(p, q) == pytest.approx(expected, rel=1e-9)
    assert distances.jensen_shannon(5 * p, q / 3) == pytest.approx(expected, rel=1e-9)


def test_jensen_shannon_bounds():
    assert distances.jensen_shannon([1, 2, 3], [2, 4, 6]) == pytest.approx(0.0, abs=1e-15)
    assert distances.jensen_shannon([1, 1, 0, 0], [0, 0, 3, 1]) == pytest.approx(np.log(2))


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.mean() - b.mean())


def test_bootstrap_sees_the_spread_between_chains():
    # Chains differ by offsets of sd 1 and scatter by 0.1 within: only the number of chains counts.
    offsets = np.random.default_rng(4).normal(size=(25, 1))
    chains = offsets + 0.1 * RNG.normal(size=(25, 400))
    stderr = distances.bootstrap_over_chains(mean_difference, chains, [0.0], resamples=2000, seed=0)
    assert stderr == pytest.approx(chains.mean(axis=1).std(ddof=1) / 5, rel=0.06)


def test_bootstrap_of_ks_has_the_right_size():
    # The true spread of the KS statistic, over repeats of the whole experiment.
    rng = np.random.default_rng(8)
    reference = rng.normal(size=5000)

    def experiment() -> np.ndarray:
        return rng.normal(0.5, 1.0, size=(30, 40)) + 0.3 * rng.normal(size=(30, 1))

    truth = np.std([distances.ks_statistic(experiment(), reference) for _ in range(100)])
    estimates = [
        distances.bootstrap_over_chains(
            distances.ks_statistic, experiment(), reference, resamples=50, seed=seed
        )
        for seed in range(10)
    ]
    assert np.mean(estimates) == pytest.approx(truth, rel=0.25)


def test_bootstrap_is_reproducible():
    chains, reference = RNG.normal(size=(4, 20)), RNG.normal(size=30)
    first, again, other = (
        distances.bootstrap_over_chains(distances.ks_statistic, chains, reference, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: distances.ks_statistic([1.0, np.nan, np.inf], [1.0]), "2 of 3 values of sample a"),
        (lambda: distances.wasserstein1([1.0], [-np.inf]), "1 of 1 values of sample b"),
        (lambda: distances.ks_statistic([], [1.0]), "sample a is empty"),
        (lambda: distances.jensen_shannon([1.0, -1.0], [1.0, 1.0]), "1 of 2 bins of histogram p"),
        (lambda: distances.jensen_shannon([1.0, 1.0], [0.0, 0.0]), "histogram q is empty"),
        (lambda: distances.jensen_shannon([1.0, 1.0], [1.0]), "share their bins"),
        (lambda: distances.bootstrap_over_chains(mean_difference, [[1.0, 2.0]], [0.0], seed=0), "C >= 2"),
        (
            lambda: distances.bootstrap_over_chains(mean_difference, [[1.0], [np.nan]], [0.0], seed=0),
            "1 of 2 values of the chains",
        ),
        (
            lambda: distances.bootstrap_over_chains(
                mean_difference, np.ones((2, 2)), [0.0], resamples=1, seed=0
            ),
            "resamples >= 2",
        ),
    ],
)
def test_bad_input_raises(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
