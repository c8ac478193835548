"""Workdirs, records of configurations, and errors in one line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from experiments import binary
from experiments.binary import (
    InputError,
    claim_workdir,
    provenance,
    read_config,
    reading_input,
    write_atomically,
)
from experiments.configs import base, ethanol
from experiments.configurations import complete
from experiments.evaluate import change

ROOT = Path(__file__).resolve().parents[2]


def config(**changes: object) -> ConfigDict:
    made = ConfigDict({"seed": 0, "empty": "", "net": {"width": 8, "deep": {"cutoff": 5.0}}, "free": None})
    made.update_from_flattened_dict(changes)
    return made


def test_an_interruption_is_no_traceback(capsys, monkeypatch):
    def main():
        raise KeyboardInterrupt

    monkeypatch.setattr(binary, "LOG", logging.getLogger("another"))
    monkeypatch.setattr(binary.jax.config, "update", lambda *setting: None)
    with pytest.raises(SystemExit) as caught:
        binary._guarded(main)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_new_workdir_is_made_and_claimed_again_by_the_same_configuration(tmp_path):
    path = claim_workdir(str(tmp_path / "a" / "b"), config())
    assert path == tmp_path / "a" / "b"
    written = (path / "config.json").read_text()
    claim_workdir(str(path), config())
    assert (path / "config.json").read_text() == written
    assert [p.name for p in path.iterdir()] == ["config.json"]


def test_every_default_survives_the_record(tmp_path):
    path = claim_workdir(str(tmp_path / "run"), ethanol.get_config())
    assert read_config(path).to_json(sort_keys=True) == ethanol.get_config().to_json(sort_keys=True)


def test_a_record_from_before_a_field_existed_gets_its_default(tmp_path):
    path = claim_workdir(str(tmp_path / "run"), ethanol.get_config())
    record = json.loads((path / "config.json").read_text())
    del record["stable"], record["evaluation"]["bond_deviation"]
    record["mace"]["n_radial"] = record["mace"].pop("n_hidden")  # what it was called
    (path / "config.json").write_text(json.dumps(record))
    assert read_config(path).to_json(sort_keys=True) == ethanol.get_config().to_json(sort_keys=True)
    claim_workdir(str(path), ethanol.get_config())  # still the same run
    other = ethanol.get_config()
    other.evaluation.bond_deviation = 0.25
    del record["post_training"]["warmup"]  # no such field: what it did without is another matter
    (path / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"post_training\.warmup is None there and 150 here"):
        claim_workdir(str(path), ethanol.get_config())
    record["post_training"]["warmup"] = 150
    (path / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"evaluation\.bond_deviation is 0\.5 there and 0.25 here"):
        claim_workdir(str(path), other)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 7}, "seed is 0 there and 7 here"),
        ({"empty": "x"}, "empty is '' there and 'x' here"),
        ({"net.width": 9}, "net.width is 8 there and 9 here"),
        ({"net.deep.cutoff": 4.5}, "net.deep.cutoff is 5.0 there and 4.5 here"),
        ({"extra": 1}, "extra is None there and 1 here"),
    ],
)
def test_another_configuration_is_named_down_to_the_field(changes, difference, tmp_path):
    claim_workdir(str(tmp_path / "run"), config())
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(InputError, match="holds a run of another configuration") as caught:
        claim_workdir(str(tmp_path / "run"), config(**changes))
    assert str(caught.value) == (f"{tmp_path / 'run'} holds a run of another configuration: {difference}")
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_no_workdir_or_a_file_in_its_place(tmp_path):
    with pytest.raises(InputError, match="--workdir is not set"):
        claim_workdir("", config())
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="taken"):
        claim_workdir(str(tmp_path / "taken"), config())
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere/config.json: no such file; expected the workdir"):
        read_config(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ['{"seed": ', "[1, 2]", "", "\x00"])
@pytest.mark.parametrize("read", [read_config, lambda path: claim_workdir(str(path), config())])
def test_a_damaged_record_is_named(text, read, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="expected the JSON of a configuration") as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert "\n" not in str(caught.value)


def test_write_atomically_replaces_whole_files(tmp_path):
    path = tmp_path / "x.json"
    write_atomically(path, "long " * 100)
    write_atomically(path, "Å")
    assert path.read_text(encoding="utf-8") == "Å"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("two\nlines  and   blanks\n"), "two lines and blanks"),
        (ImportError("engine needs tblite"), "engine needs tblite"),
        (FileNotFoundError(2, "No such file", "x.npz"), "[Errno 2] No such file: 'x.npz'"),
        (ValueError(), "ValueError"),
    ],
)
def test_input_errors_are_one_line(error, message):
    with pytest.raises(InputError) as caught, reading_input():
        raise error
    assert str(caught.value) == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("bug", [KeyError("x"), AttributeError("x"), TypeError("x")])
def test_bugs_and_input_errors_pass_unchanged(bug):
    with pytest.raises(type(bug)), reading_input():
        raise bug
    with pytest.raises(InputError, match=r"^mine$"), reading_input():
        raise InputError("mine")


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("evaluation.n_steps=2000", "n_steps", 2000),
        ("evaluation.sampler=ula", "sampler", "ula"),
        ("evaluation.discard=0", "discard", 0.0),
        ("evaluation.achiral=False", "achiral", False),
        ("evaluation.engine=a=b", "engine", "a=b"),
    ],
)
def test_a_setting_is_changed(assignment, field, value):
    made = ethanol.get_config()
    change(made, assignment)
    assert made.evaluation[field] == value
    assert type(made.evaluation[field]) is type(value)


def test_settings_of_a_recorded_run_are_changed(tmp_path):
    """JSON has no tuples: what was one is a list there, and either will do."""
    made = read_config(claim_workdir(str(tmp_path / "run"), ethanol.get_config()))
    change(made, "baoab.timestep=0.25")
    assert made.baoab.timestep == 0.25
    for assignment in ("evaluation.dihedrals=['3-2-1-0']", "evaluation.dihedrals=('3-2-1-0',)"):
        change(made, assignment)
        assert list(made.evaluation.dihedrals) == ["3-2-1-0"]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("evaluation.n_steps", "expected NAME=VALUE"),
        ("evaluation.n_step=3", "no such field"),
        ("evaluation.n_steps.more=1", "no such field"),
        ("baoab.time=3", "no such field"),
        ("evaluation.n_steps=many", "a value of another type"),
        ("evaluation.n_steps=2.5", "a value of another type"),
        ("evaluation=3", "a value of another type"),
        ("evaluations.n_steps=3", "expected evaluation"),
        ("dataset.train=3", "expected evaluation"),
        ("seed=3", "expected evaluation"),
        ("=3", "expected evaluation"),
    ],
)
def test_a_setting_that_is_none_is_refused(assignment, words, tmp_path):
    made = read_config(claim_workdir(str(tmp_path / "run"), ethanol.get_config()))
    with pytest.raises(ValueError, match=words) as caught:
        change(made, assignment)
    assert str(caught.value).startswith(f"--set={assignment}: ")
    assert made.to_json(sort_keys=True) == ethanol.get_config().to_json(sort_keys=True)


@pytest.mark.parametrize(
    ("module", "flag", "default"),
    [("quickstart", "WORKDIR", "quickstart"), ("study", "WORKDIR", ""), ("evaluate", "OUTPUT", "eval")],
)
def test_a_binary_has_its_own_flags_beside_those_it_imports(module, flag, default):
    """In a process of its own: flags are global, and the binaries import each other."""
    code = (
        f"from absl import flags; from experiments import {module}; flags.FLAGS(['x']);"
        f"print(repr({module}.{flag}.value))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == repr(default), done.stderr


def test_provenance_is_text():
    record = provenance()
    assert all(isinstance(value, str) and value for value in record.values())
    assert json.loads(json.dumps(record)) == record
    assert {"jax", "python", "device", "commit"} <= record.keys()


def test_records_of_earlier_runs_have_every_field_of_today():
    results = ROOT / "experiments" / "results"
    today = flat(json.loads(base.get_config().to_json()))
    # What an MSE run has no use for may be missing from its record.
    today = {name for name in today if name.split(".")[1] not in ("contrastive", "crmse", "post_training")}
    records = [p for p in results.glob("*/*.json") if "config" in json.loads(p.read_text())]
    assert len(records) > 20
    for path in records:
        record = json.loads(path.read_text())["config"]
        missing = today - flat(complete(record))
        # Nor need a run of another network say anything of SchNet.
        if record["potential"] != "schnet":
            missing = {name for name in missing if not name.startswith(".schnet.")}
        assert not missing, path


def test_units_of_earlier_runs_are_one_setting():
    for units, expected in (
        (("", "", ""), ""),
        (("kcal/mol", "", ""), "kcal/mol"),
        (("hartree", "bohr", "eV/angstrom"), "hartree,bohr,eV/angstrom"),
        (("", "", "eV/angstrom"), ",,eV/angstrom"),
    ):
        names = ("energy_unit", "length_unit", "force_unit")
        dataset = complete({"dataset": {"path": "a", **dict(zip(names, units, strict=True))}})["dataset"]
        assert dataset["units"] == expected
        assert not set(names) & dataset.keys()
    assert complete({"dataset": {"units": ",bohr"}})["dataset"]["units"] == ",bohr"


def flat(tree, prefix=""):
    """Names of the leaves."""
    if not isinstance(tree, dict):
        return {prefix}
    return set().union(*(flat(value, f"{prefix}.{name}") for name, value in tree.items())) or {prefix}
