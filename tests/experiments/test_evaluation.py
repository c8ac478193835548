"""The evaluation: fresh chains, spurious frames, all of it together."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluation
from experiments.evaluate import evaluate_run
from experiments.evaluation import (
    chain_curves,
    evaluate,
    run_chains,
    settings_metrics,
)
from experiments.kept_chains import remove_chains
from experiments.runs import Run, has_group, load_run, time_label
from experiments.stability import (
    broken_frames,
    spurious_curves,
    spurious_frames,
    stability_metrics,
    survival_metrics,
)
from experiments.verdicts import verdict
from objectives import Batch
from potentials import from_energy, scale_shift
from potentials.units import KB, KCAL_PER_MOL
from tests.experiments.small_problem import chains, reference_energies, small, small_problem

AVERAGES = {
    "energy_mae_mev", "force_mae_mev_per_angstrom", "spurious_fraction", "failed_fraction",
    "broken_fraction",
    "reference_virial_temperature_k", "reference_kinetic_temperature_k", "energy_drift_mev",
    "ks_energy", "wasserstein_energy_mev", "energy_mean_ev", "energy_sd_ev", "reference_energy_sd_ev",
    "js_energy_nats", "hr_mae", "dihedral_free_energy_rmse_mev",
}  # fmt: skip
SETTINGS = {
    "sampler", "n_chains", "chain_length_steps", "temperature_k", "evaluation_seed", "n_test_frames",
    "n_chains_compared",
}  # fmt: skip
OTHERS = {
    "spurious_chains", "broken_chains", "spurious_threshold_ev", "energy_minimum_ev",
    "reference_energy_minimum_ev", "harmonic_energy_sd_ev", "energy_autocorrelation_steps",
    "relaxed_energy_ev", "spurious_frames", "spurious_frames_expected",
}  # fmt: skip


def threshold() -> float:
    """Of spurious frames, relative to the training mean, eV."""
    problem, reference = small_problem()
    return reference.energy_quantiles[0] - problem.energy_shift - 2.0 * KCAL_PER_MOL


@pytest.fixture
def troubled():
    """Four chains of ten frames: sound; one frame too low; NaN from frame 6 on; frozen from frame 8 on."""
    energies = np.full((4, 10), threshold() + 0.001)
    energies[1, 5] = threshold() - 0.001
    alive = np.ones((4, 10), bool)
    alive[2, 6:] = alive[3, 8:] = False
    energies[2, 6:] = np.nan
    return chains(energies, alive)


def test_spurious_frames_are_low_or_not_finite_or_dead(troubled):
    expected = np.zeros((4, 10), bool)
    expected[1, 5] = expected[2, 6:] = expected[3, 8:] = True
    np.testing.assert_array_equal(spurious_frames(small(), *_with(troubled)), expected)
    wider = small(**{"evaluation.spurious_margin": 2.1})
    expected[1, 5] = False
    np.testing.assert_array_equal(spurious_frames(wider, *_with(troubled)), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_frame_that_is_not_finite_is_spurious_even_where_alive(value):
    energies = np.zeros((2, 3))
    energies[1, 1] = value
    found = spurious_frames(small(), *_with(chains(energies)))
    assert found.tolist() == [[False] * 3, [False, True, False]]


def test_the_lowest_frames_of_fallen_chains_are_kept_to_be_drawn():
    problem, reference = small_problem()
    energies = np.zeros((12, 6))
    depths = {3: 5.0, 7: 2.0, 11: 9.0}
    for chain, depth in depths.items():
        energies[chain, 2] = threshold() - depth / 2
        energies[chain, chain % 6] = threshold() - depth  # in frames 3, 1 and 5
    energies[5, 4] = -np.inf  # spurious, and nothing to draw
    alive = np.ones(energies.shape, bool)
    alive[6, 3:], energies[6, 3:] = False, threshold() - 20
    trajectory = chains(energies, alive)
    curves = spurious_curves(small(), problem, trajectory, reference)
    offset = problem.energy_shift - reference.energy_mean[0]
    depth = threshold() - np.array([9, 5, 2]) + offset
    np.testing.assert_allclose(curves["spurious_energy"], depth, rtol=1e-5)
    expected = [trajectory.positions[chain, frame] for chain, frame in ((11, 5), (3, 3), (7, 1))]
    np.testing.assert_array_equal(curves["spurious_positions"], expected)
    assert has_group(Run("x", {}, curves, {}), "spurious")
    many = spurious_curves(small(), problem, chains(np.full((12, 6), threshold() - 1)), reference)
    assert many["spurious_positions"].shape == (7, 9, 3)
    assert spurious_curves(small(), problem, chains(np.zeros((3, 4))), reference) == {}


def test_stability_of_troubled_chains(troubled):
    metrics = stability_metrics(small(), *_with(troubled))
    problem, reference = small_problem()
    per_chain = np.array([0, 0.1, 0.4, 0.2])
    lowest = reference.energy_quantiles[0] - reference.energy_mean[0]
    offset = problem.energy_shift - reference.energy_mean[0]
    expected = {
        "spurious_fraction": per_chain.mean(),
        "spurious_fraction_stderr": per_chain.std(ddof=1) / 2,
        "spurious_chains": 3,
        "spurious_frames": 7,
        "spurious_threshold_ev": lowest - 2 * KCAL_PER_MOL,
        "broken_fraction": 0,
        "broken_fraction_stderr": 0,
        "broken_chains": 0,
        "failed_fraction": 0.5,
        "failed_fraction_stderr": np.std([0, 0, 1, 1], ddof=1) / 2,
        "energy_minimum_ev": threshold() - 0.001 + offset,
        "reference_energy_minimum_ev": lowest,
    }
    assert metrics == pytest.approx(expected, abs=1e-6)


def test_sound_chains_have_no_spurious_frame():
    metrics = stability_metrics(small(), *_with(chains(reference_energies(4, 50))))
    assert metrics["spurious_fraction"] == metrics["spurious_fraction_stderr"] == 0
    assert metrics["spurious_chains"] == metrics["failed_fraction"] == 0
    assert metrics["energy_minimum_ev"] >= metrics["reference_energy_minimum_ev"] - 1e-4


def test_a_bond_half_an_angstrom_off_its_mean_is_broken():
    """The hydroxyl hydrogen is moved along its bond to the mean length and a given excess."""
    problem, _ = small_problem()
    trajectory = chains(np.zeros((3, 20)))
    assert not broken_frames(small(), problem, trajectory).any()
    oxygen, hydrogen = 2, 3
    assert problem.system.numbers[[oxygen, hydrogen]].tolist() == [8, 1]
    assert [oxygen, hydrogen] in problem.system.bonds.tolist()
    train = np.asarray(problem.train.positions)
    mean = np.linalg.norm(train[:, hydrogen] - train[:, oxygen], axis=-1).mean()
    for chain, frame, excess in ((1, 4, 0.51), (1, 5, 0.49), (2, 6, -0.51), (2, 7, -0.49)):
        bond = trajectory.positions[chain, frame, hydrogen] - trajectory.positions[chain, frame, oxygen]
        moved = trajectory.positions[chain, frame, oxygen] + bond * (mean + excess) / np.linalg.norm(bond)
        trajectory.positions[chain, frame, hydrogen] = moved
    expected = np.zeros((3, 20), bool)
    expected[1, 4] = expected[2, 6] = True
    np.testing.assert_array_equal(broken_frames(small(), problem, trajectory), expected)
    metrics = stability_metrics(small(), *_with(trajectory))
    assert metrics["broken_fraction"] == pytest.approx(2 / 60) and metrics["broken_chains"] == 2
    assert metrics["spurious_fraction"] == 0


def test_stable_times():
    config = small(**{"evaluation.record_every": 100, "baoab.timestep": 0.25})
    trajectory = chains(np.zeros((5, 20)))._replace(intact_steps=np.array([400, 2000, 800, 1200, 2000]))
    metrics = survival_metrics(config, trajectory)
    assert metrics["stable_time_ps_median"] == pytest.approx(0.3)
    assert metrics["stable_time_ps_mean"] == pytest.approx(np.mean([0.1, 0.5, 0.2, 0.3, 0.5]))
    assert metrics["unstable_chains"] == 3 and metrics["stable_time_ps_mean_stderr"] > 0
    curves = chain_curves(config, *_with(trajectory))
    np.testing.assert_allclose(curves["stable_time_ps"], [0.1, 0.5, 0.2, 0.3, 0.5])
    np.testing.assert_array_equal(curves["stable_broken"], [True, False, True, True, False])
    by_steps = survival_metrics(small(**{"evaluation.sampler": "ula"}), chains(np.zeros((5, 20))))
    assert by_steps["stable_time_steps_mean"] == 20 and by_steps["unstable_chains"] == 0
    assert by_steps["stable_time_steps_median"] == np.inf


@pytest.mark.filterwarnings("error")
def test_chains_dead_from_the_start():
    dead = chains(np.full((3, 50), np.nan), np.zeros((3, 50), bool))
    metrics = stability_metrics(small(), *_with(dead))
    assert metrics["spurious_fraction"] == metrics["failed_fraction"] == 1
    assert np.isnan(metrics["energy_minimum_ev"])
    curves = chain_curves(small(), *_with(dead))
    assert np.isnan(curves["chain_energy"]).all()


@pytest.mark.parametrize("frames", [1, 499, 500, 501, 999, 2000])
def test_chain_curves_have_at_most_500_points_at_their_times(frames):
    problem, reference = small_problem()
    energies = np.tile(np.arange(frames, dtype=float), (2, 1))
    config = small(**{"evaluation.record_every": 20})
    curves = chain_curves(config, *_with(chains(energies)))
    shown = curves["chain_energy"][0] - problem.energy_shift + reference.energy_mean[0]
    assert 250 <= len(shown) <= 500 or len(shown) == frames < 500
    # Frame i is recorded after (i + 1) × 20 steps of 0.5 fs.
    np.testing.assert_allclose(curves["chain_time_ps"], (np.round(shown) + 1) * 0.01, rtol=1e-4)


def in_wells(n_frames: int, stiffness: float = 20.0):
    """The small problem with every atom in a harmonic well, and test frames at the wells' centres."""
    problem, _ = small_problem()
    centre = problem.test.positions[0]
    potential = from_energy(
        lambda params, positions: 0.5 * stiffness * jnp.sum((positions - centre) ** 2), lambda key: {}
    )
    test = Batch(
        jnp.stack([centre] * n_frames), problem.test.energies[:n_frames], problem.test.forces[:n_frames]
    )
    return problem._replace(potential=potential, test=test)


