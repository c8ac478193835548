"""Records of a study's evaluations: one JSON file each, and their summary over seeds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import binary
from experiments.configurations import complete, difference
from experiments.verdicts import format_value

COLUMNS = (
    "energy_mae_mev",
    "force_mae_mev_per_angstrom",
    "spurious_fraction",
    "spurious_chains",
    "energy_minimum_ev",
    "ks_energy",
    "energy_sd_ev",
    "kinetic_temperature_k",
    "hr_mae",
    "dihedral_free_energy_rmse_mev",
    "stable_time_ps_median",
    "stable_time_ps_mean",
    "rdf_stable_time_ps_mean",
    "rdf_mae_O-O",
    "diffusivity_angstrom2_per_ps",
)

_RECORD = re.compile(r"(?P<name>.+?)_(?P<frames>\d+)_(?P<seed>\d+)(_(?P<output>\w+))?\.json")


def record_name(name: str, n_frames: int, seed: int, output: str) -> str:
    """File of one evaluation's metrics."""
    suffix = output.removeprefix("eval")
    return f"{name}_{n_frames}_{seed}{suffix}.json"


def is_done(path: Path, config: ConfigDict) -> bool:
    """Whether the metrics are there, made with this configuration.

    Raises:
      InputError: they were made with another one.
    """
    if not path.exists():
        return False
    made = _relevant(complete(json.loads(path.read_text())["config"]))
    if other := difference(made, _relevant(complete(portable(config)))):
        raise binary.InputError(f"{path} was made with another configuration: {other}; move it away")
    return True


def portable(config: ConfigDict) -> dict[str, Any]:
    """What the run depends on: no paths (of files and folders their names; of a data set's files what is in
    them too), and no settings of what it does not use."""
    record = _relevant(json.loads(config.to_json()))
    for section in record.keys() & {"contrastive", "stable"}:
        record[section]["reference"] = Path(record[section].get("reference", "")).name
    for name in ("path", "test_path"):
        record["dataset"][name] = _name_and_digest(Path(record["dataset"].get(name, "")))
    return record | {name: Path(record[name]).name for name in ("init_from", "weights")}


def _name_and_digest(path: Path) -> str:
    if not path.is_file():
        return path.name
    with open(path, "rb") as file:
        return f"{path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _relevant(record: dict[str, Any]) -> dict[str, Any]:
    """Without the sections of other objectives, nor of post-training where there was none."""
    objective, unused = record.get("objective", ""), set()
    if "stable" not in objective:
        unused |= {"stable", "stable_compat"}
    if objective == "mse":
        unused |= {"contrastive", "crmse"}
    if objective != "crmse_stable":
        unused.add("crmse_stable")
    unused |= {"gemnet_t", "mace", "nequip", "schnet"} - {record.get("potential", "schnet")}
    if not record.get("init_from"):
        unused.add("post_training")
    return {name: value for name, value in record.items() if name not in unused}


def summarise(results: Path) -> dict[str, Any]:
    """Over the seeds of each kind of run in a folder: how many, and means with standard errors.

    Raises:
      InputError: seeds of one kind were made with different configurations.
    """
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    configs: dict[tuple[int, str], dict[str, Any]] = {}
    for path in sorted(results.glob("*_*_*.json")):
        if match := _RECORD.fullmatch(path.name):
            label = match["name"] + (f" ({match['output']})" if match["output"] else "")
            record = json.loads(path.read_text())
            group = (int(match["frames"]), label)
            config = _relevant(complete(record["config"])) | {"seed": None, "init_from": None}
            if found := difference(configs.setdefault(group, config), config):
                raise binary.InputError(f"{path} and other seeds differ: {found}; move one of them away")
            groups.setdefault(group, []).append(record["metrics"])
    return {
        f"{label}, {n_frames} frames": {"n_seeds": len(runs), "over_seeds": _over_seeds(runs)}
        for (n_frames, label), runs in sorted(groups.items())
    }


def _over_seeds(runs: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    result: dict[str, list[float | None]] = {}
    for key in runs[0]:
        values = [run.get(key) for run in runs]
        if key.endswith("_stderr") or not all(isinstance(v, int | float) for v in values):
            continue
        stderr = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        result[key] = [float(np.mean(values)), stderr]
    return result


def table(summary: Mapping[str, Any]) -> str:
    """The summary as a Markdown table, without columns that nothing has; ± is the standard error over
    seeds."""
    columns = [c for c in COLUMNS if any(c in cell["over_seeds"] for cell in summary.values())]
    lines = [
        "| run | seeds | " + " | ".join(f"`{c}`" for c in columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for label, cell in summary.items():
        values = []
        for column in columns:
            value = cell["over_seeds"].get(column)
            unreached = column == "stable_time_ps_median" and "stable_time_ps_mean" in cell["over_seeds"]
            missing = "not reached in every seed" if unreached else "–"
            values.append(format_value(value[0], value[1]) if value else missing)
        lines.append(f"| {label} | {cell['n_seeds']} | " + " | ".join(values) + " |")
    return "\n".join(lines)
