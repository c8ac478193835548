"""Minima below frames, and the thermal tail above a minimum."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.relaxation import harmonic_share_below, relaxed_energies
from experiments.stability import spurious_threshold, thermal_metrics
from potentials import from_energy
from potentials.units import KB
from tests.experiments.small_problem import chains, small, small_problem

CENTRE = np.arange(27.0).reshape(9, 3)


def well(depth, stiffness=5.0, second=0.0):
    """A harmonic well of this depth; beyond 3 Å in the first coordinate, one deeper by `second`."""

    def energy(params, x):
        lower = -second * (x[0, 0] > 3.0)
        return 0.5 * stiffness * jnp.sum((x - CENTRE) ** 2) + depth + lower

    return from_energy(energy, lambda key: {})


def test_frames_relax_to_the_minimum():
    rng = np.random.default_rng(0)
    found = relaxed_energies(well(-3.0), {}, CENTRE + 0.3 * rng.normal(size=(4, 9, 3)))
    np.testing.assert_allclose(found, -3.0, atol=1e-4)
    broken = from_energy(lambda params, x: jnp.nan * jnp.sum(x), lambda key: {})
    assert np.isnan(relaxed_energies(broken, {}, CENTRE[None])).all()


def test_share_of_a_harmonic_sample_below_an_energy():
    """Against samples of 21 modes of any stiffness: each has k_B T/2 χ²."""
    rng = np.random.default_rng(1)
    energies = 0.5 * KB * 500 * rng.chisquare(21, size=400_000) - 2.0
    for energy in (-1.8, -1.7, -1.6):
        share = harmonic_share_below(energy, -2.0, 500.0, 9)
        error = np.sqrt(share / len(energies))
        assert np.mean(energies < energy) == pytest.approx(share, abs=4 * error)
    assert harmonic_share_below(-2.1, -2.0, 500.0, 9) == 0.0


def test_expected_frames_of_an_evaluation():
    problem, reference = small_problem()
    threshold = spurious_threshold(small(), problem, reference)
    trajectory = chains(np.zeros((4, 50)))
    shift = reference.energy_mean[0] - problem.energy_shift
    for above, expected in ((-0.3, 200 * harmonic_share_below(0.3, 0.0, 500.0, 9)), (0.1, 0.0)):
        moved = problem._replace(potential=well(threshold + above))
        metrics = thermal_metrics(small(), moved, {}, trajectory, reference)
        assert metrics["spurious_frames_expected"] == pytest.approx(expected, rel=1e-3, abs=1e-12)
        assert metrics["relaxed_energy_ev"] == pytest.approx(threshold + above - shift, abs=1e-3)
