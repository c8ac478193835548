"""From a configuration to what every binary needs: data, system, potential; all checks made here.

No network is compiled before the last check has passed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.datasets import Frames, Splits, load_splits, reading_settings
from experiments.engines import label, require_engine
from experiments.frame_files import read_frames
from experiments.frames import join
from experiments.known_datasets import Located, locate
from experiments.npz_files import open_npz, section_sizes
from objectives import Batch
from objectives.dihedrals import Dihedral, find_dihedrals, user_dihedral
from objectives.observables import bond_lengths
from potentials import POTENTIALS, Potential, System, add_prior, make_system, with_bonds, zbl
from potentials.registry import lookup

DIGEST = "data.sha256"
"""File of a workdir with the digest of its frames."""
ATOMS_AT_ONCE = 4500  # in one evaluation of a network on data
GEOMETRIES = 100  # training frames whose bonds are looked at
RELABELLED, SAME_LABEL = 3, 0.005  # test frames; eV, within which an engine's label is that of the data
LASTING = 0.9  # share of them that has a bond of a box


class Problem(NamedTuple):
    """Attributes: splits, as read; system; potential, whose energies are relative to
    `energy_shift` (eV, the mean training energy); train, validation, test: relative, centred
    (in a box wrapped), float32."""

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
    geometry = typical_geometry(train)
    system = make_system(train.numbers, geometry, config.dataset.temperature, cell=train.cell)
    if system.cell is not None:
        system = with_bonds(system, lasting_bonds(train))
    lengths = np.asarray(bond_lengths(train.positions, system.bonds, train.cell), np.float64).mean(axis=0)
    system = system._replace(bond_lengths=lengths)
    shift = float(np.mean(train.energies))
    return Problem(
        splits,
        system,
        make_potential(config, system, train),
        shift,
        *(to_batch(frames, system, shift) for frames in splits),
    )


def data_digest(problem: Problem) -> str:
    """SHA-256 of all frames as they were read."""
    digest = hashlib.sha256()
    for frames in problem.splits:
        for array in (frames.positions, frames.energies, frames.forces):
            digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
        if frames.cell is not None:
            digest.update(frames.cell.tobytes())
    return digest.hexdigest()


def check_data(workdir: Path, problem: Problem) -> None:
    """Checks that the run in a workdir, where it noted its data, has had these frames.

    Raises:
      ValueError: it has had others, under the same name.
    """
    path = workdir / DIGEST
    if path.exists() and path.read_text().strip() != data_digest(problem):
        periodic = (
            " (or was read without its cell: dataset.ignore_cell)" if problem.system.cell is not None else ""
        )
        raise ValueError(
            f"{workdir} holds a run on other frames: the data set's file has changed since, or its random "
            f"split was of another seed{periodic}"
        )


def typical_geometry(train: Frames) -> np.ndarray:
    """A training frame [N, 3] with the most common bonds, so that one hot frame does not set them."""
    rows, bonds = _bonds_of_some(train)
    graphs = [found.tobytes() for found in bonds]
    common, _ = Counter(graphs).most_common(1)[0]
    return train.positions[rows[graphs.index(common)]]


def lasting_bonds(train: Frames) -> np.ndarray:
    """Bonds [M, 2] that nine in ten training frames of a box have: in a melt, atoms that just touch."""
    rows, found = _bonds_of_some(train)
    bonds, times = np.unique(np.concatenate(found), axis=0, return_counts=True)
    return bonds[times >= LASTING * len(rows)]


def _bonds_of_some(train: Frames) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows of evenly spaced training frames, and the bonds [M, 2] of each."""
    rows = np.linspace(0, len(train.positions) - 1, min(GEOMETRIES, len(train.positions))).astype(int)
    systems = (make_system(train.numbers, train.positions[row], 1.0, cell=train.cell) for row in rows)
    return rows, [system.bonds for system in systems]


def chosen_dihedrals(config: ConfigDict, system: System) -> list[Dihedral]:
    """Those of `config.evaluation.dihedrals`, or all that the bonds show; in a box none.

    Raises:
      ValueError: a quadruple that can not be read, or one in a box.
    """
    named = config.evaluation.dihedrals
    if system.cell is not None:
        if named:
            raise ValueError("evaluation.dihedrals are of molecules in vacuum; the system has a cell")
        return []
    if named:
        return [user_dihedral(text, system.numbers) for text in named]
    return find_dihedrals(system.numbers, system.bonds)


