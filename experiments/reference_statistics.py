"""What the samples of a model are compared with, and at which temperature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from experiments.distributions import Distributions, as_blocks, energy_bin_edges, from_arrays, measure
from experiments.known_datasets import packaged_statistics
from experiments.npz_files import open_npz, section_sizes
from experiments.problem import Problem, all_frames, chosen_dihedrals, locate_data
from objectives.dihedrals import Dihedral
from objectives.observables import virial_temperature

REFERENCE_BLOCKS = 20


def evaluation_temperature(config: ConfigDict) -> float:
    """Of the evaluation's chains, K: `evaluation.temperature`, or the data set's where that is 0."""
    return config.evaluation.temperature or config.dataset.temperature


def has_reference(config: ConfigDict) -> bool:
    """Whether there is a reference at the evaluation's temperature. Without one, stability alone can be
    judged."""
    return evaluation_temperature(config) == config.dataset.temperature or bool(_statistics_file(config))


def reference_distributions(config: ConfigDict, problem: Problem) -> Distributions:
    """What the model's samples are compared with; at the data set's temperature where there is no
    reference at the evaluation's.

    `evaluation.reference` and the package's own files carry the statistics of all frames of their
    reference chains. For other data they are made from all frames of the data set, used for training or
    not, in order of time, in `REFERENCE_BLOCKS` blocks that take the part of chains.

    Raises:
      ValueError: fewer frames than blocks, or a file of statistics of another temperature or without the
        dihedrals asked for.
      OSError: no such file.
    """
    dihedrals = chosen_dihedrals(config, problem.system)
    path = _statistics_file(config)
    if path is not None:
        return _read(path, dihedrals, evaluation_temperature(config))
    located = locate_data(config)
    if section_sizes(located.path):
        return _read(located.path, dihedrals, config.dataset.temperature)
    frames = all_frames(config)
    positions, energies = (
        as_blocks(array, REFERENCE_BLOCKS) for array in (frames.positions, frames.energies)
    )
    virial = None  # that of a box has the pressure's part too
    if problem.system.cell is None:
        of_frames = virial_temperature(frames.positions, frames.forces, problem.system.masses)
        virial = as_blocks(np.asarray(of_frames), REFERENCE_BLOCKS)
    reference = measure(
        problem.system,
        positions,
        energies,
        energy_bin_edges(frames.energies),
        dihedrals,
        achiral=config.evaluation.achiral,
        virial_temperatures=virial,
    )
    # Of all frames, those of an incomplete block too: the lowest energy sets the spurious threshold.
    quantiles = np.quantile(frames.energies, np.linspace(0, 1, len(reference.energy_quantiles)))
    return reference._replace(energy_quantiles=quantiles)


def _statistics_file(config: ConfigDict) -> Path | None:
    """The file named, or the package's at another temperature than the data set's."""
    if config.evaluation.reference:
        return Path(config.evaluation.reference)
    temperature = evaluation_temperature(config)
    if temperature == config.dataset.temperature:
        return None
    return packaged_statistics(config.dataset.name, temperature)


def _read(path: Path, dihedrals: list[Dihedral], temperature: float) -> Distributions:
    with open_npz(path) as file:
        arrays = dict(file)
    try:
        reference = from_arrays(arrays)
        own = float(arrays.get("settings_temperature", temperature))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}; expected a file of experiments.reference") from error
    if own != temperature:
        raise ValueError(f"{path} holds statistics at {own:g} K; expected {temperature:g} K")
    names = [dihedral.name for dihedral in dihedrals]
    if names != reference.dihedral_names.tolist():
        raise ValueError(
            f"{path} holds statistics of {', '.join(reference.dihedral_names)}; "
            f"evaluation.dihedrals asks for {', '.join(names)}"
        )
    return reference
