"""Temperatures: kinetic, configurational, and the thermostats' degrees of freedom."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from potentials import bonded_molecule
from potentials.units import KB
from samplers import baoab, kinetic_temperature, nose_hoover, simulate

REPLICAS = {"ethanol": 256, "aspirin": 96}


@pytest.fixture(scope="module")
def molecules(request):
    """name -> (system, geometry, soft spring model); aspirin needs data that may be absent."""

    def get(name):
        system, positions = request.getfixturevalue(name)
        # Soft springs: BAOAB's kinetic temperature lies low by the mean of ω² dt²/4.
        return system, positions, bonded_molecule(system, positions, stiffness=4.0)

    return get


def replicate(positions, n):
    return jnp.asarray(np.broadcast_to(positions, (n, *positions.shape)), jnp.float32)


def averages(sampler, potential, params, state, degrees_of_freedom, *, burn_in, n_steps):
    """Time averages for each replica of kinetic temperature and potential energy, and the last state."""

    @jax.jit
    def run(state):
        def step(_, state):
            return sampler.step(params, state)

        def body(state, _):
            state = jax.lax.fori_loop(0, 5, step, state)
            energies = jax.vmap(potential.energy, (None, 0))(params, state.position)
            return state, (kinetic_temperature(state, degrees_of_freedom), energies)

        state = jax.lax.fori_loop(0, burn_in, step, state)
        return jax.lax.scan(body, state, None, n_steps // 5)

    state, records = run(state)
    temperatures, energies = (np.asarray(a, np.float64).mean(axis=0) for a in records)
    return temperatures, energies, state


def assert_mean(values, truth, *, power, sigmas=3.0):
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    assert error < power * truth
    assert abs(mean - truth) < sigmas * error, f"{mean} ± {error}, not {truth}"


@pytest.fixture(scope="module")
def thermal(molecules):
    """name -> BAOAB's averages and a thermal state, once for each molecule."""
    done = {}

    def get(name):
        if name not in done:
            system, positions, potential = molecules(name)
            sampler = baoab(potential, system, timestep=0.25, friction=40.0)
            params = potential.init(None)
            state = jax.jit(sampler.init)(jax.random.key(0), params, replicate(positions, REPLICAS[name]))
            fast = baoab(potential, system, timestep=1.0, friction=20.0)
            state = jax.jit(lambda s: jax.lax.fori_loop(0, 1000, lambda _, s: fast.step(params, s), s))(state)
            n = 3 * len(system.numbers)
            done[name] = averages(sampler, potential, params, state, n, burn_in=200, n_steps=1500)
        return done[name]

    return get


@pytest.mark.parametrize("name", ["ethanol", "aspirin"])
def test_baoab_is_at_500_kelvin(thermal, name):
    temperatures, _, _ = thermal(name)
    assert_mean(temperatures, 500.0, power=0.01)


@pytest.mark.parametrize("name", ["ethanol", "aspirin"])
def test_nose_hoover_is_at_500_kelvin(molecules, thermal, name):
    system, _, potential = molecules(name)
    params = potential.init(None)
    sampler = nose_hoover(potential, system, timestep=0.5)
    state = jax.jit(sampler.init)(jax.random.key(1), params, thermal(name)[2].position)
    n = 3 * len(system.numbers) - 3
    temperatures, energies, state = averages(sampler, potential, params, state, n, burn_in=500, n_steps=2000)
    assert_mean(temperatures, 500.0, power=0.005)
    np.testing.assert_allclose(jnp.sum(state.momentum, axis=1), 0.0, atol=2e-3)
    # From thermal configurations the potential energy is BAOAB's, too.
    expected = thermal(name)[1].mean()
    assert_mean(energies, expected, power=0.03, sigmas=4.0)


