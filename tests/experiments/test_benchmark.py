"""The benchmark's entries compute the same thing, and its tables hold what they say."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from numpy.testing import assert_allclose

from experiments import benchmark
from experiments.binary import InputError


@pytest.fixture(autouse=True)
def parsed():
    """The flags, as if the command line were empty."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def test_all_estimators_give_one_gradient():
    with flagsaver.flagsaver(n_samples=12):
        entries = benchmark.estimator()
    naive, *others = (jax.jit(e.function)(*e.arguments) for e in list(entries.values())[:3])
    size = float(np.linalg.norm(naive))
    assert size > 0
    for other in others:
        assert_allclose(other, naive, atol=1e-4 * size)


def test_replicas_run_the_same_steps_with_and_without_tables():
    *_, plain, tabulated = benchmark.sampling().values()
    assert_allclose(
        jax.jit(plain.function)(*plain.arguments),
        jax.jit(tabulated.function)(*tabulated.arguments),
        atol=1e-3,
    )


def test_tables(tmp_path, monkeypatch, capsys):
    entries = {
        "slow": benchmark.Entry(lambda x: jax.lax.fori_loop(0, 400, lambda _, y: y @ x, x), (np.eye(100),)),
        "fast": benchmark.Entry(lambda x: x + 1, (np.eye(100),)),
        "steps": benchmark.Entry(lambda x: x + 1, (np.eye(100),), atom_steps=10),
    }
    monkeypatch.setattr(benchmark, "BENCHMARKS", {"toy": lambda: entries})
    path = tmp_path / "table.json"
    with flagsaver.flagsaver(tables=["toy"], repeats=2, output=str(path)):
        benchmark.main()
    rows = json.loads(path.read_text())["tables"]["toy"]
    assert [row["name"] for row in rows] == ["slow", "fast", "steps"]
    assert rows[0]["speedup"] == 1.0
    assert_allclose(rows[1]["speedup"], rows[0]["seconds"] / rows[1]["seconds"])
    assert rows[0]["microseconds"] is None
    assert_allclose(rows[2]["microseconds"], 1e5 * rows[2]["seconds"])
    assert_allclose(rows[2]["speedup"], 10 * rows[0]["seconds"] / rows[2]["seconds"])
    assert rows[0]["compile_seconds"] > 0
    assert rows[1]["memory_mib"] >= 100 * 100 * 4 / 2**20
    assert "| fast |" in capsys.readouterr().out


def test_unknown_table():
    with flagsaver.flagsaver(tables=["estimater"]), pytest.raises(InputError, match="estimator"):
        benchmark.main()
