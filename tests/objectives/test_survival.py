"""Survival curves against SciPy's product-limit estimate and exponential lifetimes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import CensoredData, binomtest, ecdf

from objectives.survival import (
    first_times,
    kaplan_meier,
    median_and_stderr,
    median_interval,
    median_time,
    restricted_mean,
)


def lifetimes(n, censored_at, seed=0, mean=40.0, ties=False):
    times = np.random.default_rng(seed).exponential(mean, n)
    times = np.ceil(times) if ties else times
    return np.minimum(times, censored_at), times < censored_at


@pytest.mark.parametrize("ties", [False, True])
def test_against_scipy(ties):
    times, broken = lifetimes(60, 70.0, ties=ties)
    times[::7], broken[::7] = times[::7] / 2, False  # censored in the middle too
    curve = kaplan_meier(times, broken)
    theirs = ecdf(CensoredData.right_censored(times, ~broken)).sf
    assert_allclose(curve.survival, theirs.evaluate(curve.times), rtol=1e-12)
    bounds = theirs.confidence_interval(confidence_level=0.95, method="log-log")
    assert_allclose(curve.lower, bounds.low.evaluate(curve.times), atol=1e-4)
    assert_allclose(curve.upper, bounds.high.evaluate(curve.times), atol=1e-4)
    assert_allclose(curve.at([0.0, 1e9]), [1.0, curve.survival[-1]])


def test_without_censoring_it_is_the_share_left():
    curve = kaplan_meier([3.0, 1.0, 2.0, 2.0], [True] * 4)
    assert_allclose(curve.times, [1, 2, 3])
    assert_allclose(curve.survival, [0.75, 0.25, 0.0])
    assert_allclose(curve.at([0.5, 1.0, 1.5, 2.5, 9.0]), [1, 0.75, 0.75, 0.25, 0])
    # Where all are intact, or none: the exact binomial bounds.
    assert curve.lower[-1] == 0
    exact = binomtest(0, 4).proportion_ci(0.95, method="exact")
    assert_allclose([curve.upper[-1], 1 - curve.first_lower], exact.high, rtol=1e-3)


def test_the_median_and_its_error_cover_the_truth():
    truth = 40.0 * np.log(2)
    deviations = []
    for seed in range(60):
        median = median_and_stderr(*lifetimes(128, 100.0, seed), n_resamples=200, seed=seed)
        deviations.append((median.value - truth) / median.stderr)
    # The errors are those of the scatter, to the precision of 60 repeats.
    assert abs(np.mean(deviations)) < 0.5
    assert 0.75 < np.std(deviations) < 1.3


def test_a_median_nobody_reached():
    times, broken = np.full(8, 50.0), np.array([True] * 3 + [False] * 5)
    times[:3] = [10, 20, 30]
    assert median_time(times, broken) == np.inf
    median = median_and_stderr(times, broken)
    assert median.value == np.inf and np.isnan(median.stderr)
    assert median_time(times[:6], broken[:6]) == 30.0


def test_restricted_mean():
    horizon, truth = 60.0, 40.0 * (1 - np.exp(-60.0 / 40.0))
    means = [restricted_mean(*lifetimes(200, horizon, seed), horizon) for seed in range(80)]
    values, errors = np.array(means).T
    assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / np.sqrt(80)
    assert_allclose(np.sqrt(np.mean(errors**2)), values.std(ddof=1), rtol=0.25)
    assert restricted_mean([60.0, 60.0], [False, False], 60.0) == (60.0, 0.0)
    assert_allclose(restricted_mean([10.0, 60.0], [True, False], 60.0).value, 35.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kaplan_meier([], []), "R >= 1"),
        (lambda: kaplan_meier([1.0, 2.0], [True]), "R >= 1"),
        (lambda: kaplan_meier([np.inf], [True]), "finite"),
        (lambda: kaplan_meier([-1.0], [True]), "not negative"),
        (lambda: restricted_mean([5.0, 60.0], [False, False], 60.0), "watched for 5.0 only"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_first_windows_above_a_threshold():
    values = [[0.1, 0.2, 0.3], [0.1, 4.0, 0.2], [np.nan, 0.1, 0.1]]
    times, broken = first_times(values, 3.0, 0.5)
    assert_allclose(times, [1.5, 0.5, 0.0])
    assert broken.tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"expected \[R, W\]"):
        first_times([1.0], 3.0, 0.5)


@pytest.mark.parametrize("censored_at", [1000.0, 40.0])  # the median is at 27.7
def test_the_interval_of_the_median_covers_it(censored_at):
    trials = 600
    intervals = np.array([median_interval(*lifetimes(32, censored_at, seed)) for seed in range(trials)])
    low, high = intervals.T
    median = 40.0 * np.log(2)
    share = np.mean((low <= median) & (median <= high))
    assert 0.93 < share < 0.98 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert np.mean(low > median) < 0.05 and np.mean(high < median) < 0.05
    assert np.isinf(high).any() == (censored_at == 40.0)


def test_an_interval_where_few_or_all_break():
    times, broken = np.full(32, 100.0), np.zeros(32, bool)
    assert median_interval(times, broken) == (100.0, np.inf)
    times[:3], broken[:3] = 1.0, True
    assert median_interval(times, broken) == (100.0, np.inf)
    assert median_interval([1.0, 2.0, 3.0], [True] * 3) == (0.0, np.inf)  # three say nothing
    low, high = median_interval(np.arange(1.0, 33.0), [True] * 32)
    assert 8 < low < 16 < high < 25  # order statistics 10 and 23 by the binomial
