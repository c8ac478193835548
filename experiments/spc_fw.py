"""Flexible SPC water, SPC/Fw, through OpenMM: a classical reference for boxes of water.

Wu, Tepper and Voth, J. Chem. Phys. 124, 024503 (2006): V = k_b/2 Σ (r − r_0)² + k_a/2 Σ (θ − θ_0)² within
the molecules, charges and a Lennard-Jones term on the oxygens between them. OpenMM is the optional extra
`reference`.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses
from ase.units import kcal, kJ, mol
from numpy.typing import NDArray

from experiments.npz_files import open_npz
from potentials.units import KB

BOND, BOND_STIFFNESS = 1.012, 1059.162  # Å; kcal/mol/Å², with the factor ½ before it
ANGLE, ANGLE_STIFFNESS = 113.24, 75.90  # degrees; kcal/mol/rad², likewise
CHARGE = -0.82  # e, of the oxygen
EPSILON, SIGMA = 0.1554253, 3.165492  # kcal/mol, Å

_PER_KCAL = kcal / kJ  # kJ/mol
_EV = kJ / mol  # of 1 kJ/mol
_SHARE_OF_EDGE, _SWITCH = 0.483, 0.92  # cutoff, at most 9 Å; Lennard-Jones is switched off in its last part


@dataclass(frozen=True)
class WaterSettings:
    """What one chain needs to know; times in ps and fs, temperature in K, lengths in Å."""

    molecules: int = 64
    edge: float = 12.42
    temperature: float = 300.0
    picoseconds: float = 200.0
    equilibration_ps: float = 20.0
    timestep_fs: float = 1.0
    record_fs: float = 50.0
    collisions_per_ps: float = 1.0
    seed: int = 0
    freedom: str = "3N - 3"  # of the thermostat


def require_openmm() -> None:
    """Raises ImportError, with what to install, where OpenMM is not there."""
    try:
        importlib.import_module("openmm")
    except ImportError as error:
        raise ImportError("SPC/Fw water needs OpenMM: pip install 'boltzfit[reference]'") from error


def water_numbers(molecules: int) -> NDArray[np.int64]:
    """Atomic numbers [3·molecules]: O, H, H of each."""
    return np.tile([8, 1, 1], molecules)


def make_context(molecules: int, edge: float, integrator: Any) -> Any:
    """An OpenMM context of a cubic box, with PME, on one core.

    Args:
      molecules: in the order of `water_numbers`.
      edge: Å. The cutoff of the direct sum is a little below its half, at most 9 Å.
      integrator: OpenMM's.
    """
    import openmm as mm

    system = mm.System()
    for number in water_numbers(molecules):
        system.addParticle(atomic_masses[number])
    side = edge / 10  # nm, as all lengths below
    system.setDefaultPeriodicBoxVectors((side, 0, 0), (0, side, 0), (0, 0, side))
    bonds, angles, others = mm.HarmonicBondForce(), mm.HarmonicAngleForce(), mm.NonbondedForce()
    for oxygen in range(0, 3 * molecules, 3):
        first, second = oxygen + 1, oxygen + 2
        for hydrogen in (first, second):
            bonds.addBond(oxygen, hydrogen, BOND / 10, 100 * BOND_STIFFNESS * _PER_KCAL)
        angles.addAngle(first, oxygen, second, np.radians(ANGLE), ANGLE_STIFFNESS * _PER_KCAL)
        others.addParticle(CHARGE, SIGMA / 10, EPSILON * _PER_KCAL)
        for _ in range(2):
            others.addParticle(-CHARGE / 2, 0.1, 0.0)
        for pair in ((oxygen, first), (oxygen, second), (first, second)):
            others.addException(*pair, 0.0, 0.1, 0.0)
    cutoff = min(_SHARE_OF_EDGE * side, 0.9)
    others.setNonbondedMethod(mm.NonbondedForce.PME)
    others.setCutoffDistance(cutoff)
    others.setUseSwitchingFunction(True)
    others.setSwitchingDistance(_SWITCH * cutoff)
    others.setEwaldErrorTolerance(1e-5)
    others.setUseDispersionCorrection(False)
    # Without the last, the thermostat would count 3N degrees of freedom for the 3N − 3 there are.
    for force in (bonds, angles, others, mm.CMMotionRemover(100)):
        system.addForce(force)
    return mm.Context(system, integrator, mm.Platform.getPlatformByName("CPU"), {"Threads": "1"})


def energy_and_forces(context: Any) -> tuple[float, NDArray[np.float64]]:
    """Of the context's positions: (eV, [N, 3] in eV/Å)."""
    import openmm.unit as unit

    state = context.getState(getEnergy=True, getForces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return energy * _EV, np.asarray(forces) * _EV / 10


def start_positions(molecules: int, edge: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Molecules of random orientation on a cubic lattice [3·molecules, 3], Å."""
    side = int(np.ceil(molecules ** (1 / 3)))
    places = np.array(list(np.ndindex(side, side, side)))[:molecules] * edge / side
    angle = np.radians(ANGLE)
    positions = []
    for place in places:
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        second = np.cos(angle) * axes[0] + np.sin(angle) * axes[1]
        positions += [place, place + BOND * axes[0], place + BOND * second]
    return np.array(positions)


def run_chain(settings: WaterSettings, chain: int, folder: Path) -> Path:
    """One chain: Langevin equilibration, then Nosé–Hoover chains, which leave the diffusion as it is.

    Writes `chain_NNN.npz`: `positions` [F, N, 3] float32 (Å, unwrapped), `energies` [F] (eV), `forces`
    [F, N, 3] float32 (eV/Å), `temperatures` [F] (K, of 3N − 3 degrees of freedom), and the settings. One
    that is there is left as it is.

    Raises:
      ValueError: a file that was made with other settings, or is damaged; it is named.
    """
    import openmm as mm
    import openmm.unit as unit

    path = chain_path(folder, chain)
    if is_chain_done(path, settings):
        return path
    seed = 1 + 1000 * settings.seed + chain
    rng = np.random.default_rng([settings.seed, chain])
    step = settings.timestep_fs * unit.femtosecond
    rate = settings.collisions_per_ps / unit.picosecond
    warm = mm.LangevinMiddleIntegrator(settings.temperature, rate, step)
    warm.setRandomNumberSeed(seed)
    context = make_context(settings.molecules, settings.edge, warm)
    context.setPositions(start_positions(settings.molecules, settings.edge, rng) / 10)
    mm.LocalEnergyMinimizer.minimize(context)
    context.setVelocitiesToTemperature(settings.temperature, seed)
    warm.step(round(settings.equilibration_ps * 1000 / settings.timestep_fs))
    begun = context.getState(getPositions=True, getVelocities=True)

    integrator = mm.NoseHooverIntegrator(settings.temperature, rate, step)
    context = make_context(settings.molecules, settings.edge, integrator)
    counted = integrator.getThermostat(0).getNumDegreesOfFreedom()
    if counted != 9 * settings.molecules - 3:
        raise RuntimeError(f"OpenMM's thermostat counts {counted} degrees of freedom")
    masses = atomic_masses[water_numbers(settings.molecules)]
    velocities = np.asarray(begun.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond))
    context.setPositions(begun.getPositions())
    context.setVelocities(velocities - masses @ velocities / masses.sum())
    every = round(settings.record_fs / settings.timestep_fs)
    records: dict[str, list] = {"positions": [], "energies": [], "forces": [], "temperatures": []}
    freedom = (3 * len(masses) - 3) / 2 * KB / _EV  # kJ/mol/K
    for _ in range(round(settings.picoseconds * 1000 / settings.record_fs)):
        integrator.step(every)
        state = context.getState(getPositions=True, getEnergy=True)
        energy, forces = energy_and_forces(context)
        kinetic = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        records["positions"].append(np.asarray(positions, np.float32))
        records["energies"].append(energy)
        records["forces"].append(forces.astype(np.float32))
        records["temperatures"].append(kinetic / freedom)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{k: np.asarray(v) for k, v in records.items()}, **_identity(settings))
    os.replace(partial, path)
    return path


def chain_path(folder: Path, chain: int) -> Path:
    """The file of one chain."""
    return folder / f"chain_{chain:03d}.npz"


def is_chain_done(path: Path, settings: WaterSettings) -> bool:
    """Whether a chain's file is there.

    Raises:
      ValueError: it was made with other settings, or is damaged; it is named.
    """
    if not path.exists():
        return False
    try:
        with open_npz(path) as file:
            saved = {name: file[name].item() for name in _identity(settings)}
    except ValueError as error:
        raise ValueError(f"{error}; move it away to start anew") from error
    for name, value in _identity(settings).items():
        if saved[name] != value.item():
            label = name.removeprefix("settings_")
            raise ValueError(f"{path}: {label} is {saved[name]} there, {value.item()} asked for")
    return True


def _identity(settings: WaterSettings) -> dict[str, NDArray]:
    return {f"settings_{name}": np.array(value) for name, value in asdict(settings).items()}
