"""From a configuration to what every binary needs: data, system, potential; all checks made here.

Nothing is compiled before the last check has passed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.datasets import Frames, Splits, load_splits
from experiments.distributions import Distributions, as_blocks, energy_bin_edges, from_arrays, measure
from experiments.known_datasets import locate
from objectives import Batch
from potentials import POTENTIALS, Potential, System, add_prior, make_system, zbl
from potentials.registry import lookup

REFERENCE_BLOCKS = 20


class Problem(NamedTuple):
    """Attributes: splits, as read; system; potential, whose energies are relative to
    `energy_shift` (eV, the mean training energy); train, validation, test: relative, centred,
    float32."""

    splits: Splits
    system: System
    potential: Potential
    energy_shift: float
    train: Batch
    validation: Batch
    test: Batch


def make_problem(config: ConfigDict) -> Problem:
    """Reads the data and builds the potential.

    Raises:
      ValueError: bad data, an unknown potential, more frames a batch than there are, or a cutoff
        shorter than a bond; one line each.
      OSError: a data file that is not there and can not be fetched.
    """
    splits = load_splits(config.dataset, config.seed)
    train = splits.train
    if config.training.batch_size > len(train.energies):
        raise ValueError(
            f"training.batch_size is {config.training.batch_size}, but dataset.train gives "
            f"{len(train.energies)} frames"
        )
    system = make_system(train.numbers, train.positions[0], config.dataset.temperature)
    shift = float(np.mean(train.energies))
    return Problem(
        splits,
        system,
        make_potential(config, system, train),
        shift,
        *(to_batch(frames, system, shift) for frames in splits),
    )


def make_potential(config: ConfigDict, system: System, train: Frames) -> Potential:
    """The potential of `config.potential`, with the ZBL prior where `config.zbl.enabled`.

    Raises:
      ValueError: an unknown name, or a cutoff shorter than a bond of the training frames.
    """
    builder = lookup(POTENTIALS, config.potential, "potential")
    settings = config.get(config.potential, ConfigDict())
    if len(system.bonds) and "cutoff" in settings:
        first, second = system.bonds.T
        longest = np.linalg.norm(train.positions[:, first] - train.positions[:, second], axis=-1).max()
        if settings.cutoff <= longest:
            raise ValueError(
                f"{config.potential}.cutoff is {settings.cutoff} Å, shorter than a bond of "
                f"{longest:.2f} Å in the training frames"
            )
    potential = builder(system, **settings)
    if config.zbl.enabled:
        potential = add_prior(potential, zbl(system, reach=config.zbl.reach))
    return potential


def to_batch(frames: Frames, system: System, energy_shift: float) -> Batch:
    """Frames as device arrays: relative energies, centres of mass at 0, both before float32."""
    weights = system.masses / system.masses.sum()
    centres = np.einsum("n,fnk->fk", weights, frames.positions)
    return Batch(
        positions=jnp.asarray(frames.positions - centres[:, None], jnp.float32),
        energies=jnp.asarray(frames.energies - energy_shift, jnp.float32),
        forces=jnp.asarray(frames.forces, jnp.float32),
    )


def reference_distributions(config: ConfigDict, problem: Problem) -> Distributions:
    """What the model's samples are compared with.

    The package's own files carry the statistics of all frames of the reference chains. For other
    data they are made from the frames at hand, training, validation and test together, in
    `REFERENCE_BLOCKS` random blocks that take the part of chains.
    """
    path = Path(locate(config.dataset.name).path if config.dataset.name else config.dataset.path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            if "reference_n_frames" in file:
                return from_arrays(file)
    positions = np.concatenate([frames.positions for frames in problem.splits])
    energies = np.concatenate([frames.energies for frames in problem.splits])
    blocks = as_blocks(energies, REFERENCE_BLOCKS)
    return measure(
        problem.system, as_blocks(positions, REFERENCE_BLOCKS), blocks, energy_bin_edges(energies)
    )
