"""Trajectories without need of labels: frames of the distribution that the contrastive term learns
(`contrastive.reference`), or whose means observables are trained towards (`stable.reference`)."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.binary import LOG
from experiments.datasets import reading_settings
from experiments.frame_checks import are_shared
from experiments.frame_files import read_frames
from experiments.frames import Frames, same_cell
from experiments.known_datasets import Located, is_known, locate
from experiments.npz_files import open_npz, section_sizes
from experiments.problem import Problem, centred
from experiments.splits import read_row_csv
from objectives.averages import OBSERVABLES
from objectives.reweighting import effective_samples, temperature_weights

SECTIONS = {
    "contrastive": "contrastive",
    "crmse": "contrastive",
    "stable": "stable",
    "stable_compat": "stable",
    "crmse_stable": "stable",
}
"""Objective -> section of the configuration whose `reference` it takes."""
REFERENCE_DIGEST = "reference.sha256"
"""File of a workdir with the digest of the objective's reference."""


def reference_trajectory(config: ConfigDict, problem: Problem) -> dict[str, jax.Array]:
    """`{"reference": positions [F, N, 3]}` (Å) where the objective's section names frames, without those that
    are test frames too; nothing where it holds values, which StABlE reads, or names none. Where StABlE's
    replicas have another temperature than the data, `reference_weights` [F] too, of the training frames where
    no others are named.

    Raises:
      ValueError, OSError: frames that can not be read, or are of another system, or test frames alone; for
        weights, frames without energies.
    """
    section, source, temperature = _named(config)
    elsewhere = temperature not in (0.0, config.dataset.temperature)
    if section == "stable" and source and holds_values(source):
        return {}
    if not source:
        return _weighted(problem.splits.train, problem, config, temperature) if elsewhere else {}
    setting = f"{section}.reference"
    try:
        frames = reference_frames(source, config.dataset, labelled=elsewhere)
    except (ValueError, OSError) as error:
        raise ValueError(f"{setting}: {error}") from error
    if not np.array_equal(frames.numbers, problem.system.numbers):
        raise ValueError(f"{setting}: {source} has other atoms than the training data, or another order")
    if not same_cell(frames.cell, problem.splits.train.cell):
        cells = (None if cell is None else cell.tolist() for cell in (frames.cell, problem.system.cell))
        raise ValueError("{}: {} has the cell {}; expected {}".format(setting, source, *cells))
    if not np.isfinite(frames.positions).all():
        raise ValueError(f"{setting}: {source} has positions that are not finite")
    tested = are_shared(problem.splits.test, frames)
    if tested.any():
        LOG.info("%s: %d of %d frames are test frames and left out", setting, tested.sum(), len(tested))
    if tested.all():
        raise ValueError(f"{setting}: {source} has no frames but test frames")
    frames = frames.take(np.flatnonzero(~tested))
    if not elsewhere:
        return {"reference": centred(frames.positions, problem.system)}
    if not np.isfinite(frames.energies).all():
        raise ValueError(f"{setting}: {source} has energies that are not finite, which its weights need")
    return _weighted(frames, problem, config, temperature)


def _named(config: ConfigDict) -> tuple[str, str, float]:
    """The section that the objective takes a reference from, the reference, and StABlE's temperature, 0 for
    the data's."""
    section = SECTIONS.get(config.objective, "")
    temperature = config.stable.temperature if section == "stable" else 0.0
    return section, config.get(section, {}).get("reference", ""), temperature


def _weighted(
    frames: Frames, problem: Problem, config: ConfigDict, temperature: float
) -> dict[str, jax.Array]:
    sampled = config.dataset.temperature
    weights = temperature_weights(frames.energies, sampled, temperature)
    found = (len(weights), sampled, temperature, effective_samples(weights), 1 / np.sum(np.square(weights)))
    LOG.info("targets: of %d frames at %g K at %g K are left %.0f by entropy, %.0f by variance", *found)
    return {"reference": centred(frames.positions, problem.system), "reference_weights": weights}


def holds_values(source: str) -> bool:
    """Whether a file is an npz of targets by observable, not of frames."""
    if not Path(source).is_file() or not zipfile.is_zipfile(source):
        return False
    with open_npz(source) as file:
        return bool(set(file) & set(OBSERVABLES))


def reference_digest(config: ConfigDict) -> str:
    """SHA-256 of the reference that the objective's section names, as it was read: frames, with energies
    where their weights need them, or values; empty where it names none.

    Raises:
      ValueError, OSError: as `reference_frames`.
    """
    section, source, temperature = _named(config)
    if not source:
        return ""
    if section == "stable" and holds_values(source):
        with open_npz(source) as file:
            arrays = [file[name] for name in sorted(set(file) & set(OBSERVABLES))]
    else:
        elsewhere = temperature not in (0.0, config.dataset.temperature)
        frames = reference_frames(source, config.dataset, labelled=elsewhere)
        arrays = [frames.positions, *([frames.energies] if elsewhere else [])]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    return digest.hexdigest()


def check_reference(workdir: Path, digest: str, config: ConfigDict) -> None:
    """Checks that the run in a workdir, where it noted its reference, has had the one of this digest.

    Raises:
      ValueError: it has had another, under the same name.
    """
    path = workdir / REFERENCE_DIGEST
    if path.exists() and path.read_text().strip() != digest:
        section, source, _ = _named(config)
        raise ValueError(f"{section}.reference: {source} has changed since the run in {workdir} began")


def reference_frames(source: str, config: ConfigDict, labelled: bool = False) -> Frames:
    """A reference trajectory: the training frames of a known set (all, of its own split where it has one), or
    a file. What ASE reads needs no labels; whatever it has of them is not for use, unless `labelled`.

    Args:
      source: a known name, or a path.
      config: of the data set. Its units, group and cell hold for a file too; `labels` for rMD17's sets.
      labelled: energies and forces are wanted.

    Raises:
      ValueError, OSError: as `read_frames` and `locate`.
    """
    located = locate(source) if is_known(source) else Located(Path(source))
    if is_known(source):
        settings = {"labels": config.labels if source.startswith("rmd17_") else ""}
    else:
        settings = reading_settings(config)
        if not labelled:
            settings["label_names"] = ""
    frames = read_frames(located.path, **settings, labelled=labelled)
    if sizes := section_sizes(located.path):
        return frames.take(np.arange(sizes[0]))
    if located.train_indices:
        return frames.take(read_row_csv(located.train_indices, len(frames.energies)))
    return frames
