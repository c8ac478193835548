"""Every sampler against closed forms, with standard errors over independent replicas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_md import energy as jax_md_energy
from jax_md import space
from scipy.integrate import quad

from potentials import double_well, from_atomic_energies, from_energy, harmonic, make_system
from potentials.units import FEMTOSECOND, KB
from samplers import baoab, mala, ula

TEMPERATURE = 500.0
KT = KB * TEMPERATURE
STIFFNESS = np.array([5.0, 10.0, 30.0])  # eV/Å²; 30 is a stretched C–H or O–H bond


def carbons(n_atoms):
    """Atoms far apart: the potential decides what they feel."""
    positions = 10.0 * np.arange(n_atoms)[:, None] * np.ones(3)
    return make_system([6] * n_atoms, positions, TEMPERATURE)


def replica_means(sampler, params, positions, statistic, *, burn_in, n_steps, every=1, seed=0):
    """Time averages of `statistic(state) -> [R, ...]` for each replica, NumPy [R, ...]."""

    @jax.jit
    def run(key):
        state = sampler.init(key, params, jnp.asarray(positions, jnp.float32))

        def advance(state, n):
            return jax.lax.fori_loop(0, n, lambda _, s: sampler.step(params, s), state)

        def body(state, _):
            state = advance(state, every)
            return state, statistic(state)

        _, records = jax.lax.scan(body, advance(state, burn_in), None, n_steps // every)
        return jnp.mean(records, axis=0)

    return np.asarray(run(jax.random.key(seed)), dtype=np.float64)


def estimate(values):
    """Mean and standard error over the leading axis of independent replicas."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def assert_agrees(values, truth, *, power):
    """Within four standard errors of the truth, and these below `power` times it."""
    mean, error = estimate(values)
    truth = np.broadcast_to(truth, mean.shape)
    assert (error < power * np.abs(truth)).all(), f"standard errors {error} have no power at {truth}"
    np.testing.assert_array_less(np.abs(mean - truth), 4 * error, err_msg=f"{mean} ± {error}, not {truth}")


def mode_variances(state):
    """Mean square of x, y and z over the atoms of each replica, [R, 3]."""
    return jnp.mean(state.position**2, axis=1)


def test_ula_has_the_bias_of_its_step_size():
    eta = 4e-4
    potential = harmonic(STIFFNESS)
    sampler = ula(potential, carbons(4), step_size=eta)
    values = replica_means(
        sampler, potential.init(None), np.zeros((256, 4, 3)), mode_variances, burn_in=400, n_steps=2000
    )
    exact = KT / STIFFNESS
    assert_agrees(values, exact / (1 - eta * STIFFNESS / (2 * KT)), power=0.01)
    mean, error = estimate(values)
    assert mean[2] - exact[2] > 10 * error[2]  # +16 % on the stiff mode
    assert mean[2] / exact[2] == pytest.approx(1.16, abs=0.02)


def test_mala_has_none_at_the_same_and_a_larger_step_size():
    potential = harmonic(STIFFNESS)
    for eta in (4e-4, 1.2e-3):  # the larger accepts little more than half of its proposals
        sampler = mala(potential, carbons(2), step_size=eta)
        values = replica_means(
            sampler,
            potential.init(None),
            np.zeros((512, 2, 3)),
            lambda state: jnp.concatenate([mode_variances(state), state.accepted[:, None]], axis=1),
            burn_in=400,
            n_steps=2000,
        )
        assert_agrees(values[:, :3], KT / STIFFNESS, power=0.01)
        accepted = values[:, 3].mean()
        assert (0.5 if eta > 1e-3 else 0.8) < accepted < 0.97


def test_baoab_is_exact_in_a_harmonic_well():
    # Leimkuhler and Matthews: configurations are exact at any stable timestep, and momenta have
    # variance m kT (1 − ω² dt²/4). 3 fs is far longer than one would take.
    timestep = 3.0
    potential = harmonic(STIFFNESS)
    system = carbons(4)
    sampler = baoab(potential, system, timestep=timestep, friction=20.0)

    def statistic(state):
        squares = jnp.mean(state.momentum**2 / state.mass, axis=1)
        return jnp.concatenate([mode_variances(state), squares], axis=1)

    values = replica_means(
        sampler, potential.init(None), np.zeros((256, 4, 3)), statistic, burn_in=200, n_steps=2000
    )
    phase = STIFFNESS / system.masses[0] * (timestep * FEMTOSECOND) ** 2
    assert_agrees(values[:, :3], KT / STIFFNESS, power=0.01)
    assert_agrees(values[:, 3:], KT * (1 - phase / 4), power=0.01)
    assert phase[2] / 4 > 0.05  # so that confusing the two would be seen


BARRIER, SEPARATION, TILT = 0.06, 0.3, 0.012  # eV, Å, eV


def double_well_moments():
    """Exact ⟨1(x > 0)⟩, ⟨x⟩, ⟨x²⟩, ⟨x⁴⟩ and ⟨y²⟩, by quadrature."""

    def weight(x):
        u = x / SEPARATION
        return np.exp(-(BARRIER * (u**2 - 1) ** 2 + TILT * u) / KT)

    def integral(function, low=-1.5):
        return quad(lambda x: function(x) * weight(x), low, 1.5, epsabs=0, epsrel=1e-10, limit=200)[0]

    norm = integral(lambda x: 1.0)
    moments = [integral(lambda x, n=n: x**n) / norm for n in (1, 2, 4)]
    return np.array([integral(lambda x: 1.0, 0.0) / norm, *moments, KT * SEPARATION**2 / BARRIER])


