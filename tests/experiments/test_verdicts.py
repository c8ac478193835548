"""Verdicts from metrics alone, and how metrics are written."""

from __future__ import annotations

import re

import pytest

from experiments.runs import Run
from experiments.verdicts import format_value, verdict
from tests.experiments.synthetic_runs import METRICS

BROKEN, SAFE = METRICS[True] | {"energy_minimum_ev": -34.4}, METRICS[False]


def _run(label: str, metrics: dict) -> Run:
    return Run(label, dict(metrics), {}, {})


def test_verdict_of_a_broken_sampler():
    kind, text = verdict(_run("MSE", BROKEN))
    assert kind == "bad"
    assert text == (
        "NOT safe to sample: 12.3 % ± 1.0 % of frames in 64 × 100 ps are spurious; "
        "lowest energy -34.4 eV (-793 kcal/mol) relative to the reference mean, "
        "threshold -0.9 eV (-20.8 kcal/mol); 3.12 % of chains failed (non-finite)."
    )


def test_verdict_of_a_sound_sampler_states_what_the_chains_can_exclude():
    kind, text = verdict(_run("CRMSE", SAFE))
    assert kind == "good"
    assert text.startswith("no spurious frame in 64 × 100 ps; lowest energy -0.62 eV (-14.3 kcal/mol)")
    bound = float(re.search(r"below ([\d.]+) %", text)[1]) / 100
    assert (1 - bound) ** 64 == pytest.approx(0.05, rel=0.05)  # no fall in 64 chains is then a 5 % event


@pytest.mark.parametrize(
    "change",
    [
        {"failed_fraction": 0.01},
        {"energy_minimum_ev": -1.0},
        {"spurious_fraction": float("nan")},
        {"spurious_fraction": 1e-6},
    ],
)
def test_one_bad_sign_is_enough(change):
    kind, text = verdict(_run("x", SAFE | change))
    assert kind == "bad" and text.startswith("NOT safe")


TAIL = {
    "spurious_fraction": 8e-6, "spurious_frames": 1, "spurious_frames_expected": 2.2,
    "energy_minimum_ev": -0.95, "relaxed_energy_ev": -1.1,
}  # fmt: skip


def test_a_thermal_tail_is_not_spurious():
    kind, text = verdict(_run("x", SAFE | TAIL))
    assert kind == "good" and text.startswith(
        "0.0008 % of frames in 64 × 100 ps are below the threshold, no more"
    )
    assert "frames relax to, -1.1 eV" in text


@pytest.mark.parametrize(
    "change",
    [
        {"spurious_frames_expected": 0.005},  # one frame is then a 0.5 % event
        {"spurious_frames": 9},  # of 2.2 expected
        {"energy_minimum_ev": -1.2},  # below every minimum that the reference has
        {"broken_fraction": 0.1},
        {"relaxed_energy_ev": None},
    ],
)
def test_what_no_thermal_tail_explains(change):
    assert verdict(_run("x", SAFE | TAIL | change)).kind == "bad"


def test_a_broken_bond_is_not_safe():
    calm = {"spurious_fraction": 0.0, "failed_fraction": 0.0, "n_chains": 64, "chain_length_ps": 10.0}
    run = Run("A", {**calm, "broken_fraction": 0.02}, {}, {})
    assert verdict(run) == ("bad", "NOT safe to sample: 0 % of frames in 64 × 10 ps are spurious; "
                            "2 % of frames have a broken bond.")  # fmt: skip
    kind, text = verdict(Run("A", {**calm, "broken_fraction": 0.0}, {}, {}))
    assert kind == "good" and text.startswith("no spurious frame and no broken bond in 64 × 10 ps")


def test_a_liquid_that_lost_its_structure_is_not_called_good():
    # With energies and bonds in order.
    liquid = {**calm_box(), "rdf_unstable_chains": 3, "rdf_stable_time_ps_median": 2.0}
    kind, text = verdict(Run("A", liquid, {}, {}))
    assert kind == "caution" and "g(r) of 3 chains was off by more than evaluation.rdf_deviation" in text
    kind, text = verdict(Run("A", {**liquid, "broken_fraction": 0.1}, {}, {}))
    assert kind == "bad" and "g(r) of 3 chains was off" in text
    kind, text = verdict(Run("A", {**liquid, "rdf_unstable_chains": 0}, {}, {}))
    assert kind == "good"


def calm_box() -> dict:
    return {"spurious_fraction": 0.0, "broken_fraction": 0.0, "failed_fraction": 0.0, "n_chains": 4}


def test_verdict_on_incomplete_metrics():
    assert verdict(_run("x", {})).kind == "unknown"
    assert verdict(_run("x", {"spurious_fraction": None})).kind == "unknown"
    kind, text = verdict(_run("x", {"spurious_fraction": 0.0}))
    assert kind == "good" and text == "no spurious frame in the evaluation chains."
    _, text = verdict(_run("x", {"spurious_fraction": 0.2}))
    assert text == "NOT safe to sample: 20 % of frames in the evaluation chains are spurious."


@pytest.mark.parametrize(
    ("value", "stderr", "expected"),
    [
        (12.3456, 1.01, "12.3 ± 1.0"),
        (0.05512, 0.0031, "0.0551 ± 0.0031"),
        (1.0, 0.0996, "1.00 ± 0.10"),
        (-34.4, 0.123, "-34.40 ± 0.12"),
        (12345.6, 234.5, "12350 ± 230"),
        (3.21e-9, 1.2e-10, "(3.21 ± 0.12)e-9"),
        (0.0, 0.0, "0 ± 0"),
        (0.123456, None, "0.1235"),
        (0.123456, float("nan"), "0.1235"),
        (30000, None, "30000"),
        (float("nan"), None, "-"),
        (None, None, "-"),
        (float("-inf"), 1.0, "-inf"),
        (True, None, "True"),
        ("baoab", None, "baoab"),
    ],
)
def test_format_value(value, stderr, expected):
    assert format_value(value, stderr) == expected


def test_verdict_of_chains_without_a_clock_counts_steps():
    steps = {name: value for name, value in SAFE.items() if name != "chain_length_ps"}
    steps["chain_length_steps"] = 50_000
    kind, text = verdict(_run("ULA", steps))
    assert kind == "good" and text.startswith("no spurious frame in 64 × 50000 steps; ")
    assert "the chance that a chain falls within 50000 steps is below 4.6 %" in text
    # The clock goes first where there are both.
    assert "64 × 100 ps" in verdict(_run("BAOAB", SAFE | {"chain_length_steps": 200_000})).text
    unknown = BROKEN | {"chain_length_ps": None, "chain_length_steps": 7}
    assert "64 × 7 steps" in verdict(_run("x", unknown)).text


def test_holes_that_the_chains_did_not_reach_are_told_of():
    holes = {"n_negatives": 480, "negatives_in_holes": 6, "negatives_minimum_ev": -0.951}
    kind, text = verdict(_run("CRMSE", SAFE | holes | {"negatives_test_minimum_ev": -0.266}))
    assert kind == "caution" and text.startswith("no spurious frame")
    assert "but 6 of 480 negatives" in text and "-0.951 eV" in text and "-0.266 eV" in text
    kind, text = verdict(_run("CRMSE", SAFE | holes | {"negatives_in_holes": 0}))
    assert kind == "good" and "negatives" not in text
    assert verdict(_run("MSE", BROKEN | holes)).kind == "bad"