def test_mala_is_tuned_before_it_samples():
    """From a step a hundred times too long, where nothing is accepted, to ⟨U⟩ = 27/2 k_B T less the
    three degrees of freedom that centring each recorded frame takes out."""
    problem = in_wells(16)
    changes = {"sampler": "mala", "n_chains": 16, "n_steps": 2000, "record_every": 20}
    config = small(**{f"evaluation.{k}": v for k, v in changes.items()}, **{"mala.step_size": 0.2})
    steps = []
    trajectory = run_chains(config, problem, {}, lambda window: steps.append(window.step))
    assert steps == [1000, 2000]
    assert trajectory.energies.shape == (16, 100)
    masses = problem.system.masses
    # A frame moved by its centre of mass Σ m x/M: a coordinate's variance changes by 1 + s − 2 m_i/M.
    share = masses / masses.sum()
    degrees = 3 * np.sum(1 + np.sum(share**2) - 2 * share)
    means = trajectory.energies.astype(float).mean(axis=1)
    expected = degrees / 2 * KB * 500
    assert means.mean() == pytest.approx(expected, abs=4 * means.std(ddof=1) / 4)
    assert means.std(ddof=1) / 4 < 0.05 * expected


def test_chains_start_from_evenly_spaced_test_frames_and_are_reproducible():
    frames = small_problem()[0].test
    problem = in_wells(1, stiffness=0.5)._replace(test=frames)
    config = small(**{"evaluation.sampler": "ula", "ula.step_size": 1e-8, "evaluation.n_chains": 4})
    first = run_chains(config, problem, {})
    starts = np.asarray(frames.positions)[[0, 13, 26, 39]]
    np.testing.assert_allclose(first.positions[:, 0], starts, atol=2e-3)
    energies = jax.vmap(jax.vmap(problem.potential.energy, (None, 0)), (None, 0))({}, first.positions)
    np.testing.assert_allclose(first.energies, energies, rtol=1e-5)
    again = run_chains(config, problem, {})
    np.testing.assert_array_equal(first.positions, again.positions)
    config.evaluation.seed += 1
    assert (run_chains(config, problem, {}).positions[:, -1] != first.positions[:, -1]).any()


