"""Two atoms whose separation lives in a double well: every average is known by quadrature."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from scipy.integrate import quad

from objectives import Batch
from potentials import Potential, System, double_well, from_energy, make_system
from potentials.units import KB

TEMPERATURE = 500.0  # K
BETA = 1 / (KB * TEMPERATURE)
WELL = double_well(barrier=0.1, separation=1.0)  # 2.3 k_B T, minima at ±1 Å
TRANSVERSE = 0.1  # eV/Å², of the separation along y and z
REFERENCE = {"barrier": 0.10, "tilt": 0.02}
OTHER = {"barrier": 0.06, "tilt": -0.02}


def pair_potential() -> Potential:
    """The double well along x of the separation, harmonic along y and z.

    Unlike the well of one atom it does not mind being centred.
    """

    def energy(params: dict[str, Array], positions: Array) -> Array:
        separation = positions[1] - positions[0]
        transverse = 0.5 * TRANSVERSE * jnp.sum(separation[1:] ** 2)
        return WELL.energy(params, separation[None] * jnp.array([1.0, 0, 0])) + transverse

    return from_energy(energy, WELL.init)


def pair_system() -> System:
    """Two carbon atoms at `TEMPERATURE`."""
    return make_system([6, 6], [[0.0, 0, 0], [1.0, 0, 0]], TEMPERATURE)


def params_of(values: dict[str, float]) -> dict[str, Array]:
    """Parameters as the potential takes them."""
    return {name: jnp.asarray(value, float) for name, value in values.items()}


def density(x: float | NDArray, values: dict[str, float]) -> float | NDArray:
    """exp(−βU) along x, not normalised."""
    return np.exp(-BETA * (values["barrier"] * (x**2 - 1) ** 2 + values["tilt"] * x))


def slopes(values: dict[str, float]) -> dict[str, float]:
    """⟨∂U/∂θ⟩ by quadrature: ⟨(x² − 1)²⟩ of the barrier, ⟨x⟩ of the tilt."""
    norm = quad(lambda x: density(x, values), -4, 4)[0]
    features = {"barrier": lambda x: (x**2 - 1) ** 2, "tilt": lambda x: x}
    return {
        name: quad(lambda x, f=f: f(x) * density(x, values), -4, 4)[0] / norm for name, f in features.items()
    }


def exact_gradient(reference: dict[str, float], values: dict[str, float]) -> dict[str, float]:
    """∂KL(p_ref ‖ p_θ)/∂θ = β(⟨∂U/∂θ⟩_ref − ⟨∂U/∂θ⟩_θ)."""
    ours, theirs = slopes(values), slopes(reference)
    return {name: BETA * (theirs[name] - ours[name]) for name in ours}


def frames_at(shares: NDArray, values: dict[str, float], seed: int | None = None) -> NDArray[np.float32]:
    """Frames [..., 2, 3] whose separation along x is the quantile of each share [...] in (0, 1).

    Uniform random shares give exact samples, an even grid gives averages without noise. Along y and z
    the separation is Gaussian, or 0 where `seed` is None.
    """
    grid = np.linspace(-4, 4, 20001)
    cdf = np.cumsum(density(grid, values))
    separation = np.zeros((*shares.shape, 3))
    separation[..., 0] = np.interp(shares, cdf / cdf[-1], grid)
    if seed is not None:
        noise = np.random.default_rng(seed).normal(size=(*shares.shape, 2))
        separation[..., 1:] = noise * np.sqrt(1 / (BETA * TRANSVERSE))
    return np.stack([-separation / 2, separation / 2], axis=-2).astype(np.float32)


def even_frames(count: int, values: dict[str, float]) -> NDArray[np.float32]:
    """Frames [count, 2, 3] at even quantiles: their mean is that of the distribution to O(1/count)."""
    return frames_at((np.arange(count) + 0.5) / count, values)


def unlabelled(positions: NDArray | Array) -> Batch:
    """A batch [B, N, 3] whose labels are all 0, for objectives that need none."""
    positions = jnp.asarray(positions)
    return Batch(positions, jnp.zeros(len(positions)), jnp.zeros_like(positions))
