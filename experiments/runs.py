"""Evaluated runs: what an evaluation leaves in a workdir, read back for figures and reports."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.binary import read_config
from experiments.npz_files import open_npz

Array = NDArray[np.float64]
_PAIR = ("reference", "reference_stderr", "model", "model_stderr")
GROUPS = {
    "energy": ("energy_edges", *(f"energy_{key}" for key in _PAIR)),
    "hr": ("hr_centers", *(f"hr_{key}" for key in _PAIR)),
    "chain": ("chain_time_ps", "chain_energy"),
    "stable": ("stable_time_ps", "stable_broken"),
    "vacf": ("vacf_time_fs", "vacf_model", "vacf_model_stderr"),
    "negatives_energy": ("negatives_energy_network", "negatives_energy_true"),
    "spurious": (
        "spurious_positions",
        "spurious_energy",
        "spurious_numbers",
        "spurious_test_positions",
    ),
    "rmsd": ("negatives_rmsd", "reference_rmsd"),
}
"""Group of curves -> its keys in curves.npz, all of them or none. Each dihedral and each g(r) is a group
besides."""

_UNITS = {
    "mev_per_angstrom": "meV/Å", "ev_per_angstrom": "eV/Å", "mev_per_atom": "meV/atom", "mev": "meV",
    "ev": "eV", "angstrom2_per_ps": "Å²/ps", "angstrom": "Å",
    "ps": "ps", "fs": "fs", "ns": "ns", "k": "K", "seconds": "s",
}  # fmt: skip
UNIT_SUFFIX = re.compile(
    rf"_({'|'.join(_UNITS)})(?=_(?:median|median_lower|median_upper|mean|min|minimum|max|maximum|std)$|$)"
)
"""The unit in a metric's name."""


class Run(NamedTuple):
    """An evaluated run: its name in legends, flat metrics, curves by key, training-log columns; the absolute
    path of its workdir and of that of the run whose weights it started from, where they are known."""

    label: str
    metrics: dict[str, float | int | str | None]
    curves: dict[str, NDArray]
    log: dict[str, Array]
    folder: Path | None = None
    parent: Path | None = None


def unit(name: str) -> str:
    """Unit in a metric's name: `energy_mae_mev` is in meV, `stable_time_ps_median` in ps; else empty."""
    match = UNIT_SUFFIX.search(name)
    return _UNITS[match[1]] if match else ""


def load_run(workdir: str | Path, label: str, output: str = "eval") -> Run:
    """Reads `<output>/metrics.json`, `<output>/curves.npz` and, where they are, `train_log.csv` and
    `config.json`.

    Raises:
      ValueError: a file is missing or unreadable, a group of curves is incomplete, or
        `chain_time_label` is not one string.
      InputError: a damaged `config.json`.
    """
    workdir = Path(workdir)
    metrics_path, curves_path = workdir / output / "metrics.json", workdir / output / "curves.npz"
    for path in (metrics_path, curves_path):
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected the output of an evaluation of this run")
    try:
        metrics = json.loads(metrics_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{metrics_path}: not valid JSON ({error})") from error
    if not isinstance(metrics, dict):
        raise ValueError(f"{metrics_path}: expected one flat object of metrics, got {type(metrics).__name__}")
    with open_npz(curves_path) as archive:
        curves = {key: archive[key] for key in archive}
    log = _read_log(workdir / "train_log.csv")
    run = Run(label, metrics, curves, log, workdir.resolve(), _parent(workdir))
    for group in (*GROUPS, *named_groups(run, "dihedral"), *named_groups(run, "rdf")):
        has_group(run, group)
    time_label(run)
    return run


def _parent(workdir: Path) -> Path | None:
    """Where the run lies whose weights this one started from. Runs that were moved lie beside each other
    still."""
    if not (workdir / "config.json").is_file():
        return None
    init_from = read_config(workdir).init_from
    if not init_from:
        return None
    parent = Path(init_from).resolve()
    return parent if parent.is_dir() else workdir.resolve().parent / parent.name


def _read_log(path: Path) -> dict[str, Array]:
    """Columns of a CSV log as arrays; empty cells, and those a cut-off last row lacks, are NaN."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    names = list(reader.fieldnames or [])
    if "step" not in names:
        raise ValueError(f"{path}: expected a header with a column 'step', got {names}")
    if any(None in row for row in rows):
        raise ValueError(f"{path}: a row has more cells than the header's {len(names)}")
    log: dict[str, Array] = {}
    for name in names:
        try:
            log[name] = np.array([float(row[name] or "nan") for row in rows])
        except ValueError as error:
            raise ValueError(f"{path}: column '{name}' must hold numbers or nothing ({error})") from error
    return log


def has_group(run: Run, group: str) -> bool:
    """Whether a run has a group of curves; an incomplete or inconsistent one is an error."""
    keys = GROUPS.get(group) or (f"{group}_centers", *(f"{group}_{key}" for key in _PAIR))
    missing = [key for key in keys if key not in run.curves]
    if len(missing) == len(keys):
        return False
    if missing:
        raise ValueError(f"run '{run.label}': curves.npz lacks '{missing[0]}', which '{group}' needs")
    shapes = {key: np.shape(run.curves[key]) for key in keys}
    if group == "chain":
        fits = len(shapes["chain_energy"]) == 2 and shapes["chain_energy"][1:] == shapes["chain_time_ps"]
    elif group == "stable":
        fits = len(set(shapes.values())) == 1 and len(shapes["stable_broken"]) == 1
    elif group == "spurious":
        frames, molecule = shapes["spurious_energy"], (*shapes["spurious_numbers"], 3)
        fits = len(frames) == 1 and shapes["spurious_positions"] == (*frames, *molecule)
        fits &= shapes["spurious_test_positions"] == molecule
    elif group == "rmsd":
        fits = all(len(shape) == 1 for shape in shapes.values())
    else:
        bins = {
            (*shape[:-1], shape[-1] - key.endswith("_edges")) if shape else ()
            for key, shape in shapes.items()
        }
        fits = len(bins) == 1 and len(bins.pop()) == 1
    if not fits:
        raise ValueError(f"run '{run.label}': shapes of '{group}' in curves.npz do not fit: {shapes}")
    return all(run.curves[key].size for key in keys)


def named_groups(run: Run, kind: str) -> dict[str, str]:
    """Group key of each dihedral (`dihedral_0`, ...) or of each g(r) (`rdf_0`, ...) to its name."""
    return {f"{kind}_{index}": str(name) for index, name in enumerate(run.curves.get(f"{kind}_names", ()))}


def time_label(run: Run) -> str:
    """What `chain_time_ps` counts: "Time (ps)", or the curve `chain_time_label` where there is one.

    Chains of samplers without a clock (ULA, MALA) count steps, such as "steps (ULA)".

    Raises:
      ValueError: `chain_time_label` is not one string.
    """
    label = np.asarray(run.curves.get("chain_time_label", "Time (ps)"))
    if label.size != 1 or label.dtype.kind != "U":
        found = f"'chain_time_label' in curves.npz is {label.dtype} {label.shape}"
        raise ValueError(f"run '{run.label}': {found}, expected one string")
    return str(label.item())
