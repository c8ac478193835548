"""The interface of a potential, and what turns other people's energies into one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Params = Any

_ATOMS_AT_ONCE = 5000


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
      overflow: (params, positions [N, 3]) -> bool, whether the energy is NaN for want of room in the
        neighbour list of a periodic box. None where there is no list.
      room_for: (positions [..., N, 3], margin), on the host -> how many neighbours these frames want room
        for, times the margin (by default `neighbours.MARGIN`). None where there is no list.
    """

    init: Callable[..., Params]
    energy: Callable[..., Array]
    atomic_energies: Callable[..., Array]
    tabulate: Callable[[Params], Params] = _same
    overflow: Callable[..., Array] | None = None
    room_for: Callable[..., int] | None = None


def from_atomic_energies(
    init: Callable[..., Params], atomic_energies: Callable[..., Array], **functions: Callable
) -> Potential:
    """A potential whose energy is the sum of its atomic energies.

    Args:
      init: (key) -> params.
      atomic_energies: (params, positions [N, 3], **kwargs) -> [N], eV.
      **functions: further ones of `Potential`.
    """

    def energy(params: Params, positions: Array, **kwargs: Any) -> Array:
        return jnp.sum(atomic_energies(params, positions, **kwargs))

    return Potential(init, energy, atomic_energies, **functions)


def with_atomic_energies(potential: Potential, atomic_energies: Callable[..., Array]) -> Potential:
    """The potential with other atomic energies of the same params, and what else it has."""
    new = from_atomic_energies(potential.init, atomic_energies)
    return potential._replace(energy=new.energy, atomic_energies=atomic_energies)


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

    return with_atomic_energies(potential, atomic_energies)


def add_prior(potential: Potential, prior: Callable[[Array], Array]) -> Potential:
    """A network on top of a fixed prior without parameters; the params tree stays the network's.

    Args:
      potential: the network.
      prior: (positions [N, 3]) -> [N], eV, such as `potentials.zbl.zbl`.
    """

    def atomic_energies(params: Params, positions: Array, **kwargs: Any) -> Array:
        return potential.atomic_energies(params, positions, **kwargs) + prior(positions)

    return with_atomic_energies(potential, atomic_energies)


def energies(potential: Potential, params: Params, frames: Array) -> Array:
    """Of many frames [F, N, 3], as many at a time as fit into memory -> [F], eV."""
    at_once = max(1, _ATOMS_AT_ONCE // frames.shape[1])
    if len(frames) <= at_once:
        return jax.vmap(potential.energy, (None, 0))(params, frames)
    return jax.lax.map(lambda x: potential.energy(params, x), frames, batch_size=at_once)


def energy_and_forces(potential: Potential) -> Callable[..., tuple[Array, Array]]:
    """(params, positions [N, 3], **kwargs) -> (energy in eV, forces [N, 3] in eV/Å)."""
    gradient = jax.value_and_grad(potential.energy, argnums=1)

    def function(params: Params, positions: Array, **kwargs: Any) -> tuple[Array, Array]:
        energy, slope = gradient(params, positions, **kwargs)
        return energy, -slope

    return function
