"""Correlated averages against AR(1) closed forms and pymbar."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from objectives import statistics


def ar1(rho: float, chains: int, length: int, seed: int) -> np.ndarray:
    """Stationary AR(1) series [C, T] of unit variance: ρ(t) = ρ^t, so g = (1 + ρ)/(1 − ρ)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(chains, length)) * np.sqrt(1 - rho**2)
    noise[:, 0] = rng.normal(size=chains)
    return lfilter([1.0], [1.0, -rho], noise, axis=1)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_autocorrelation_time_of_ar1(rho):
    exact = (1 + rho) / (1 - rho)
    g = statistics.autocorrelation_time(ar1(rho, 8, 40_000, seed=1))
    # Madras and Sokal (1988): relative variance 2(2M + 1)/n with the window M = 5 g.
    stderr = exact * np.sqrt(2 * (2 * 5 * exact + 1) / (8 * 40_000))
    assert abs(g - exact) < 3.5 * stderr


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_autocorrelation_time_agrees_with_pymbar(rho):
    timeseries = pytest.importorskip("pymbar.timeseries")
    series = ar1(rho, 1, 30_000, seed=2)
    expected = timeseries.statistical_inefficiency(series[0])
    assert statistics.autocorrelation_time(series) == pytest.approx(expected, rel=0.15)


def test_autocorrelation_function_matches_the_direct_sum():
    # Too short to close the window, so every lag enters the sum.
    series = np.array([[0.0, 1.0, 2.0], [5.0, 6.0, 8.0]])
    d = series - series.mean()
    c = [np.mean(np.sum(d[:, : 3 - t] * d[:, t:], axis=1)) for t in range(3)]
    assert statistics.autocorrelation_time(series) == pytest.approx(1 + 2 * (c[1] + c[2]) / c[0])


def test_antithetic_series_count_as_independent():
    assert statistics.autocorrelation_time(ar1(-0.6, 2, 5000, seed=3)) == 1.0


def test_chains_stuck_apart_are_worth_one_sample_each():
    stuck = np.repeat(np.array([[-1.0], [0.5], [2.0], [3.0]]), 50, axis=1)
    assert statistics.autocorrelation_time(stuck) == pytest.approx(50.0)
    assert statistics.effective_sample_size(stuck) == pytest.approx(4.0)


def test_effective_sample_size_of_ar1():
    ess = statistics.effective_sample_size(ar1(0.8, 4, 50_000, seed=4))
    assert ess == pytest.approx(200_000 / 9, rel=0.1)


@pytest.mark.parametrize("chains", [1, 16])
def test_stderr_of_the_mean_has_the_right_size(chains):
    # Over repeats (value − truth)/stderr has unit variance (Student's t with 15 degrees: 15/13).
    repeats = 300
    scores = []
    for seed in range(repeats):
        value, stderr = statistics.mean_and_stderr(ar1(0.7, chains, 1500, seed=seed) + 3.0)
        scores.append((value - 3.0) / stderr)
    expected = 1.0 if chains == 1 else 15 / 13
    assert np.var(scores) == pytest.approx(expected, abs=4 * np.sqrt(2 / repeats))
    assert abs(np.mean(scores)) < 4 / np.sqrt(repeats)


def test_stderr_from_chains_is_that_of_their_means():
    series = np.array([[1.0, 3.0], [4.0, 4.0], [0.0, 6.0]])
    assert statistics.mean_and_stderr(series) == (3.0, pytest.approx(np.std([2, 4, 3], ddof=1) / np.sqrt(3)))
    assert statistics.stderr_of_statistic([2.0, 4.0, 3.0]) == pytest.approx(1 / np.sqrt(3))


def test_constant_series():
    assert statistics.mean_and_stderr(np.full((1, 10), 0.25)) == (0.25, 0.0)
    assert statistics.mean_and_stderr(np.full((3, 10), 0.25)) == (0.25, 0.0)
    assert statistics.estimate_std(np.full((1, 10), 0.25)) == (0.0, 0.0)


def test_jackknife_of_the_mean_is_the_textbook_error():
    chains = np.random.default_rng(0).normal(size=(12, 30))
    estimate = statistics.jackknife(lambda x: float(x.mean()), chains)
    exact = statistics.mean_and_stderr(chains)
    assert estimate.value == pytest.approx(exact.value)
    assert estimate.stderr == pytest.approx(exact.stderr)


def test_jackknife_of_a_ratio_matches_the_delta_method():
    pairs = np.random.default_rng(1).normal([4.0, 2.0], [0.5, 0.1], size=(2000, 2))
    estimate = statistics.jackknife(lambda x: float(x[:, 0].mean() / x[:, 1].mean()), pairs)
    assert estimate.value == pytest.approx(2.0, abs=4 * estimate.stderr)
    exact = 2.0 * np.sqrt((0.5 / 4) ** 2 + (0.1 / 2) ** 2) / np.sqrt(2000)
    assert estimate.stderr == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("chains", [1, 40])
def test_std_of_gaussian_chains(chains):
    # The squares of an AR(1) series decorrelate as ρ²ᵗ, so sd(s) = σ sqrt(g₂/2n), g₂ = (1 + ρ²)/(1 − ρ²).
    rho, length = 0.6, 80_000 // chains
    estimate = statistics.estimate_std(2.0 * ar1(rho, chains, length, seed=6))
    exact = 2.0 * np.sqrt((1 + rho**2) / (1 - rho**2) / (2 * 80_000))
    assert abs(estimate.value - 2.0) < 4 * exact
    # Forty chains know their error to 1/sqrt(2 · 39) = 11 %.
    assert estimate.stderr == pytest.approx(exact, rel=0.1 if chains == 1 else 0.4)


@pytest.mark.parametrize(
    "function",
    [
        statistics.autocorrelation_time,
        statistics.effective_sample_size,
        statistics.mean_and_stderr,
        statistics.estimate_std,
        lambda series: statistics.jackknife(lambda x: float(x.mean()), series),
        lambda series: statistics.stderr_of_statistic(series[0]),
    ],
)
def test_non_finite_values_are_counted(function):
    series = np.ones((2, 6))
    series[0, 3:] = [np.nan, np.nan, np.inf]
    with pytest.raises(ValueError, match=r"3 of (12|6) values are not finite"):
        function(series)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: statistics.autocorrelation_time(np.ones(5)), "shape"),
        (lambda: statistics.autocorrelation_time(np.ones((0, 5))), "C, T >= 1"),
        (lambda: statistics.autocorrelation_time([[1.0], [2.0]]), "at least 2 samples"),
        (lambda: statistics.autocorrelation_time(np.ones((2, 5))), "constant"),
        (lambda: statistics.mean_and_stderr([[1.0]]), "at least two samples"),
        (lambda: statistics.stderr_of_statistic([1.0]), "C >= 2"),
        (lambda: statistics.jackknife(lambda x: float(x.mean()), [[1.0, 2.0]]), "C >= 2"),
        (lambda: statistics.estimate_std([[1.0], [2.0]]), "more samples"),
    ],
)
def test_bad_input_raises(call, match):
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
