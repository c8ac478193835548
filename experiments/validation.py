"""Errors on the validation frames during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.problem import Problem, in_pieces
from objectives import Batch, energy_force_errors

FORCE_ERROR = "validation_force_mae_mev_per_angstrom"


def validation_errors(problem: Problem) -> Callable[[Any], dict[str, Any]]:
    """params -> MAE on the validation frames; empty where there are none."""
    if not len(problem.validation.energies):
        return lambda params: {}

    @jax.jit
    def of_piece(params: Any, piece: Batch) -> tuple[jax.Array, jax.Array]:
        energy, force = energy_force_errors(problem.potential, params, piece)
        return abs(energy).mean(), abs(force).mean()

    def errors(params: Any) -> dict[str, Any]:
        pieces = list(in_pieces(problem.validation))
        found = np.array([jax.device_get(of_piece(params, piece)) for piece in pieces])
        energy, force = np.average(found, axis=0, weights=[len(piece.energies) for piece in pieces])
        return {
            "validation_energy_mae_mev": 1000 * energy,
            FORCE_ERROR: 1000 * force,
        }

    return errors
