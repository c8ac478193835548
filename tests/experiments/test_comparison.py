"""What chains sampled beside the reference, for chains whose distributions are known."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.comparison import compare, dihedral_comparison, dynamics_metrics, training_metrics
from experiments.distributions import DIHEDRAL_BINS, Distributions
from experiments.problem import make_problem
from potentials.units import KB
from tests.experiments.small_problem import chains, reference_energies, small, small_problem

KT = 500.0 * KB
UNIFORM = np.full(DIHEDRAL_BINS, 1 / DIHEDRAL_BINS)


def with_dihedral(probability: np.ndarray, n_frames: int = 1000) -> Distributions:
    """The reference with one dihedral of these probabilities [C, B]."""
    return small_problem()[1]._replace(
        dihedral_names=np.array(["A-B-C-D"]),
        dihedral_probability=np.asarray(probability)[:, None],
        n_frames=n_frames,
    )


def noisy(profile: np.ndarray, seed: int, n_chains: int = 8, frames: int = 20_000) -> np.ndarray:
    """Independent frames of C chains, binned: [C, B]."""
    return np.random.default_rng(seed).multinomial(frames, profile, size=n_chains) / frames


def test_identical_dihedrals():
    reference = with_dihedral(noisy(UNIFORM, 0))
    metrics, curves = dihedral_comparison(small(), reference, reference)
    assert metrics["dihedral_free_energy_rmse_mev"] == pytest.approx(0, abs=1e-9)
    assert metrics["dihedral_free_energy_rmse_mev_A-B-C-D"] == pytest.approx(0, abs=1e-9)
    assert metrics["dihedral_within_two_stderr_A-B-C-D"] == 1
    np.testing.assert_array_equal(curves["dihedral_0_reference"], curves["dihedral_0_model"])
    np.testing.assert_allclose(curves["dihedral_0_centers"], np.radians(np.arange(-175.0, 180, 10)))
    assert np.nanmin(curves["dihedral_0_reference"]) == 0


def test_independent_samples_of_one_distribution_agree():
    metrics, _ = dihedral_comparison(
        small(), with_dihedral(noisy(UNIFORM, 1)), with_dihedral(noisy(UNIFORM, 2))
    )
    # 95 % of 36 bins, with four binomial standard deviations.
    assert metrics["dihedral_within_two_stderr_A-B-C-D"] > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 36)
    expected = 1000 * KT * np.sqrt(2 * 36 / (8 * 20_000))
    assert metrics["dihedral_free_energy_rmse_mev"] == pytest.approx(expected, rel=0.5)


def test_the_noise_of_the_training_frames():
    """The package's 1,000 frames of 320,000: as noisy as so many independent draws."""
    problem = make_problem(small(**{"dataset.train": 1000}))
    _, reference = small_problem()
    found = training_metrics(small(), problem, reference)
    for index, name in enumerate(reference.dihedral_names):
        p = reference.dihedral_probability[:, index].mean(axis=0)
        p = p[p >= 0.2 / DIHEDRAL_BINS]
        draws = 1000 * {"H-C-C-O": 6, "H-O-C-C": 2}[name]  # pooled: mirror images, a methyl's hydrogens
        expected = 1000 * KT * np.sqrt(np.mean((1 - p) / p / draws))
        value = found[f"training_frames_dihedral_free_energy_rmse_mev_{name}"]
        assert 0.7 * expected < value < 1.5 * expected
        assert 0 < found[f"training_frames_dihedral_free_energy_rmse_mev_{name}_stderr"] < value
    assert 0.2 < found["training_frames_ks_energy"] / (0.87 / np.sqrt(1000)) < 3
    # 36 distances a frame in bins of h(r): the mean of |normal| is √(2/π) of its standard deviation.
    h = reference.hr_density.mean(axis=0)
    width = reference.hr_edges[1] - reference.hr_edges[0]
    hr_noise = np.sqrt(2 / np.pi) * np.mean(np.sqrt(h / (width * 1000 * 36)))
    assert 0.5 < found["training_frames_hr_mae"] / hr_noise < 2
    assert training_metrics(small(**{"evaluation.temperature": 700.0}), problem, reference) == {}
    few = training_metrics(small(), small_problem()[0], reference)  # 60 frames: four times the noise
    pooled = "training_frames_dihedral_free_energy_rmse_mev"
    assert 1.7 < few[pooled] / found[pooled] < 5
    assert 2 < few["training_frames_hr_mae"] / found["training_frames_hr_mae"] < 8


