"""Configurations as records: what each must have, older ones completed, two compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.configs import base

_GAINED = {
    "weights": "",
    "dataset.labels": "",
    "dataset.label_names": "",
    "dataset.group": "",
    "dataset.ignore_cell": False,
    "pre_training.optimiser": "adam",
    "post_training.optimiser": "adam",
    "post_training.max_force_rise": 0.0,
    "evaluation.bond_deviation": 0.5,
    "evaluation.temperature": 0.0,
    "evaluation.reference": "",
    "evaluation.vacf_lags": 0,
    "evaluation.rdf_deviation": 3.0,
    "contrastive.reference": "",
    "stable.temperature": 0.0,
    "stable.estimator": "global",
    "stable.deviation_bins": 0,
    "stable.per_bin": 5,
    "stable.observables.radial_distributions": 0.0,
    "stable.observables.contacts": 0.0,
}

_RENAMED = {"nequip.n_radial": "n_hidden", "mace.n_radial": "n_hidden"}
_UNITS = ("energy_unit", "length_unit", "force_unit")  # once settings of their own, now parts of one

_SECTIONS = ("seed", "objective", "potential", "dataset", "training", "evaluation")
"""Without which there is nothing that a binary could do."""


def check_sections(config: Mapping[str, Any], source: str) -> None:
    """Checks that a configuration is one of an experiment.

    Raises:
      ValueError, beginning with `source`: a part that every experiment has is missing, or is no section.
    """
    for name in _SECTIONS:
        if name not in config:
            raise ValueError(
                f"{source}: '{name}' is missing; expected a configuration like configs/base.py's"
            )
        if name in ("dataset", "training", "evaluation") and not isinstance(
            config[name], Mapping | ConfigDict
        ):
            raise ValueError(f"{source}: '{name}' is {config[name]!r}; expected a section of settings")


def complete(record: dict) -> dict:
    """A configuration's record with the fields that configurations have gained since the first runs, at
    the values that change nothing, and today's names. Fields that a user's own configuration leaves out stay
    out."""
    filled = dict(record)
    for name, new in _RENAMED.items():
        section, field = name.split(".")
        if field in filled.get(section, {}):
            filled[section] = {new if key == field else key: v for key, v in filled[section].items()}
    if "units" not in filled.get("dataset", {"units": ""}):
        dataset = dict(filled["dataset"])
        units = ",".join(dataset.pop(name, "") or "" for name in _UNITS)
        filled["dataset"] = {**dataset, "units": units.rstrip(",")}
    for name, value in _GAINED.items():
        filled = _with(filled, name.split("."), value)
    # No run that uses one is older than it.
    for section in ("stable", "stable_compat", "crmse_stable", "nequip", "mace", "gemnet_t"):
        filled.setdefault(section, json.loads(base.get_config()[section].to_json()))
    return filled


def _with(record: dict, path: list[str], value: Any) -> dict:
    """The record with a field where it has none, in a section that it has."""
    first, *rest = path
    if not rest:
        return {first: value} | record
    return {**record, first: _with(record[first], rest, value)} if first in record else record


def difference(old: dict, new: dict, prefix: str = "") -> str:
    """The first field in which two nested records differ, as words; empty where they are equal."""
    for key in sorted(old.keys() | new.keys()):
        one, other = old.get(key), new.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            return difference(one, other, f"{prefix}{key}.")
        return f"{prefix}{key} is {one!r} there and {other!r} here"
    return ""
