"""Speed and memory, side by side in one run: python -m experiments.benchmark --output=benchmark.json

Times are medians of repetitions that take turns after one that does not count, so that a busy machine
slows all alike; ratios are what carries over to another machine. Memory is what the compiler sets aside
for temporaries and results.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array
from jax.flatten_util import ravel_pytree

from experiments import binary
from experiments.configs import ethanol
from experiments.problem import Problem, make_problem
from objectives.averages import make_observables
from objectives.boltzmann import sample_energies, squared_deviation
from potentials.registry import lookup
from potentials.units import KB
from samplers import advance, make_sampler

TABLES = flags.DEFINE_list("tables", [], "Which tables; default all.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Timed runs of each entry, at least 1.", lower_bound=1)
N_SAMPLES = flags.DEFINE_integer("n_samples", 5000, "Samples of the estimator's table.", lower_bound=2)
OUTPUT = flags.DEFINE_string("output", "", "JSON file for the tables; default none.", allow_override=True)

_BATCH = 250  # samples differentiated at a time, but for the estimator that takes them one by one


class Entry(NamedTuple):
    """Attributes: function and its arguments, to be compiled and timed; atom_steps, how many steps of one
    atom that makes, 0 where it is no simulation."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    atom_steps: int = 0


class Row(NamedTuple):
    """Attributes: name; seconds, the median of a run; memory_mib; speedup, over the table's first entry, of a
    run or, where there are such, of an atom and step; compile_seconds, tracing included; microseconds, of an
    atom and step, None where there are none."""

    name: str
    seconds: float
    memory_mib: float
    speedup: float
    compile_seconds: float
    microseconds: float | None


def main() -> None:
    """The binary."""
    with binary.reading_input():
        names = TABLES.value or list(BENCHMARKS)
        entries = [lookup(BENCHMARKS, name, "table") for name in names]
    tables = {}
    for name, make in zip(names, entries, strict=True):
        rows = measure(make(), REPEATS.value)
        tables[name] = [row._asdict() for row in rows]
        print(f"{name}\n{as_table(rows)}\n", flush=True)
    if OUTPUT.value:
        record = {"versions": binary.provenance(), "tables": tables}
        binary.write_atomically(Path(OUTPUT.value), json.dumps(record, indent=1) + "\n")


def measure(entries: Mapping[str, Entry], repeats: int) -> list[Row]:
    """Compiles all, then runs them in turns."""
    compiled, compile_seconds = {}, {}
    for name, entry in entries.items():
        began = time.perf_counter()
        compiled[name] = jax.jit(entry.function).lower(*entry.arguments).compile()
        compile_seconds[name] = time.perf_counter() - began
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for name, entry in entries.items():
        jax.block_until_ready(compiled[name](*entry.arguments))
    for _ in range(repeats):
        for name, entry in entries.items():
            began = time.perf_counter()
            jax.block_until_ready(compiled[name](*entry.arguments))
            seconds[name].append(time.perf_counter() - began)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    costs = {name: median / (entries[name].atom_steps or 1) for name, median in medians.items()}
    first = next(iter(costs.values()))
    rows = []
    for name, program in compiled.items():
        memory = program.memory_analysis()
        used = memory.temp_size_in_bytes + memory.output_size_in_bytes
        each = 1e6 * costs[name] if entries[name].atom_steps else None
        speedup = first / costs[name]
        rows.append(Row(name, medians[name], used / 2**20, speedup, compile_seconds[name], each))
    return rows


def as_table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| | seconds | memory, MiB | times as fast | to compile, s | an atom and step, µs |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        each = "" if r.microseconds is None else f"{r.microseconds:.3g}"
        figures = f"{r.seconds:.3g} | {r.memory_mib:.0f} | {r.speedup:.3g} | {r.compile_seconds:.1f} | {each}"
        lines.append(f"| {r.name} | {figures} |")
    return "\n".join(lines)