def test_a_known_shift_is_the_known_free_energy_difference():
    """Half of the bins 1.5 times, half 0.5 times as probable: −k_B T ln 1.5 and −k_B T ln 0.5."""
    factor = np.where(np.arange(DIHEDRAL_BINS) % 2, 1.5, 0.5)
    metrics, curves = dihedral_comparison(
        small(), with_dihedral(np.tile(UNIFORM, (4, 1))), with_dihedral(np.tile(UNIFORM * factor, (4, 1)))
    )
    expected = 1000 * KT * np.sqrt((np.log(1.5) ** 2 + np.log(0.5) ** 2) / 2)
    assert metrics["dihedral_free_energy_rmse_mev"] == pytest.approx(expected, rel=1e-6)
    assert metrics["dihedral_within_two_stderr_A-B-C-D"] == 0
    difference = curves["dihedral_0_model"] - curves["dihedral_0_reference"]
    np.testing.assert_allclose(difference, -KT * np.log(factor), rtol=1e-6)


def test_an_empty_bin_of_the_model_counts_as_one_frame():
    model = noisy(UNIFORM, 3, frames=1000)
    model[:, 7] = 0
    model /= model.sum(axis=1, keepdims=True)
    reference = np.tile(UNIFORM, (4, 1))
    metrics, curves = dihedral_comparison(small(), with_dihedral(reference), with_dihedral(model, 1000))
    p = model.mean(axis=0)
    p[7] = 1 / (8 * 1000)
    expected = 1000 * KT * np.sqrt(np.mean(np.log(p * DIHEDRAL_BINS) ** 2))
    assert metrics["dihedral_free_energy_rmse_mev"] == pytest.approx(expected, rel=1e-6)
    assert metrics["dihedral_free_energy_rmse_mev"] > 1000 * KT * np.log(8000 / 36) / 6
    assert metrics["dihedral_within_two_stderr_A-B-C-D"] <= 35 / 36
    assert np.isnan(curves["dihedral_0_model"][7]) and np.isfinite(curves["dihedral_0_reference"][7])


def test_bins_that_the_reference_hardly_visits_do_not_count():
    reference, model = UNIFORM.copy(), UNIFORM.copy()
    reference[:6], model[:6] = 1e-4, 3e-3  # a fifth of the uniform share is 5.6e-3
    metrics, _ = dihedral_comparison(small(), with_dihedral([reference] * 3), with_dihedral([model] * 3))
    assert metrics["dihedral_free_energy_rmse_mev"] == pytest.approx(0, abs=1e-9)


def test_the_standard_error_of_the_rmse_is_its_scatter():
    """The jackknife against the scatter over repetitions, for a model that differs from the reference."""
    tilted = UNIFORM * (1 + 0.5 * np.cos(np.arange(DIHEDRAL_BINS) * 2 * np.pi / DIHEDRAL_BINS))
    reference = with_dihedral(np.tile(UNIFORM, (4, 1)))
    config, values, errors = small(), [], []
    for seed in range(150):
        metrics, _ = dihedral_comparison(config, reference, with_dihedral(noisy(tilted, seed)))
        values.append(metrics["dihedral_free_energy_rmse_mev"])
        errors.append(metrics["dihedral_free_energy_rmse_mev_stderr"])
    scatter = np.std(values, ddof=1)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(scatter, rel=4 / np.sqrt(2 * 150))


def test_chains_that_sample_the_reference():
    problem, reference = small_problem()
    energies = reference_energies(8, 200)
    metrics, curves = compare(small(), problem, chains(energies, kinetic=480.0), reference)
    kept = energies[:, 20:].astype(np.float32).astype(float) + problem.energy_shift
    # 1,440 draws: the Kolmogorov distribution's 99.99 % point.
    assert metrics["ks_energy"] < 2.2 / np.sqrt(1440)
    assert abs(metrics["energy_mean_ev"]) < 5 * metrics["energy_mean_ev_stderr"]
    assert metrics["energy_mean_ev"] == pytest.approx(kept.mean() - reference.energy_mean[0], abs=1e-6)
    error = np.hypot(kept.mean(axis=1).std(ddof=1) / np.sqrt(8), reference.energy_mean[1])
    assert metrics["energy_mean_ev_stderr"] == pytest.approx(error, rel=1e-4)
    assert abs(metrics["energy_sd_ev"] - reference.energy_sd[0]) < 5 * np.hypot(
        metrics["energy_sd_ev_stderr"], reference.energy_sd[1]
    )
    assert metrics["js_energy_nats"] < 0.05
    assert metrics["energy_autocorrelation_steps"] == pytest.approx(1.0, abs=0.5), "independent draws"
    assert metrics["kinetic_temperature_k"] == pytest.approx(480.0)
    density = curves["energy_model"] * np.diff(curves["energy_edges"])
    assert density.sum() == pytest.approx(1, abs=1e-4)
    assert curves["hr_centers"].shape == curves["hr_model"].shape
    expected = np.abs(curves["hr_model"] - curves["hr_reference"]).mean()
    assert metrics["hr_mae"] == pytest.approx(expected)
    assert 0 <= metrics["hr_mae_stderr"] < expected
    assert metrics["n_chains_compared"] == 8


