"""The training binary: its log, its refusals, its networks."""

import numpy as np
import pytest

from experiments import binary
from experiments.configs import rmd17_ethanol
from experiments.problem import check_data, make_problem
from experiments.train import prepare, train
from tests.experiments.small_problem import assert_same
from tests.experiments.small_run import run, small


def test_errors_fall_and_are_logged(pretrained):
    workdir, _ = pretrained
    log = np.genfromtxt(workdir / "train_log.csv", delimiter=",", names=True)
    assert log["step"].tolist() == list(range(10, 61, 10))
    assert log["validation_force_mae_mev_per_angstrom"][-1] < 0.9 * log["force_mae_mev_per_angstrom"][0]


def test_post_training_ends_where_forces_have_paid_enough(pretrained, tmp_path):
    changes = {"init_from": str(pretrained[0]), "post_training.clip_norm": 1e3, "post_training.initial": 0.03}
    changes |= {"training.log_every": 1, "training.checkpoint_every": 4, "post_training.average_decay": 0.0}
    config = small(**changes, **{"post_training.max_force_rise": 0.2})
    before = np.genfromtxt(pretrained[0] / "train_log.csv", delimiter=",", names=True)
    limit = 1.2 * before["validation_force_mae_mev_per_angstrom"][-1]
    state = run(config, tmp_path / "guarded")
    log = np.genfromtxt(tmp_path / "guarded" / "train_log.csv", delimiter=",", names=True)
    errors = np.atleast_1d(log["validation_force_mae_mev_per_angstrom"])
    assert len(errors) == int(state.step) < 60 and errors[-1] > limit and (errors[:-1] <= limit).all()
    again = run(config, tmp_path / "guarded")  # resumed, it has ended
    assert_same(again.params, state.params)
    assert int(run(small(**changes), tmp_path / "unguarded").step) == 60
    with pytest.raises(ValueError, match=r"max_force_rise is of validation frames; dataset\.validation is 0"):
        prepare(small(**changes, **{"post_training.max_force_rise": 0.2, "dataset.validation": 0}))


def test_a_row_is_the_mean_over_its_updates(pretrained, tmp_path):
    """An update a call where there are samples; of simulation windows, what was defined."""
    changes = {"init_from": str(pretrained[0]), "objective": "stable", "post_training.n_updates": 20}
    run(small(**changes, **{"training.log_every": 1}), tmp_path / "each")
    run(small(**changes), tmp_path / "tens")
    each, tens = (
        np.genfromtxt(tmp_path / name / "train_log.csv", delimiter=",", names=True)
        for name in ("each", "tens")
    )
    for name in ("loss", "phase", "force_mae_mev_per_angstrom"):
        np.testing.assert_allclose(np.nanmean(each[name][:10]), tens[name][0], rtol=1e-5)
        np.testing.assert_allclose(np.nanmean(each[name][10:]), tens[name][1], rtol=1e-5)


