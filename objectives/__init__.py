"""Objectives: losses as pure functions, and the names they go by on the command line."""

from collections.abc import Callable
from typing import Any

from objectives.base import Batch as Batch
from objectives.base import Metrics as Metrics
from objectives.base import Objective as Objective
from objectives.base import combine as combine
from objectives.base import static as static
from objectives.contrastive import Negatives as Negatives
from objectives.contrastive import contrastive as contrastive
from objectives.contrastive import contrastive_loss as contrastive_loss
from objectives.mse import energy_force_errors as energy_force_errors
from objectives.mse import mse as mse
from potentials.base import Potential
from potentials.registry import lookup
from potentials.system import System
from samplers import make_sampler


def _mse(potential: Potential, system: System, config: Any) -> Objective:
    return mse(potential, **config.mse)


def _contrastive(potential: Potential, system: System, config: Any) -> Objective:
    settings = dict(config.contrastive)
    name = settings.pop("sampler")
    temperatures = [factor * system.temperature for factor in (1.0, *settings.pop("hotter", ()))]
    samplers = [make_sampler(name, potential, system._replace(temperature=t), config) for t in temperatures]
    return contrastive(potential, samplers, system.masses, temperatures, **settings)


def _crmse(potential: Potential, system: System, config: Any) -> Objective:
    return combine(
        {
            "mse": (1.0, _mse(potential, system, config)),
            "contrastive": (config.crmse.weight, _contrastive(potential, system, config)),
        }
    )


OBJECTIVES: dict[str, Callable[[Potential, System, Any], Objective]] = {
    "mse": _mse,
    "contrastive": _contrastive,
    "crmse": _crmse,
}
"""Flag name -> builder (potential, system, config) -> Objective. A new objective is a line here."""


def make_objective(name: str, potential: Potential, system: System, config: Any) -> Objective:
    """The objective of a flag name; `config` is the experiment's whole configuration.

    Raises:
      ValueError: unknown name.
    """
    return lookup(OBJECTIVES, name, "objective")(potential, system, config)