@pytest.mark.parametrize(
    ("builder", "settings", "n_atoms", "n_steps"),
    [
        (mala, {"step_size": 4e-3}, 2, 3000),
        (baoab, {"timestep": 3.0, "friction": 10.0}, 8, 2000),
        (ula, {"step_size": 1.5e-4}, 8, 10000),
    ],
    ids=["mala", "baoab", "ula"],
)
def test_double_well(builder, settings, n_atoms, n_steps):
    potential = double_well(BARRIER, SEPARATION, TILT)

    def statistic(state):
        x, y, _ = jnp.moveaxis(state.position, -1, 0)
        return jnp.stack([jnp.mean(a, axis=1) for a in (x > 0, x, x**2, x**4, y**2)], axis=1)

    # All start in the upper well, so that the populations must be found.
    start = np.zeros((1024 // n_atoms, n_atoms, 3))
    start[..., 0] = SEPARATION
    values = replica_means(
        builder(potential, carbons(n_atoms), **settings),
        potential.init(None),
        start,
        statistic,
        burn_in=n_steps // 2,
        n_steps=n_steps,
        every=4,
    )
    truth = double_well_moments()
    assert 0.3 < truth[0] < 0.45
    assert_agrees(values[:, [0, 2, 3, 4]], truth[[0, 2, 3, 4]], power=0.02)
    mean, error = estimate(values[:, 1])
    assert abs(mean - truth[1]) < 4 * error and error < 0.02 * SEPARATION


def test_a_jax_md_energy_through_a_sampler():
    # Bond length of a Morse dimer: density ∝ r² exp(−βU(r)).
    settings = {"sigma": 1.5, "epsilon": 1.0, "alpha": 2.0, "r_onset": 5.0, "r_cutoff": 6.0}
    displacement, _ = space.free()
    potential = from_energy(jax_md_energy.morse_pair(displacement, **settings))

    def weight(r):
        return r**2 * np.exp(-((1 - np.exp(-2.0 * (r - 1.5))) ** 2) / KT)

    norm = quad(weight, 1.0, 3.0)[0]
    truth = np.array([quad(lambda r, n=n: r**n * weight(r), 1.0, 3.0)[0] / norm for n in (1, 2)])
    start = np.zeros((256, 2, 3))
    start[:, 1, 0] = 1.5
    system = make_system([6, 6], start[0], TEMPERATURE)

    def statistic(state):
        r = jnp.linalg.norm(state.position[:, 0] - state.position[:, 1], axis=-1)
        return jnp.stack([r, r**2], axis=1)

    values = replica_means(
        baoab(potential, system, timestep=1.0, friction=20.0),
        potential.init(None),
        start,
        statistic,
        burn_in=600,
        n_steps=2000,
    )
    assert truth[0] > 1.52  # anharmonic: the mean is beyond the minimum
    assert_agrees(values, truth, power=0.002)


def test_ideal_gas_diffuses_in_ula():
    eta, n_steps = 3e-4, 500
    gas = from_atomic_energies(lambda key: {}, lambda params, positions: 0.0 * positions[:, 0])
    sampler = ula(gas, carbons(8), step_size=eta)

    @jax.jit
    def run(key):
        state = sampler.init(key, {}, jnp.zeros((512, 8, 3)))
        return jax.lax.fori_loop(0, n_steps, lambda _, s: sampler.step({}, s), state).position

    squares = np.asarray(jnp.sum(run(jax.random.key(1)) ** 2, axis=-1)).mean(axis=1)
    assert_agrees(squares, 6 * eta * n_steps, power=0.02)


def test_ideal_gas_in_baoab():
    # Free Langevin particles: momenta stay Maxwell–Boltzmann for each mass, and from equilibrium
    # MSD = 6 kT/(m γ²) (γt − 1 + e^(−γt)).
    numbers, friction, timestep, n_steps = [1, 6, 8, 35], 20.0, 2.0, 100
    system = make_system(numbers, 10.0 * np.arange(4)[:, None] * np.ones(3), TEMPERATURE)
    gas = from_atomic_energies(lambda key: {}, lambda params, positions: 0.0 * positions[:, 0])
    sampler = baoab(gas, system, timestep=timestep, friction=friction)

    @jax.jit
    def run(key):
        state = sampler.init(key, {}, jnp.zeros((8000, 4, 3)))
        state = jax.lax.fori_loop(0, n_steps, lambda _, s: sampler.step({}, s), state)
        return state.position, state.momentum

    positions, momenta = (np.asarray(a, np.float64) for a in run(jax.random.key(2)))
    assert_agrees((momenta**2).mean(axis=-1), system.masses * KT, power=0.01)
    rate = friction / (1000 * FEMTOSECOND)
    gamma_t = rate * n_steps * timestep * FEMTOSECOND
    truth = 6 * KT / (system.masses * rate**2) * (gamma_t - 1 + np.exp(-gamma_t))
    assert_agrees((positions**2).sum(axis=-1), truth, power=0.01)
