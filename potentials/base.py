"""The interface of a potential, and what turns other people's energies into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Params = Any


def _same(params: Params) -> Params:
    return params


class Potential(NamedTuple):
    """A potential energy surface as pure functions. It closes over its `System`.

    Attributes:
      init: (key) -> params, a pytree.
      energy: (params, positions [N, 3] in Å, **kwargs) -> scalar, eV.
      atomic_energies: (params, positions [N, 3] in Å, **kwargs) -> [N], eV; `energy` is their sum.
      tabulate: (params) -> params of the same surface, to float32 precision, that are faster to
        evaluate many times. For samplers; the gradient with respect to them is of no use.
    """

    init: Callable[..., Params]
    energy: Callable[..., Array]
    atomic_energies: Callable[..., Array]
    tabulate: Callable[[Params], Params] = _same


def from_atomic_energies(
    init: Callable[..., Params],
    atomic_energies: Callable[..., Array],
    tabulate: Callable[[Params], Params] = _same,
) -> Potential:
    """A potential whose energy is the sum of its atomic energies.

    Args:
      init: (key) -> params.
      atomic_energies: (params, positions [N, 3], **kwargs) -> [N], eV.
      tabulate: see `Potential`.
    """

    def energy(params: Params, positions: Array, **kwargs: Any) -> Array:
        return jnp.sum(atomic_energies(params, positions, **kwargs))

    return Potential(init, energy, atomic_energies, tabulate)


def from_energy(energy: Callable[..., Array], init: Callable[..., Params] | None = None) -> Potential:
    """Anyone's energy function as a `Potential`; the one-line adapter for jax-md.

    Args:
      energy: without `init`, (positions [N, 3], **kwargs) -> scalar in eV, as jax-md's energy
        functions are; with `init`, (params, positions [N, 3], **kwargs) -> scalar in eV.
      init: (key) -> params, for an energy with parameters.

    Returns:
      A potential. It has no decomposition into atoms: `atomic_energies` raises TypeError.
    """
    with_params = energy if init else lambda params, positions, **kw: energy(positions, **kw)

    def atomic_energies(params: Params, positions: Array, **kwargs: Any) -> Array:
        raise TypeError("this potential was made from a total energy: it has no atomic energies")

    return Potential(init or (lambda key: {}), with_params, atomic_energies)


def scale_shift(potential: Potential, scale: float = 1.0, shift: float | Array = 0.0) -> Potential:
    """Atomic energies times `scale` plus `shift`.

    Args:
      potential: whose output has order one.
      scale: eV.
      shift: scalar or [N], eV an atom (per-element references, or the mean energy over N).
    """

    def atomic_energies(params: Params, positions: Array, **kwargs: Any) -> Array:
        return scale * potential.atomic_energies(params, positions, **kwargs) + shift

    return from_atomic_energies(potential.init, atomic_energies, potential.tabulate)


def add_prior(potential: Potential, prior: Callable[[Array], Array]) -> Potential:
    """A network on top of a fixed prior without parameters; the params tree stays the network's.

    Args:
      potential: the network.
      prior: (positions [N, 3]) -> [N], eV, such as `potentials.zbl.zbl`.
    """

    def atomic_energies(params: Params, positions: Array, **kwargs: Any) -> Array:
        return potential.atomic_energies(params, positions, **kwargs) + prior(positions)

    return from_atomic_energies(potential.init, atomic_energies, potential.tabulate)


def energy_and_forces(potential: Potential) -> Callable[..., tuple[Array, Array]]:
    """(params, positions [N, 3], **kwargs) -> (energy in eV, forces [N, 3] in eV/Å)."""
    gradient = jax.value_and_grad(potential.energy, argnums=1)

    def function(params: Params, positions: Array, **kwargs: Any) -> tuple[Array, Array]:
        energy, slope = gradient(params, positions, **kwargs)
        return energy, -slope

    return function