def test_jax_mds_count_of_degrees_of_freedom_would_show(molecules, thermal):
    system, _, potential = molecules("ethanol")
    params = potential.init(None)
    sampler = nose_hoover(potential, system, timestep=0.5)
    state = jax.jit(sampler.init)(jax.random.key(2), params, thermal("ethanol")[2].position)
    state = state.set(chain=state.chain.set(degrees_of_freedom=27))
    temperatures, _, _ = averages(sampler, potential, params, state, 24, burn_in=1000, n_steps=2000)
    assert_mean(temperatures, 500.0 * 27 / 24, power=0.005)


def test_the_springs_of_ethanol_hold_half_kt_each(thermal):
    # 8 bonds and 13 1–3 distances, of which one is redundant at each of the two carbons: 19 harmonic
    # coordinates, the two torsions being free.
    _, energies, _ = thermal("ethanol")
    assert_mean(energies, 19 / 2 * KB * 500.0, power=0.01, sigmas=5.0)


@pytest.mark.parametrize(
    ("builder", "settings"), [(baoab, {"friction": 200.0}), (nose_hoover, {"relaxation": 20.0})]
)
def test_temperature_of_the_call_wins(molecules, builder, settings):
    system, positions, potential = molecules("ethanol")
    params = potential.init(None)
    sampler = builder(potential, system, temperature=800.0, timestep=0.25, **settings)
    state = jax.jit(sampler.init)(jax.random.key(3), params, replicate(positions, 256))
    n = 27 if builder is baoab else 24
    start = np.asarray(kinetic_temperature(state, n))
    assert_mean(start, 800.0, power=0.03)
    temperatures, _, _ = averages(sampler, potential, params, state, n, burn_in=400, n_steps=400)
    assert_mean(temperatures, 800.0, power=0.015, sigmas=4.0)


def test_kinetic_energies_have_the_canonical_distribution(thermal):
    # 2K/kT is chi-squared with 3N degrees of freedom; replicas are independent.
    state = thermal("ethanol")[2]
    kinetic = 27 * np.asarray(kinetic_temperature(state, 27)) / 500.0
    assert stats.kstest(kinetic, stats.chi2(27).cdf).pvalue > 1e-3
    assert stats.kstest(kinetic, stats.chi2(24).cdf).pvalue < 1e-4


def test_kinetic_energies_pass_physical_validation(thermal):
    physical_validation = pytest.importorskip("physical_validation")
    state = thermal("ethanol")[2]
    kinetic = 0.5 * 27 * KB * np.asarray(kinetic_temperature(state, 27), np.float64)
    data = physical_validation.data
    ones = {f"{q}_conversion": 1.0 for q in ("length", "volume", "temperature", "pressure", "time")}
    sample = data.SimulationData(
        units=data.UnitData(kb=KB, energy_conversion=96.48533, **ones),
        ensemble=data.EnsembleData(ensemble="NVT", natoms=9, volume=1.0, temperature=500.0),
        system=data.SystemData(natoms=9, nconstraints=0, ndof_reduction_tra=0, ndof_reduction_rot=0),
        observables=data.ObservableData(kinetic_energy=kinetic),
    )
    mean, width = physical_validation.kinetic_energy.distribution(
        sample, strict=False, verbosity=0, bootstrap_seed=1, data_is_uncorrelated=True
    )
    assert mean < 3 and width < 3  # deviations in standard errors
    assert not jax.config.jax_enable_x64


def test_recorded_temperatures_count_the_samplers_degrees_of_freedom(molecules):
    # 3N − 3 here; `test_simulation` has a sampler with 3N.
    system, positions, potential = molecules("ethanol")
    params = potential.init(None)
    sampler = nose_hoover(potential, system)
    state = jax.jit(sampler.init)(jax.random.key(4), params, replicate(positions, 4))
    run = simulate(sampler, potential, system, params, state, n_steps=4, record_every=2, window_frames=2)
    window, state, _ = next(run)
    kinetic = np.sum(np.asarray(state.momentum) ** 2 / system.masses[:, None], axis=(1, 2)) / (24 * KB)
    np.testing.assert_allclose(window.kinetic_temperatures[-1], kinetic, rtol=1e-4)
