"""Ranges of the numbers in a configuration, checked before anything else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from ml_collections import ConfigDict

_AT_LEAST_ONE = (
    "dataset.train", "training.batch_size", "training.log_every", "training.checkpoint_every",
    "post_training.n_updates", "schnet.n_features", "schnet.n_filters",
    "schnet.n_interactions", "nequip.n_features", "nequip.n_layers", "nequip.n_bessel", "nequip.n_hidden",
    "mace.n_features", "mace.correlation", "mace.n_layers", "mace.n_bessel", "mace.n_hidden",
    "mace.n_readout", "gemnet_t.n_atom", "gemnet_t.n_edge", "gemnet_t.n_triplet", "gemnet_t.n_bilinear",
    "gemnet_t.n_basis", "gemnet_t.n_radial", "gemnet_t.n_spherical", "gemnet_t.n_blocks",
    "contrastive.n_chains", "contrastive.n_steps", "evaluation.n_steps",
    "evaluation.record_every", "stable.n_replicas", "stable.n_steps",
    "stable.record_every", "stable.n_cycles", "stable.max_learning_windows", "stable.max_uses",
    "stable.per_bin",
)  # fmt: skip
_POSITIVE = (
    "pre_training.clip_norm", "post_training.clip_norm", "pre_training.initial", "post_training.initial",
    "schnet.cutoff", "nequip.cutoff", "mace.cutoff", "gemnet_t.cutoff",
    "zbl.reach", "zbl.nonbonded_reach", "ula.step_size", "mala.step_size", "baoab.timestep", "baoab.friction",
    "nose_hoover.timestep", "nose_hoover.relaxation", "stable_compat.relaxation", "evaluation.bond_deviation",
    "evaluation.rdf_deviation",
)  # fmt: skip
_NOT_NEGATIVE = (
    "pre_training.n_updates", "nequip.l_max", "mace.l_max", "mace.hidden_l_max", "gemnet_t.n_residual",
    "evaluation.temperature", "evaluation.vacf_lags", "mse.energy_weight", "mse.force_weight",
    "crmse.weight", "crmse_stable.weight", "contrastive.burn_in",
    "pre_training.final", "post_training.final", "post_training.warmup", "evaluation.spurious_margin",
    "post_training.max_force_rise",
    "contrastive.fallen_weight", "stable.temperature", "stable.bond_deviation", "stable.minimum_distance",
    "stable.qm_weight", "stable.plateau_patience", "stable.deviation_bins", "stable_compat.max_reductions",
)  # fmt: skip
_SHARES = (
    "contrastive.restart_fraction", "pre_training.average_decay", "post_training.average_decay",
    "evaluation.discard", "stable.f_max", "stable.f_min", "stable.min_effective", "stable.plateau_factor",
    "stable_compat.reset_fraction",
)  # fmt: skip


def check_limits(config: ConfigDict) -> None:
    """Checks every number whose range is known.

    Raises:
      ValueError: one is out of range; it is named, with its value and what was expected.
    """
    for name in _AT_LEAST_ONE:
        _require(config, name, lambda x: x >= 1, "1 or more")
    for name in _POSITIVE:
        _require(config, name, lambda x: x > 0, "a positive number")
    for name in _NOT_NEGATIVE:
        _require(config, name, lambda x: x >= 0, "0 or more")
    for name in _SHARES:
        _require(config, name, lambda x: 0 <= x <= 1, "a number within [0, 1]")
    _check_levels(config)
    seeds = {"seed": config.seed, "evaluation.seed": config.get("evaluation", ConfigDict()).get("seed", 0)}
    for name, seed in seeds.items():
        if not 0 <= seed < 2**32:  # JAX would take 2³² + 1 for 1
            raise ValueError(f"{name} is {seed}; expected a number within [0, 2^32)")
    if config.get("post_training") and config.post_training.get("warmup", 0) > config.post_training.n_updates:
        raise ValueError(
            f"post_training.warmup is {config.post_training.warmup}; expected at most "
            f"post_training.n_updates, {config.post_training.n_updates}"
        )
    _require(config, "evaluation.n_chains", lambda x: x >= 2, "2 or more, for standard errors")
    _require(config, "nose_hoover.chain_length", lambda x: x >= 2, "2 or more")
    _require(config, "stable_compat.minibatch", lambda x: x == 0 or x >= 2, "0, or 2 or more")
    _require(config, "schnet.n_gaussians", lambda x: x >= 2, "2 or more")
    _require(config, "dataset.temperature", lambda x: x > 0, "the temperature of the frames, K")
    _require(config, "evaluation.discard", lambda x: x < 1, "a share below 1")


def _check_levels(config: ConfigDict) -> None:
    """Factors above the data's temperature: a value of 700 is a temperature taken for one."""
    levels = config.get("contrastive", ConfigDict()).get("hotter", ())
    try:
        factors = [1.0, *map(float, levels)]
    except (TypeError, ValueError):
        factors = []
    if not factors or not all(low < high <= 10 for low, high in itertools.pairwise(factors)):
        raise ValueError(
            f"contrastive.hotter is {levels}; expected rising factors within (1, 10], such as 1.4,2.0, "
            "or () for none"
        )


def _require(config: ConfigDict, name: str, holds: Callable[[float], bool], expected: str) -> None:
    section, field = name.split(".")
    if section not in config or field not in config[section]:
        return  # a configuration of the user's own may leave out what it does not use
    value = config[section][field]
    if value is None or not math.isfinite(value) or not holds(value):
        raise ValueError(f"{name} is {value}; expected {expected}")
