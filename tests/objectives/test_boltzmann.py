"""The Boltzmann estimator against the paper's formula, exact gradients and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad

from objectives.boltzmann import (
    ensemble_average,
    neighbourhood_energies,
    sample_energies,
    squared_deviation,
)
from objectives.ensemble import Ensemble, observable_loss
from objectives.reweighting import boltzmann_weights
from potentials import bonded_molecule, from_atomic_energies, from_energy

BETA = 23.2  # 1/eV, 500 K


def equal(n):
    return jnp.full(n, 1.0 / n)


def network(params, x):
    """A small network's energy of one configuration [n, 3]."""
    hidden = jnp.tanh(x.reshape(-1) @ params["w0"] + params["b0"])
    return jnp.sum(jnp.tanh(hidden @ params["w1"]))


def test_gradient_is_equation_6_computed_naively():
    # One gradient a sample, the whole Jacobian of the mean observable, then the chain rule.
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 5)
        params = {
            "w0": jax.random.normal(keys[0], (6, 5)),
            "b0": jax.random.normal(keys[1], (5,)),
            "w1": jax.random.normal(keys[2], (5, 4)),
        }
        positions = jax.random.normal(keys[3], (11, 2, 3))
        values = jax.random.normal(keys[4], (11, 7)) + 0.3
        target = np.linspace(-1.0, 1.0, 7)

        def loss(params):
            energies = sample_energies(network, params, positions, 4)
            return squared_deviation(energies, values, target, equal(11), BETA)

        value, ours = jax.value_and_grad(loss)(params)
        per_sample = jax.vmap(jax.grad(network), (None, 0))(params, positions)
        g = np.asarray(values)
        assert_allclose(value, np.sum((g.mean(axis=0) - target) ** 2), rtol=1e-13)
        for name, gradients in per_sample.items():
            flat = np.asarray(gradients).reshape(11, -1)
            bracket = np.outer(g.mean(axis=0), flat.mean(axis=0)) - g.T @ flat / 11
            jacobian = 11 / 10 * BETA * bracket
            naive = 2 * (g.mean(axis=0) - target) @ jacobian
            assert_allclose(np.asarray(ours[name]).ravel(), naive, rtol=1e-11, atol=1e-13)


def test_many_observables_need_one_reverse_pass():
    # The number of network evaluations in the gradient does not grow with the observables.
    positions = jnp.ones((8, 2, 3))
    params = {"w0": jnp.ones((6, 5)), "b0": jnp.ones(5), "w1": jnp.ones((5, 4))}

    def tanhs(n_observables):
        def loss(params):
            energies = sample_energies(network, params, positions)
            values = jnp.ones((8, n_observables))
            return squared_deviation(energies, values, jnp.zeros(n_observables), equal(8), BETA)

        return str(jax.make_jaxpr(jax.grad(loss))(params)).count("tanh")

    assert tanhs(500) == tanhs(1)


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_gradient_against_quadrature(cross_fitted):
    # U = a x⁴ + b x², g = (x², x⁴, cos x); exact means and their derivatives by quadrature.
    a, b, n = 0.04, 0.03, 400_000
    observables = (lambda x: x**2, lambda x: x**4, np.cos)
    target = np.array([0.4, 0.7, 0.9])

    def density(x, a, b):
        return np.exp(-BETA * (a * x**4 + b * x**2))

    def means(a, b):
        norm = quad(density, -5, 5, args=(a, b))[0]
        return np.array([quad(lambda x, g=g: g(x) * density(x, a, b), -5, 5)[0] / norm for g in observables])

    def exact_loss(a, b):
        return np.sum((means(a, b) - target) ** 2)

    h = 1e-4
    exact = np.array(
        [
            (exact_loss(a + h, b) - exact_loss(a - h, b)) / (2 * h),
            (exact_loss(a, b + h) - exact_loss(a, b - h)) / (2 * h),
        ]
    )
    grid = np.linspace(-4, 4, 200_001)
    cdf = np.cumsum(density(grid, a, b))
    rng = np.random.default_rng(1)

    @jax.jit
    def gradient(x):
        values = jnp.stack([x**2, x**4, jnp.cos(x)], axis=1)
        halves = jnp.arange(n) % 2 == 0 if cross_fitted else None

        def loss(params):
            return squared_deviation(
                params[0] * x**4 + params[1] * x**2, values, target, equal(n), BETA, halves
            )

        return jax.grad(loss)(jnp.array([a, b]))

    estimates = np.array(
        [gradient(jnp.asarray(np.interp(rng.uniform(size=n), cdf / cdf[-1], grid))) for _ in range(12)]
    )
    stderr = estimates.std(axis=0, ddof=1) / np.sqrt(12)
    assert (np.abs(estimates.mean(axis=0) - exact) < 4 * stderr).all()
    assert (stderr < 0.02 * np.abs(exact)).all()  # or the test could not fail


