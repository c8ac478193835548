"""The study: what is done is not done again, nothing of another configuration is taken over."""

from __future__ import annotations

import json
import shutil

import pytest

from experiments import study as module
from experiments.binary import InputError
from experiments.limits import check_limits
from experiments.records import is_done, portable, summarise, table
from experiments.studies import STUDIES, Study, Variant
from experiments.study import cell_config, check_files, fitting, run_cell
from tests.experiments.small_problem import small

FEW = {
    "pre_training.n_updates": 10,
    "post_training.n_updates": 10,
    "post_training.warmup": 2,
    "training.log_every": 10,
}
CHAINS = {"contrastive.n_chains": 4, "contrastive.n_steps": 2, "contrastive.burn_in": 5}
SETTINGS = {"training.checkpoint_every": 10, "evaluation.engine": ""}
STUDY = Study(
    small(**SETTINGS),
    {
        "mse": Variant("", FEW),
        "crmse": Variant(
            "mse",
            {**FEW, **CHAINS, "objective": "crmse"},
            {"eval": {}, "eval_ula": {"evaluation.sampler": "ula"}},
        ),
    },
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Both variants of one seed: (runs, results)."""
    root = tmp_path_factory.mktemp("study")
    (root / "results").mkdir()
    for name in STUDY.variants:
        run_cell(STUDY, name, 60, 0, root / "runs", root / "results")
    return root / "runs", root / "results"


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_post_training_by_crmse_is_by_adam(name, tmp_path):
    study = STUDIES[name]
    for variant in study.variants:
        config = cell_config(study, variant, 950, 0, tmp_path)
        if config.objective == "crmse":
            schedule = config.post_training  # some configurations have StABlE's
            assert schedule.optimiser == "adam" and schedule.warmup and schedule.final < schedule.initial


def test_every_evaluation_leaves_a_record(done):
    runs, results = done
    assert sorted(p.name for p in results.iterdir()) == [
        "crmse_60_0.json",
        "crmse_60_0_ula.json",
        "mse_60_0.json",
    ]
    record = json.loads((results / "crmse_60_0_ula.json").read_text())
    assert record["config"]["init_from"] == "mse_60_0" and str(runs.parent) not in json.dumps(record)
    assert record["config"]["evaluation"]["sampler"] == record["metrics"]["sampler"] == "ula"
    assert (runs / "crmse_60_0" / "checkpoints").is_dir()


def test_a_record_is_not_made_again(done, tmp_path, monkeypatch):
    _, results = done
    monkeypatch.setattr(module, "train", lambda *args: pytest.fail("trained again"))
    run_cell(STUDY, "crmse", 60, 0, tmp_path / "elsewhere", results)
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_record_alone_is_made(done, tmp_path):
    runs, results = done
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    (copy / "crmse_60_0_ula.json").unlink()
    before = (copy / "crmse_60_0.json").stat().st_mtime_ns
    run_cell(STUDY, "crmse", 60, 0, runs, copy)
    assert (copy / "crmse_60_0_ula.json").exists()
    assert (copy / "crmse_60_0.json").stat().st_mtime_ns == before


def test_a_record_of_another_configuration_is_refused(done, tmp_path):
    runs, results = done
    changed = STUDY._replace(config=small(**{**SETTINGS, "schnet.cutoff": 4.0}))
    with pytest.raises(InputError, match=r"mse_60_0.json was made with another configuration.*cutoff"):
        run_cell(changed, "mse", 60, 0, runs, results)


def _write(folder, name, **metrics):
    (folder / name).write_text(json.dumps({"config": {}, "metrics": metrics}))


def test_summary_over_seeds(tmp_path):
    for seed, value in enumerate((1.0, 2.0, 6.0)):
        _write(
            tmp_path,
            f"crmse_ula_200_{seed}.json",
            energy_mae_mev=value,
            energy_mae_mev_stderr=9.0,
            engine="x",
        )
    _write(tmp_path, "mse_950_0_ula.json", energy_mae_mev=4.0)
    _write(tmp_path, "summary.json", energy_mae_mev=100.0)
    summary = summarise(tmp_path)
    assert list(summary) == ["crmse_ula, 200 frames", "mse (ula), 950 frames"]
    assert summary["crmse_ula, 200 frames"]["n_seeds"] == 3
    assert summary["crmse_ula, 200 frames"]["over_seeds"] == {
        "energy_mae_mev": [3.0, pytest.approx((7 / 3) ** 0.5)]
    }
    assert summary["mse (ula), 950 frames"]["over_seeds"]["energy_mae_mev"] == [4.0, None]
    lines = table(summary).splitlines()
    assert lines[0] == "| run | seeds | `energy_mae_mev` |"
    assert lines[2:] == ["| crmse_ula, 200 frames | 3 | 3.0 ± 1.5 |", "| mse (ula), 950 frames | 1 | 4 |"]


def test_a_median_that_a_seed_does_not_reach_is_said_to_be_so(tmp_path):
    for seed, median in enumerate((80.0, None)):
        metrics = {"stable_time_ps_median": median, "stable_time_ps_median_lower": 40.0 + 10 * seed}
        _write(tmp_path, f"stable_100_{seed}.json", stable_time_ps_mean=60.0, **metrics)
    _write(tmp_path, "mse_100_0.json", stable_time_ps_mean=20.0, stable_time_ps_median=12.0)
    lines = table(summarise(tmp_path)).splitlines()
    assert lines[0] == "| run | seeds | `stable_time_ps_median` | `stable_time_ps_mean` |"
    assert lines[2] == "| mse, 100 frames | 1 | 12 | 20 |"
    assert lines[3].startswith("| stable, 100 frames | 2 | not reached in every seed | 60")


def test_seeds_of_different_configurations_are_not_averaged(tmp_path):
    for seed, cutoff in enumerate((5.0, 4.0)):
        config = {"seed": seed, "schnet": {"cutoff": cutoff}}
        record = {"config": config, "metrics": {"energy_mae_mev": 1.0}}
        (tmp_path / f"mse_200_{seed}.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"mse_200_1.json and other seeds differ: schnet.cutoff"):
        summarise(tmp_path)


def test_an_evaluation_may_be_called_by_a_number(tmp_path):
    for name in ("mse_paper_100_1.json", "mse_paper_100_1_700.json"):
        (tmp_path / name).write_text(json.dumps({"config": {}, "metrics": {"energy_mae_mev": 1.0}}))
    assert list(summarise(tmp_path)) == ["mse_paper, 100 frames", "mse_paper (700), 100 frames"]


def test_variants_for_some_sizes():
    study, names = STUDIES["rmd17_ethanol"], ["mse", "crmse_unlabelled"]
    assert fitting(study, names, 200) == names
    assert fitting(study, names, 950) == ["mse"]


def test_data_of_a_study_is_made_before_and_lies_with_its_runs(tmp_path):
    study = STUDIES["water"]
    settings = cell_config(study, "crmse", 950, 0, tmp_path).dataset
    assert settings.path == str(tmp_path / "water.extxyz")
    assert settings.test_path == str(tmp_path / "water_test.extxyz")
    settings = cell_config(STUDIES["peptide"], "mse", 950, 0, tmp_path).dataset
    assert (settings.name, settings.path, settings.test_path) == ("", str(tmp_path / "peptide.npz"), "")


def test_a_record_is_of_the_data_it_was_made_with_wherever_that_lies(tmp_path):
    study, record = STUDIES["water"], tmp_path / "mse_950_0.json"
    folders = [tmp_path / name for name in ("here", "elsewhere", "other")]
    configs = [cell_config(study, "mse", 950, 0, folder) for folder in folders]
    for folder, text in zip(folders, ("water", "water", "ice"), strict=True):
        folder.mkdir()
        (folder / "water.extxyz").write_text(text)
        (folder / "water_test.extxyz").write_text("water")
    record.write_text(json.dumps({"config": portable(configs[0]), "metrics": {}}))
    assert str(tmp_path) not in record.read_text()
    assert is_done(record, configs[1])
    with pytest.raises(InputError, match=r"made with another configuration: dataset\.path"):
        is_done(record, configs[2])


def test_half_of_the_data_is_named(tmp_path):
    (tmp_path / "water.extxyz").write_text("")
    with pytest.raises(
        ValueError, match=r"water_test\.extxyz: no such file; move .*water\.extxyz away first"
    ):
        check_files(STUDIES["water"], tmp_path)


@pytest.mark.parametrize("name", STUDIES)
def test_every_cell_has_a_valid_configuration(name, tmp_path):
    study = STUDIES[name]
    for variant, (parent, _, evaluations, *_) in study.variants.items():
        config = cell_config(study, variant, 200, 1, tmp_path)
        assert config.seed == 1 and config.dataset.train == 200
        assert config.init_from == (str(tmp_path / f"{parent}_200_1") if parent else "")
        check_limits(config)
        assert {*evaluations} >= {"eval"} and config.is_locked  # so that a misspelt field is an error
        epochs = config.pre_training.n_updates / (200 // config.training.batch_size)
        # Few frames want more of them, or the fit is not finished: as it is not to be in one study, nor can
        # be in a box or of a peptide.
        assert (epochs >= 1500) == (name not in ("unstable_ethanol", "water", "peptide"))