def estimator() -> dict[str, Entry]:
    """The gradient of ‖⟨g⟩ − g_ref‖² for h(r) in 500 bins, by a SchNet of six interactions: StABlE's eq. 6
    from all samples' gradients in one matrix product; as a sum over samples of the whole Jacobian, one at
    a time, which is what fits into memory with more samples; and by our rule."""
    problem = _problem(n_interactions=6)
    params = problem.potential.init(jax.random.PRNGKey(0))
    key, pick = jax.random.split(jax.random.PRNGKey(1))
    frames = problem.train.positions
    rows = jax.random.randint(pick, (N_SAMPLES.value,), 0, len(frames))
    positions = frames[rows] + 0.02 * jax.random.normal(key, (N_SAMPLES.value, *frames.shape[1:]))
    observable = make_observables({"distances": 1.0}, problem.system)["distances"][1]
    values = jax.jit(lambda x: jax.lax.map(observable, x, batch_size=_BATCH))(positions)
    target = jnp.mean(jax.vmap(observable)(frames), axis=0)
    beta = 1.0 / (KB * problem.system.temperature)

    def ours(params: Any, positions: Array, values: Array, target: Array) -> Array:
        def loss(params: Any) -> Array:
            energies = sample_energies(problem.potential.energy, params, positions, _BATCH)
            weights = jnp.full(len(positions), 1.0 / len(positions))
            return squared_deviation(energies, values, target, weights, beta)

        return ravel_pytree(jax.grad(loss)(params))[0]

    def gradient(params: Any, x: Array) -> Array:
        return ravel_pytree(jax.grad(problem.potential.energy)(params, x))[0]

    def chain_rule(values: Array, target: Array, jacobian: Array) -> Array:
        return 2.0 * (jnp.mean(values, axis=0) - target) @ jacobian

    def whole(params: Any, positions: Array, values: Array, target: Array) -> Array:
        gradients = jax.lax.map(lambda x: gradient(params, x), positions, batch_size=_BATCH)  # [N, P]
        centred = values - jnp.mean(values, axis=0)
        return chain_rule(values, target, -beta * centred.T @ gradients / (len(positions) - 1))

    def one_by_one(params: Any, positions: Array, values: Array, target: Array) -> Array:
        mean = jnp.mean(values, axis=0)

        def add(total: Array, sample: tuple[Array, Array]) -> tuple[Array, None]:
            x, g = sample
            return total + jnp.outer(g - mean, gradient(params, x)), None

        size = ravel_pytree(params)[0].size
        total, _ = jax.lax.scan(add, jnp.zeros((values.shape[1], size)), (positions, values))
        return chain_rule(values, target, -beta * total / (len(positions) - 1))

    arguments = (params, positions, values, target)
    one = (params, positions, values[:, :1], target[:1])
    return {
        "eq. 6, gradients of all samples": Entry(whole, arguments),
        "eq. 6, sum over samples": Entry(one_by_one, arguments),
        "contracted first": Entry(ours, arguments),
        "contracted first, 1 observable": Entry(ours, one),
    }


def sampling() -> dict[str, Entry]:
    """1,024 replica-steps of BAOAB: one replica alone, 64 together, 64 with tabulated filters (whose table,
    made once a simulation, is not counted)."""
    problem = _problem(n_interactions=3)
    potential = problem.potential
    params = potential.init(jax.random.PRNGKey(0))
    sampler = make_sampler("baoab", potential, problem.system, ethanol.get_config())
    state = {
        count: sampler.init(jax.random.PRNGKey(1), params, problem.train.positions[:count])
        for count in (1, 64)
    }

    def run(n_steps: int) -> Callable[..., Array]:
        return lambda params, state: advance(sampler, params, state, n_steps)[0].position

    steps = 1024 * len(problem.system.numbers)
    tabulated = (potential.tabulate(params), state[64])
    return {
        "1 replica, 1,024 steps": Entry(run(1024), (params, state[1]), steps),
        "64 replicas, 16 steps": Entry(run(16), (params, state[64]), steps),
        "64 replicas, 16 steps, tabulated": Entry(run(16), tabulated, steps),
    }


def networks() -> dict[str, Entry]:
    """BAOAB on ethanol by each network in its default size (NequIP in the StABlE paper's, of three layers):
    64 steps of one replica, four of 64."""
    entries = {}
    for name in ("schnet", "nequip", "mace", "gemnet_t"):
        config = ethanol.get_config()
        config.potential, config.nequip.n_layers = name, 3
        problem = make_problem(config)
        params = problem.potential.init(jax.random.PRNGKey(0))
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        sampler = make_sampler("baoab", problem.potential, problem.system, config)
        for count, n_steps in ((1, 64), (64, 4)):
            state = sampler.init(jax.random.PRNGKey(1), params, problem.train.positions[:count])

            def run(params: Any, state: Any, sampler: Any = sampler, n_steps: int = n_steps) -> Array:
                return advance(sampler, params, state, n_steps)[0].position

            title = f"{name}, {size:,} parameters, {count} replica{'s' if count > 1 else ''}"
            entries[title] = Entry(run, (params, state), count * n_steps * len(problem.system.numbers))
    return entries


BENCHMARKS = {"estimator": estimator, "networks": networks, "sampling": sampling}
"""Name -> builder of a table's entries; the first is what the others are compared with."""


def _problem(n_interactions: int) -> Problem:
    config = ethanol.get_config()
    config.schnet.n_interactions = n_interactions
    return make_problem(config)


if __name__ == "__main__":
    binary.run(main)
