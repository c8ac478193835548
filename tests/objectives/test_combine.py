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


def test_a_metric_that_two_parts_report_is_named_after_them():
    parts = {"a": (1.0, _quadratic("max")), "b": (1.0, _counting(7, "max")), "c": (1.0, _quadratic("loss_a"))}
    objective = combine(parts)
    samples, _ = objective.sample(PARAMS, objective.init(jax.random.PRNGKey(0), PARAMS, BATCH))
    _, metrics = objective.loss(PARAMS, BATCH, samples)
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(
        {"loss_a": 20, "loss_b": 7, "loss_c": 20, "a_max": 1, "b_max": 7, "c_loss_a": 1}
    )


@pytest.mark.parametrize(("slow", "fast"), [(0.0, 1.0), (0.25, 1.0), (0.1, 0.2), (0.0, 0.0)])
def test_each_part_learns_at_its_own_rate(slow, fast):
    """The step is the rate of the sum times its gradient: of each part, its own rate times its own."""
    parts = {"a": (2.0, _quadratic("a_max")), "b": (0.5, _counting(7))}
    rates = dict(zip(parts, (slow, fast), strict=True))
    at_rates = {
        name: (weight, part._replace(rate=lambda samples, name=name: jnp.float32(rates[name])))
        for name, (weight, part) in parts.items()
    }
    objective = combine(at_rates)
    samples, _ = objective.sample(PARAMS, objective.init(jax.random.PRNGKey(0), PARAMS, BATCH))
    gradient, _ = jax.grad(objective.loss, has_aux=True)(PARAMS, BATCH, samples)
    expected = sum(
        weight * rates[name] * jax.grad(part.loss, has_aux=True)(PARAMS, BATCH, samples[name])[0]
        for name, (weight, part) in parts.items()
    )
    np.testing.assert_allclose(objective.rate(samples) * gradient, expected, rtol=1e-6)


def test_no_parts_is_an_error():
    with pytest.raises(ValueError, match="no objectives given"):
        combine({})
