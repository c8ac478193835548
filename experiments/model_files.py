"""A trained potential as files for others: a compiled function, weights by name, a card in JSON and words."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export
from ml_collections import ConfigDict
from safetensors.numpy import save

from experiments import binary
from experiments.evaluate import dataset_name
from experiments.problem import Problem
from experiments.records import portable
from experiments.starting_points import data_room
from experiments.verdicts import format_value
from potentials import Params, Potential, energy_and_forces
from potentials.neighbours import MARGIN, room_in, with_room

FUNCTION, WEIGHTS, CARD, TEXT = "energy_forces.stablehlo", "weights.safetensors", "card.json", "README.md"
PLATFORMS = ("cpu", "cuda", "tpu")
_SHOWN = (
    "energy_mae_mev", "force_mae_mev_per_angstrom", "spurious_fraction", "ks_energy", "kinetic_temperature_k",
    "hr_mae", "dihedral_free_energy_rmse_mev", "chain_length_ps", "n_chains", "spurious_chains",
    "n_negatives", "negatives_in_holes", "negatives_minimum_ev", "negatives_test_minimum_ev",
)  # fmt: skip


def labels(potential: Potential, params: Params) -> Callable[[Array], tuple[Array, Array]]:
    """positions [R, N, 3], Å -> (energies [R], eV, relative as the network gives them; forces, eV/Å)."""
    function = jax.vmap(partial(energy_and_forces(potential), params))

    def exact(positions: Array) -> tuple[Array, Array]:
        with jax.default_matmul_precision("highest"):  # TF32, a GPU's default, would ruin forces
            return function(positions)

    return exact


def write_model(
    output: Path,
    config: ConfigDict,
    problem: Problem,
    params: Params,
    metrics: Mapping[str, Any],
    trained_with: Mapping[str, str],
) -> None:
    """Writes the four files into a new folder, which appears whole or not at all.

    Args:
      output: the folder.
      config, problem, params: of the run.
      metrics: of its evaluation; may be empty.
      trained_with: versions, commit and device of the training; may be empty.
    """
    partial = output.with_name(f".{output.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    n_atoms = len(problem.system.numbers)
    argument = jax.ShapeDtypeStruct((*export.symbolic_shape("replicas"), n_atoms, 3), jnp.float32)
    params = with_room(params, roomy(problem, params))
    function = jax.jit(labels(problem.potential, params))
    exported = export.export(function, platforms=PLATFORMS)(argument)
    serialized = bytes(exported.serialize())
    (partial / FUNCTION).write_bytes(serialized)
    card = {
        **make_card(config, problem, metrics, trained_with),
        "function_sha256": hashlib.sha256(serialized).hexdigest(),
    }
    (partial / WEIGHTS).write_bytes(save(named(params), {"card": json.dumps(card)}))
    (partial / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (partial / TEXT).write_text(_text(output.name, card), encoding="utf-8")
    partial.rename(output)


def roomy(problem: Problem, params: Params) -> int:
    """Neighbours that the exported list of a box has room for, which can not grow: with a margin over those
    that the run has made room for, or its data want; 0 for a molecule."""
    wanted = max(room_in(params), data_room(problem))
    return min(math.ceil(MARGIN * wanted), len(problem.system.numbers) - 1)


def named(params: Params) -> dict[str, np.ndarray]:
    """Arrays by path, such as `interaction_0/lin1/kernel`."""
    leaves, _ = jax.tree.flatten_with_path(params)
    return {"/".join(str(key.key) for key in path): np.ascontiguousarray(leaf) for path, leaf in leaves}


def make_card(
    config: ConfigDict, problem: Problem, metrics: Mapping[str, Any], trained_with: Mapping[str, str]
) -> dict[str, Any]:
    """What a user of the weights must know: the atoms, units, the energy's zero, how it was trained."""
    return {
        "numbers": problem.system.numbers.tolist(),
        **({} if problem.system.cell is None else {"cell": problem.system.cell.tolist()}),
        "energy_shift_ev": problem.energy_shift,
        "units": {"positions": "Å", "energies": "eV", "forces": "eV/Å"},
        "potential": config.potential,
        "objective": config.objective,
        "dataset": dataset_name(config),
        "training_frames": len(problem.train.energies),
        "temperature_k": problem.system.temperature,
        "seed": config.seed,
        "trained_with": dict(trained_with),
        "versions": binary.provenance(),
        "metrics": dict(metrics),
        "config": portable(config),
    }


def _text(name: str, card: Mapping[str, Any]) -> str:
    """The model card."""
    metrics = card["metrics"]
    rows = [
        f"| `{key}` | {format_value(metrics[key], metrics.get(f'{key}_stderr'))} |"
        for key in _SHOWN
        if isinstance(metrics.get(key), int | float)
    ]
    judged = "\n".join(["| metric | value |", "|---|---|", *rows]) if rows else "Not evaluated yet."
    versions = ", ".join(f"{key} {value}" for key, value in card["versions"].items())
    kind = "box" if "cell" in card else "molecule"
    box = (
        f"""
The rows of its cell are {card["cell"]} Å; atoms may be wrapped or not. Where an atom has more neighbours than
the list has room for, energies and forces are NaN."""
        if "cell" in card
        else ""
    )
    return f"""# {name}

A {card["potential"]} potential trained with the objective `{card["objective"]}` on {card["training_frames"]}
frames of `{card["dataset"]}` at {card["temperature_k"]:g} K (seed {card["seed"]}). It is for this {kind}
alone, with its atoms in this order (atomic numbers): {card["numbers"]}.{box} Units are Å, eV and eV/Å. Add
{card["energy_shift_ev"]!r} eV to its energies for those of the data.

```python
import jax, numpy as np  # and `pip install flatbuffers`
function = jax.export.deserialize(bytearray(open("{FUNCTION}", "rb").read()))
energies, forces = function.call(np.zeros((1, {len(card["numbers"])}, 3), np.float32))  # positions, [R, N, 3]
```

## As a sampler

{judged}

Made with {versions}. Everything else is in `{CARD}`.
"""
