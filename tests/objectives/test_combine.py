"""Sums of objectives against sums by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from objectives import Batch, Metrics, Objective, combine, static

PARAMS = jnp.array([1.0, -2.0])
BATCH = Batch(jnp.ones((2, 1, 3)), jnp.array([3.0, 5.0]), jnp.zeros((2, 1, 3)))


def _quadratic(metric: str) -> Objective:
    def loss(params, batch) -> tuple[jax.Array, Metrics]:
        return jnp.sum(params**2) * jnp.mean(batch.energies), {metric: jnp.max(params)}

    return static(loss)


def _counting(start: int, metric: str = "count") -> Objective:
    """Its samples are how often it has been sampled; its loss is theirs times the first parameter."""
    return Objective(
        init=lambda key, params, frames: {"count": jnp.int32(start), "key": key},
        sample=lambda params, state: (state["count"], state | {"count": state["count"] + 1}),
        loss=lambda params, batch, samples: (samples * params[0], {metric: samples}),
    )


def test_weighted_sum_by_hand():
    objective = combine({"a": (2.0, _quadratic("a_max")), "b": (-0.5, _counting(7))})
    state = objective.init(jax.random.PRNGKey(0), PARAMS, BATCH)
    samples, state = objective.sample(PARAMS, state)
    (value, metrics), gradient = jax.value_and_grad(objective.loss, has_aux=True)(PARAMS, BATCH, samples)
    # 2 · (1 + 4) · 4 − 0.5 · 7 · 1
    assert float(value) == pytest.approx(36.5)
    np.testing.assert_allclose(gradient, [2 * 2 * 1 * 4 - 3.5, 2 * 2 * -2 * 4])
    assert {name: float(v) for name, v in metrics.items()} == pytest.approx(
        {"loss_a": 20.0, "a_max": 1.0, "loss_b": 7.0, "count": 7.0}
    )


def test_states_and_samples_are_kept_apart():
    parts = {"a": (1.0, _counting(0, "count_a")), "b": (1.0, _counting(10, "count_b"))}
    objective = combine(parts)
    state = objective.init(jax.random.PRNGKey(0), PARAMS, BATCH)
    assert not np.array_equal(state["a"]["key"], state["b"]["key"])
    for update in range(3):
        samples, state = objective.sample(PARAMS, state)
        assert {name: int(value) for name, value in samples.items()} == {"a": update, "b": 10 + update}
    assert {name: int(own["count"]) for name, own in state.items()} == {"a": 3, "b": 13}


def test_a_sum_can_be_a_part_of_a_sum():
    inner = combine({"a": (2.0, _quadratic("max")), "b": (1.0, _counting(7))})
    outer = combine({"inner": (10.0, inner), "c": (1.0, _counting(1, "other"))})
    samples, _ = outer.sample(PARAMS, outer.init(jax.random.PRNGKey(0), PARAMS, BATCH))
    value, metrics = outer.loss(PARAMS, BATCH, samples)
    assert float(value) == pytest.approx(10 * (2 * 20 + 7) + 1)
    assert set(metrics) == {"loss_inner", "loss_a", "max", "loss_b", "count", "loss_c", "other"}


@pytest.mark.parametrize("metric", ["max", "loss_a"])
def test_a_metric_reported_twice_is_an_error(metric):
    objective = combine({"a": (1.0, _quadratic("max")), "b": (1.0, _quadratic(metric))})
    with pytest.raises(ValueError, match=rf"combine: 'b' reports \['{metric}'\], as another part does"):
        objective.loss(PARAMS, BATCH, {"a": (), "b": ()})


def test_no_parts_is_an_error():
    with pytest.raises(ValueError, match="no objectives given"):
        combine({})
