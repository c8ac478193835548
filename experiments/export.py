"""A trained potential as files for others: python -m experiments.export --workdir=W --output=model

energy_forces.stablehlo runs with jax alone, weights.safetensors holds the parameters by name, card.json
says what they are, README.md says it to people. `experiments.calculator` makes an ASE calculator of them.
"""

from __future__ import annotations

import json
from pathlib import Path

from absl import flags

from experiments import binary
from experiments.evaluate import load_params
from experiments.model_files import write_model
from experiments.problem import check_data, make_problem

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
        metrics_file = workdir / "eval" / "metrics.json"
        metrics = json.loads(metrics_file.read_text()) if metrics_file.exists() else {}
        write_model(output, config, problem, params, metrics)
    binary.LOG.info("%s: %s", output, ", ".join(sorted(path.name for path in output.iterdir())))


if __name__ == "__main__":
    binary.run(main)
