"""A trained potential as files for others: python -m experiments.export --workdir=W --output=model

energy_forces.stablehlo runs with jax alone, weights.safetensors holds the parameters by name, card.json
says what they are, README.md says it to people. `experiments.calculator` makes an ASE calculator of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from absl import flags

from experiments import binary
from experiments.model_files import write_model
from experiments.problem import check_data, make_problem
from experiments.weights import load_params, weights_digest

WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a trained run.", allow_override=True)
OUTPUT = flags.DEFINE_string("output", "", "Folder to write; it must not exist.", allow_override=True)


def main() -> None:
    """The binary."""
    if not WORKDIR.value or not OUTPUT.value:
        raise binary.InputError("--workdir and --output must be set: a trained run, and a folder to write")
    workdir, output = Path(WORKDIR.value), Path(OUTPUT.value)
    if output.exists():
        raise binary.InputError(f"--output={output} exists; expected a new folder")
    config = binary.read_config(workdir)
    with binary.reading_input():
        problem = make_problem(config)
        check_data(workdir, problem)
        params = load_params(workdir, problem)
        metrics = read_record(workdir / "eval" / "metrics.json")
        if metrics.get("run_weights", digest := weights_digest(params)) != digest:
            binary.LOG.warning("%s/eval is of other weights than the latest: not in the card", workdir)
            metrics = {}
        trained_with = read_record(workdir / binary.PROVENANCE)
        write_model(output, config, problem, params, metrics, trained_with)
    binary.LOG.info("%s: %s", output, ", ".join(sorted(path.name for path in output.iterdir())))


def read_record(path: Path) -> dict[str, Any]:
    """A flat JSON object; empty where there is no such file.

    Raises:
      ValueError: a damaged file.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


if __name__ == "__main__":
    binary.run(main)