def test_cross_fitting_is_unbiased_at_four_samples_and_the_plain_form_is_not():
    # U = k x²/2, g = x²: ⟨g⟩ = 1/(βk), so that loss and gradient are known.
    k, target, repeats = 2.0, 0.015, 400_000
    mean = 1 / (BETA * k)
    exact = 2 * (mean - target) * (-mean / k)
    x = jax.random.normal(jax.random.key(3), (repeats, 4)) / np.sqrt(BETA * k)

    def gradients(halves):
        def loss(k, x):
            return squared_deviation(
                0.5 * k * x**2, (x**2)[:, None], jnp.array([target]), equal(4), BETA, halves
            )

        return np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(k, x), np.float64)

    def deviation(sample):
        return (sample.mean() - exact) / (sample.std() / np.sqrt(repeats))

    assert abs(deviation(gradients(jnp.array([True, True, False, False])))) < 4
    assert abs(deviation(gradients(None))) > 20


def test_correlated_samples_of_one_replica_do_not_bias_the_derivative():
    # Four replicas of three samples each, all three the same: the worst correlation there is.
    k, repeats = 2.0, 100_000
    x = jnp.repeat(jax.random.normal(jax.random.key(4), (repeats, 4)) / np.sqrt(BETA * k), 3, axis=1)

    def slopes(groups):
        def mean(k, x):
            return ensemble_average(0.5 * k * x**2, x**2, equal(12), BETA, groups)

        return np.asarray(jax.jit(jax.vmap(jax.grad(mean), (None, 0)))(k, x), np.float64)

    def ratio(sample):  # to the exact -1/(βk²), with its standard error
        relative = sample * -(BETA * k**2)
        return relative.mean(), relative.std() / np.sqrt(repeats)

    value, stderr = ratio(slopes(jnp.repeat(jnp.arange(4), 3)))
    assert abs(value - 1) < 4 * stderr < 0.05
    value, stderr = ratio(slopes(None))
    assert abs(value - 3 / 4 * 12 / 11) < 4 * stderr


def test_one_replica_alone_has_nothing_to_be_compared_with():
    x = jax.random.normal(jax.random.key(6), (5000,))

    def mean(k):
        return ensemble_average(0.5 * k * x**2, x**2, equal(5000), BETA, jnp.zeros(5000, int))

    assert jax.grad(mean)(2.0) == 0


def test_derivative_of_an_average_with_explicit_dependence():
    # U = k x²/2 and g = k x²: ⟨g⟩ = 1/β whatever k, so ⟨∂g/∂k⟩ and the covariance cancel.
    x = jax.random.normal(jax.random.key(5), (200_000,)) / np.sqrt(BETA * 2.0)

    def mean(k):
        return ensemble_average(0.5 * k * x**2, k * x**2, equal(len(x)), BETA)

    value, slope = jax.value_and_grad(mean)(2.0)
    assert_allclose(value, 1 / BETA, rtol=0.02)
    # σ² = ⟨x²⟩ has the error √2 σ²/√n, half the variance of x²/σ² the error √56/2/√n.
    assert abs(slope) < 4 * (np.sqrt(2) + np.sqrt(56) / 2) * float(value) / 2.0 / np.sqrt(len(x))


def test_reweighted_gradient_is_that_of_the_reweighted_loss():
    # Samples drawn at k = 2, loss at k = 2.2: against direct samples there.
    n = 400_000
    x = jax.random.normal(jax.random.key(7), (n,)) / np.sqrt(BETA * 2.0)

    def loss(k):
        change = BETA * 0.5 * (jax.lax.stop_gradient(k) - 2.0) * x**2
        return squared_deviation(
            0.5 * k * x**2, (x**2)[:, None], jnp.zeros(1), boltzmann_weights(change), BETA
        )

    value, slope = jax.value_and_grad(loss)(2.2)
    exact = (1 / (BETA * 2.2)) ** 2
    assert_allclose(value, exact, rtol=0.02)
    assert_allclose(slope, -2 * exact / 2.2, rtol=0.04)


