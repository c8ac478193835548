"""Replicas over two devices: a process of its own, whose CPU is two of JAX's devices."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

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
for n in (4, 3):
    starts = np.broadcast_to(atoms.positions, (n, 9, 3)).astype(np.float32).copy()
    starts[1, 0, 0] = np.nan
    state = jax.jit(sampler.init)(jax.random.key(0), params, jnp.asarray(starts))
    windows = list(
        simulate(sampler, potential, system, params, state, n_steps=60, record_every=5, window_frames=4)
    )
    found[f"positions_{n}"] = np.concatenate([w.positions for w, _, _ in windows])
    found[f"alive_{n}"] = np.concatenate([w.alive for w, _, _ in windows])
    found[f"intact_{n}"] = windows[-1][0].intact_steps
    found[f"spread_{n}"] = len(windows[-1][1].position.sharding.device_set)
    found[f"compiled_{n}"] = sum("_window" in name for name in compiled)
np.savez(sys.argv[1], **found)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the script finds, by the number of devices."""
    folder = tmp_path_factory.mktemp("devices")
    found = {}
    for count in (1, 2):
        path = folder / f"{count}.npz"
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(count), "JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, "-c", SCRIPT, path], env=environment, check=True, timeout=300)
        with np.load(path) as file:
            found[count] = dict(file)
    return found


def test_a_share_of_the_replicas_runs_as_all_of_them_do(runs):
    """Rounding hangs on how many replicas a device has, and 60 steps of 0.5 fs raise it little."""
    one, two = runs[1], runs[2]
    assert (one["devices"], two["devices"]) == (1, 2)
    for n in (4, 3):
        np.testing.assert_allclose(two[f"positions_{n}"], one[f"positions_{n}"], atol=1e-4)
        assert np.ptp(one[f"positions_{n}"][:, 0], axis=0).max() > 0.01  # they move
        for name in ("alive", "intact"):
            np.testing.assert_array_equal(two[f"{name}_{n}"], one[f"{name}_{n}"])
        assert not one[f"alive_{n}"][:, 1].any() and one[f"alive_{n}"][:, 0].all()


def test_devices_share_what_they_can_divide_and_windows_are_compiled_once(runs):
    assert [int(runs[2][f"spread_{n}"]) for n in (4, 3)] == [2, 1]
    assert [int(runs[2][f"compiled_{n}"]) for n in (4, 3)] == [1, 2]
