"""Objectives: losses as pure functions, and the names they go by on the command line."""

from collections.abc import Callable
from typing import Any

import numpy as np

from objectives.averages import make_observables
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
from objectives.stable import stable as stable
from potentials.base import Potential
from potentials.registry import lookup
from potentials.system import System
from potentials.units import KB
from samplers import make_criterion, make_sampler


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


def _stable(potential: Potential, system: System, config: Any) -> Objective:
    settings = dict(config.stable)
    sampler = make_sampler(settings.pop("sampler"), potential, system, config)
    thresholds = (settings.pop("bond_deviation"), settings.pop("minimum_distance"))
    reference = settings.pop("reference")
    return stable(
        potential,
        sampler,
        make_criterion(system, *thresholds),
        make_observables(settings.pop("observables"), system),
        _mse(potential, system, config),
        system.masses,
        1.0 / (KB * system.temperature),
        targets=_targets(reference) if reference else None,
        centred=system.cell is None,
        **settings,
    )


def _targets(path: str) -> dict[str, Any]:
    """Arrays by observable name from an npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ValueError(f"stable.reference: {path} is no readable npz file: {error}") from error


OBJECTIVES: dict[str, Callable[[Potential, System, Any], Objective]] = {
    "mse": _mse,
    "contrastive": _contrastive,
    "crmse": _crmse,
    "stable": _stable,
}
"""Flag name -> builder (potential, system, config) -> Objective. A new objective is a line here."""


def make_objective(name: str, potential: Potential, system: System, config: Any) -> Objective:
    """The objective of a flag name; `config` is the experiment's whole configuration.

    Raises:
      ValueError: unknown name.
    """
    return lookup(OBJECTIVES, name, "objective")(potential, system, config)
