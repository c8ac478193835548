"""BAOAB Langevin chains driven by a reference engine, one process each, resumable.

The integrator is Leimkuhler and Matthews' BAOAB (Appl. Math. Res. Express 2013, 34): half kick,
half drift, exact Ornstein–Uhlenbeck, half drift, half kick; configurational error O(dt^2). It is
plain NumPy because the engine, not the integrator, sets the pace.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from experiments.engines import Engine, make_engine
from experiments.npz_files import open_npz

WARMING_FRICTION = 10.0
"""1/ps, at least, in the first half of the equilibration: from a minimum a chain begins with kinetic energy
alone, half of what it will have in all, and what it lacks decays with the friction."""


@dataclass(frozen=True)
class ChainSettings:
    """What one chain needs to know; times in ps and fs, temperature in K."""

    engine: str = "gfn2"
    temperature: float = 500.0
    picoseconds: float = 200.0
    equilibration_ps: float = 10.0
    timestep_fs: float = 0.5
    friction_per_ps: float = 1.0
    record_every: int = 20
    checkpoint_ps: float = 20.0
    seed: int = 0


def baoab(
    engine: Engine,
    masses: NDArray,
    positions: NDArray,
    momenta: NDArray,
    forces: NDArray,
    settings: ChainSettings,
    rng: np.random.Generator,
) -> tuple[NDArray, NDArray, float, NDArray]:
    """One BAOAB step in ASE units.

    Args:
      engine: positions [N, 3] (Å) -> (eV, eV/Å).
      masses: [N], amu.
      positions, momenta, forces: [N, 3], Å, ASE momentum units, eV/Å.
      settings: step, friction and temperature.
      rng: source of the noise.

    Returns:
      New positions, momenta, energy (eV) and forces.
    """
    dt = settings.timestep_fs * units.fs
    decay = np.exp(-settings.friction_per_ps / (1000 * units.fs) * dt)
    mass = masses[:, None]
    noise = np.sqrt(mass * units.kB * settings.temperature * (1 - decay**2))
    momenta = momenta + 0.5 * dt * forces  # B
    positions = positions + 0.5 * dt * momenta / mass  # A
    momenta = decay * momenta + noise * rng.normal(size=momenta.shape)  # O
    positions = positions + 0.5 * dt * momenta / mass  # A
    energy, forces = engine(positions)
    momenta = momenta + 0.5 * dt * forces  # B
    return positions, momenta, energy, forces


def chain_path(folder: Path, chain: int) -> Path:
    """The file of one chain."""
    return folder / f"chain_{chain:03d}.npz"


def check_chain(path: Path, atoms: Atoms, settings: ChainSettings) -> None:
    """Checks that a chain's file, where there is one, can be continued with these settings.

    Args:
      path: the file; it need not exist.
      atoms: the molecule; its atomic numbers are compared.
      settings: compared field by field; `picoseconds` may be longer than the file's.

    Raises:
      ValueError: another molecule or setting, a chain longer than asked for, or a file that is
        damaged or without this record.
    """
    if not path.exists():
        return
    wanted = _identity(atoms, settings)
    try:
        with open_npz(path) as file:
            missing = [name for name in ("step", *wanted) if name not in file]
            if missing:
                raise ValueError(f"{path}: it was made by another version, without {missing[0]}")
            saved = {name: file[name].tolist() for name in wanted}
            step = int(file["step"])
    except ValueError as error:
        raise ValueError(f"{error}; it can not be continued: move it away to start anew") from error
    for name, value in wanted.items():
        if name != "settings_picoseconds" and saved[name] != value.tolist():
            label = name.removeprefix("settings_")
            raise ValueError(f"{path}: {label} is {saved[name]} there, {value.tolist()} asked for")
    held = step * settings.timestep_fs / 1000
    if step > round(settings.picoseconds * 1000 / settings.timestep_fs):
        raise ValueError(f"{path}: holds {held:g} ps, {settings.picoseconds:g} asked for")


def _identity(atoms: Atoms, settings: ChainSettings) -> dict[str, NDArray]:
    fields = {f"settings_{name}": np.array(value) for name, value in asdict(settings).items()}
    return {"numbers": atoms.numbers, **fields, "settings_warming_friction": np.array(WARMING_FRICTION)}


def run_chain(atoms: Atoms, settings: ChainSettings, chain: int, folder: Path) -> Path:
    """Runs one chain to its full length and writes `chain_NNN.npz`; continues a partial one.

    Args:
      atoms: start geometry.
      settings: temperature, length, step, friction.
      chain: number of the chain; with `settings.seed` it fixes the noise.
      folder: where the file goes.

    Returns:
      The file. Keys: `positions` [F, N, 3] float32 (Å, centre of mass at 0), `energies` [F] (eV),
      `forces` [F, N, 3] float32 (eV/Å), `kinetic` [F] (eV), `numbers` [N], `settings_<field>`, and
      the state for continuing.

    Raises:
      ValueError: as `check_chain`.
    """
    path = chain_path(folder, chain)
    check_chain(path, atoms, settings)
    masses = atoms.get_masses()
    engine = make_engine(settings.engine, atoms.numbers)
    rng = np.random.default_rng([settings.seed, chain, round(settings.temperature)])
    total = round(settings.picoseconds * 1000 / settings.timestep_fs)
    discard = round(settings.equilibration_ps * 1000 / settings.timestep_fs)
    every = round(settings.checkpoint_ps * 1000 / settings.timestep_fs)

    names = ("positions", "energies", "forces", "kinetic")
    records: dict[str, list] = {name: [] for name in names}
    if path.exists():
        with np.load(path, allow_pickle=False) as saved:
            step = int(saved["step"])
            x, p = saved["last_positions"], saved["last_momenta"]
            records = {name: list(saved[name]) for name in names}
        rng = np.random.default_rng([settings.seed, chain, round(settings.temperature), step])
    else:
        step = -discard
        x = atoms.get_positions()
        thermal = np.sqrt(masses * units.kB * settings.temperature)
        p = rng.normal(size=x.shape) * thermal[:, None]
    warming = replace(settings, friction_per_ps=max(settings.friction_per_ps, WARMING_FRICTION))
    _, f = engine(x)
    while step < total:
        current = warming if step < -(discard // 2) else settings
        x, p, energy, f = baoab(engine, masses, x, p, f, current, rng)
        step += 1
        if step > 0 and step % settings.record_every == 0:
            records["positions"].append((x - masses @ x / masses.sum()).astype(np.float32))
            records["energies"].append(energy)
            records["forces"].append(f.astype(np.float32))
            records["kinetic"].append(float(np.sum(p**2 / (2 * masses[:, None]))))
        if step == total or (step > 0 and step % every == 0):
            partial = path.with_suffix(".partial.npz")
            np.savez(
                partial,
                **{k: np.asarray(v) for k, v in records.items()},
                step=step,
                last_positions=x,
                last_momenta=p,
                **_identity(atoms, settings),
            )
            os.replace(partial, path)
            # The stream after a checkpoint depends on the step alone, so a continued chain
            # equals an unbroken one.
            rng = np.random.default_rng([settings.seed, chain, round(settings.temperature), step])
            x, p = x.copy(), p.copy()
            engine = make_engine(settings.engine, atoms.numbers)
            _, f = engine(x)
    return path
