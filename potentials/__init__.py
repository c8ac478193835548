"""Potentials: pure functions U(params, positions), Flax networks and analytic ones."""

from potentials.analytic import bonded_molecule as bonded_molecule
from potentials.analytic import double_well as double_well
from potentials.analytic import harmonic as harmonic
from potentials.base import Params as Params
from potentials.base import Potential as Potential
from potentials.base import add_prior as add_prior
from potentials.base import energies as energies
from potentials.base import energy_and_forces as energy_and_forces
from potentials.base import from_atomic_energies as from_atomic_energies
from potentials.base import from_energy as from_energy
from potentials.base import scale_shift as scale_shift
from potentials.schnet import schnet as schnet
from potentials.system import System as System
from potentials.system import make_system as make_system
from potentials.system import with_bonds as with_bonds
from potentials.zbl import zbl as zbl


def gemnet_t(system: System, **settings: float) -> Potential:
    """`potentials.gemnet.gemnet_t`, imported where it is asked for."""
    from potentials.gemnet import gemnet_t as build

    return build(system, **settings)


def mace(system: System, **settings: float) -> Potential:
    """`potentials.mace.mace`, imported where it is asked for, like e3nn-jax with it."""
    from potentials.mace import mace as build

    return build(system, **settings)


def nequip(system: System, **settings: float) -> Potential:
    """`potentials.nequip.nequip`; e3nn-jax, which takes seconds to import, only where it is asked for."""
    from potentials.nequip import nequip as build

    return build(system, **settings)


POTENTIALS = {"gemnet_t": gemnet_t, "mace": mace, "nequip": nequip, "schnet": schnet}
"""Flag name -> builder (system, **settings) -> Potential."""
