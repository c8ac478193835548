"""Distances between distributions: one-dimensional samples and histograms.

No function here accepts NaN or infinity: what a failed chain counts as is for the caller to decide,
who masks such values and reports their share.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _sample(values: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=float).ravel()
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{bad} of {values.size} values of sample {name} are not finite; mask them first")
    if values.size == 0:
        raise ValueError(f"sample {name} is empty")
    return np.sort(values)


def _cdf_gap(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The pooled sorted values [n] and the difference of the two empirical CDFs at each [n]."""
    a, b = _sample(a, "a"), _sample(b, "b")
    pooled = np.sort(np.concatenate([a, b]))
    share_a = np.searchsorted(a, pooled, side="right") / a.size
    share_b = np.searchsorted(b, pooled, side="right") / b.size
    return pooled, share_a - share_b


def ks_statistic(a: ArrayLike, b: ArrayLike) -> float:
    """Kolmogorov–Smirnov statistic sup|F_a − F_b| of two samples [A], [B]; between 0 and 1.

    Raises:
      ValueError: an empty sample or a non-finite value.
    """
    _, gap = _cdf_gap(a, b)
    return float(np.abs(gap).max())


def wasserstein1(a: ArrayLike, b: ArrayLike) -> float:
    """Wasserstein-1 (earth mover's) distance ∫|F_a − F_b| dx of two samples [A], [B], in their unit.

    Raises:
      ValueError: an empty sample or a non-finite value.
    """
    pooled, gap = _cdf_gap(a, b)
    return float(np.sum(np.abs(gap[:-1]) * np.diff(pooled)))


def _normalised(histogram: ArrayLike, name: str) -> NDArray[np.float64]:
    histogram = np.asarray(histogram, dtype=float)
    bad = int(np.count_nonzero(~np.isfinite(histogram) | (histogram < 0)))
    if bad:
        raise ValueError(f"{bad} of {histogram.size} bins of histogram {name} are negative or not finite")
    if histogram.sum() == 0:
        raise ValueError(f"histogram {name} is empty")
    return histogram / histogram.sum()


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """Jensen–Shannon divergence of two histograms of one shape, in nats: between 0 and ln 2.

    ½ KL(p‖m) + ½ KL(q‖m) with m = (p + q)/2, after both are normalised to sum 1 (equal bins assumed).

    Raises:
      ValueError: different shapes, an empty histogram, a negative or non-finite bin.
    """
    p, q = _normalised(p, "p"), _normalised(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"histograms must share their bins, got shapes {p.shape} and {q.shape}")
    mean = (p + q) / 2

    def relative_entropy(x: NDArray[np.float64]) -> float:
        occupied = x > 0
        return float(np.sum(x[occupied] * np.log(x[occupied] / mean[occupied])))

    return max(0.0, (relative_entropy(p) + relative_entropy(q)) / 2)


def bootstrap_over_chains(
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    chains: ArrayLike,
    reference: ArrayLike,
    *,
    resamples: int = 200,
    seed: int,
) -> float:
    """Standard error of statistic(samples, reference) over independent chains.

    Whole chains are resampled with replacement, so correlation within a chain does no harm; the
    reference is held fixed. The spread is scaled by √(C/(C−1)), which makes it exact for means.

    Args:
      statistic: of two flat samples, for example `ks_statistic`.
      chains: [C, T], C independent chains.
      reference: [S].
      resamples: number of bootstrap resamples, at least 2.
      seed: of the resampling.

    Raises:
      ValueError: fewer than two chains or resamples, or a non-finite value.
    """
    chains = np.asarray(chains, dtype=float)
    if chains.ndim != 2 or chains.shape[0] < 2:
        raise ValueError(f"a bootstrap over chains needs chains [C >= 2, T], got {chains.shape}")
    if resamples < 2:
        raise ValueError(f"a bootstrap needs resamples >= 2, got {resamples}")
    bad = int(np.count_nonzero(~np.isfinite(chains)))
    if bad:
        raise ValueError(f"{bad} of {chains.size} values of the chains are not finite; mask them first")
    reference = _sample(reference, "reference")
    n_chains = chains.shape[0]
    rng = np.random.default_rng(seed)
    picks = rng.integers(n_chains, size=(resamples, n_chains))
    values = [statistic(chains[pick].ravel(), reference) for pick in picks]
    return float(np.std(values, ddof=1) * np.sqrt(n_chains / (n_chains - 1)))
