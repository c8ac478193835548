"""Makes reference data with a quantum-chemistry engine:

python -m experiments.reference --molecule=ethanol --engine=gfn2 --output=data.npz

Independent BAOAB chains, split chain by chain into training, validation and test frames, with the
statistics of all recorded frames. Chains are kept in OUTPUT.chains/ and continued when the command
is repeated.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from absl import flags
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.collections import g2
from ase.io import read

from experiments import binary
from experiments.distributions import energy_bin_edges, measure, to_arrays
from experiments.engines import ENGINES, require_engine
from experiments.reference_chains import ChainSettings, chain_path, check_chain, run_chain
from experiments.workers import run_jobs
from objectives.dihedrals import find_dihedrals
from objectives.observables import virial_temperature
from objectives.statistics import autocorrelation_time
from potentials import make_system
from potentials.units import KB

MOLECULE = flags.DEFINE_string("molecule", "ethanol", "Name, ASE g2 name, or a structure file.")
ENGINE = flags.DEFINE_string("engine", "gfn2", f"One of {', '.join(ENGINES)}.")
OUTPUT = flags.DEFINE_string("output", "", "The .npz to write.", allow_override=True)
TEMPERATURE = flags.DEFINE_float("temperature", 500.0, "K.")
CHAINS = flags.DEFINE_integer("chains", 16, "Independent chains.")
PICOSECONDS = flags.DEFINE_float("picoseconds", 200.0, "Length of each chain after equilibration.")
EQUILIBRATION = flags.DEFINE_float("equilibration", 10.0, "Discarded at the start of each chain, ps.")
TIMESTEP = flags.DEFINE_float("timestep", 0.5, "fs.")
FRICTION = flags.DEFINE_float("friction", 1.0, "1/ps.")
SEED = flags.DEFINE_integer("seed", 0, "Of the noise.", allow_override=True)
PROCESSES = flags.DEFINE_integer("processes", 1, "Chains run at once, one core each.")
ACHIRAL = flags.DEFINE_bool("achiral", False, "Pool the two mirror images of each dihedral.")
FRAMES = flags.DEFINE_list(
    "frames", ["1000", "200", "2000"], "Training, validation and test frames.", allow_override=True
)

NAMES = {"ethanol": "CH3CH2OH", "acetaldehyde": "CH3CHO", "methanol": "CH3OH", "water": "H2O"}
GEOMETRIES = {"ac-ala3-nhme": "ac_ala3_nhme.xyz"}  # in the package
SECTIONS = ("train", "validation", "test")
CHAIN_SHARES = (10 / 16, 2 / 16, 4 / 16)  # of the chains, to each section


def main() -> None:
    """The binary."""
    with binary.reading_input():
        if not OUTPUT.value.endswith(".npz"):
            raise ValueError(f"--output is '{OUTPUT.value}'; expected a file ending in .npz")
        if Path(OUTPUT.value).exists():
            raise ValueError(f"--output {OUTPUT.value} exists; it would be overwritten")
        for flag in (TEMPERATURE, PICOSECONDS, TIMESTEP, FRICTION, PROCESSES, CHAINS):
            if not (math.isfinite(flag.value) and flag.value > 0):
                raise ValueError(f"--{flag.name} is {flag.value}; expected a positive number")
        for flag in (EQUILIBRATION, SEED):
            if not (math.isfinite(flag.value) and flag.value >= 0):
                raise ValueError(f"--{flag.name} is {flag.value}; expected 0 or more")
        require_engine(ENGINE.value)
        atoms = find_molecule(MOLECULE.value)
        counts = frame_counts(FRAMES.value, CHAINS.value)
        settings = ChainSettings(
            engine=ENGINE.value,
            temperature=TEMPERATURE.value,
            picoseconds=PICOSECONDS.value,
            equilibration_ps=EQUILIBRATION.value,
            timestep_fs=TIMESTEP.value,
            friction_per_ps=FRICTION.value,
            seed=SEED.value,
        )
        check_lengths(counts, settings, CHAINS.value)
        folder = Path(OUTPUT.value).with_suffix(".chains")
        for chain in range(CHAINS.value):
            check_chain(chain_path(folder, chain), atoms, settings)
        folder.mkdir(parents=True, exist_ok=True)
    jobs = [(atoms, settings, chain, folder) for chain in range(CHAINS.value)]
    paths = run_jobs(run_chain, jobs, PROCESSES.value)
    arrays = assemble(atoms, settings, paths, counts, achiral=ACHIRAL.value)
    warn_of_temperature(arrays["reference_kinetic_temperature"], settings.temperature, settings.timestep_fs)
    partial = Path(OUTPUT.value).with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)
    os.replace(partial, OUTPUT.value)
    binary.LOG.info("%s: %.0f kB", OUTPUT.value, Path(OUTPUT.value).stat().st_size / 1000)


def warn_of_temperature(found: np.ndarray, wanted: float, timestep: float) -> None:
    """Says so where the chains' kinetic temperature [2], mean and standard error (K), is not the one wanted,
    but for BAOAB's momenta being colder than its positions: by 2 % at a timestep of 0.5 fs, as its square."""
    mean, stderr = found
    cold = 0.02 * wanted * (timestep / 0.5) ** 2
    if not -3 * stderr - cold <= mean - wanted <= 3 * stderr:
        binary.LOG.warning(
            "the chains are at %.1f ± %.1f K, not %g K; a longer --equilibration is needed, or a shorter "
            "--timestep",
            *(mean, stderr, wanted),
        )


