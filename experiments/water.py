"""Makes reference data of liquid water: flexible SPC (SPC/Fw) in a periodic box, by OpenMM.

python -m experiments.water --output=water.extxyz --processes=2

Independent chains at constant volume. Frames for training come from three quarters of them, frames for
testing, in OUTPUT_test.extxyz, from the others; OUTPUT.json holds what all of them say of the liquid, with
standard errors over chains. Chains are kept in OUTPUT.chains/; repeated, the command makes those that lack.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from numpy.typing import NDArray

from experiments import binary
from experiments.distributions import over_chains
from experiments.spc_fw import (
    WaterSettings,
    chain_path,
    is_chain_done,
    require_openmm,
    run_chain,
    water_numbers,
)
from experiments.structure import BALLISTIC, centres_of_mass, radial_distributions
from experiments.workers import run_jobs
from objectives.angles import bond_angles
from objectives.dynamics import diffusivity
from objectives.observables import bond_lengths
from objectives.pair_correlation import pair_grid, pair_names
from potentials import System, make_system
from potentials.units import KB, KCAL_PER_MOL

OUTPUT = flags.DEFINE_string("output", "", "The .extxyz to write.", allow_override=True)
MOLECULES = flags.DEFINE_integer("molecules", 64, "In the box.")
EDGE = flags.DEFINE_float("edge", 12.42, "Of the cubic box, Å; 12.42 with 64 molecules is 1 g/cm³.")
TEMPERATURE = flags.DEFINE_float("temperature", 300.0, "K.", allow_override=True)
CHAINS = flags.DEFINE_integer("chains", 8, "Independent chains, at least 4.", allow_override=True)
PICOSECONDS = flags.DEFINE_float("picoseconds", 100.0, "Of each chain.", allow_override=True)
EQUILIBRATION = flags.DEFINE_float("equilibration", 20.0, "Before them, ps.", allow_override=True)
SEED = flags.DEFINE_integer("seed", 0, "Of velocities and noise.", allow_override=True)
PROCESSES = flags.DEFINE_integer("processes", 1, "Chains run at once, one core each.", allow_override=True)
FRAMES = flags.DEFINE_list("frames", ["1000", "500"], "For training and for testing.", allow_override=True)

Properties = dict[str, float | list[float]]

VISCOSITY = 0.75e-3  # Pa s, of SPC/Fw at 298 K (Wu, Tepper and Voth)
_XI = 2.837297  # of a cubic lattice
_SHARE = 3 / 4  # of the chains, to training
_ANALYSED = 500  # frames of a chain for structure
_PICOSECONDS_OF_LAGS = 10.0  # the mean squared displacement is fitted up to here


def main() -> None:
    """The binary."""
    with binary.reading_input():
        settings, counts = _read_flags()
        require_openmm()
        folder = Path(OUTPUT.value).with_suffix(".chains")
        folder.mkdir(parents=True, exist_ok=True)
        for chain in range(CHAINS.value):
            is_chain_done(chain_path(folder, chain), settings)
    jobs = [(settings, chain, folder) for chain in range(CHAINS.value)]
    paths = run_jobs(run_chain, jobs, PROCESSES.value)
    chains = [dict(np.load(path)) for path in paths]
    split = round(_SHARE * len(chains))
    text = json.dumps({**liquid_metrics(settings, chains), **vars(settings)}, indent=1) + "\n"
    *files, summary = _files()
    for path, members, count in zip(files, (chains[:split], chains[split:]), counts, strict=True):
        write_frames(_partial(path), settings, members, count)
    for path in files:  # all or nothing, but for a kill between these lines
        _partial(path).replace(path)
    binary.write_atomically(summary, text)
    print(text)


def _read_flags() -> tuple[WaterSettings, tuple[int, int]]:
    if not OUTPUT.value.endswith(".extxyz"):
        raise ValueError(f"--output is '{OUTPUT.value}'; expected a file ending in .extxyz")
    for path in _files():
        if path.exists():
            raise ValueError(f"--output: {path} exists; it would be overwritten")
    for flag in (MOLECULES, EDGE, TEMPERATURE, PICOSECONDS, PROCESSES):
        if not (math.isfinite(flag.value) and flag.value > 0):
            raise ValueError(f"--{flag.name} is {flag.value}; expected a positive number")
    for flag in (EQUILIBRATION, SEED):
        if not (math.isfinite(flag.value) and flag.value >= 0):
            raise ValueError(f"--{flag.name} is {flag.value}; expected 0 or more")
    if CHAINS.value < 4:
        raise ValueError(f"--chains is {CHAINS.value}; disjoint chains and errors need at least 4")
    if len(FRAMES.value) != 2 or not all(text.strip().isdigit() for text in FRAMES.value):
        raise ValueError(f"--frames is '{','.join(FRAMES.value)}'; expected two numbers, such as 1000,500")
    settings = WaterSettings(
        molecules=MOLECULES.value,
        edge=EDGE.value,
        temperature=TEMPERATURE.value,
        picoseconds=PICOSECONDS.value,
        equilibration_ps=EQUILIBRATION.value,
        seed=SEED.value,
    )
    counts = int(FRAMES.value[0]), int(FRAMES.value[1])
    held = round(settings.picoseconds * 1000 / settings.record_fs)
    split = round(_SHARE * CHAINS.value)
    for count, members in zip(counts, (split, CHAINS.value - split), strict=True):
        if not 0 < count <= held * members:
            raise ValueError(
                f"--frames asks for {count} from {members} chains of {held} each; expected between 1 and "
                f"{held * members}, or a larger --picoseconds"
            )
    return settings, counts


def _files() -> tuple[Path, Path, Path]:
    output = Path(OUTPUT.value)
    return output, output.with_name(f"{output.stem}_test.extxyz"), output.with_suffix(".json")


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial.extxyz")


def write_frames(path: Path, settings: WaterSettings, chains: Sequence[dict], count: int) -> None:
    """`count` frames spread evenly over chains from `run_chain`, as extended XYZ with energies and forces."""
    numbers, cell = water_numbers(settings.molecules), np.eye(3) * settings.edge
    frames = []
    for chain, share in zip(chains, np.array_split(np.arange(count), len(chains)), strict=True):
        for row in np.linspace(0, len(chain["energies"]) - 1, len(share)).astype(int):
            atoms = Atoms(numbers, chain["positions"][row], cell=cell, pbc=True)
            atoms.calc = SinglePointCalculator(
                atoms, energy=float(chain["energies"][row]), forces=chain["forces"][row]
            )
            frames.append(atoms)
    write(path, frames, format="extxyz")


def liquid_metrics(settings: WaterSettings, chains: Sequence[dict]) -> Properties:
    """What chains from `run_chain` say of the liquid: means, and standard errors over chains.

    The diffusion coefficient is that of a small box; `_infinite`, within 5 K of 298 K, has
    `size_correction`. g(r) of each two elements, between molecules, is given at `rdf_centers_angstrom`; the
    first peak of g_OO is read off its bins of 0.05 Å.
    """
    numbers, cell = water_numbers(settings.molecules), np.eye(3) * settings.edge
    first = chains[0]["positions"][0].astype(np.float64)
    system = make_system(numbers, first, settings.temperature, cell=cell)
    positions = np.stack([chain["positions"] for chain in chains]).astype(np.float64)
    some = positions[:, :: -(-positions.shape[1] // _ANALYSED)]
    series = {
        "oh_length_angstrom": np.asarray(bond_lengths(some, _bonds(system), cell)).mean(axis=(1, 2)),
        "hoh_angle_degrees": np.degrees(_angles(some, settings.molecules)).mean(axis=(1, 2)),
        "temperature_k": np.stack([chain["temperatures"] for chain in chains]).mean(axis=1),
        "energy_per_molecule_kcal": np.stack([chain["energies"] for chain in chains]).mean(axis=1)
        / settings.molecules
        / KCAL_PER_MOL,
    }
    grid = pair_grid(system)
    pairs = pair_names(system)
    densities = radial_distributions(system, pairs, list(some), grid)
    density = densities[:, list(pairs).index("O-O")]
    peak = int(density.mean(axis=0).argmax())
    series["rdf_oo_peak"] = density[:, peak]
    metrics: Properties = {"rdf_oo_peak_angstrom": float(grid.centers[peak])}
    for name, values in series.items():
        metrics[name], metrics[f"{name}_stderr"] = (float(x) for x in over_chains(values))
    metrics["rdf_centers_angstrom"] = np.asarray(grid.centers, float).round(4).tolist()
    for index, name in enumerate(pairs):
        mean, error = over_chains(densities[:, index])
        metrics[f"rdf_{name}"] = mean.round(5).tolist()
        metrics[f"rdf_{name}_stderr"] = error.round(5).tolist()
    lags = [round(1000 * ps / settings.record_fs) for ps in (BALLISTIC, _PICOSECONDS_OF_LAGS)]
    if positions.shape[1] > 2 * lags[1]:
        found = diffusivity(centres_of_mass(system, positions), settings.record_fs, *lags)
        metrics["diffusivity_angstrom2_per_ps"] = 1000 * found.value
        metrics["diffusivity_angstrom2_per_ps_stderr"] = 1000 * found.stderr
        if abs(settings.temperature - 298.15) <= 5.0:
            infinite = 1000 * found.value + size_correction(settings.temperature, settings.edge)
            metrics["diffusivity_infinite_angstrom2_per_ps"] = infinite
            metrics["diffusivity_infinite_angstrom2_per_ps_stderr"] = 1000 * found.stderr
    return metrics


def size_correction(temperature: float, edge: float) -> float:
    """ξ k_B T/(6 π η L), by which the diffusion coefficient in a cubic box is too small (Yeh and Hummer, J.
    Phys. Chem. B 108, 15873, eq. 11), with SPC/Fw's published viscosity near 298 K: K, Å -> Å²/ps."""
    joules = KB * temperature * 1.602176634e-19
    return 1e8 * _XI * joules / (6 * np.pi * VISCOSITY * edge * 1e-10)


def _bonds(system: System) -> NDArray[np.int64]:
    oxygens = np.arange(0, len(system.numbers), 3)
    return np.concatenate([np.stack([oxygens, oxygens + k], axis=1) for k in (1, 2)])


def _angles(positions: NDArray, molecules: int) -> NDArray[np.float64]:
    oxygens = 3 * np.arange(molecules)
    return np.asarray(bond_angles(positions, np.stack([oxygens + 1, oxygens, oxygens + 2], axis=1)))


if __name__ == "__main__":
    binary.run(main)
