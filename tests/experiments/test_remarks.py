"""What training says of itself."""

from __future__ import annotations

import math

import pytest

from experiments.remarks import closing_remarks, progress_line
from experiments.train import _over_updates
from experiments.validation import FORCE_ERROR

ROW = {"step": 100, "loss": 0.5, FORCE_ERROR: 20.0, "seconds": 0.5}
FALLEN = {"chain_fallen_fraction": 0.0025, "chain_energy_min_ev": -1.25}


def test_a_line_of_progress():
    assert progress_line(ROW, 1300) == (
        "update 100/1300  loss 0.5  force MAE 20 meV/Å  0.5 s each, 0:10:00 left"
    )
    assert "  0.25 % of chains in holes  0.5 s" in progress_line(ROW | FALLEN, 1300)


def test_a_quiet_end_has_no_remarks():
    assert closing_remarks(ROW | {"chain_fallen_fraction": 0.0}, 19.0, 100, 300.0) == []
    assert closing_remarks(ROW | FALLEN, 19.0, 100, 300.0, box=True) == []
    assert closing_remarks(ROW | FALLEN | {"chain_fallen_fraction": 0.1}, 19.0, 100, 300.0, box=True)
    assert closing_remarks(ROW, math.inf, 100, 300.0) == [] == closing_remarks({}, math.inf, 100, 300.0)


def test_holes_and_a_late_rise_are_told():
    (rise,) = closing_remarks(ROW, 15.0, 100, 300.0)
    assert "ended at 20 meV/Å and was 15 meV/Å" in rise
    (holes,) = closing_remarks(ROW | FALLEN, 19.0, 100, 300.0)
    assert holes.startswith(
        "0.25 % of the chains lay in holes during the last 100 updates, the lowest at -1.25 eV"
    )


def test_chains_at_another_temperature_are_told():
    assert "  chains at 412 K  0.5 s" in progress_line(ROW | {"chain_temperature_k": 412.3}, 1300)
    assert closing_remarks(ROW | {"chain_temperature_k": 325.0}, math.inf, 100, 300.0) == []
    for wrong, cause in (
        (340.0, "faster than friction takes the heat"),
        (250.0, "K: the step may be too long"),
    ):
        (remark,) = closing_remarks(ROW | {"chain_temperature_k": wrong}, math.inf, 100, 300.0)
        assert remark.startswith(f"the chains of negatives were at {wrong:g} K during the last 100 updates")
        assert cause in remark


def test_a_row_has_means_and_of_minima_the_lowest():
    values = [-0.2, math.nan, -1.1, -0.2]
    assert _over_updates("chain_energy_min_ev", values) == -1.1
    assert _over_updates("chain_energy_mean_ev", values) == pytest.approx(-0.5)
    assert math.isnan(_over_updates("acceptance", [math.nan]))
