"""Averages of correlated series with their standard errors.

A series is [C, T]: C independent chains of T samples. None of these functions accepts NaN or
infinity: a chain that failed or was frozen is for the caller to cut or drop, and to report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW = 5.0
"""The correlation function is summed up to this many statistical inefficiencies."""


class Estimate(NamedTuple):
    """A value and its standard error, in the unit of what was averaged."""

    value: float
    stderr: float


def _series(series: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(series, dtype=float)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"a series must have shape [C, T] with C, T >= 1, got {values.shape}")
    _require_finite(values)
    return values


def _require_finite(values: NDArray[np.float64]) -> None:
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{bad} of {values.size} values are not finite; cut or drop failed chains first")


def _autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalised autocorrelation [T] of [C, T] about the mean of all chains, averaged over chains.

    Sums are divided by T at every lag, which leaves the factor (1 − t/T) that the variance of a mean
    of T samples calls for. The global mean keeps differences between chains in: chains that sit in
    different basins count as fully correlated.
    """
    length = values.shape[1]
    deviations = values - values.mean()
    # Zero padding to 2T turns the FFT's circular correlation into the linear one.
    spectrum = np.abs(np.fft.rfft(deviations, n=2 * length, axis=1)) ** 2
    covariance = np.fft.irfft(spectrum.mean(axis=0), n=2 * length)[:length]
    return covariance / covariance[0]


def autocorrelation_time(series: ArrayLike) -> float:
    """Statistical inefficiency g = 1 + 2 Σ_t ρ(t), in samples: T samples are worth T/g independent ones.

    The sum is cut at the first lag M ≥ 5 g(M) (automatic windowing: Sokal, "Monte Carlo methods in
    statistical mechanics", 1997, section 3, with g in place of his ½ + Σ ρ), and at T − 1 where there
    is no such lag: then the chains are too short, and g is a lower bound. Never below 1.

    Args:
      series: [C, T], T ≥ 2.

    Raises:
      ValueError: a non-finite value (their number is given), T < 2, or a constant series.
    """
    values = _series(series)
    if values.shape[1] < 2:
        raise ValueError("an autocorrelation time needs chains of at least 2 samples")
    if np.ptp(values) == 0:
        raise ValueError("the autocorrelation time of a constant series is undefined")
    partial = 2 * np.cumsum(_autocorrelation(values)) - 1
    closed = np.arange(len(partial)) >= WINDOW * partial
    window = int(np.argmax(closed)) if closed.any() else len(partial) - 1
    return max(1.0, float(partial[window]))


def effective_sample_size(series: ArrayLike) -> float:
    """Number C·T/g of independent samples that a series [C, T] is worth.

    Raises:
      ValueError: as `autocorrelation_time`.
    """
    return np.asarray(series).size / autocorrelation_time(series)


def stderr_of_statistic(values_per_chain: ArrayLike) -> float:
    """Standard error sd/√C of the mean of one number a chain [C].

    Raises:
      ValueError: fewer than two chains, or a non-finite value.
    """
    values = np.asarray(values_per_chain, dtype=float)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"a standard error over chains needs values [C >= 2], got {values.shape}")
    _require_finite(values)
    return float(values.std(ddof=1) / np.sqrt(values.size))


def block_stderr(values: ArrayLike, n_blocks: int = 20) -> float:
    """Standard error of the mean of neighbouring, correlated values [F], from the means of blocks.

    Args:
      values: in order of time, or at least chain by chain; finite.
      n_blocks: of nearly equal length, longer than the correlation; fewer where F is smaller.

    Raises:
      ValueError: fewer than two values.
    """
    values = np.asarray(values, dtype=float)
    _require_finite(values)
    if len(values) < 2:
        raise ValueError(f"a standard error needs at least two values, got {len(values)}")
    means = [block.mean() for block in np.array_split(values, min(n_blocks, len(values)))]
    return stderr_of_statistic(means)


def mean_and_stderr(series: ArrayLike) -> Estimate:
    """Mean of a series [C, T], with its standard error.

    From two chains on the error is that of the chain means, which no correlation within a chain
    falsifies. A single chain falls back to sqrt(variance · g / T); 0 where it is constant.

    Raises:
      ValueError: a non-finite value, or a single chain of a single sample.
    """
    values = _series(series)
    n_chains, length = values.shape
    if n_chains > 1:
        return Estimate(float(values.mean()), stderr_of_statistic(values.mean(axis=1)))
    if length < 2:
        raise ValueError("a standard error needs at least two samples")
    if np.ptp(values) == 0:
        return Estimate(float(values[0, 0]), 0.0)
    variance = values.var(ddof=1) * autocorrelation_time(values) / length
    return Estimate(float(values.mean()), float(np.sqrt(variance)))


def jackknife(statistic: Callable[[NDArray[np.float64]], float], chains: ArrayLike) -> Estimate:
    """A statistic of pooled chains, with its delete-one-chain jackknife standard error.

    sqrt((C−1)/C Σ_c (θ_c − θ̄)²), θ_c the statistic without chain c (Efron and Stein 1981). For smooth
    statistics; use a bootstrap for quantiles and Kolmogorov–Smirnov distances.

    Args:
      statistic: maps chains [C', ...] to a number, for any C' ≥ 1.
      chains: [C, ...].

    Raises:
      ValueError: fewer than two chains, or a non-finite value.
    """
    values = np.asarray(chains, dtype=float)
    n_chains = values.shape[0] if values.ndim else 0
    if n_chains < 2:
        raise ValueError(f"a jackknife needs chains [C >= 2, ...], got {values.shape}")
    _require_finite(values)
    left_out = np.array([statistic(np.delete(values, chain, axis=0)) for chain in range(n_chains)])
    stderr = np.sqrt((n_chains - 1) / n_chains * np.sum((left_out - left_out.mean()) ** 2))
    return Estimate(float(statistic(values)), float(stderr))


def estimate_std(series: ArrayLike) -> Estimate:
    """Standard deviation of all samples of [C, T] pooled, about their common mean.

    The error is a jackknife over chains; for a single chain the delta method, the error of the mean
    squared deviation over twice the standard deviation.

    Raises:
      ValueError: a non-finite value, or fewer than two samples (without any one of the chains).
    """
    values = _series(series)
    n_chains, length = values.shape
    if max(1, n_chains - 1) * length < 2:
        raise ValueError(f"a standard deviation and its error need more samples than {values.shape}")
    if n_chains > 1:
        return jackknife(lambda chains: float(chains.std(ddof=1)), values)
    std = float(values.std(ddof=1))
    if std == 0:
        return Estimate(0.0, 0.0)
    squared = mean_and_stderr((values - values.mean()) ** 2)
    return Estimate(std, squared.stderr / (2 * std))
