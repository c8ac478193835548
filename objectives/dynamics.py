"""Dynamical observables of trajectories: velocity autocorrelation, mean squared displacement, diffusion.

Errors come from independent replicas; correlation within one never makes them smaller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from objectives.statistics import Estimate

ANGSTROM2_PER_FS = 1e-5
"""1 Å²/fs in m²/s."""


def velocity_autocorrelation(velocities: ArrayLike, n_lags: int = 100) -> Estimate:
    """VACF(Δ) = ⟨v_i(t)·v_i(t + Δ)⟩ over atoms and times, divided by its value at 0 (StABlE, A.4).

    Args:
      velocities: [R, T, N, 3], any unit, of consecutive steps.
      n_lags: lags 0 … n_lags − 1; below T.

    Returns:
      Value and standard error over replicas, [n_lags] each; the error of a single replica is NaN.

    Raises:
      ValueError: another shape, too few frames, a value that is not finite, or no motion at all.
    """
    velocities = _trajectories(velocities, n_lags)
    length = velocities.shape[1]
    per_replica = np.stack(
        [
            np.einsum("rtnk,rtnk->r", velocities[:, : length - lag], velocities[:, lag:]) / (length - lag)
            for lag in range(n_lags)
        ],
        axis=1,
    )
    if not (per_replica[:, 0] > 0).all():
        raise ValueError("the velocities of a replica are all zero: its VACF is undefined")
    return _over_replicas(per_replica / per_replica[:, :1])


def mean_squared_displacement(positions: ArrayLike, n_lags: int) -> Estimate:
    """⟨|r_i(t + Δ) − r_i(t)|²⟩ over atoms and all times t.

    Args:
      positions: unwrapped, [R, T, N, 3], Å; of the atoms whose diffusion is asked for.
      n_lags: lags 0 … n_lags − 1; below T.

    Returns:
      Value and standard error over replicas, Å², [n_lags] each; the error of one replica is NaN.

    Raises:
      ValueError: another shape, too few frames, or a value that is not finite.
    """
    return _over_replicas(_displacements(positions, n_lags))


def diffusivity(
    positions: ArrayLike, frame_time: float, first_lag: int, last_lag: int, dimensions: int = 3
) -> Estimate:
    """D = slope of the mean squared displacement / (2 d), by least squares between two lags (Einstein).

    Args:
      positions: unwrapped, [R, T, N, 3], Å.
      frame_time: between frames, fs.
      first_lag, last_lag: where the displacement is linear in time: past the ballistic regime, and
        far below T.
      dimensions: d.

    Returns:
      Å²/fs, value and standard error over replicas; times `ANGSTROM2_PER_FS` in m²/s.

    Raises:
      ValueError: as `mean_squared_displacement`, or fewer than two lags.
    """
    if not 0 <= first_lag < last_lag:
        raise ValueError(f"lags {first_lag} to {last_lag}; expected 0 <= first_lag < last_lag")
    per_replica = _displacements(positions, last_lag + 1)[:, first_lag:]
    times = frame_time * np.arange(first_lag, last_lag + 1)
    slopes = np.polyfit(times, per_replica.T, 1)[0]
    return Estimate(*(float(x) for x in _over_replicas(slopes / (2 * dimensions))))


def _displacements(positions: ArrayLike, n_lags: int) -> NDArray[np.float64]:
    positions = _trajectories(positions, n_lags)
    length = positions.shape[1]
    rows = []
    for lag in range(n_lags):
        steps = positions[:, lag:] - positions[:, : length - lag]
        rows.append(np.mean(np.sum(steps**2, axis=-1), axis=(1, 2)))
    return np.stack(rows, axis=1)


def _over_replicas(values: NDArray[np.float64]) -> Estimate:
    if len(values) < 2:
        return Estimate(values[0], np.full_like(values[0], np.nan))
    return Estimate(values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def _trajectories(values: ArrayLike, n_lags: int) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 4 or values.shape[-1] != 3 or not values.size:
        raise ValueError(f"trajectories have shape {values.shape}; expected [R, T, N, 3]")
    if not 1 <= n_lags <= values.shape[1]:
        raise ValueError(f"n_lags is {n_lags}; expected between 1 and the {values.shape[1]} frames there are")
    if not np.isfinite(values).all():
        raise ValueError("trajectories hold values that are not finite; cut or drop failed replicas first")
    return values
