"""g(r) and diffusion of a box: an ideal gas, Brownian molecules, pairs by elements."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.distributions import over_chains
from experiments.structure import (
    _diffusion,
    _stable_times,
    over_lives,
    radial_distributions,
    reference_diffusion,
    sampled_frames,
    structure_breaks,
)
from objectives.observables import uniform_grid
from objectives.pair_correlation import pair_names
from objectives.survival import first_times
from potentials import make_system
from potentials.edges import largest_radius
from samplers import Trajectory

CELL = np.array([[9.0, 0, 0], [1.0, 8.0, 0], [0, 0.5, 8.5]])


def waters(count=3):
    """So many waters, each far from the others."""
    one = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    positions = np.concatenate([one + 3.0 * np.array([i, i, i]) for i in range(count)])
    cell = CELL if count < 4 else 20 * np.eye(3)
    return make_system([8, 1, 1] * count, positions, 300.0, cell=cell)


def test_pairs_of_different_molecules_by_elements():
    pairs = pair_names(waters())
    assert {name: len(found) for name, found in pairs.items()} == {"O-O": 3, "O-H": 12, "H-H": 12}
    molecules = waters().molecules
    assert all((molecules[found[:, 0]] != molecules[found[:, 1]]).all() for found in pairs.values())
    alone = pair_names(waters(1))
    assert {name: len(found) for name, found in alone.items()} == {"O-H": 2, "H-H": 1}


def test_an_ideal_gas_has_no_structure():
    rng = np.random.default_rng(0)
    system = waters()
    chains = [rng.uniform(size=(400, 9, 3)) @ CELL + rng.normal(size=3) * 30 for _ in range(8)]
    grid = uniform_grid(0.0, largest_radius(CELL), 12)
    found = radial_distributions(system, pair_names(system), chains, grid)
    assert found.shape == (8, 3, 12)
    stderr = found.std(axis=0, ddof=1) / np.sqrt(8)
    # The Gaussian takes a little over the last edge; the first bins are nearly empty.
    inner = slice(3, -1)
    deviations = (found.mean(axis=0) - 1)[:, inner] / stderr[:, inner]
    assert np.abs(deviations).max() < 5 and np.sqrt(np.mean(deviations**2)) < 1.7


def settings(record_every=50, timestep=1.0):
    return ConfigDict(
        {
            "evaluation": {"sampler": "baoab", "record_every": record_every},
            "baoab": {"timestep": timestep, "friction": 1.0},
        }
    )


def test_diffusion_is_of_molecules_whatever_the_box_does():
    # Each molecule walks as one with D = 0.25 Å²/ps, its atoms rattle, the whole box drifts.
    rng = np.random.default_rng(1)
    system = waters(5)
    frames, replicas, interval = 400, 12, 0.05  # ps
    steps = rng.normal(scale=np.sqrt(2 * 0.25 * interval), size=(replicas, frames, 5, 3))
    walk = np.repeat(np.cumsum(steps, axis=1), 3, axis=2)
    rattle = rng.normal(scale=0.05, size=walk.shape)
    drift = np.arange(frames)[:, None, None] * 0.01
    found = _diffusion(settings(), system, walk + rattle + drift)
    value, stderr = (found[f"diffusivity_angstrom2_per_ps{end}"] for end in ("", "_stderr"))
    # Relative to the centre of mass of five: a fifth of the motion is not seen.
    assert value == pytest.approx(0.25 * 4 / 5, abs=4 * stderr) and stderr < 0.03
    assert _diffusion(settings(record_every=1), system, walk) == {}
    assert _diffusion(settings(timestep=0.0), system, walk) == {}


def test_the_window_in_which_a_structure_breaks_down():
    # Two gases: one becomes denser in its third window, the atoms of a molecule staying together.
    rng = np.random.default_rng(2)
    system = waters(5)
    grid = uniform_grid(0.0, 9.0, 45)
    frames = rng.uniform(high=20.0, size=(2, 400, 5, 1, 3)) + rng.normal(scale=0.3, size=(2, 400, 5, 3, 3))
    collapsed = frames.copy()
    collapsed[1, 200:] = 0.4 * frames[1, 200:]
    chains, blocks = collapsed.reshape(2, 400, 15, 3), [frames[0].reshape(400, 15, 3)]
    alive = np.ones((2, 400), bool)
    deviations = structure_breaks(system, chains, alive, blocks, grid, 100)
    assert deviations.shape == (2, 4)
    times, broken = first_times(deviations, 500.0, 1.0)
    assert times.tolist() == [4.0, 2.0] and broken.tolist() == [False, True]
    alive[0, 350:] = False  # and one that dies in its last window
    times, broken = first_times(structure_breaks(system, chains, alive, blocks, grid, 100), 500.0, 1.0)
    assert times.tolist() == [3.0, 2.0] and broken.all()


def test_stretched_bonds_break_a_liquid_too():
    # Molecules where they were, their bonds half as long again: only pairs within them have moved.
    rng = np.random.default_rng(3)
    system = waters(5)
    grid = uniform_grid(0.0, 9.0, 45)
    centres = rng.uniform(high=20.0, size=(2, 200, 5, 1, 3))
    one = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    sound = (centres + one).reshape(2, 200, 15, 3)
    stretched = (centres + 1.5 * one).reshape(2, 200, 15, 3)
    alive = np.ones((2, 200), bool)
    found = [structure_breaks(system, x, alive, list(sound), grid, 100) for x in (sound, stretched)]
    between = pair_names(system)
    assert (found[1] > 100).all() and (found[0] < 20).all()
    g = [radial_distributions(system, between, list(x), grid)[:, 1] for x in (sound, stretched)]
    assert np.abs(g[1] - g[0]).sum() * 0.2 < 50  # which pairs between molecules hardly tell


def liquid_run(positions, alive, record_every=400):
    """What `_stable_times` makes of chains recorded every 0.4 ps."""
    system = waters(5)
    config = settings(record_every)
    config.evaluation.rdf_deviation = 50.0
    energies = np.where(alive, 0.0, np.nan).astype(np.float32)
    trajectory = Trajectory(
        positions=positions.astype(np.float32), energies=energies,
        kinetic_temperatures=energies, alive=alive, intact_steps=np.full(len(alive), 0),
    )  # fmt: skip
    return _stable_times(config, system, trajectory, [positions[0]], uniform_grid(0.0, 9.0, 45))


def test_stable_times_are_of_the_windows_as_they_are_and_of_dead_chains():
    rng = np.random.default_rng(4)
    one = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    positions = (rng.uniform(high=20.0, size=(3, 30, 5, 1, 3)) + one).reshape(3, 30, 15, 3)
    positions = np.concatenate([positions[:1]] * 3)  # equal chains: no noise
    alive = np.ones((3, 30), bool)
    sound = liquid_run(positions, alive)
    assert sound["rdf_unstable_chains"] == 0 and sound["rdf_stable_time_ps_mean"] == pytest.approx(12.0)
    # Windows of 1 ps hold two frames of 0.4 ps, and last 0.8 ps.
    alive[:, 11:] = False
    dead = liquid_run(positions, alive)
    assert dead["rdf_unstable_chains"] == 3
    assert dead["rdf_stable_time_ps_median"] == pytest.approx(5 * 0.8)


def test_a_chain_counts_for_as_long_as_it_lived():
    positions = np.arange(4 * 500, dtype=np.float32).reshape(4, 500, 1, 1) * np.ones((15, 3), np.float32)
    alive = np.ones((4, 500), bool)
    alive[1, 10:], alive[2, 1:], alive[3] = False, False, False
    energies = np.zeros((4, 500), np.float32)
    lives, lengths = sampled_frames(Trajectory(positions, energies, energies, alive, np.zeros(4)), 0.2)
    whole, short, one = lives
    assert lengths == [400, 8, 1]  # by which they count, however many of them are looked at
    assert (whole[:, 0, 0] == np.arange(100, 500, 2)).all()
    assert (short[:, 0, 0] == 500 + np.arange(2, 10)).all()
    assert (one[:, 0, 0] == 1000).all() and len(one) == 1


def test_chains_count_by_their_frames():
    rng = np.random.default_rng(5)
    lengths = np.array([100, 100, 100, 1, 9])
    draws = rng.normal(size=(20_000, 5)) / np.sqrt(lengths)
    means, errors = np.array([over_lives(row, lengths) for row in draws[:4000]]).T
    # As good as all frames together, where the plain mean of the chains would be 4.4 times as wide.
    assert np.std(means) == pytest.approx(310**-0.5, rel=0.04)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(np.std(means), rel=0.1)
    equal = rng.normal(size=(6, 3))
    for found, known in zip(over_lives(equal, np.full(6, 7)), over_chains(equal), strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-12)


def test_the_diffusion_of_the_reference_is_beside_its_frames(tmp_path):
    frames, beside = tmp_path / "water.extxyz", tmp_path / "water.json"
    assert reference_diffusion(frames) == {}
    names = ("diffusivity_angstrom2_per_ps", "diffusivity_angstrom2_per_ps_stderr")
    beside.write_text(json.dumps({names[0]: 0.2, names[1]: 0.01, "temperature_k": 300.0}))
    found = reference_diffusion(frames)
    assert found == {f"reference_{names[0]}": 0.2, f"reference_{names[1]}": 0.01}
    for content in ("[1, 2]", "no JSON", json.dumps({names[0]: "fast"})):
        beside.write_text(content)  # somebody's own
        assert reference_diffusion(frames) == {}