def test_a_workdir_of_another_configuration_is_refused_untouched(pretrained):
    workdir, _ = pretrained
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    with pytest.raises(binary.InputError, match=r"another configuration: seed is 0 there and 7 here"):
        binary.claim_workdir(str(workdir), small(seed=7))
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "crmes"}, "unknown objective 'crmes'; nearest: 'crmse'"),
        ({"potential": "schnett"}, "unknown potential 'schnett'; nearest: 'schnet'"),
        ({"objective": "crmse", "contrastive.sampler": "malla"}, "unknown sampler 'malla'; nearest: 'mala'"),
        ({"dataset.name": "ethanol_gfn"}, "nearest: 'ethanol_gfn2'"),
        ({"dataset.name": "", "dataset.path": "/nowhere/x.npz"}, "/nowhere/x.npz"),
        ({"dataset.train": 100_000}, "100000"),
        ({"training.batch_size": 61}, "training.batch_size is 61"),
        ({"schnet.cutoff": 1.0}, "schnet.cutoff is 1.0 Å, shorter than a bond"),
        ({"init_from": "/nowhere"}, "init_from: /nowhere holds no checkpoints"),
        ({"training.checkpoint_every": 15}, "checkpoint_every is 15"),
        ({"dataset.temperature": -1.0}, "dataset.temperature is -1.0; expected"),
        ({"training.log_every": 0}, "training.log_every is 0; expected 1 or more"),
        ({"schnet.n_interactions": -1}, "schnet.n_interactions is -1"),
        ({"baoab.timestep": 0.0}, "baoab.timestep is 0.0; expected a positive number"),
        ({"evaluation.discard": 1.0}, "evaluation.discard is 1.0"),
        ({"objective": "crmse", "contrastive.restart_fraction": 2.0}, "contrastive.restart_fraction is 2.0"),
        ({"objective": "stable", "stable.f_min": 0.8}, "stable.f_min is 0.8 and f_max 0.75"),
        ({"objective": "stable", "stable.record_every": 7}, "expected a multiple of stable.record_every, 7"),
        ({"objective": "stable", "stable.bond_deviation": 0.0}, "expected at least one criterion"),
        ({"objective": "stable", "stable.reference": "/nowhere.npz"}, "stable.reference: /nowhere.npz"),
        (
            {"objective": "stable", "stable.reference": "rmd17_ethanol_09"},
            "stable.reference: rmd17_ethanol_09: no such",
        ),
        ({"objective": "stable", "stable.estimator": "locale"}, "unknown stable.estimator 'locale'; nearest"),
        (
            {"objective": "stable", "stable.estimator": "local"},
            "observable of the local estimator 'distances'",
        ),
        ({"objective": "stable", "stable.observables.distances": 0.0}, "stable: no observables"),
        ({"post_training.optimiser": "lion", "init_from": "/nowhere"}, "unknown optimiser 'lion'"),
    ],
)
def test_bad_input_is_one_line_that_names_it(changes, words):
    with pytest.raises(binary.InputError) as caught, binary.reading_input():
        prepare(small(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "optimiser", "told"), [("crmse", "sgd", 1), ("crmse", "adam", 0), ("mse", "sgd", 0)]
)
def test_contrastive_training_by_the_schedule_of_stable_is_told_of(
    pretrained, monkeypatch, objective, optimiser, told
):
    said = []
    monkeypatch.setattr(binary.LOG, "warning", lambda form, *args: said.append(form % args))
    changes = {"objective": objective, "post_training.optimiser": optimiser, "init_from": str(pretrained[0])}
    prepare(small(**changes))
    assert len([line for line in said if "post_training.optimiser is sgd" in line]) == told


def test_rmd17_trains_to_its_own_split(data):
    config = rmd17_ethanol.get_config()
    problem = make_problem(config)
    assert [len(batch.energies) for batch in problem[4:]] == [950, 50, 1000]
    assert abs(float(problem.train.energies.mean())) < 1e-4
    assert len(problem.system.bonds) == 8


def test_other_frames_under_the_same_name_are_refused(pretrained):
    workdir, state = pretrained
    config = small()
    problem, objective = prepare(config)
    frames = problem.splits.train
    splits = problem.splits._replace(train=frames._replace(energies=frames.energies + 0.1))
    with pytest.raises(binary.InputError, match="on other frames"):
        train(config, problem._replace(splits=splits), objective, workdir)
    with pytest.raises(ValueError, match="on other frames"):
        check_data(workdir, problem._replace(splits=splits))  # as evaluation and post-training do
    assert_same(train(config, problem, objective, workdir).params, state.params)


SIZES = {"n_features": 4, "n_layers": 1, "n_bessel": 4, "n_hidden": 8}


SIZES_OF_EDGES = {"n_atom": 8, "n_edge": 8, "n_triplet": 4, "n_bilinear": 4, "n_basis": 4, "n_blocks": 1}


@pytest.mark.parametrize(
    ("name", "settings"), [("nequip", SIZES), ("mace", SIZES), ("gemnet_t", SIZES_OF_EDGES)]
)
def test_another_network_by_its_name(name, settings, tmp_path):
    *_, size = settings
    config = small(potential=name, **{f"{name}.{field}": value for field, value in settings.items()})
    config.pre_training.initial = 0.02
    run(config, tmp_path / "run")
    log = np.genfromtxt(tmp_path / "run" / "train_log.csv", delimiter=",", names=True)
    assert log["force_mae_mev_per_angstrom"][-1] < 0.9 * log["force_mae_mev_per_angstrom"][0]
    with pytest.raises(ValueError, match=rf"{name}.{size} is 0; expected 1 or more"):
        prepare(small(potential=name, **{f"{name}.{size}": 0}))
    with pytest.raises(ValueError, match=rf"{name}.cutoff is 1.0 Å, shorter than a bond"):
        prepare(small(potential=name, **{f"{name}.cutoff": 1.0}))