def test_errors_on_test_frames_equal_numpys(monkeypatch):
    monkeypatch.setattr("experiments.problem.ATOMS_AT_ONCE", 15 * 9)  # 40 frames in pieces of 15, 15 and 10
    problem = in_wells(1, stiffness=0.5)._replace(test=small_problem()[0].test)
    metrics = evaluation.test_errors(problem, {})
    test = [np.asarray(field, float) for field in problem.test]
    moved = test[0] - np.asarray(small_problem()[0].test.positions[0], float)
    energy = np.abs(0.25 * np.sum(moved**2, axis=(1, 2)) - test[1])
    force = np.abs(-0.5 * moved - test[2]).mean(axis=(1, 2))
    for name, values in (("energy_mae_mev", energy), ("force_mae_mev_per_angstrom", force)):
        assert metrics[name] == pytest.approx(1000 * values.mean(), rel=1e-5)
        # Twenty blocks of two neighbouring frames.
        error = 1000 * values.reshape(20, 2).mean(axis=1).std(ddof=1) / np.sqrt(20)
        assert metrics[f"{name}_stderr"] == pytest.approx(error, rel=1e-4)
    assert metrics["n_test_frames"] == 40


def test_the_length_is_that_of_the_chains():
    """60 steps asked for, a frame every 3: whole windows of 50 frames make 150 steps."""
    config = small(**{"evaluation.n_steps": 60, "evaluation.record_every": 3})
    metrics = settings_metrics(config, chains(np.zeros((2, 50))))
    assert metrics["chain_length_steps"] == 150
    assert metrics["chain_length_ps"] == pytest.approx(0.075)
    assert metrics["sampler"] == "baoab"
    assert metrics["sampler_timestep"] == 0.5 and metrics["sampler_friction"] == 1.0


