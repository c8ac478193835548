"""The Boltzmann estimator: gradients of ensemble averages, without differentiating through dynamics.

    ∂⟨g⟩/∂θ = ⟨∂g/∂θ⟩ − β Cov(g, ∂U_θ/∂θ)

(Raja et al., arXiv 2402.13984, eq. 6 and A.1). `ensemble_average` carries this as its derivative rule
with respect to the *energies* of the samples, so that any loss of averages differentiates as it
should, and in reverse mode the observables are contracted first: one pass over the samples, whatever
the number of observables and parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from potentials.base import Params, Potential

Energy = Callable[[Params, Array], Array]
"""(params, positions [n, 3], Å) -> [...], eV."""

_SAMPLES_AT_ONCE, _ATOMS_AT_ONCE = 256, 6000
_ROUND_OFF = 1e-3  # of a sum of weights in float32: what is left of 1 below this is nothing


def ensemble_average(
    energies: Array, values: Array, weights: Array, beta: float, groups: Array | None = None
) -> Array:
    """Σ_i w_i g_i, an estimate of ⟨g⟩ under exp(−β U), differentiable in θ through the energies.

    In the derivative every sample is compared with the mean over the *other* groups: the covariance is
    then unbiased however the samples of one group are correlated, as those of one replica are. With every
    sample in a group of its own and equal weights that is the usual N/(N − 1). Second derivatives are not
    those of the ensemble average.

    Args:
      energies: U_θ of the samples [N], eV. Their values are not used, their derivatives are.
      values: g of the samples [N, ...].
      weights: [N], not negative, summing to 1, or all zero for no samples; constants.
      beta: 1/(k_B T), 1/eV.
      groups: [N], integers from 0 to N − 1; samples of one number are correlated. None: all independent.

    Returns:
      [...]. Where one group alone has weight the derivative through the energies is 0.
    """
    groups = jnp.arange(len(weights)) if groups is None else groups
    return _average(energies, values, weights, groups, beta)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _average(energies: Array, values: Array, weights: Array, groups: Array, beta: float) -> Array:
    return jnp.tensordot(weights, values, axes=1)


@_average.defjvp
def _average_jvp(
    beta: float, primals: tuple[Array, Array, Array, Array], tangents: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array]:
    energies, values, weights, groups = primals
    energy_change, value_change, _, _ = tangents
    average = _average(energies, values, weights, groups, beta)
    weighted = weights.reshape(-1, *(1,) * (values.ndim - 1)) * values

    def of_own(terms: Array) -> Array:
        return jax.ops.segment_sum(terms, groups, num_segments=len(weights))[groups]

    left = 1.0 - of_own(weights)
    some = (left > _ROUND_OFF).reshape(-1, *(1,) * (values.ndim - 1))
    others = (average - of_own(weighted)) / jnp.where(some, left.reshape(some.shape), 1.0)
    deviations = jnp.where(some, values - others, 0.0)
    covariance = jnp.tensordot(weights * energy_change, deviations, axes=1)
    return average, jnp.tensordot(weights, value_change, axes=1) - beta * covariance


def squared_deviation(
    energies: Array,
    values: Array,
    target: ArrayLike,
    weights: Array,
    beta: float,
    halves: Array | None = None,
    groups: Array | None = None,
) -> Array:
    """‖⟨g⟩ − g_ref‖² (StABlE, eq. 4), with the Boltzmann estimator as its gradient.

    With `halves` it is cross-fitted, (⟨g⟩_A − g_ref)·(⟨g⟩_B − g_ref): value and gradient are then
    unbiased, while the plain form, in which the noise of ⟨g⟩ meets itself, is off by O(1/N). The
    cross-fitted value may be negative.

    Args:
      energies: U_θ of the samples [N], eV.
      values: g of the samples [N, K].
      target: g_ref [K].
      weights: [N], as in `ensemble_average`.
      beta: 1/(k_B T), 1/eV.
      halves: [N], bool, which half each sample is in; samples that are correlated belong in one.
      groups: [N], as in `ensemble_average`.

    Raises:
      ValueError: shapes that do not fit.
    """
    target = jnp.asarray(target)
    if (
        target.shape != values.shape[1:]
        or energies.shape != values.shape[:1]
        or weights.shape != energies.shape
    ):
        raise ValueError(
            f"energies {energies.shape}, values {values.shape}, weights {weights.shape} and target "
            f"{target.shape}: expected [N], [N, K], [N] and [K]"
        )
    if halves is None:
        return jnp.sum((ensemble_average(energies, values, weights, beta, groups) - target) ** 2)
    parts = []
    for half in (halves, ~halves):
        share = jnp.sum(weights, where=half)
        own = jnp.where(half, weights, 0.0) / jnp.where(share > 0, share, 1.0)
        # A half without samples has nothing to say: its deviation is 0, not −g_ref.
        mean = ensemble_average(energies, values, own, beta, groups)
        parts.append(jnp.where(share > 0, mean - target, 0.0))
    return jnp.sum(parts[0] * parts[1])


def sample_energies(energy: Energy, params: Params, positions: Array, batch_size: int = 0) -> Array:
    """U_θ of samples [N, n, 3] -> [N, ...], eV; memory is that of one batch in the reverse pass too.

    Args:
      energy: (params, [n, 3]) -> [...], such as `Potential.energy` or `neighbourhood_energies`.
      params: gradients flow through these.
      positions: Å, held constant.
      batch_size: samples differentiated at a time; 0: as many as make a few thousand atoms.
    """
    batch_size = batch_size or min(_SAMPLES_AT_ONCE, max(1, _ATOMS_AT_ONCE // positions.shape[1]))
    one = jax.checkpoint(lambda x: energy(params, x))
    return jax.lax.map(one, jax.lax.stop_gradient(positions), batch_size=min(batch_size, len(positions)))


def neighbourhood_energies(potential: Potential, neighbourhoods: ArrayLike) -> Energy:
    """Local energies for the localized estimator (StABlE, A.2, eq. 8): sums of atomic energies.

    With local observables in place of g, `ensemble_average` over (samples × neighbourhoods) is then
    the localized estimator. It leaves out how a neighbourhood's observable varies with the energy of
    all other atoms, which is exact for independent neighbourhoods and gets better with their size.

    Args:
      potential: one with atomic energies.
      neighbourhoods: atom indices [B, n].

    Returns:
      (params, positions [N, 3]) -> [B], eV.

    Raises:
      ValueError: indices of another shape.
    """
    indices = np.asarray(neighbourhoods)
    if indices.ndim != 2 or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"neighbourhoods have shape {indices.shape}; expected atom indices [B, n]")

    def energies(params: Params, positions: Array) -> Array:
        return jnp.sum(potential.atomic_energies(params, positions)[indices], axis=-1)

    return energies
