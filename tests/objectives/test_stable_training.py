"""StABlE beside other objectives, and on real dynamics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.configs import base
from objectives import combine, make_objective, mse
from potentials import from_energy
from potentials.units import KB
from tests.objectives.growing_bonds import FRAMES, PAIR, PARAMS, POTENTIAL, machine


def test_beside_another_objective_that_goes_on_learning():
    objective, _, _ = machine([0.001] * 4)
    both = combine({"stable": (0.1, objective), "mse": (1.0, mse(POTENTIAL))})
    state = both.init(jax.random.key(0), PARAMS, FRAMES)
    samples, _ = jax.jit(both.sample)(PARAMS, state)
    assert objective.rate(samples["stable"]) == 0 and both.rate(samples) == 1
    value, metrics = both.loss(PARAMS, FRAMES, samples)
    np.testing.assert_allclose(value, metrics["loss_mse"])


def test_beside_another_that_has_energy_and_force_errors_too():
    """While it learns, and while it simulates; each errors' metrics are named after their objective."""
    config = base.get_config()
    config.contrastive.update(n_chains=4, n_steps=2, burn_in=2, hotter=())
    config.stable.update(n_replicas=4, n_steps=20, record_every=10, bond_deviation=0.02, f_max=0.2)
    config.stable.observables.update(distances=0.0, mean_bond_length=1.0)
    spring = from_energy(
        lambda params, x: 0.5 * 30.0 * (jnp.linalg.norm(x[1] - x[0]) - params) ** 2,
        lambda key: jnp.float32(1.5),
    )
    objective = make_objective("crmse_stable", spring, PAIR._replace(bond_lengths=np.array([1.5])), config)
    params = jnp.float32(1.56)
    state = jax.jit(objective.init)(jax.random.key(0), params, FRAMES)
    phases = set()
    for _ in range(3):
        samples, state = jax.jit(objective.sample)(params, state)
        (_, metrics), slope = jax.value_and_grad(objective.loss, has_aux=True)(params, FRAMES, samples)
        phases.add(float(metrics["phase"]))
        assert jnp.isfinite(slope) and objective.rate(samples) == 1
        assert {"loss_crmse", "loss_stable", "crmse_force_mae_mev_per_angstrom"} <= metrics.keys()
        assert "stable_force_mae_mev_per_angstrom" in metrics
    assert phases == {0.0, 1.0}


@pytest.mark.parametrize("sampler", ["nose_hoover", "baoab"])
def test_a_spring_learns_its_length_from_an_observable(ethanol, sampler):
    """Real dynamics of a dimer: the mean bond length is taught without a label of energy or force."""
    config = base.get_config()
    config.stable.update(
        sampler=sampler, n_replicas=16, n_steps=400, record_every=20, f_max=0.1, f_min=0.0,
        bond_deviation=0.05, qm_weight=0.0, n_cycles=1,
    )  # fmt: skip
    config.stable.observables = ConfigDict({"mean_bond_length": 1.0})
    system = PAIR._replace(bond_lengths=np.array([1.5]))
    spring = from_energy(
        lambda params, x: 0.5 * 30.0 * (jnp.linalg.norm(x[1] - x[0]) - params) ** 2,
        lambda key: jnp.float32(1.56),
    )
    objective = make_objective("stable", spring, system, config)
    params = jnp.float32(1.56)
    state = jax.jit(objective.init)(jax.random.key(0), params, FRAMES)
    sample = jax.jit(objective.sample)
    gradient = jax.jit(jax.grad(objective.loss, has_aux=True))
    learnt = 0
    for _ in range(25):
        samples, state = sample(params, state)
        slope, _ = gradient(params, FRAMES, samples)
        if objective.rate(samples) > 0:
            params, learnt = params - 0.25 * slope, learnt + 1
    # ⟨r⟩ = r0 + 2 k_BT/(k r0) for a stiff spring in three dimensions.
    assert learnt > 5
    mean = float(params) + 2 * KB * 500 / (30.0 * float(params))
    assert abs(mean - 1.5) < 0.012