def make_potential(config: ConfigDict, system: System, train: Frames) -> Potential:
    """The potential of `config.potential`, with the ZBL prior where `config.zbl.enabled`.

    Raises:
      ValueError: an unknown name, or a cutoff shorter than a bond of the training frames.
    """
    builder = lookup(POTENTIALS, config.potential, "potential")
    settings = config.get(config.potential, ConfigDict())
    if len(system.bonds) and "cutoff" in settings:
        first, second = system.bonds.T
        steps = train.nearest(train.positions[:, first] - train.positions[:, second])
        longest = np.linalg.norm(steps, axis=-1).max()
        if settings.cutoff <= longest:
            raise ValueError(
                f"{config.potential}.cutoff is {settings.cutoff} Å, shorter than a bond of "
                f"{longest:.2f} Å in the training frames"
            )
    potential = builder(system, **settings)
    if config.zbl.enabled:
        prior = zbl(system, reach=config.zbl.reach, nonbonded_reach=config.zbl.nonbonded_reach)
        potential = add_prior(potential, prior)
    return potential


def to_batch(frames: Frames, system: System, energy_shift: float) -> Batch:
    """Frames as device arrays: relative energies, and positions that are `centred`, all before float32."""
    return Batch(
        positions=centred(frames.positions, system),
        energies=jnp.asarray(frames.energies - energy_shift, jnp.float32),
        forces=jnp.asarray(frames.forces, jnp.float32),
    )


def centred(positions: np.ndarray, system: System) -> jax.Array:
    """[F, N, 3] in Å with centres of mass at 0 or, in a box, atoms wrapped into it; then float32."""
    if system.cell is None:
        weights = system.masses / system.masses.sum()
        positions = positions - np.einsum("n,fnk->fk", weights, positions)[:, None]
    else:
        positions = positions - np.floor(positions @ np.linalg.inv(system.cell)) @ system.cell
    return jnp.asarray(positions, jnp.float32)


def in_pieces(batch: Batch) -> Iterator[Batch]:
    """Parts of a batch that fit into memory at once."""
    size = max(1, ATOMS_AT_ONCE // batch.positions.shape[1])
    for first in range(0, len(batch.energies), size):
        yield jax.tree.map(lambda leaf, first=first: leaf[first : first + size], batch)


def locate_data(config: ConfigDict) -> Located:
    """The files of the configured data set."""
    settings = config.dataset
    if settings.name:
        return locate(settings.name, whole=settings.split not in ("", "file"))
    return Located(Path(settings.path), Path(settings.test_path) if settings.test_path else None)


def all_frames(config: ConfigDict) -> Frames:
    """Every frame of the configured data set, in order of time."""
    located = locate_data(config)
    paths = [path for path in (located.path, located.test_path) if path]
    parts = [read_frames(path, **reading_settings(config.dataset)) for path in paths]
    joined = join(parts)
    return joined.take(np.argsort(joined.indices, kind="stable"))


def label_engine(config: ConfigDict, problem: Problem) -> str:
    """The engine that gives the negatives' true energies; empty for none. Where the data does not say what
    labelled it, a few test frames are labelled again.

    Raises:
      ValueError: the data was not labelled by it, so that its energies would not compare.
      ImportError: it is not installed.
    """
    engine = config.evaluation.engine
    if not engine:
        return ""
    require_engine(engine)
    path = locate_data(config).path
    labelled = ""
    if section_sizes(path):
        with open_npz(path) as file:
            labelled = str(file["settings_engine"]) if "settings_engine" in file else ""
    if labelled not in ("", engine) or problem.system.cell is not None:
        what = f"was labelled by '{labelled}'" if labelled else "is of a box, which the engine does not know"
        raise ValueError(
            f"evaluation.engine is '{engine}', but {path} {what}; expected the engine that labelled it, or "
            "an empty string for no labels"
        )
    if not labelled:
        frames = problem.splits.test.take(np.arange(min(RELABELLED, len(problem.splits.test.energies))))
        away = np.abs(label(engine, frames.numbers, frames.positions)[0] - frames.energies).max()
        if not away < SAME_LABEL:
            raise ValueError(
                f"evaluation.engine is '{engine}', which gives test frames of {path} other energies, by up "
                f"to {away:.3g} eV; expected the engine that labelled them, or an empty string for no labels"
            )
    return engine
