"""Samplers: (init, step, refresh) on jax-md integrators, vmapped over replicas."""

from typing import Any

from potentials.base import Potential
from potentials.registry import lookup
from potentials.system import System
from samplers.base import Sampler as Sampler
from samplers.base import centre as centre
from samplers.base import kinetic_temperature as kinetic_temperature
from samplers.exchange import exchange as exchange
from samplers.langevin import baoab as baoab
from samplers.langevin import nose_hoover as nose_hoover
from samplers.langevin import ula as ula
from samplers.mala import acceptance_rate as acceptance_rate
from samplers.mala import mala as mala
from samplers.mala import tune_step_size as tune_step_size
from samplers.momenta import maxwell_boltzmann as maxwell_boltzmann
from samplers.simulation import Trajectory as Trajectory
from samplers.simulation import Window as Window
from samplers.simulation import advance as advance
from samplers.simulation import collect as collect
from samplers.simulation import simulate as simulate
from samplers.stability import Criterion as Criterion
from samplers.stability import any_of as any_of
from samplers.stability import bond_deviation as bond_deviation
from samplers.stability import make_criterion as make_criterion
from samplers.stability import minimum_distance as minimum_distance
from samplers.stability import never as never

SAMPLERS = {"ula": ula, "mala": mala, "baoab": baoab, "nose_hoover": nose_hoover}
"""Flag name -> builder (potential, system, **settings) -> Sampler."""


def make_sampler(name: str, potential: Potential, system: System, settings: Any) -> Sampler:
    """The sampler of a flag name.

    Args:
      name: a key of `SAMPLERS`.
      potential, system: what to sample.
      settings: mapping of sampler name -> keyword arguments of its builder, as in a configuration.

    Raises:
      ValueError: unknown name.
    """
    builder = lookup(SAMPLERS, name, "sampler")
    return builder(potential, system, **settings[name])
