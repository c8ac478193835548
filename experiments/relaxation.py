"""Where the reference frames relax to, and how low a sound potential's chains may therefore come."""

from __future__ import annotations

import jax
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import gamma

from potentials import Params, Potential
from potentials.units import KB

MAX_ITERATIONS = 400


def relaxed_energies(potential: Potential, params: Params, positions: ArrayLike) -> NDArray[np.float64]:
    """Energies of the minima below some frames, by L-BFGS.

    Args:
      potential, params: U.
      positions: [F, N, 3], Å.

    Returns:
      [F], eV; NaN where the energy is not finite on the way.
    """
    function = jax.jit(jax.value_and_grad(potential.energy, argnums=1))

    def relaxed(start: NDArray) -> float:
        sound = True

        def flat(x: NDArray) -> tuple[float, NDArray[np.float64]]:
            nonlocal sound
            energy, slope = function(params, x.reshape(-1, 3).astype(np.float32))
            sound &= bool(np.isfinite(energy)) and bool(np.isfinite(slope).all())
            return float(energy), np.asarray(slope, np.float64).ravel()

        options = {"maxiter": MAX_ITERATIONS}
        found = minimize(flat, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        return float(found.fun) if sound else np.nan  # it may have leapt over what is not finite

    return np.array([relaxed(start) for start in np.asarray(positions, np.float64)], np.float64)


def harmonic_share_below(energy: float, minimum: float, temperature: float, n_atoms: int) -> float:
    """Share of a Boltzmann sample that lies below an energy, for a harmonic molecule with this minimum.

    Its potential energy above the minimum over k_B T is gamma distributed, with half the number of
    vibrations as its shape.

    Args:
      energy, minimum: eV, of the same zero.
      temperature: K.
      n_atoms: N, of a molecule that is not linear; 3N − 6 vibrations, or one where that is less.
    """
    return float(gamma.cdf((energy - minimum) / (KB * temperature), max(3 * n_atoms - 6, 1) / 2))
