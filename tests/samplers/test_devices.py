"""Replicas over two devices: a process of its own, whose CPU is two of JAX's devices."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

CASES = ("all", "half", "one", "chosen")
SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np
from ase.build import molecule
from potentials import bonded_molecule, make_system
from samplers import baoab, simulate

atoms = molecule("CH3CH2OH")
system = make_system(atoms.numbers, atoms.positions, 500.0)
potential = bonded_molecule(system, atoms.positions)
params = potential.init(None)
sampler = baoab(potential, system)
found = {"devices": len(jax.devices())}
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, fun_name="", **__: "backend_compile" in event and compiled.append(fun_name)
)
for name, n in {"all": 4, "half": 6, "one": 3, "chosen": 4}.items():
    starts = np.broadcast_to(atoms.positions, (n, 9, 3)).astype(np.float32).copy()
    starts[1, 0, 0] = np.nan
    state = jax.jit(sampler.init)(jax.random.key(0), params, jnp.asarray(starts))
    own = params
    if name == "chosen":
        state, own = jax.device_put((state, params), jax.devices()[-1])
    compiled.clear()
    windows = list(
        simulate(sampler, potential, system, own, state, n_steps=60, record_every=5, window_frames=4)
    )
    found[f"compiled_{name}"] = sum("_window" in what for what in compiled)
    found[f"positions_{name}"] = np.concatenate([w.positions for w, _, _ in windows])
    found[f"alive_{name}"] = np.concatenate([w.alive for w, _, _ in windows])
    found[f"intact_{name}"] = windows[-1][0].intact_steps
    found[f"spread_{name}"] = len(windows[-1][1].position.sharding.device_set)
np.savez(sys.argv[1], **found)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the script finds, by the number of devices."""
    folder = tmp_path_factory.mktemp("devices")
    found = {}
    for count in (1, 4):
        path = folder / f"{count}.npz"
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, "-c", SCRIPT, path], env=environment, check=True, timeout=300)
        with np.load(path) as file:
            found[count] = dict(file)
    return found


def test_a_share_of_the_replicas_runs_as_all_of_them_do(runs):
    """Rounding hangs on how many replicas a device has, and 60 steps of 0.5 fs raise it little."""
    one, four = runs[1], runs[4]
    assert (one["devices"], four["devices"]) == (1, 4)
    for case in CASES:
        positions = one[f"positions_{case}"]
        np.testing.assert_allclose(four[f"positions_{case}"], positions, atol=1e-4)
        assert np.ptp(positions[:, 0], axis=0).max() > 0.01  # they move
        for name in ("alive", "intact"):
            np.testing.assert_array_equal(four[f"{name}_{case}"], one[f"{name}_{case}"])
        assert not one[f"alive_{case}"][:, 1].any() and one[f"alive_{case}"][:, 0].all()


def test_devices_share_what_they_can_divide_and_windows_are_compiled_once(runs):
    assert [int(runs[4][f"spread_{case}"]) for case in CASES] == [4, 2, 1, 1]
    assert [int(runs[4][f"compiled_{case}"]) for case in CASES[:3]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("first", "given", "cores", "expected"),
    [("-m", None, 1, 1), ("-m", "3", 1, 3), ("-m", None, None, None), ("script.py", None, None, 1)],
)
def test_a_binary_has_a_device_for_each_of_its_cores_and_an_import_none(first, given, cores, expected):
    code = (
        f"import sys; sys.argv[0] = {first!r}; import experiments, samplers, jax; print(len(jax.devices()))"
    )
    environment = {name: text for name, text in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    environment |= {"JAX_PLATFORMS": "cpu"} | ({"JAX_NUM_CPU_DEVICES": given} if given else {})
    allowed = os.sched_getaffinity(0)

    def narrow():
        os.sched_setaffinity(0, sorted(allowed)[:cores])

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, preexec_fn=narrow, capture_output=True, check=True
    )
    if expected is None:
        expected = max(n for n in (1, 2, 4, 8) if n <= len(allowed))
    assert int(done.stdout) == expected
