"""The contrastive gradient against quadrature, and the fate of chains that fail or start again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.typing import NDArray

from objectives import Negatives, Objective, contrastive, contrastive_loss
from objectives.contrastive import ChainState
from potentials import Params, Potential, from_energy
from potentials.units import KB
from samplers import Sampler, baoab, mala, ula
from tests.objectives.pair_well import (
    BETA,
    OTHER,
    REFERENCE,
    TEMPERATURE,
    even_frames,
    exact_gradient,
    frames_at,
    pair_potential,
    pair_system,
    params_of,
    unlabelled,
)

WALL = 4.0  # Å


def _potential() -> Potential:
    """The pair well, not a number beyond a separation of `WALL`; params["wall"] times a fall towards it."""
    pair = pair_potential()

    def energy(params: Params, x: Array) -> Array:
        distance = jnp.sqrt(jnp.sum((x[1] - x[0]) ** 2))
        return pair.energy(params, x) + params["wall"] * jnp.sqrt(WALL - distance)

    return from_energy(energy, lambda key: PARAMS)


POTENTIAL, SYSTEM = _potential(), pair_system()
PARAMS = params_of(OTHER | {"wall": 0.0})
FRAMES = unlabelled(even_frames(64, REFERENCE))
DATA = {frame.tobytes() for frame in np.asarray(FRAMES.positions)}
KEY = jax.random.PRNGKey(0)


@cache
def _build(
    builder: Callable[..., Sampler],
    hotter: tuple[float, ...] = (),
    step_size: float = 4e-4,
    timestep: float = 0.0,
    **settings: float,
) -> Objective:
    """A contrastive objective, its functions jitted and compiled once for all tests."""
    temperatures = (TEMPERATURE, *hotter)
    step = {"timestep": timestep} if timestep else {"step_size": step_size}
    samplers = [builder(POTENTIAL, SYSTEM, **step, temperature=t) for t in temperatures]
    functions = contrastive(POTENTIAL, samplers, SYSTEM.masses, temperatures, **settings)
    return Objective(*map(jax.jit, functions))


def _with_chains(state: ChainState, **fields: Array) -> ChainState:
    """The state with other fields of its coldest chains."""
    return state._replace(levels=(state.levels[0].set(**fields), *state.levels[1:]))


def _ula_chains() -> Objective:
    return _build(ula, n_chains=64, n_steps=3)


def _mala_chains(hotter: tuple[float, ...] = ()) -> Objective:
    return _build(mala, step_size=1e-3, hotter=hotter, n_chains=1024, n_steps=50, burn_in=400)


def _negatives(
    positions: NDArray | Array,
    alive: Sequence[bool] | None = None,
    fallen: Sequence[bool] | None = None,
    accepted: Sequence[float] | None = None,
) -> Negatives:
    """Frames as negatives; by default all alive and none fallen."""
    count = len(positions)
    alive, fallen = alive or [True] * count, fallen or [False] * count
    none = None if accepted is None else jnp.array(accepted)
    return Negatives(jnp.asarray(positions), jnp.array(alive), jnp.zeros(count), jnp.array(fallen), none)


@jax.jit
def _gradient(params: Params, reference: Array, negatives: Negatives) -> Params:
    return jax.grad(partial(contrastive_loss, POTENTIAL, TEMPERATURE), has_aux=True)(
        params, reference, negatives
    )[0]


def _assert_unbiased(blocks: dict[str, Array], precision: float) -> None:
    """Means over independent blocks [K] within 4 standard errors of the exact gradient."""
    for name, exact in exact_gradient(REFERENCE, OTHER).items():
        values = np.asarray(blocks[name], dtype=float)
        stderr = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - exact) < 4 * stderr, (name, values.mean(), exact, stderr)
        assert stderr < precision * abs(exact), (name, stderr, exact)


def _from_data(positions: Array) -> list[bool]:
    """Which replicas are exactly on a data frame."""
    return [frame.tobytes() in DATA for frame in np.asarray(positions)]


# --- the gradient


def test_value_and_metrics_by_hand():
    positions = frames_at(np.array([0.2, 0.5, 0.9]), OTHER)
    negatives = _negatives(positions, alive=[True, False, True], accepted=[1.0, 0.0, 0.0])
    # No energy is below 0: a failed chain must not count as 0 eV.
    params = {"barrier": 0.1, "tilt": 0.0, "wall": 0.0}
    loss = jax.jit(partial(contrastive_loss, POTENTIAL, TEMPERATURE))
    value, metrics = loss(params_of(params), FRAMES.positions, negatives)

    def energies(frames):
        x = np.asarray(frames, dtype=float)
        return 0.1 * ((x[:, 1, 0] - x[:, 0, 0]) ** 2 - 1) ** 2

    alive = energies(positions)[[0, 2]]
    assert float(value) == pytest.approx(BETA * (energies(FRAMES.positions).mean() - alive.mean()), rel=1e-4)
    assert {name: float(metric) for name, metric in metrics.items()} == pytest.approx(
        {
            "chain_energy_mean_ev": alive.mean(),
            "chain_energy_min_ev": alive.min(),
            "chain_alive_fraction": 2 / 3,
            "chain_fallen_fraction": 0.0,
            "acceptance": 1 / 3,
        },
        rel=1e-4,
    )


def test_fallen_chains_count_more():
    """By hand: w (mean over the reference − mean over the fallen that are alive)."""
    positions = frames_at(np.array([0.2, 0.4, 0.5, 0.9]), OTHER)
    negatives = _negatives(positions, alive=[True, True, False, True], fallen=[False, True, True, True])
    params = params_of({"barrier": 0.1, "tilt": 0.0, "wall": 0.0})
    energy = jax.vmap(POTENTIAL.energy, (None, 0))

    def by_hand(params):
        reference = energy(params, FRAMES.positions).mean()
        e = energy(params, jnp.asarray(positions))
        plain = reference - (e[0] + e[1] + e[3]) / 3
        return BETA * (plain + 7.0 * ((reference - e[1]) + (reference - e[3])) / 2)

    def loss(params):
        return contrastive_loss(POTENTIAL, TEMPERATURE, params, FRAMES.positions, negatives, 7.0)

    (value, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(params)
    expected, expected_slopes = jax.value_and_grad(by_hand)(params)
    assert float(value) == pytest.approx(float(expected), rel=1e-4)
    for name in ("barrier", "tilt"):
        assert float(slopes[name]) == pytest.approx(float(expected_slopes[name]), rel=1e-4)
    assert float(metrics["chain_fallen_fraction"]) == 0.5


def test_gradient_from_exact_samples():
    shares = np.random.default_rng(0).random((2, 40, 1000))  # 40 blocks of 1000 frames
    reference = frames_at(shares[0], REFERENCE, seed=1)
    model = frames_at(shares[1], OTHER, seed=2)
    none = jnp.zeros((40, 1000))
    negatives = Negatives(jnp.asarray(model), none == 0, none, none > 0)
    blocks = jax.vmap(_gradient, (None, 0, 0))(PARAMS, jnp.asarray(reference), negatives)
    _assert_unbiased(blocks, 0.04)


@pytest.mark.parametrize("hotter", [(), (800.0, 1200.0)])
def test_gradient_from_persistent_mala_chains(hotter):
    objective = _mala_chains(hotter)
    reference = even_frames(2000, REFERENCE)
    state = objective.init(KEY, PARAMS, FRAMES)
    windows = []
    for _ in range(10):
        negatives, state = objective.sample(PARAMS, state)
        by_block = jax.tree.map(lambda leaf: leaf.reshape(16, 64, *leaf.shape[1:]), negatives)
        windows.append(jax.vmap(_gradient, (None, None, 0))(PARAMS, reference, by_block))
    _assert_unbiased(jax.tree.map(lambda *window: sum(window) / len(window), *windows), 0.06)
    _, metrics = objective.loss(PARAMS, FRAMES, negatives)
    assert float(metrics["acceptance"]) == pytest.approx(0.574, abs=0.08)  # what burn-in tunes for


def test_negatives_are_constants():
    objective = _ula_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    fixed, _ = objective.sample(PARAMS, state)

    def through_the_chains(params):
        return objective.loss(params, FRAMES, objective.sample(params, state)[0])[0]

    expected = _gradient(PARAMS, FRAMES.positions, fixed)
    found = jax.jit(jax.grad(through_the_chains))(PARAMS)
    for name in ("barrier", "tilt"):
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-4)
        assert abs(expected[name]) > 1e-3
    slope = jax.grad(lambda x: objective.loss(PARAMS, FRAMES, fixed._replace(positions=x))[0])(
        fixed.positions
    )
    assert not slope.any()


# --- chains


def test_chains_start_from_different_data_frames_and_persist():
    objective = _ula_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    assert {frame.tobytes() for frame in np.asarray(state.levels[0].position)} == DATA
    for _ in range(3):
        negatives, state = objective.sample(PARAMS, state)
        np.testing.assert_array_equal(negatives.positions, state.levels[0].position)
        assert not any(_from_data(negatives.positions)) and negatives.alive.all()
        assert negatives.accepted is None


def test_frames_are_centred_between_windows():
    objective = _ula_chains()
    state = objective.init(KEY, PARAMS, unlabelled(FRAMES.positions + 5.0))
    negatives, state = objective.sample(PARAMS, state)
    np.testing.assert_allclose(negatives.positions.mean(axis=1), 0, atol=1e-5)


def test_restart_fraction_is_the_share_that_starts_again():
    objective = _build(ula, n_chains=64, n_steps=3, restart_fraction=0.25)
    state = objective.init(KEY, PARAMS, FRAMES)
    restarted = []
    for _ in range(50):
        negatives, state = objective.sample(PARAMS, state)
        restarted.append(_from_data(state.levels[0].position))
        # The negatives are where the chains went; only their next window begins at data.
        assert not any(_from_data(negatives.positions))
    share = np.mean(restarted)
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 3200)
    both = np.mean(np.array(restarted[1:]) & restarted[:-1])  # independent from update to update
    assert abs(both - share**2) < 4 * np.sqrt(0.0625 / 3136)


def test_tuned_step_size_survives_restarts():
    objective = _mala_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    tuned = np.asarray(state.levels[0].step_size)
    assert np.ptp(tuned) == 0 and tuned[0] > 1e-2
    lost = _with_chains(state, position=state.levels[0].position.at[:9].set(jnp.nan))
    negatives, state = objective.sample(PARAMS, lost)
    assert not negatives.alive[:9].any() and all(_from_data(state.levels[0].position[:9]))
    np.testing.assert_array_equal(state.levels[0].step_size, tuned)


def test_caches_are_refreshed_when_the_parameters_change():
    objective = _mala_chains()
    state = objective.init(KEY, PARAMS, FRAMES)
    new = params_of({"barrier": 0.3, "tilt": 0.2, "wall": 0.0})
    # Steps so long that none is accepted: what is left is what the refresh computed.
    stuck = _with_chains(state, step_size=jnp.full(1024, 100.0))
    negatives, after = objective.sample(new, stuck)
    assert not negatives.accepted.any() and negatives.alive.all()
    energies = jax.vmap(POTENTIAL.energy, (None, 0))(new, state.levels[0].position)
    np.testing.assert_allclose(after.levels[0].energy, energies, rtol=1e-4, atol=1e-6)


# --- chains that fail

FALLING = params_of(OTHER | {"wall": 0.1})


def _apart(separation: float) -> Array:
    return jnp.array([[-0.5, 0, 0], [0.5, 0, 0]]) * separation


def test_chains_far_below_every_frame_have_fallen():
    """More than 2 k_B T below the lowest energy of the frames, here all at 1.06 eV."""
    params = params_of(OTHER | {"wall": 0.0})
    objective = _ula_chains()
    state = objective.init(KEY, params, FRAMES)
    state = state._replace(data=jnp.tile(_apart(2.3), (64, 1, 1)))
    floor = POTENTIAL.energy(params, _apart(2.3)) - 2 * KB * TEMPERATURE
    separations = jnp.array([2.0, 2.2, 2.25, 2.3, 2.6])  # 0.5 to 1.9 eV
    position = state.levels[0].position
    for index, separation in enumerate(separations):
        position = position.at[index].set(_apart(separation))
    negatives, _ = objective.sample(params, _with_chains(state, position=position))
    np.testing.assert_array_equal(negatives.fallen, np.asarray(negatives.energies) < floor)
    assert negatives.fallen[0] and not negatives.fallen[4] and negatives.fallen[5:].all()


@pytest.mark.parametrize("builder", [ula, baoab])
def test_a_hole_found_by_a_hot_chain_comes_down(builder):
    """Deep frames at the hottest level end up at the coldest, in the negatives and in the next state."""
    steps = {"timestep": 1e-4} if builder is baoab else {"step_size": 1e-10}
    objective = _build(builder, hotter=(800.0, 1200.0), n_chains=64, n_steps=1, **steps)
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
    objective = _ula_chains()
    state = objective.init(KEY, FALLING, FRAMES)
    position = state.levels[0].position.at[0].set(_apart(WALL + 1)).at[1].set(jnp.nan)
    # The slope next to the wall throws this one across: a position, but no energy, where it is frozen.
    position = position.at[2].set(_apart(WALL - 2e-6))
    negatives, after = objective.sample(FALLING, _with_chains(state, position=position))
    np.testing.assert_array_equal(negatives.alive, [False] * 3 + [True] * 61)
    assert np.isfinite(negatives.positions[2]).all()
    assert float(jnp.ptp(negatives.positions[2, :, 0])) > WALL

    (value, metrics), gradient = jax.value_and_grad(objective.loss, has_aux=True)(FALLING, FRAMES, negatives)
    assert float(metrics["chain_alive_fraction"]) == pytest.approx(61 / 64)
    kept = _negatives(negatives.positions[3:])
    expected, _ = objective.loss(FALLING, FRAMES, kept)
    assert np.isfinite(float(expected)) and float(value) == pytest.approx(float(expected), rel=1e-3)
    for name, slope in _gradient(FALLING, FRAMES.positions, kept).items():
        assert float(gradient[name]) == pytest.approx(float(slope), rel=1e-3)

    assert _from_data(after.levels[0].position) == [True] * 3 + [False] * 61
    assert objective.sample(FALLING, after)[0].alive.all()


def test_a_chain_stuck_where_there_is_no_energy_starts_again():
    """MALA rejects every step from there: its position stays finite."""
    objective = _mala_chains()
    state = objective.init(KEY, FALLING, FRAMES)
    stuck = _with_chains(state, position=state.levels[0].position.at[0].set(_apart(WALL + 1)))
    negatives, after = objective.sample(FALLING, stuck)
    np.testing.assert_allclose(negatives.positions[0], _apart(WALL + 1), rtol=1e-6)
    np.testing.assert_array_equal(negatives.alive, [False] + [True] * 1023)
    assert _from_data(after.levels[0].position[:1]) == [True]


def test_no_chain_left_gives_no_gap_and_no_gradient():
    loss = jax.jit(jax.value_and_grad(partial(contrastive_loss, POTENTIAL, TEMPERATURE), has_aux=True))
    for positions in (jnp.tile(_apart(WALL + 1), (4, 1, 1)), FRAMES.positions[:4]):
        negatives = _negatives(positions, alive=[False] * 4)
        (value, metrics), gradient = loss(FALLING, FRAMES.positions, negatives)
        assert float(value) == 0 and float(metrics["chain_alive_fraction"]) == 0
        assert all(float(slope) == 0 for slope in gradient.values())


@pytest.mark.parametrize(
    "settings",
    [{"n_chains": 0}, {"n_steps": 0}, {"restart_fraction": -0.1}, {"restart_fraction": 1.1}],
)
def test_settings_out_of_range(settings):
    name, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=f"contrastive: .*{name}={value}") as caught:
        _build(ula, **settings)
    assert "\n" not in str(caught.value)
