"""Tables against the functions that they stand for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule

from potentials import add_prior, from_energy, make_system, scale_shift, schnet, zbl
from potentials.radial_table import look_up, make_table
from samplers import baoab, simulate

CUTOFF = 4.995  # Å, between two knots
SPACING = 0.01  # Å


def _function(distances):
    """Two channels as narrow as a network's: a Gaussian of 0.2 Å and a wave, both cut off smoothly."""
    envelope = jnp.where(distances < CUTOFF, 0.5 * (jnp.cos(jnp.pi * distances / CUTOFF) + 1), 0.0)
    channels = [jnp.exp(-0.5 * ((distances - 1.234) / 0.2) ** 2), jnp.sin(5 * distances)]
    return envelope[:, None] * jnp.stack(channels, axis=1)


TABLE = make_table(_function, CUTOFF, SPACING)


def _looked_up(distances):
    return look_up(TABLE, distances, SPACING)


def test_values_and_slopes():
    distances = jnp.asarray(np.random.default_rng(0).uniform(0, 6, 5000), jnp.float32)
    np.testing.assert_allclose(_looked_up(distances), _function(distances), atol=3e-6)
    ones = jnp.ones_like(distances)
    _, slopes = jax.jvp(_looked_up, (distances,), (ones,))
    _, expected = jax.jvp(_function, (distances,), (ones,))
    np.testing.assert_allclose(slopes, expected, atol=2e-3)  # largest slope 5; float32 positions


def test_nothing_beyond_the_cutoff():
    far = jnp.array([CUTOFF + 2 * SPACING, 7.0, 1e6, jnp.inf])
    np.testing.assert_allclose(_looked_up(far), 0, atol=1e-6)
    slope = jax.vmap(jax.grad(lambda r: _looked_up(r[None]).sum()))(far[:3])
    np.testing.assert_array_equal(slope, 0)


def test_energy_and_slope_are_continuous_at_knots():
    knot = 123 * SPACING
    sides = jnp.array([knot - 1e-5, knot + 1e-5], jnp.float32)
    value, slope = jax.jvp(_looked_up, (sides,), (jnp.ones(2),))
    np.testing.assert_allclose(value[0], value[1], atol=2e-4)
    np.testing.assert_allclose(slope[0], slope[1], atol=5e-3)


ATOMS = molecule("CH3CH2OH")
SYSTEM = make_system(ATOMS.numbers, ATOMS.get_positions(), 500.0)
NETWORK = schnet(SYSTEM, cutoff=4.0)  # shorter than the molecule
PARAMS = NETWORK.init(jax.random.PRNGKey(0))


def _frames(count: int) -> jnp.ndarray:
    """From slightly to badly distorted geometries [count, 9, 3]."""
    noise = np.random.default_rng(1).normal(size=(count, 9, 3)) * np.linspace(0.02, 0.5, count)[:, None, None]
    return jnp.asarray(ATOMS.get_positions() + noise, jnp.float32)


@pytest.mark.parametrize(
    "potential",
    [NETWORK, add_prior(NETWORK, zbl(SYSTEM)), scale_shift(NETWORK, 0.5, 2.0)],
    ids=["network", "prior", "scaled"],
)
def test_a_tabulated_network_is_the_same_surface(potential):
    tabulated = potential.tabulate(PARAMS)
    assert set(tabulated) > set(PARAMS)
    function = jax.jit(jax.vmap(jax.value_and_grad(potential.energy, argnums=1), (None, 0)))
    frames = _frames(40)
    energies, slopes = function(PARAMS, frames)
    found, found_slopes = function(tabulated, frames)
    assert float(jnp.std(energies)) > 0.1
    np.testing.assert_allclose(found, energies, rtol=1e-6, atol=2e-5)
    np.testing.assert_allclose(found_slopes, slopes, rtol=1e-4, atol=3e-4)


def test_narrow_gaussians_and_large_weights():
    """The spacing follows the width of the Gaussians; trained weights are larger than new ones."""
    network = schnet(SYSTEM, n_gaussians=200, n_features=8, n_filters=8, n_interactions=1)
    params = jax.tree.map(lambda leaf: 3.0 * leaf, network.init(jax.random.PRNGKey(2)))
    function = jax.jit(jax.vmap(jax.value_and_grad(network.energy, argnums=1), (None, 0)))
    energies, slopes = function(params, _frames(20))
    found, found_slopes = function(network.tabulate(params), _frames(20))
    largest = float(abs(slopes).max())
    assert largest > 100  # eV/Å
    np.testing.assert_allclose(found, energies, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found_slopes, slopes, atol=1e-4 * largest)


def test_others_keep_their_params():
    potential = from_energy(lambda params, x: params["k"] * jnp.sum(x**2), lambda key: {"k": 1.0})
    assert potential.tabulate({"k": 2.0}) == {"k": 2.0}


def test_simulations_record_the_energies_of_the_network():
    sampler = baoab(NETWORK, SYSTEM)
    state = sampler.init(jax.random.PRNGKey(1), PARAMS, _frames(40)[:4])
    window, *_ = next(
        simulate(sampler, NETWORK, SYSTEM, PARAMS, state, n_steps=20, record_every=5, window_frames=4)
    )
    energies = jax.vmap(jax.vmap(NETWORK.energy, (None, 0)), (None, 0))(PARAMS, jnp.asarray(window.positions))
    np.testing.assert_allclose(window.energies, energies, rtol=1e-6, atol=2e-5)
