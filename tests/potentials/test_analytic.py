"""Potentials with known answers, and the adapters of `potentials.base`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.calculators.morse import MorsePotential
from ase.cluster import Icosahedron
from jax_md import energy as jax_md_energy
from jax_md import quantity, space

from potentials import (
    bonded_molecule,
    double_well,
    energy_and_forces,
    from_atomic_energies,
    from_energy,
    harmonic,
    make_system,
    scale_shift,
)

KEY = jax.random.key(0)
DISPLACEMENT, _ = space.free()


def test_harmonic():
    potential = harmonic([1.0, 2.0, 4.0])
    params = potential.init(KEY)
    x = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
    k = np.array([1.0, 2.0, 4.0])
    energy, forces = jax.jit(energy_and_forces(potential))(params, jnp.asarray(x))
    assert float(energy) == pytest.approx(0.5 * np.sum(k * x**2))
    np.testing.assert_allclose(potential.atomic_energies(params, x), 0.5 * np.sum(k * x**2, axis=1))
    np.testing.assert_allclose(forces, -k * x)


def test_double_well():
    b, a, c = 0.3, 0.7, 0.05
    potential = double_well(b, a, c)
    params = potential.init(KEY)
    x = np.array([[0.2, 0.4, -0.3], [-0.7, 0.0, 0.0], [0.0, 0.0, 0.0]])
    u = x / a
    expected = b * (u[:, 0] ** 2 - 1) ** 2 + c * u[:, 0] + 0.5 * b * (u[:, 1] ** 2 + u[:, 2] ** 2)
    np.testing.assert_allclose(potential.atomic_energies(params, x), expected, rtol=1e-5)
    assert expected[1] == pytest.approx(-c) and expected[2] == pytest.approx(b)
    # U is linear in its parameters, b in front of every term but the tilt.
    gradient = jax.grad(potential.energy)(params, jnp.asarray(x))
    assert float(gradient["barrier"]) == pytest.approx(np.sum((expected - c * u[:, 0]) / b), rel=1e-5)
    assert float(gradient["tilt"]) == pytest.approx(np.sum(u[:, 0]), rel=1e-5)


def test_bonded_molecule(ethanol):
    system, rest = ethanol
    potential = bonded_molecule(system, rest, stiffness=10.0)
    params = potential.init(KEY)
    energy, forces = jax.jit(energy_and_forces(potential))(params, jnp.asarray(rest))
    assert float(energy) == pytest.approx(0.0, abs=1e-8)
    np.testing.assert_allclose(forces, 0.0, atol=1e-4)

    # Independently: atoms joined through at most two bonds, by walking the bond list.
    neighbours = {i: set() for i in range(9)}
    for i, j in system.bonds:
        neighbours[i].add(j)
        neighbours[j].add(i)
    pairs = {tuple(sorted((i, j))) for i, j in system.bonds}
    pairs |= {tuple(sorted((i, k))) for j in range(9) for i in neighbours[j] for k in neighbours[j] if i != k}
    assert len(pairs) == 8 + 13
    moved = rest + np.random.default_rng(1).normal(0, 0.1, rest.shape)

    def length(x, i, j):
        return np.linalg.norm(x[i] - x[j])

    expected = sum(5.0 * (length(moved, i, j) - length(rest, i, j)) ** 2 for i, j in pairs)
    assert float(potential.energy(params, jnp.asarray(moved))) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(
        jnp.sum(potential.atomic_energies(params, jnp.asarray(moved))), expected, rtol=1e-4
    )


def test_jax_md_energy_in_one_line_against_ase():
    settings = {"epsilon": 0.5, "sigma": 2.8, "alpha": 1.5, "r_onset": 20.0, "r_cutoff": 25.0}
    potential = from_energy(jax_md_energy.morse_pair(DISPLACEMENT, **settings))
    cluster = Icosahedron("Cu", 2)
    cluster.rattle(0.1, seed=1)
    cluster.calc = MorsePotential(epsilon=0.5, r0=2.8, rho0=1.5 * 2.8, rcut1=20.0, rcut2=25.0)
    positions = jnp.asarray(cluster.positions, jnp.float32)
    energy, forces = jax.jit(energy_and_forces(potential))(potential.init(KEY), positions)
    assert float(energy) == pytest.approx(cluster.get_potential_energy(), rel=1e-4)
    np.testing.assert_allclose(forces, cluster.get_forces(), atol=2e-3)


def test_jax_md_energy_with_params():
    def energy(params, positions, **kwargs):
        return jax_md_energy.soft_sphere_pair(DISPLACEMENT, sigma=params["sigma"])(positions, **kwargs)

    potential = from_energy(energy, lambda key: {"sigma": jnp.float32(1.5)})
    params = potential.init(KEY)
    positions = jnp.array([[0.0, 0, 0], [1.0, 0, 0], [0, 1.2, 0]])
    reference = jax_md_energy.soft_sphere_pair(DISPLACEMENT, sigma=1.5)
    _, forces = jax.jit(energy_and_forces(potential))(params, positions)
    np.testing.assert_allclose(forces, quantity.force(reference)(positions), rtol=1e-5)
    assert float(jax.grad(potential.energy)(params, positions)["sigma"]) > 0.1


def test_a_total_energy_has_no_atomic_energies():
    potential = from_energy(jax_md_energy.soft_sphere_pair(DISPLACEMENT))
    with pytest.raises(TypeError, match="made from a total energy"):
        potential.atomic_energies({}, jnp.zeros((2, 3)))


def test_scale_shift():
    bare = harmonic(2.0)
    params = bare.init(KEY)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3)))
    shift = jnp.array([1.0, -2.0, 0.5])
    scaled = scale_shift(bare, 3.0, shift)
    np.testing.assert_allclose(
        scaled.atomic_energies(params, x), 3.0 * bare.atomic_energies(params, x) + shift, rtol=1e-6
    )
    assert float(scaled.energy(params, x)) == pytest.approx(3.0 * float(bare.energy(params, x)) - 0.5)
    one_number = scale_shift(bare, shift=-7.0)
    assert float(one_number.energy(params, x)) == pytest.approx(float(bare.energy(params, x)) - 21.0)


def test_keyword_arguments_reach_the_energy():
    def atomic_energies(params, positions, *, field):
        return field * positions[:, 0]

    potential = scale_shift(from_atomic_energies(lambda key: {}, atomic_energies), 2.0)
    energy, forces = jax.jit(energy_and_forces(potential))({}, jnp.ones((2, 3)), field=1.5)
    assert float(energy) == pytest.approx(6.0)
    np.testing.assert_allclose(forces[:, 0], -3.0)


def test_bonded_molecule_of_a_diatomic_has_one_spring():
    system = make_system([6, 8], [[0, 0, 0], [1.1, 0, 0]], 300.0)
    potential = bonded_molecule(system, [[0, 0, 0], [1.1, 0, 0]], stiffness=8.0)
    x = jnp.array([[0.0, 0, 0], [0, 1.3, 0]])
    energy, forces = jax.jit(energy_and_forces(potential))(potential.init(KEY), x)
    assert float(energy) == pytest.approx(0.5 * 8.0 * 0.2**2, rel=1e-5)
    np.testing.assert_allclose(forces, [[0, 1.6, 0], [0, -1.6, 0]], atol=1e-5)