def find_molecule(name: str) -> Atoms:
    """A start geometry: a structure file, a common name, or one of ASE's g2 molecules.

    Raises:
      ValueError: none of these, or a file that holds no molecule.
    """
    if Path(name).is_file():
        return _read_molecule(name)
    if name in GEOMETRIES:
        return _read_molecule(str(Path(__file__).parent / "data" / GEOMETRIES[name]))
    return ase_molecule(NAMES.get(name, name)) if NAMES.get(name, name) in g2.names else _unknown(name)


def _read_molecule(path: str) -> Atoms:
    try:
        atoms = read(path, do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's readers have no common error for what they can not read
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"--molecule {path}: ASE can not read it ({reason})") from error
    if len(atoms) < 2:
        raise ValueError(f"--molecule {path}: holds {len(atoms)} atoms; expected a molecule")
    return atoms


def _unknown(name: str) -> Atoms:
    known = ", ".join((*NAMES, *GEOMETRIES))
    raise ValueError(f"--molecule '{name}' is no file and no known name; known: {known}, and ASE's g2 set")


def frame_counts(texts: list[str], n_chains: int) -> tuple[int, int, int]:
    """Parses --frames.

    Raises:
      ValueError: not three numbers, or too few chains to keep the sections apart.
    """
    if len(texts) != 3 or not all(t.strip().isdigit() for t in texts):
        raise ValueError(f"--frames is '{','.join(texts)}'; expected three numbers, such as 1000,200,2000")
    counts = tuple(int(t) for t in texts)
    least = 4 if any(counts) else 2
    if n_chains < least:
        raise ValueError(f"--chains is {n_chains}; disjoint chains and errors need at least {least}")
    return counts


def check_lengths(counts: tuple[int, int, int], settings: ChainSettings, n_chains: int) -> None:
    """Checks before hours of sampling that the chains will hold the frames asked for.

    Raises:
      ValueError: they will not.
    """
    steps = round(settings.picoseconds * 1000 / settings.timestep_fs)
    held = steps // settings.record_every
    for name, count, members in zip(SECTIONS, counts, sections(n_chains), strict=True):
        if count and -(-count // max(len(members), 1)) > held:
            raise ValueError(
                f"--frames asks for {count} {name} frames from {len(members)} chains of {held} each; "
                "expected fewer, or a larger --picoseconds"
            )


def assemble(
    atoms: Atoms,
    settings: ChainSettings,
    paths: list[Path],
    counts: tuple[int, int, int],
    *,
    achiral: bool,
) -> dict[str, np.ndarray]:
    """The arrays of a reference file from its chains.

    Args:
      atoms, settings: of the chains.
      paths: the chains' files.
      counts: training, validation and test frames.
      achiral: pool φ and −φ.

    Returns:
      `numbers`; for each section `<section>_positions` (Å, float32), `_energies` (eV, float64),
      `_forces` (eV/Å, float32), `_chains`; `reference_*`, the statistics of all frames
      (`experiments.distributions`); and the settings and checks as scalars.
    """
    chains = []
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            chains.append({name: file[name] for name in ("positions", "energies", "forces", "kinetic")})
    system = make_system(atoms.numbers, atoms.get_positions(), settings.temperature)
    energies = np.stack([chain["energies"] for chain in chains])
    kinetic = np.stack([c["kinetic"] for c in chains]) * 2 / (3 * len(atoms) * KB)
    virial = [virial_temperature(c["positions"], c["forces"], system.masses) for c in chains]
    statistics = measure(
        system,
        [c["positions"] for c in chains],
        energies,
        energy_bin_edges(energies),
        find_dihedrals(system.numbers, system.bonds),
        achiral=achiral,
        kinetic_temperatures=kinetic,
        virial_temperatures=np.stack(virial),
    )
    arrays = {"numbers": atoms.numbers, **to_arrays(statistics)}
    for section, count, members in zip(SECTIONS, counts, sections(len(chains)), strict=True):
        if count:
            arrays |= {f"{section}_{k}": v for k, v in take(chains, members, count).items()}
    record_fs = settings.record_every * settings.timestep_fs
    arrays["energy_autocorrelation_ps"] = np.array(autocorrelation_time(energies) * record_fs / 1000)
    for name, value in vars(settings).items():
        arrays[f"settings_{name}"] = np.array(value)
    return arrays


def sections(n_chains: int) -> list[list[int]]:
    """Disjoint chains for training, validation and test: ten, two and four of sixteen."""
    train = max(1, round(n_chains * CHAIN_SHARES[0]))
    validation = max(1, round(n_chains * CHAIN_SHARES[1]))
    numbers = list(range(n_chains))
    return [numbers[:train], numbers[train : train + validation], numbers[train + validation :]]


def take(chains: list[dict], members: list[int], count: int) -> dict[str, np.ndarray]:
    """`count` frames spread evenly over the member chains.

    Raises:
      ValueError: fewer chains or frames than that takes.
    """
    shares = [len(part) for part in np.array_split(np.arange(count), len(members))]
    pieces = []
    for member, share in zip(members, shares, strict=True):
        total = len(chains[member]["energies"])
        if share > total:
            raise ValueError(f"chain {member} has {total} frames, {share} are asked of it")
        rows = np.linspace(0, total - 1, share).astype(int)
        pieces.append({k: chains[member][k][rows] for k in ("positions", "energies", "forces")})
        pieces[-1]["chains"] = np.full(share, member)
    return {k: np.concatenate([piece[k] for piece in pieces]) for k in pieces[0]}


if __name__ == "__main__":
    binary.run(main)
