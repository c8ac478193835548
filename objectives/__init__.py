"""Objectives: losses as pure functions, and the names they go by on the command line."""

import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from objectives.averages import make_observables
from objectives.base import FULL_LIST as FULL_LIST
from objectives.base import Batch as Batch
from objectives.base import Metrics as Metrics
from objectives.base import Objective as Objective
from objectives.base import combine as combine
from objectives.base import static as static
from objectives.contrastive import Negatives as Negatives
from objectives.contrastive import contrastive as contrastive
from objectives.contrastive import contrastive_loss as contrastive_loss
from objectives.ensemble import mean_observable
from objectives.mse import energy_force_errors as energy_force_errors
from objectives.mse import mse as mse
from objectives.neighbourhoods import Neighbourhoods, one_molecule_each
from objectives.stable import stable as stable
from objectives.stable_compat import ESTIMATOR_BETA, published_sampler, shifted_distances
from potentials.base import Potential
from potentials.registry import lookup
from potentials.system import System
from potentials.units import KB
from samplers import Sampler, make_criterion, make_sampler


def _mse(potential: Potential, system: System, config: Any) -> Objective:
    return mse(potential, **config.mse)


def _contrastive(
    potential: Potential, system: System, config: Any, reference: ArrayLike | None = None
) -> Objective:
    settings = dict(config.contrastive)
    source = settings.pop("reference", "")
    if source and reference is None:
        raise ValueError(f"contrastive.reference is '{source}', but its frames were not handed over")
    if reference is not None:
        settings |= {"reference": reference, "n_reference": config.training.batch_size}
    name = settings.pop("sampler")
    temperatures = [factor * system.temperature for factor in (1.0, *settings.pop("hotter", ()))]
    samplers = [make_sampler(name, potential, system._replace(temperature=t), config) for t in temperatures]
    masses = system.masses if system.cell is None else None
    return contrastive(potential, samplers, masses, temperatures, cell=system.cell, **settings)


def _crmse(
    potential: Potential, system: System, config: Any, reference: ArrayLike | None = None
) -> Objective:
    return combine(
        {
            "mse": (1.0, _mse(potential, system, config)),
            "contrastive": (config.crmse.weight, _contrastive(potential, system, config, reference)),
        }
    )


def _stable(
    potential: Potential,
    system: System,
    config: Any,
    reference: ArrayLike | None = None,
    reference_weights: ArrayLike | None = None,
) -> Objective:
    sampler = make_sampler(config.stable.sampler, potential, _replicas(system, config), config)
    return _stable_with(potential, system, config, sampler, reference, reference_weights)


def _crmse_stable(
    potential: Potential,
    system: System,
    config: Any,
    reference: ArrayLike | None = None,
    reference_weights: ArrayLike | None = None,
) -> Objective:
    """Both cures at once; the reference is StABlE's."""
    observed = _stable(potential, system, config, reference, reference_weights)
    return combine(
        {
            "crmse": (1.0, _crmse(potential, system, config)),
            "stable": (config.crmse_stable.weight, observed),
        }
    )


def _stable_compat(
    potential: Potential,
    system: System,
    config: Any,
    reference: ArrayLike | None = None,
    reference_weights: ArrayLike | None = None,
) -> Objective:
    own, replicas = config.stable_compat, _replicas(system, config)
    sampler = published_sampler(
        potential,
        replicas,
        timestep=config.nose_hoover.timestep,
        relaxation=own.relaxation,
        maxwell_speeds=own.maxwell_speeds,
        all_degrees_of_freedom=own.all_degrees_of_freedom,
    )
    if own.target_shift and (config.stable.reference or replicas.temperature != system.temperature):
        raise ValueError(
            "stable_compat.target_shift is of targets from the training frames; expected 0 beside "
            "stable.reference or stable.temperature"
        )
    thermal = KB * replicas.temperature
    return _stable_with(
        *(potential, system, config, sampler, reference, reference_weights),
        references={"distances": shifted_distances(own.target_shift)},
        gradient_factor=ESTIMATOR_BETA * thermal if own.drop_temperature else 1.0,
        cross_fitted=False,
        minibatch=own.minibatch,
        reset_fraction=own.reset_fraction,
        max_reductions=own.max_reductions,
    )


def _replicas(system: System, config: Any) -> System:
    """The system at the replicas' temperature."""
    return system._replace(temperature=config.stable.temperature or system.temperature)


def _stable_with(
    potential: Potential,
    system: System,
    config: Any,
    sampler: Sampler,
    reference: ArrayLike | None,
    reference_weights: ArrayLike | None,
    **changes: Any,
) -> Objective:
    settings, replicas = dict(config.stable), _replicas(system, config)
    del settings["sampler"], settings["temperature"]
    thresholds = (settings.pop("bond_deviation"), settings.pop("minimum_distance"))
    path = settings.pop("reference")
    estimator = lookup(ESTIMATORS, settings.pop("estimator"), "stable.estimator")
    neighbourhoods = estimator(system, settings.pop("deviation_bins"), settings.pop("per_bin"))
    observables = make_observables(settings.pop("observables"), system, neighbourhoods)
    targets = _values(path) if path and reference is None else {}
    if reference is not None:
        frames = jnp.asarray(reference)
        targets = {
            name: mean_observable(g, frames, reference_weights) for name, (_, g) in observables.items()
        }
    unknown = observables.keys() - targets.keys()
    if replicas.temperature != system.temperature and unknown:
        raise ValueError(
            f"stable.temperature is {replicas.temperature:g} K and the training frames are of "
            f"{system.temperature:g} K: expected a target for '{min(unknown)}' at that temperature"
        )
    return stable(
        potential,
        sampler,
        make_criterion(system, *thresholds),
        observables,
        _mse(potential, system, config),
        system.masses,
        1.0 / (KB * replicas.temperature),
        targets=targets,
        neighbourhoods=neighbourhoods,
        centred=system.cell is None,
        **{**settings, **changes},
    )


def _values(path: str) -> dict[str, Any]:
    """Arrays by observable name from an npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"stable.reference: {path} is no readable npz file: {error}") from error


ESTIMATORS: dict[str, Callable[..., Neighbourhoods | None]] = {
    "global": lambda *_: None,
    "local": one_molecule_each,
}
"""Flag name -> (system, deviation_bins, per_bin) -> the neighbourhoods of StABlE's estimator."""

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "mse": _mse,
    "contrastive": _contrastive,
    "crmse": _crmse,
    "stable": _stable,
    "stable_compat": _stable_compat,
    "crmse_stable": _crmse_stable,
}
"""Flag name -> builder (potential, system, config) -> Objective. A new objective is a line here."""


def make_objective(
    name: str, potential: Potential, system: System, config: Any, **data: ArrayLike
) -> Objective:
    """The objective of a flag name.

    Args:
      name: of `OBJECTIVES`.
      potential, system: what is trained.
      config: the experiment's whole configuration.
      **data: what the builder takes besides: `reference`, frames [F, N, 3] (Å) of the distribution, whose
        means are StABlE's targets, and over which the contrastive term's first mean runs; for StABlE
        `reference_weights` [F] of these means, which sum to 1, where replicas have another temperature.

    Raises:
      ValueError: unknown name.
    """
    return lookup(OBJECTIVES, name, "objective")(potential, system, config, **data)
