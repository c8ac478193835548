"""Observables whose ensemble averages a potential can be trained for, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from objectives.angles import angle_distribution, angle_grid, find_angles
from objectives.contacts import contact_pairs, contacts
from objectives.ensemble import Observable, Observables
from objectives.neighbourhoods import Neighbourhoods
from objectives.observables import bond_lengths, distance_distribution, distance_grid
from objectives.pair_correlation import WIDTH, pair_grid, pair_names, radial_distribution
from potentials.registry import lookup
from potentials.system import System

DISTANCE_WIDTH = 0.016  # Å, one bin of h(r)
ANGLE_WIDTH = 0.035  # rad, two bins of the ADF


def _distances(system: System) -> Observable:
    _require_vacuum(system, "distances")
    return partial(distance_distribution, grid=distance_grid(), width=DISTANCE_WIDTH)


def _bond_lengths(system: System) -> Observable:
    _require_bonds(system, "bond_lengths")
    return partial(bond_lengths, bonds=system.bonds, cell=system.cell)


def _mean_bond_length(system: System) -> Observable:
    _require_bonds(system, "mean_bond_length")
    return lambda positions: jnp.mean(bond_lengths(positions, system.bonds, system.cell))[None]


def _angles(system: System) -> Observable:
    _require_vacuum(system, "angles")
    triples = find_angles(system.bonds)
    if not len(triples):
        raise ValueError("observable 'angles': the system has no two bonds at one atom")
    return partial(angle_distribution, triples=triples, grid=angle_grid(), width=ANGLE_WIDTH)


def _radial_distributions(system: System) -> Observable:
    kinds, grid = _pairs_to_observe(system), pair_grid(system)

    def observable(positions: Array) -> Array:
        of_kinds = [radial_distribution(positions, pairs, system.cell, grid, WIDTH) for pairs in kinds]
        return jnp.concatenate(of_kinds)

    return observable


def _contacts(system: System) -> Observable:
    each = _contacts_of_each(system)
    return lambda positions: jnp.mean(each(positions), axis=0)


def _contacts_of_each(system: System) -> Observable:
    kinds = contact_pairs(system)
    if not kinds:
        raise ValueError("observable 'contacts': the system has no two atoms without a bond")
    return lambda positions: jnp.stack([contacts(positions, pairs, system.cell) for pairs in kinds], axis=-1)


def _pairs_to_observe(system: System) -> list[NDArray[np.int64]]:
    if system.cell is None:
        raise ValueError("observable 'radial_distributions' is of periodic boxes; the system has no cell")
    kinds = list(pair_names(system).values())
    if not kinds:
        raise ValueError("observable 'radial_distributions': the system has no pair of atoms to observe")
    return kinds


def _require_vacuum(system: System, name: str) -> None:
    if system.cell is not None:
        raise ValueError(f"observable '{name}' is of molecules in vacuum; the system has a cell")


def _require_bonds(system: System, name: str) -> None:
    if not len(system.bonds):
        raise ValueError(f"observable '{name}': the system has no bonds")


OBSERVABLES: dict[str, Callable[[System], Observable]] = {
    "distances": _distances,
    "bond_lengths": _bond_lengths,
    "mean_bond_length": _mean_bond_length,
    "angles": _angles,
    "radial_distributions": _radial_distributions,
    "contacts": _contacts,
}
"""Flag name -> builder (system) -> (positions [N, 3]) -> [K]. `distances` is h(r) in 1/Å, 500 bins to
8 Å; `bond_lengths` in Å, bond by bond; `mean_bond_length` their mean; `angles` the ADF in 1/rad;
`radial_distributions` g(r) of each pair of elements one after the other, of a box, see `pair_names`;
`contacts` how many a molecule has of each two elements with others and within, see `objectives.contacts`."""


def _owners(system: System, atoms: NDArray[np.int64]) -> NDArray[np.int64]:
    owner = np.empty(len(system.numbers), int)
    owner[atoms] = np.arange(len(atoms))[:, None]
    return owner


def _local_mean_bond_length(system: System, atoms: NDArray[np.int64]) -> Observable:
    _require_bonds(system, "mean_bond_length")
    owners = _owners(system, atoms)[system.bonds[:, 0]]
    if len(set(counts := np.bincount(owners, minlength=len(atoms)).tolist())) > 1 or not counts[0]:
        raise ValueError("observable 'mean_bond_length': neighbourhoods differ in their number of bonds")
    bonds = system.bonds[np.argsort(owners, kind="stable")]

    def observable(positions: Array) -> Array:
        lengths = bond_lengths(positions, bonds, system.cell)
        return jnp.mean(lengths.reshape(len(atoms), -1), axis=-1, keepdims=True)

    return observable


def _local_radial_distributions(system: System, atoms: NDArray[np.int64]) -> Observable:
    pairs_of_kinds, owner, kinds = _pairs_to_observe(system), _owners(system, atoms), []
    grid = pair_grid(system)
    for pairs in pairs_of_kinds:
        first, second = owner[pairs].T
        of_each = [pairs[(first == one) | (second == one)] for one in range(len(atoms))]
        if len({len(own) for own in of_each}) > 1 or (first == second).any():
            raise ValueError(
                "observable 'radial_distributions': expected molecules as neighbourhoods, more than one"
            )
        kinds.append(np.stack(of_each))

    def observable(positions: Array) -> Array:
        def of_one(pairs: Array) -> Array:
            return radial_distribution(positions, pairs, system.cell, grid, WIDTH)

        return jnp.concatenate([jax.vmap(of_one)(pairs) for pairs in kinds], axis=-1)

    return observable


def _local_contacts(system: System, atoms: NDArray[np.int64]) -> Observable:
    if (np.diff(np.sort(system.molecules[atoms], axis=1), axis=1) != 0).any():
        raise ValueError("observable 'contacts': expected molecules as neighbourhoods")
    order = np.unique(system.molecules, return_inverse=True)[1][atoms[:, 0]]
    each = _contacts_of_each(system)
    return lambda positions: each(positions)[order]


LOCAL_OBSERVABLES: dict[str, Callable[[System, NDArray[np.int64]], Observable]] = {
    "mean_bond_length": _local_mean_bond_length,
    "radial_distributions": _local_radial_distributions,
    "contacts": _local_contacts,
}
"""Flag name -> builder (system, atoms [B, n] of neighbourhoods) -> (positions [N, 3]) -> [B, K], whose mean
over neighbourhoods is the observable above; `radial_distributions` of the pairs that a molecule is in."""


def make_observables(
    weights: Mapping[str, float], system: System, neighbourhoods: Neighbourhoods | None = None
) -> Observables:
    """Those with a positive weight: name -> (weight, observable); each neighbourhood's own, where given.

    Raises:
      ValueError: an unknown name, a negative weight, a system without what is observed, or what is not
        observed of neighbourhoods.
    """
    chosen = {}
    for name, weight in weights.items():
        builder = lookup(OBSERVABLES, name, "observable")
        if neighbourhoods is not None and weight:
            local = lookup(LOCAL_OBSERVABLES, name, "observable of the local estimator")
            builder = partial(local, atoms=neighbourhoods.atoms)
        if not weight >= 0:
            raise ValueError(f"the weight of observable '{name}' is {weight}; expected 0 or more")
        if weight > 0:
            chosen[name] = (float(weight), builder(system))
    return chosen
