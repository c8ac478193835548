"""Chains in holes, at hotter levels, and beyond where there is an energy."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from objectives import contrastive, contrastive_loss
from potentials.units import KB
from samplers import baoab, ula
from tests.objectives.pair_well import OTHER, TEMPERATURE, params_of
from tests.objectives.walled_pair import (
    FRAMES,
    KEY,
    POTENTIAL,
    SYSTEM,
    WALL,
    build,
    contrastive_gradient,
    from_data,
    make_negatives,
    mala_chains,
    ula_chains,
    with_chains,
)

FALLING = params_of(OTHER | {"wall": 0.1})


def _apart(separation: float) -> Array:
    return jnp.array([[-0.5, 0, 0], [0.5, 0, 0]]) * separation


def test_chains_far_below_every_frame_have_fallen():
    """More than 2 k_B T below the lowest energy of the frames, here all at 1.06 eV."""
    params = params_of(OTHER | {"wall": 0.0})
    objective = ula_chains()
    state = objective.init(KEY, params, FRAMES)
    state = state._replace(data=jnp.tile(_apart(2.3), (64, 1, 1)))
    floor = POTENTIAL.energy(params, _apart(2.3)) - 2 * KB * TEMPERATURE
    separations = jnp.array([2.0, 2.2, 2.25, 2.3, 2.6])  # 0.5 to 1.9 eV
    position = state.levels[0].position
    for index, separation in enumerate(separations):
        position = position.at[index].set(_apart(separation))
    negatives, _ = objective.sample(params, with_chains(state, position=position))
    np.testing.assert_array_equal(negatives.fallen, np.asarray(negatives.energies) < floor)
    assert negatives.fallen[0] and not negatives.fallen[4] and negatives.fallen[5:].all()


@pytest.mark.parametrize("builder", [ula, baoab])
def test_a_hole_found_by_a_hot_chain_comes_down(builder):
    """Deep frames at the hottest level end up at the coldest, in the negatives and in the next state."""
    steps = {"timestep": 1e-4} if builder is baoab else {"step_size": 1e-10}
    objective = build(builder, hotter=(800.0, 1200.0), n_chains=64, n_steps=1, **steps)
    params = params_of({"barrier": 1.0, "tilt": 0.0, "wall": 0.0})
    high, deep = jnp.tile(_apart(1.5), (64, 1, 1)), jnp.tile(_apart(1.0), (64, 1, 1))  # 1.6 and 0 eV
    state = objective.init(KEY, params, FRAMES)
    places = (high, high, deep)
    state = state._replace(levels=tuple(c.set(position=x) for c, x in zip(state.levels, places, strict=True)))
    for _ in range(20):
        negatives, state = objective.sample(params, state)
        found = jax.vmap(POTENTIAL.energy, (None, 0))(params, negatives.positions)
        np.testing.assert_allclose(negatives.energies, found, atol=1e-5)
    for x in (negatives.positions, state.levels[0].position):
        np.testing.assert_allclose(jnp.ptp(x[:, :, 0], axis=1), 1.0, atol=1e-2)
    for chains in state.levels[1:]:
        np.testing.assert_allclose(jnp.ptp(chains.position[:, :, 0], axis=1), 1.5, atol=1e-2)
    if builder is baoab:  # momenta were drawn anew, at the temperature of the level
        for chains, temperature in zip(state.levels, (TEMPERATURE, 800.0, 1200.0), strict=True):
            kinetic = chains.momentum**2 / chains.mass / KB
            assert abs(kinetic.mean() - temperature) < 4 * temperature * np.sqrt(2 / kinetic.size)


@pytest.mark.parametrize("temperatures", [[], [500.0, 400.0], [500.0, 500.0], [500.0]])
def test_levels_must_rise_and_have_a_sampler_each(temperatures):
    with pytest.raises(ValueError, match="rising temperatures"):
        contrastive(POTENTIAL, [ula(POTENTIAL, SYSTEM)] * 2, SYSTEM.masses, temperatures)


def test_failed_chains_do_not_count_and_start_again():
    objective = ula_chains()
    state = objective.init(KEY, FALLING, FRAMES)
    position = state.levels[0].position.at[0].set(_apart(WALL + 1)).at[1].set(jnp.nan)
    # The slope next to the wall throws this one across: a position, but no energy, where it is frozen.
    position = position.at[2].set(_apart(WALL - 2e-6))
    negatives, after = objective.sample(FALLING, with_chains(state, position=position))
    np.testing.assert_array_equal(negatives.alive, [False] * 3 + [True] * 61)
    assert np.isfinite(negatives.positions[2]).all()
    assert float(jnp.ptp(negatives.positions[2, :, 0])) > WALL

    (value, metrics), gradient = jax.value_and_grad(objective.loss, has_aux=True)(FALLING, FRAMES, negatives)
    assert float(metrics["chain_alive_fraction"]) == pytest.approx(61 / 64)
    kept = make_negatives(negatives.positions[3:])
    expected, _ = objective.loss(FALLING, FRAMES, kept)
    assert np.isfinite(float(expected)) and float(value) == pytest.approx(float(expected), rel=1e-3)
    for name, slope in contrastive_gradient(FALLING, FRAMES.positions, kept).items():
        assert float(gradient[name]) == pytest.approx(float(slope), rel=1e-3)

    assert from_data(after.levels[0].position) == [True] * 3 + [False] * 61
    assert objective.sample(FALLING, after)[0].alive.all()


def test_a_chain_stuck_where_there_is_no_energy_starts_again():
    """MALA rejects every step from there: its position stays finite."""
    objective = mala_chains()
    state = objective.init(KEY, FALLING, FRAMES)
    stuck = with_chains(state, position=state.levels[0].position.at[0].set(_apart(WALL + 1)))
    negatives, after = objective.sample(FALLING, stuck)
    np.testing.assert_allclose(negatives.positions[0], _apart(WALL + 1), rtol=1e-6)
    np.testing.assert_array_equal(negatives.alive, [False] + [True] * 1023)
    assert from_data(after.levels[0].position[:1]) == [True]


def test_no_chain_left_gives_no_gap_and_no_gradient():
    loss = jax.jit(jax.value_and_grad(partial(contrastive_loss, POTENTIAL, TEMPERATURE), has_aux=True))
    for positions in (jnp.tile(_apart(WALL + 1), (4, 1, 1)), FRAMES.positions[:4]):
        negatives = make_negatives(positions, alive=[False] * 4)
        (value, metrics), gradient = loss(FALLING, FRAMES.positions, negatives)
        assert float(value) == 0 and float(metrics["chain_alive_fraction"]) == 0
        assert all(float(slope) == 0 for slope in gradient.values())