def test_energy_bins_of_the_curves_are_merged_and_no_metric_is():
    """A reference of fewer frames: the curves' bins hold what the fine ones held."""
    problem, reference = small_problem()
    sampled = chains(reference_energies(8, 200))
    metrics, fine = compare(small(), problem, sampled, reference)
    others, wide = compare(small(), problem, sampled, reference._replace(n_frames=25))
    assert metrics == others
    factor = 120 // (len(wide["energy_edges"]) - 1)
    assert len(fine["energy_edges"]) == 121 and factor > 1
    np.testing.assert_allclose(wide["energy_edges"], fine["energy_edges"][::factor])
    for side in ("reference", "model"):
        held = (fine[f"energy_{side}"] * np.diff(fine["energy_edges"])).reshape(-1, factor).sum(axis=1)
        np.testing.assert_allclose(wide[f"energy_{side}"] * np.diff(wide["energy_edges"]), held, atol=1e-6)


def test_the_beginning_of_the_chains_is_left_out():
    problem, reference = small_problem()
    energies = reference_energies(4, 100)
    expected, _ = compare(small(), problem, chains(energies), reference)
    energies[:, :10] = -30.0
    found, _ = compare(small(), problem, chains(energies), reference)
    assert found == expected
    energies[:, 10] = -30.0
    found, _ = compare(small(), problem, chains(energies), reference)
    assert found["energy_mean_ev"] < expected["energy_mean_ev"] - 0.2


@pytest.mark.parametrize("last_energy", [np.nan, -0.01])
def test_dead_chains_are_left_out(last_energy):
    """Whether their records are not finite or repeat the last finite ones."""
    problem, reference = small_problem()
    whole = chains(reference_energies(5, 50))
    alive = np.ones((5, 50), bool)
    alive[2, 40:] = False
    energies = whole.energies.copy()
    energies[2, 40:] = last_energy
    part = type(whole)(*(np.delete(field, 2, axis=0) for field in whole))
    found, curves = compare(small(), problem, whole._replace(energies=energies, alive=alive), reference)
    expected, others = compare(small(), problem, part, reference)
    assert found == expected
    assert curves.keys() == others.keys()


@pytest.mark.parametrize("survivors", [0, 1])
def test_fewer_than_two_survivors_have_no_distributions(survivors):
    problem, reference = small_problem()
    alive = np.zeros((4, 60), bool)
    alive[:survivors] = True
    energies = np.where(alive, reference_energies(4, 60), np.nan)
    metrics, curves = compare(small(), problem, chains(energies, alive, kinetic=500.0), reference)
    assert curves == {}
    assert not {"ks_energy", "hr_mae", "energy_drift_mev"} & metrics.keys()
    assert ("kinetic_temperature_k" in metrics) == (survivors == 1)


def test_half_of_the_frames_far_below():
    """The share outside the grid counts: p against (p/2, 1/2 elsewhere), closed forms."""
    problem, reference = small_problem()
    row = np.quantile(reference.energy_quantiles, (np.arange(2000) + 0.5) / 2000) - problem.energy_shift
    energies = np.tile(np.concatenate([np.full(2000, -20.0), row]), (3, 1))
    config = small(**{"evaluation.discard": 0.0})
    metrics, curves = compare(config, problem, chains(energies), reference)
    assert metrics["ks_energy"] == pytest.approx(0.5, abs=0.005)
    expected = np.log(4 / 3) / 2 + np.log(2 / 3) / 4 + np.log(2) / 4
    assert metrics["js_energy_nats"] == pytest.approx(expected, abs=0.01)
    moved = np.mean(row) + 20
    assert metrics["wasserstein_energy_mev"] == pytest.approx(1000 * moved / 2, rel=0.01)
    density = curves["energy_model"] * np.diff(curves["energy_edges"])
    assert density.sum() == pytest.approx(0.5, abs=1e-3)


def test_all_chains_in_a_hole():
    problem, reference = small_problem()
    energies = -30.0 + 0.1 * np.random.default_rng(0).normal(size=(4, 50))
    metrics, _ = compare(small(), problem, chains(energies), reference)
    assert metrics["ks_energy"] == 1
    assert metrics["js_energy_nats"] == pytest.approx(np.log(2))
    assert metrics["js_energy_nats_stderr"] == pytest.approx(0, abs=1e-9)
    assert "energy_autocorrelation_steps" not in metrics


def test_drift_from_the_second_to_the_last_quarter():
    time = np.arange(80.0)
    slopes = np.array([0.001, 0.002, 0.003])
    energies = slopes[:, None] * time
    energies[:, :20] = 5.0  # the first quarter does not matter
    metrics = dynamics_metrics(chains(energies), slice(8, None), np.ones(3, bool))
    assert metrics["energy_drift_mev"] == pytest.approx(1000 * 0.002 * 40, rel=1e-4)
    assert metrics["energy_drift_mev_stderr"] == pytest.approx(1000 * 0.001 * 40 / np.sqrt(3), rel=1e-4)
    assert "kinetic_temperature_k" not in metrics