@pytest.mark.parametrize("sampler", ["baoab", "ula"])
def test_from_params_to_metrics(sampler):
    problem, reference = small_problem()
    config = small(**{"evaluation.sampler": sampler, "evaluation.record_every": 2})
    params = problem.potential.init(jax.random.PRNGKey(0))
    # An untrained network is off by electronvolts, where energies are clipped.
    start = float(problem.potential.energy(params, problem.test.positions[0]))
    problem = problem._replace(potential=scale_shift(problem.potential, shift=-start / 9))
    metrics, curves, trajectory = evaluate(config, problem, params, reference)
    assert trajectory.energies.shape == (6, 50)
    averages = AVERAGES | ({"kinetic_temperature_k"} if sampler == "baoab" else set())
    averages |= {f"dihedral_free_energy_rmse_mev_{name}" for name in reference.dihedral_names}
    others = OTHERS | {f"dihedral_within_two_stderr_{name}" for name in reference.dihedral_names}
    settings = SETTINGS | {f"sampler_{name}" for name in config[sampler]}
    settings |= {"chain_length_ps"} if sampler == "baoab" else set()
    unit = "ps" if sampler == "baoab" else "steps"
    others |= {"unstable_chains", "training_frames_ks_energy"}
    noisy = {"hr_mae", "dihedral_free_energy_rmse_mev"}
    noisy |= {f"dihedral_free_energy_rmse_mev_{name}" for name in reference.dihedral_names}
    averages |= {f"training_frames_{name}" for name in noisy}
    averages |= {f"stable_time_{unit}_mean"}
    # Undefined where fewer than half of the chains broke.
    medians = {f"stable_time_{unit}_median{end}" for end in ("", "_stderr", "_lower", "_upper")}
    assert set(metrics) == averages | {f"{name}_stderr" for name in averages} | others | settings | medians
    metrics = {name: value for name, value in metrics.items() if name not in medians}
    for name in averages:
        assert np.isfinite(metrics[name]) and metrics[f"{name}_stderr"] >= 0, name
    assert json.loads(json.dumps(metrics)) == metrics
    assert ("chain_time_label" in curves) == (sampler == "ula")
    if sampler == "ula":
        assert curves["chain_time_label"] == "ULA steps"
        np.testing.assert_array_equal(curves["chain_time_ps"], 2.0 * np.arange(1, 51))
    else:
        np.testing.assert_allclose(curves["chain_time_ps"], 0.001 * np.arange(1, 51))


def test_what_is_written_can_be_read(tmp_path):
    problem, _ = small_problem()
    config = small(**{"evaluation.sampler": "ula"})
    params = problem.potential.init(jax.random.PRNGKey(0))
    metrics = evaluate_run(config, problem, params, tmp_path, output="eval_ula")
    run = load_run(tmp_path, "MSE", "eval_ula")
    assert run.metrics.keys() == metrics.keys()
    assert run.metrics["objective"] == "mse" and run.metrics["dataset"] == "ethanol_gfn2"
    assert time_label(run) == "ULA steps"
    remove_chains(tmp_path / "eval_ula")
    left = {p.name for p in (tmp_path / "eval_ula").iterdir()}
    assert left == {".lock", "curves.npz", "metrics.json", "settings.json"}


def test_a_potential_whose_chains_all_die_is_reported(tmp_path, monkeypatch):
    problem, _ = small_problem()
    dead = chains(np.full((6, 50), np.nan), np.zeros((6, 50), bool))
    monkeypatch.setattr(evaluation, "run_chains", lambda *arguments: dead)
    params = problem.potential.init(jax.random.PRNGKey(0))
    evaluate_run(small(), problem, params, tmp_path)
    text = (tmp_path / "eval" / "metrics.json").read_text()
    assert "NaN" not in text
    run = load_run(tmp_path, "MSE")
    assert run.metrics["failed_fraction"] == 1 and run.metrics["energy_minimum_ev"] is None
    assert "ks_energy" not in run.metrics
    assert verdict(run).kind == "bad"


def _with(trajectory):
    problem, reference = small_problem()
    return problem, trajectory, reference
