"""Stable times of replicas: survival curves, medians and restricted means under censoring.

A replica that was still intact when its simulation ended is censored: its stable time is at least
what was run. Replicas are independent; every error here comes from their number alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from objectives.statistics import Estimate


class SurvivalCurve(NamedTuple):
    """Attributes: times [K], the distinct times at which replicas broke; survival [K], the share
    still intact right after each; lower and upper [K], pointwise confidence bounds; first_lower, the
    lower bound before the first of them."""

    times: NDArray[np.float64]
    survival: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    first_lower: float

    def at(self, times: ArrayLike) -> NDArray[np.float64]:
        """Survival at any times [T], a right-continuous step function -> [T]."""
        steps = np.concatenate([[1.0], self.survival])
        return steps[np.searchsorted(self.times, np.asarray(times, dtype=float), side="right")]


def kaplan_meier(times: ArrayLike, broken: ArrayLike, z: float = 1.96) -> SurvivalCurve:
    """The product-limit estimate of the share of intact replicas.

    Confidence bounds are Greenwood's on the scale log(−log S) (Kalbfleisch and Prentice, The
    Statistical Analysis of Failure Time Data, section 1.4), so they stay within [0, 1]. It knows nothing
    where none or all have broken: there they are Clopper and Pearson's for 0 of the R replicas.

    Args:
      times: [R], stable times, any unit; of replicas that broke, or of the end of observation.
      broken: [R], bool; False where a replica was censored.
      z: normal quantile of the bounds, 1.96 for 95 %.

    Raises:
      ValueError: no replicas, different shapes, or a time that is negative or not finite.
    """
    times, broken = _checked(times, broken)
    distinct = np.unique(times[broken])
    at_risk = (times[None, :] >= distinct[:, None]).sum(axis=1)
    events = (times[broken][None, :] == distinct[:, None]).sum(axis=1)
    survival = np.cumprod(1 - events / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events)))
        spread = z * np.sqrt(greenwood) / np.abs(np.log(survival))
        lower, upper = survival ** np.exp(spread), survival ** np.exp(-spread)
    gone = survival == 0
    exact = float(norm.sf(z) ** (1 / len(times)))
    lower, upper = np.where(gone, 0.0, lower), np.where(gone, 1 - exact, upper)
    return SurvivalCurve(distinct, survival, lower, upper, exact)


def first_times(
    values: ArrayLike, threshold: float, duration: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Stable times from a criterion that is looked at window by window.

    Args:
      values: of the criterion, [R, W]; unstable above the threshold or where not finite.
      threshold: in the unit of the values.
      duration: of a window, in the unit of the times.

    Returns:
      times [R], the start of the first unstable window, or the end; broken [R].

    Raises:
      ValueError: values of another shape.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values have shape {values.shape}; expected [R, W]")
    unstable = ~(values <= threshold)
    broken = unstable.any(axis=1)
    return duration * np.where(broken, unstable.argmax(axis=1), values.shape[1]).astype(float), broken


def median_time(times: ArrayLike, broken: ArrayLike) -> float:
    """The first time at which half of the replicas or fewer are intact; infinite where that was not seen.

    Raises:
      ValueError: as `kaplan_meier`.
    """
    curve = kaplan_meier(times, broken)
    # Products of survival shares that should be ½ may miss it by round-off.
    below = np.flatnonzero(curve.survival <= 0.5 + 1e-12)
    return float(curve.times[below[0]]) if len(below) else float("inf")


def median_interval(times: ArrayLike, broken: ArrayLike, z: float = 1.96) -> tuple[float, float]:
    """A confidence interval of the median stable time, which censoring leaves defined: from where the lower
    bound of `kaplan_meier` reaches ½ to where the upper bound does (Brookmeyer and Crowley, Biometrics 38,
    29, 1982).

    Args:
      times, broken, z: as in `kaplan_meier`.

    Returns:
      lower, upper: lower is the longest time that was watched where the bound stays above ½, upper infinite
        where its bound does.

    Raises:
      ValueError: as `kaplan_meier`.
    """
    curve = kaplan_meier(times, broken, z)
    reached, gone = (np.flatnonzero(bound <= 0.5) for bound in (curve.lower, curve.upper))
    if curve.first_lower <= 0.5:
        lower = 0.0
    else:
        lower = float(curve.times[reached[0]]) if len(reached) else float(np.max(times))
    return lower, float(curve.times[gone[0]]) if len(gone) else float("inf")


def median_and_stderr(
    times: ArrayLike, broken: ArrayLike, *, n_resamples: int = 1000, seed: int = 0
) -> Estimate:
    """The median stable time with its bootstrap standard error over replicas.

    The error is NaN where more than 2.5 % of the resamples have no median: then too many replicas are
    censored for one, and only the value's being a lower bound or not says something.

    Args:
      times, broken: [R], as in `kaplan_meier`.
      n_resamples: of the replicas, with replacement.
      seed: of the resamples.

    Raises:
      ValueError: as `kaplan_meier`.
    """
    times, broken = _checked(times, broken)
    rows = np.random.default_rng(seed).integers(len(times), size=(n_resamples, len(times)))
    medians = np.array([median_time(times[row], broken[row]) for row in rows])
    finite = medians[np.isfinite(medians)]
    error = float(finite.std(ddof=1)) if len(finite) >= 0.975 * n_resamples else float("nan")
    return Estimate(median_time(times, broken), error)


def restricted_mean(times: ArrayLike, broken: ArrayLike, horizon: float) -> Estimate:
    """Mean of min(stable time, horizon): the area under the survival curve, known whatever survives.

    The error is Greenwood's: Σ_k A_k² d_k / (n_k (n_k − d_k)) over the times before the horizon, A_k
    the area from time k on (Kalbfleisch and Prentice, as above).

    Args:
      times, broken: [R], as in `kaplan_meier`.
      horizon: at most the shortest censored time, or replicas that nobody watched would be guessed at.

    Raises:
      ValueError: as `kaplan_meier`, or a replica that was censored before the horizon.
    """
    times, broken = _checked(times, broken)
    early = times[~broken]
    if len(early) and early.min() < horizon:
        raise ValueError(f"a replica was watched for {early.min()} only; expected at least {horizon}")
    curve = kaplan_meier(times, broken)
    inside = curve.times < horizon
    knots = np.concatenate([[0.0], curve.times[inside], [horizon]])
    steps = np.concatenate([[1.0], curve.survival[inside]]) * np.diff(knots)
    area_from = np.cumsum(steps[::-1])[::-1][1:]
    at_risk = (times[None, :] >= curve.times[inside][:, None]).sum(axis=1)
    events = (times[broken][None, :] == curve.times[inside][:, None]).sum(axis=1)
    left = at_risk - events
    terms = np.where(left > 0, area_from**2 * events / (at_risk * np.maximum(left, 1)), 0.0)
    return Estimate(float(steps.sum()), float(np.sqrt(terms.sum())))


def _checked(times: ArrayLike, broken: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    times, broken = np.asarray(times, dtype=float), np.asarray(broken, dtype=bool)
    if times.ndim != 1 or not len(times) or times.shape != broken.shape:
        raise ValueError(f"expected times and broken [R >= 1], got {times.shape} and {broken.shape}")
    if not (np.isfinite(times).all() and (times >= 0).all()):
        raise ValueError("stable times must be finite and not negative")
    return times, broken
