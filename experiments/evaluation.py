"""Judging a potential as a sampler: fresh chains, and whether they stay where the reference is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from experiments.comparison import Metrics as Metrics
from experiments.comparison import compare, training_metrics
from experiments.distributions import Distributions
from experiments.kept_chains import KeptChains
from experiments.problem import Problem, in_pieces
from experiments.reference_statistics import evaluation_temperature, has_reference
from experiments.stability import (
    bond_criterion,
    broken_chains,
    spurious_curves,
    stability_metrics,
    survival_metrics,
    thermal_metrics,
)
from experiments.structure import structure
from experiments.velocities import velocity_curves
from objectives import energy_force_errors
from objectives.observables import energy_spread
from objectives.statistics import block_stderr
from potentials import Params
from potentials.neighbours import ROOM_LIMIT, room_in, with_room
from samplers import Sampler, Trajectory, Window, collect, make_sampler, simulate, tune_step_size
from samplers.base import State

_WINDOW_FRAMES = 50
_MALA_BURN_IN = 500


class Evaluation(NamedTuple):
    """Attributes: metrics, flat, units in the names; curves for the figures, see
    `experiments.runs`; trajectory of the fresh chains."""

    metrics: Metrics
    curves: dict[str, NDArray]
    trajectory: Trajectory


def evaluate(
    config: ConfigDict,
    problem: Problem,
    params: Params,
    reference: Distributions,
    progress: Callable[[Any], None] | None = None,
    kept: KeptChains | None = None,
) -> Evaluation:
    """Runs fresh chains from held-out frames and compares what they sample with the reference.

    Args:
      config: `config.evaluation` says how many chains, which sampler, how long.
      problem: data, system and potential.
      params: to judge.
      reference: see `reference_statistics.reference_distributions`.
      progress: called after each new window.
      kept: where windows are, and go, so that an evaluation that was stopped goes on; None: nowhere.
    """
    trajectory = run_chains(config, problem, params, progress, kept)
    curves: dict[str, NDArray] = {}
    if config.evaluation.vacf_lags:
        chains = start_chains(config, problem, params)
        # In a box with as much room as is ever made: this short run is not made again for more.
        roomy = with_room(params, min(ROOM_LIMIT * room_in(params), len(problem.system.numbers) - 1))
        curves = velocity_curves(config, roomy, *chains, bond_criterion(config, problem))
    metrics = {**test_errors(problem, params), **settings_metrics(config, trajectory)}
    metrics |= stability_metrics(config, problem, trajectory, reference)
    if problem.system.cell is None:
        metrics |= thermal_metrics(config, problem, params, trajectory, reference)
    metrics |= survival_metrics(config, trajectory)
    if has_reference(config):
        if problem.system.cell is None:
            metrics |= consistency_metrics(config, problem, reference)
        more, compared = compare(config, problem, trajectory, reference)
        metrics |= training_metrics(config, problem, reference) | more
        curves |= compared
    if problem.system.cell is not None:
        more, pairs = structure(config, problem, trajectory)
        metrics |= more
        curves |= pairs
    else:  # a picture of a liquid would show nothing
        curves |= spurious_curves(config, problem, trajectory, reference)
    curves |= chain_curves(config, problem, trajectory, reference)
    return Evaluation(metrics, curves, trajectory)


def start_chains(config: ConfigDict, problem: Problem, params: Params) -> tuple[Sampler, State]:
    """`config.evaluation.sampler` and C states of it at evenly spaced test frames; MALA is tuned."""
    settings = config.evaluation
    system = problem.system._replace(temperature=evaluation_temperature(config))
    sampler = make_sampler(settings.sampler, problem.potential, system, config)
    rows = np.linspace(0, len(problem.test.energies) - 1, settings.n_chains).astype(int)
    key = jax.random.PRNGKey(settings.seed)
    state = jax.jit(sampler.init)(key, params, problem.test.positions[rows])
    if settings.sampler == "mala":
        state, _ = jax.jit(lambda p, s: tune_step_size(sampler, p, s, _MALA_BURN_IN))(params, state)
    return sampler, state


def run_chains(
    config: ConfigDict,
    problem: Problem,
    params: Params,
    progress: Callable[[Any], None] | None = None,
    kept: KeptChains | None = None,
) -> Trajectory:
    """C fresh chains from `start_chains`. Energies are relative to the training mean."""
    sampler, state = start_chains(config, problem, params)
    settings = config.evaluation
    run = partial(
        simulate,
        sampler,
        problem.potential,
        problem.system,
        params,
        record_every=settings.record_every,
        window_frames=_WINDOW_FRAMES,
        criterion=bond_criterion(config, problem),
    )
    if kept is None:
        return collect(run(state, n_steps=settings.n_steps), progress)[0]
    found = kept.restore(state)
    left = settings.n_steps - found.step
    more = iter(())
    if left > 0:
        more = run(found.state, n_steps=left, **found.before)

    def told(window: Window) -> None:
        if progress is not None and window.step > found.step:
            progress(window)

    return collect(kept.keep(found, more), told)[0]


def test_errors(problem: Problem, params: Params) -> Metrics:
    """Errors on the test frames; standard errors over blocks of neighbouring frames."""
    errors = jax.jit(lambda p, batch: energy_force_errors(problem.potential, p, batch))
    pieces = []
    for piece in in_pieces(problem.test):
        energy, force = errors(params, piece)
        per_frame = np.abs(np.asarray(force)).reshape(len(force), -1).mean(axis=1)
        pieces.append((np.abs(np.asarray(energy)), per_frame))
    metrics: Metrics = {"n_test_frames": len(problem.test.energies)}
    for index, name in enumerate(("energy_mae_mev", "force_mae_mev_per_angstrom")):
        values = 1000 * np.concatenate([piece[index] for piece in pieces]).astype(np.float64)
        metrics[name] = float(values.mean())
        metrics[f"{name}_stderr"] = block_stderr(values)
    return metrics


def settings_metrics(config: ConfigDict, trajectory: Trajectory) -> Metrics:
    """What was run; the length is that of the chains, which `simulate` rounds up to whole windows."""
    name = config.evaluation.sampler
    steps = trajectory.energies.shape[1] * config.evaluation.record_every
    metrics: Metrics = {f"sampler_{key}": value for key, value in config[name].items()}
    metrics |= {
        "sampler": name,
        "n_chains": len(trajectory.energies),
        "chain_length_steps": steps,
        "temperature_k": evaluation_temperature(config),
        "evaluation_seed": config.evaluation.seed,
    }
    if "timestep" in config[name]:
        metrics["chain_length_ps"] = steps * config[name].timestep / 1000
    return metrics


def consistency_metrics(config: ConfigDict, problem: Problem, reference: Distributions) -> Metrics:
    """Is the reference a Boltzmann sample of its own labels? Its virial temperature should be the
    stated one; where it is not, no potential that fits the labels can match its energies."""
    return {
        "reference_virial_temperature_k": float(reference.virial_temperature[0]),
        "reference_virial_temperature_k_stderr": float(reference.virial_temperature[1]),
        "reference_kinetic_temperature_k": float(reference.kinetic_temperature[0]),
        "reference_kinetic_temperature_k_stderr": float(reference.kinetic_temperature[1]),
        "harmonic_energy_sd_ev": energy_spread(evaluation_temperature(config), len(problem.system.numbers)),
    }


def chain_curves(
    config: ConfigDict, problem: Problem, trajectory: Trajectory, reference: Distributions
) -> dict[str, NDArray]:
    """Energies along the chains, relative to the reference mean, at most 500 points a chain, and how long
    each was stable; times in steps where the sampler has no clock."""
    settings = config.evaluation
    stride = -(-trajectory.energies.shape[1] // 500)
    energies = np.where(trajectory.alive, trajectory.energies, np.nan)[:, ::stride]
    steps = settings.record_every * (1 + stride * np.arange(energies.shape[1]))
    curves = {
        "chain_energy": energies + problem.energy_shift - reference.energy_mean[0],
        "stable_time_ps": trajectory.intact_steps.astype(float),
        "stable_broken": broken_chains(config, trajectory),
    }
    if "timestep" in config[settings.sampler]:
        curves["chain_time_ps"] = steps * config[settings.sampler].timestep / 1000
        curves["stable_time_ps"] *= config[settings.sampler].timestep / 1000
    else:
        curves["chain_time_ps"] = steps.astype(float)
        curves["chain_time_label"] = np.array(f"{settings.sampler.upper()} steps")
    return curves
