"""Evaluated runs read back from their workdirs, and what is said of broken ones."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.figures import figures
from experiments.runs import Run, load_run, time_label, unit
from tests.experiments.small_problem import small
from tests.experiments.synthetic_runs import make_run, write_run


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [make_run("MSE", True), make_run("CRMSE", False)]


def test_load_run_reads_what_was_written(runs, tmp_path):
    run = load_run(write_run(tmp_path / "w", runs[1]), "CRMSE")
    assert run.label == "CRMSE" and run.metrics == runs[1].metrics
    for found, written in ((run.curves, runs[1].curves), (run.log, runs[1].log)):
        assert set(found) == set(written)
        for key, values in written.items():
            np.testing.assert_array_equal(found[key], values)
    assert set(figures([run])) == set(figures([runs[1]]))


def test_load_run_without_a_training_log(runs, tmp_path):
    workdir = write_run(tmp_path / "w", runs[1])
    (workdir / "train_log.csv").unlink()
    assert "training_curves" not in figures([load_run(workdir, "x")])


def test_load_run_takes_a_cut_off_last_row(runs, tmp_path):
    workdir = write_run(tmp_path / "w", runs[1])
    (workdir / "train_log.csv").write_text("step,loss,energy_mae_mev\n0,1.5,\n10,1.2")
    log = load_run(workdir, "x").log
    np.testing.assert_array_equal(log["loss"], [1.5, 1.2])
    assert np.isnan(log["energy_mae_mev"]).all()


def test_load_run_knows_where_the_run_lies_that_it_started_from(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, parent in (("W0", ""), ("W1", "W0")):
        write_run(tmp_path / name, runs[0])
        (tmp_path / name / "config.json").write_text(small(init_from=parent).to_json())
    assert load_run("W0", "x").folder == tmp_path / "W0" and load_run("W0", "x").parent is None
    assert load_run("W1", "x").parent == tmp_path / "W0"
    (tmp_path / "moved").mkdir()
    for name in ("W0", "W1"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert load_run("moved/W1", "x").parent == tmp_path / "moved" / "W0"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("eval/metrics.json", None, "metrics.json: no such file"),
        ("eval/curves.npz", None, "curves.npz: no such file"),
        ("eval/metrics.json", b"{", "metrics.json: not valid JSON"),
        ("eval/metrics.json", b"[1]", "expected one flat object"),
        ("eval/curves.npz", b"nothing", "curves.npz: no readable npz"),
        ("eval/curves.npz", b"PK\x03\x04 cut", "curves.npz: no readable npz"),
        ("eval/curves.npz", b"", "curves.npz: no readable npz"),
        ("train_log.csv", b"step,loss\n0,fast\n", "column 'loss' must hold numbers"),
        ("train_log.csv", b"epoch,loss\n0,1\n", "column 'step'"),
        ("train_log.csv", b"step,loss\n0,1,2\n", "more cells than"),
    ],
)
def test_load_run_names_what_is_wrong(runs, tmp_path, name, content, message):
    workdir = write_run(tmp_path / "w", runs[1])
    if content is None:
        (workdir / name).unlink()
    else:
        (workdir / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_run(workdir, "x")
    assert "\n" not in str(caught.value)
    assert str(workdir) in str(caught.value)


def test_load_run_rejects_an_incomplete_or_inconsistent_group(runs, tmp_path):
    lacking = {k: v for k, v in runs[0].curves.items() if k != "hr_model_stderr"}
    with pytest.raises(ValueError, match="hr_model_stderr"):
        load_run(write_run(tmp_path / "a", runs[0]._replace(curves=lacking)), "x")
    short = runs[0].curves | {"energy_edges": runs[0].curves["energy_edges"][:-1]}
    with pytest.raises(ValueError, match="do not fit"):
        load_run(write_run(tmp_path / "b", runs[0]._replace(curves=short)), "x")
    transposed = runs[0].curves | {"chain_energy": runs[0].curves["chain_energy"].T}
    with pytest.raises(ValueError, match="chain"):
        load_run(write_run(tmp_path / "c", runs[0]._replace(curves=transposed)), "x")
    pickled = runs[0].curves | {"dihedral_names": np.array(["a", None], dtype=object)}
    with pytest.raises(ValueError, match=r"curves\.npz: no readable npz file \(Object arrays"):
        load_run(write_run(tmp_path / "d", runs[0]._replace(curves=pickled)), "x")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("energy_mae_mev", "meV"),
        ("force_mae_mev_per_angstrom", "meV/Å"),
        ("stable_time_ps_median", "ps"),
        ("energy_minimum_ev", "eV"),
        ("virial_temperature_k", "K"),
        ("ks_energy", ""),
        ("n_chains", ""),
        ("hr_mae", ""),
    ],
)
def test_unit_of_a_metric(name, expected):
    assert unit(name) == expected


def test_time_label(runs, tmp_path):
    assert time_label(runs[0]) == "Time (ps)"
    for label in (np.array("steps (ULA)"), np.array(["steps (ULA)"])):
        steps = runs[0]._replace(curves=runs[0].curves | {"chain_time_label": label})
        read = load_run(write_run(tmp_path / str(label.ndim), steps), "x")
        assert time_label(read) == "steps (ULA)"


@pytest.mark.parametrize("label", [np.array(["a", "b"]), np.array(3.0), np.array([], dtype="U1")])
def test_load_run_rejects_a_time_label_that_is_no_string(runs, tmp_path, label):
    wrong = runs[0]._replace(curves=runs[0].curves | {"chain_time_label": label})
    with pytest.raises(ValueError, match=r"run 'x': 'chain_time_label' in curves\.npz is .*one string"):
        load_run(write_run(tmp_path / "w", wrong), "x")