def test_localized_estimator_on_a_tethered_chain():
    """Atoms on springs to their sites and to their neighbours: Gaussian, so everything is exact.

    True: d⟨x_c²⟩/dk by finite differences of the inverse Hessian. Localized: −β Cov(x_c², ∂U_local/∂k)
    from samples; it must approach the truth as the neighbourhood grows.
    """
    n, centre, stiffness, tether = 15, 7, 0.5, 0.5
    n_samples = 200_000

    def hessian(k):
        matrix = tether * np.eye(n)
        for i in range(n - 1):
            matrix[i : i + 2, i : i + 2] += k * np.array([[1, -1], [-1, 1]])
        return matrix

    def mean_square(k):
        return np.linalg.inv(BETA * hessian(k))[centre, centre]

    true = (mean_square(stiffness + 1e-4) - mean_square(stiffness - 1e-4)) / 2e-4

    def atomic_energies(params, positions):
        x = positions[:, 0]
        springs = 0.5 * params * (x[1:] - x[:-1]) ** 2
        shared = 0.5 * (jnp.pad(springs, (0, 1)) + jnp.pad(springs, (1, 0)))
        return 0.5 * tether * x**2 + shared

    potential = from_atomic_energies(lambda key: stiffness, atomic_energies)
    covariance = np.linalg.inv(BETA * hessian(stiffness))
    draws = np.random.default_rng(2).multivariate_normal(np.zeros(n), covariance, size=n_samples)
    positions = jnp.asarray(np.pad(draws[..., None], ((0, 0), (0, 0), (0, 2))), jnp.float32)
    values = positions[:, centre, 0] ** 2

    def estimate(radius):
        local = neighbourhood_energies(potential, np.arange(centre - radius, centre + radius + 1)[None])

        def mean(k):
            energies = jax.vmap(local, (None, 0))(k, positions)[:, 0]
            return ensemble_average(energies, values, equal(n_samples), BETA)

        return float(jax.jit(jax.grad(mean))(stiffness))

    errors = [estimate(radius) / true - 1 for radius in (1, 2, 4)]
    assert abs(errors[0]) > 3 * abs(errors[1]) > 0
    assert abs(errors[0]) > 0.02  # a small neighbourhood is visibly biased
    assert abs(errors[2]) < 0.02


def test_one_molecule_a_neighbourhood(ethanol):
    system, positions = ethanol
    potential = bonded_molecule(system, positions)
    local = neighbourhood_energies(potential, np.arange(9)[None])
    params = potential.init(None)
    assert_allclose(local(params, positions)[0], potential.energy(params, positions), rtol=1e-6)
    with pytest.raises(ValueError, match="neighbourhoods have shape"):
        neighbourhood_energies(potential, np.arange(3))


def test_a_frame_without_an_energy_changes_nothing():
    # √(1 − x²) is NaN outside: a failed frame must leave neither value nor gradient there.
    potential = from_energy(
        lambda params, x: params * jnp.sqrt(1.0 - jnp.sum(x**2)), lambda key: jnp.float32(1.0)
    )
    positions = jax.random.uniform(jax.random.key(0), (6, 4, 1, 3), maxval=0.5)
    energies = jax.vmap(jax.vmap(potential.energy, (None, 0)), (None, 0))(1.0, positions)
    observables = {"radius": (1.0, lambda x: jnp.sum(x**2)[None])}
    valid = jnp.ones((6, 4), bool).at[2:, 1].set(False).at[0, 2].set(False)
    broken = Ensemble(positions.at[:, 1].set(5.0).at[0, 2].set(5.0), energies, valid)
    valid = valid.at[:2, 1].set(False)  # these two have lost their energy since they were drawn

    def gradient(ensemble):
        def loss(params):
            targets, stand_in = {"radius": jnp.zeros(1)}, jnp.zeros((1, 3))
            return observable_loss(
                potential, observables, targets, BETA, params, ensemble, stand_in, cross_fitted=False
            )

        return jax.value_and_grad(loss, has_aux=True)(jnp.float32(1.0))

    (value, metrics), slope = gradient(broken)
    kept = np.asarray(positions)[np.asarray(valid)]
    assert_allclose(value, np.sum(kept**2, axis=(1, 2)).mean() ** 2, rtol=1e-5)
    assert_allclose(metrics["effective_samples"], valid.sum(), rtol=1e-4)
    assert np.isfinite(slope) and slope != 0

    (value, metrics), slope = gradient(broken._replace(valid=jnp.zeros((6, 4), bool)))
    assert value == 0 and slope == 0 and metrics["effective_samples"] == 0


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"target \(3,\): expected \[N\], \[N, K\], \[N\] and \[K\]"):
        squared_deviation(jnp.zeros(4), jnp.zeros((4, 2)), jnp.zeros(3), equal(4), BETA)
