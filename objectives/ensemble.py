"""The observable loss on an ensemble of samples: Σ_k w_k ‖⟨g_k⟩ − g_ref,k‖²."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from objectives.base import Metrics
from objectives.boltzmann import neighbourhood_energies, sample_energies, squared_deviation
from objectives.neighbourhoods import Neighbourhoods, stratified_weights
from objectives.reweighting import boltzmann_weights, effective_samples
from potentials.base import Params, Potential
from potentials.base import energies as energies_of

Observable = Callable[[Array], Array]
"""(positions [n, 3], Å) -> [K], or [B, K] of B neighbourhoods."""

Observables = Mapping[str, tuple[float, Observable]]
"""Name -> (weight w_k, observable)."""

_BATCH = 256  # samples whose observables are made at a time


class Ensemble(NamedTuple):
    """Samples of one simulation of R replicas, S frames each.

    Attributes:
      positions: [S, R, n, 3], Å, held constant.
      energies: [S, R], eV, under the params that drew them.
      valid: [S, R], False from a replica's first non-finite position or energy on.
    """

    positions: Array
    energies: Array
    valid: Array

    def flat(self) -> tuple[Array, Array, Array]:
        """Positions [S·R, n, 3], energies [S·R] and valid [S·R]."""
        positions = self.positions.reshape(-1, *self.positions.shape[2:])
        return positions, self.energies.ravel(), self.valid.ravel()

    def split(self, size: int) -> Ensemble:
        """Ensembles of `size` samples in one frame, leaves [M, 1, size, ...]; what is left over is dropped.

        Raises:
          ValueError: there are fewer samples than that.
        """
        count = self.valid.size // size
        if not count:
            raise ValueError(f"an ensemble of {self.valid.size} samples; expected at least {size} of them")
        pieces = (x[: count * size].reshape(count, 1, size, *x.shape[1:]) for x in self.flat())
        return Ensemble(*pieces)


def observable_loss(
    potential: Potential,
    observables: Observables,
    targets: Mapping[str, Array],
    beta: float,
    params: Params,
    ensemble: Ensemble,
    stand_in: Array,
    *,
    cross_fitted: bool = True,
    neighbourhoods: Neighbourhoods | None = None,
) -> tuple[Array, Metrics]:
    """Σ_k w_k ‖⟨g_k⟩ − g_ref,k‖², with the Boltzmann estimator as its gradient (StABlE, eq. 4 and 6).

    With neighbourhoods it is the localized estimator (eq. 8): the states of each, with their own energies
    and observables, are samples. Where these are chosen by bins, ⟨g⟩, value and gradient are those of the
    average under `stratified_weights`, which is no ensemble average. Samples that were drawn under other
    params are reweighted by exp(−β ΔU).

    Args:
      potential: U.
      observables: what is averaged.
      targets: g_ref by name, each [K].
      beta: 1/eV.
      params: gradients flow through these alone.
      ensemble: at least four replicas where cross-fitted, so that each half has two to compare. The
        samples of a single replica are taken to be independent.
      stand_in: a frame [n, 3] (Å) with a finite energy, in whose place failed ones are evaluated.
      cross_fitted: contrast replicas of even with those of odd number, which are independent, so that
        the noise of ⟨g⟩ does not meet itself, see `boltzmann.squared_deviation`.
      neighbourhoods: a partition of the atoms; observables are then local, [B, K].

    Returns:
      The loss, and metrics: `deviation_<name>`, each unweighted, and `effective_samples`.
    """
    positions, drawn, valid = ensemble.flat()
    n_replicas = ensemble.valid.shape[1]
    # A frame may have no finite energy, under these params or the old ones, and masking that after the
    # fact would leave NaN in the gradient: it stands on a frame of the data, with weight 0.
    local = neighbourhoods is not None
    energy = neighbourhood_energies(potential, neighbourhoods.atoms) if local else potential.energy
    now = jax.lax.stop_gradient(sample_energies(energy, params, positions)).reshape(len(valid), -1)
    valid = valid & jnp.all(jnp.isfinite(now), axis=-1)
    positions = jnp.where(valid[:, None, None], positions, stand_in)
    energies = sample_energies(energy, params, positions).reshape(len(valid), -1)  # [N, B]
    change = jax.lax.stop_gradient(jnp.sum(energies, axis=-1) - drawn)
    of_samples = boltzmann_weights(beta * change, valid)
    weights = jnp.repeat(of_samples / energies.shape[1], energies.shape[1])
    replica = jnp.broadcast_to(jnp.arange(n_replicas), ensemble.valid.shape).ravel()
    groups = jnp.repeat(replica if n_replicas > 1 else jnp.arange(len(valid)), energies.shape[1])
    halves = groups % 2 == 0 if cross_fitted else None
    total, metrics = jnp.zeros(()), {"effective_samples": effective_samples(of_samples) * jnp.any(valid)}
    for name, (weight, observable) in observables.items():
        values = jax.lax.map(observable, positions, batch_size=min(_BATCH, len(positions)))
        values = values.reshape(energies.size, -1)  # [N·B, K]
        chosen = weights
        if local and neighbourhoods.n_bins:
            deviations = jnp.linalg.norm(values - targets[name], axis=-1)
            chosen = stratified_weights(weights, deviations, neighbourhoods.n_bins, neighbourhoods.per_bin)
        value = squared_deviation(energies.ravel(), values, targets[name], chosen, beta, halves, groups)
        # Without samples the distance to the target would be that of an average of nothing.
        value = jnp.where(jnp.any(valid), value, 0.0)
        total += weight * value
        metrics[f"deviation_{name}"] = value
    return total, metrics


def effective_fraction(potential: Potential, beta: float, params: Params, ensemble: Ensemble) -> Array:
    """Effective share of the valid samples when they are reweighted to these params; 0 without any."""
    positions, drawn, valid = ensemble.flat()
    change = beta * (energies_of(potential, params, positions) - drawn)
    usable = valid & jnp.isfinite(change)
    weights = boltzmann_weights(change, usable)
    return jnp.where(jnp.any(usable), effective_samples(weights) / jnp.maximum(jnp.sum(valid), 1), 0.0)


def mean_observable(observable: Observable, positions: Array, weights: ArrayLike | None = None) -> Array:
    """⟨g⟩ over frames [F, n, 3] (Å), and over neighbourhoods where there are such -> [K].

    Args:
      observable: g.
      positions: of the frames.
      weights: [F], which sum to 1; equal without.
    """
    values = jax.lax.map(observable, positions, batch_size=min(_BATCH, len(positions)))
    of_frames = jnp.mean(values.reshape(len(positions), -1, values.shape[-1]), axis=1)
    return jnp.average(of_frames, axis=0, weights=None if weights is None else jnp.asarray(weights))


def check_targets(
    observables: Observables, targets: Mapping[str, ArrayLike], n_atoms: int
) -> dict[str, Array]:
    """The targets given as arrays, after a look at their names and shapes.

    Raises:
      ValueError: a target without an observable, of another shape, or not finite; it is named.
    """
    checked = {}
    for name, target in targets.items():
        if name not in observables:
            raise ValueError(f"target '{name}' is of no observable; known: {', '.join(observables)}")
        shape = jax.eval_shape(observables[name][1], jnp.zeros((n_atoms, 3))).shape[-1:]
        if np.shape(target) != shape or not np.isfinite(target).all():
            raise ValueError(f"target '{name}' has shape {np.shape(target)}; expected finite numbers {shape}")
        checked[name] = jnp.asarray(target, jnp.float32)
    return checked
