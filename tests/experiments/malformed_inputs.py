"""Malformed inputs: each a folder of files, a command, and what its one line of error must name.

    python -m tests.experiments.malformed_inputs FOLDER

runs each as its command line would, one after the other, and leaves what came of it in
FOLDER/<case>/outcome.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags as flag_values

from experiments import binary
from tests.experiments.malformed_files import (
    LABELS,
    also,
    at,
    extxyz,
    flipped,
    gz,
    hdf5,
    index,
    molecules,
    npz,
    targets,
    text,
)

ROOT = Path(__file__).resolve().parents[2]


class Case(NamedTuple):
    """`name`; the `binary`; its `arguments`; `words` of the error; `make`, which writes the inputs."""

    name: str
    binary: str
    arguments: tuple[str, ...]
    words: str
    make: Callable[[], None]


def run_of(config_text: str) -> Callable[[], None]:
    """Sound frames, and a workdir W whose record is this."""
    return also(npz(), lambda: Path("W").mkdir(), text("W/config.json", config_text))


def train(name: str, words: str, make: Callable[[], None], *arguments: str, file: str = "data.npz") -> Case:
    """A case of `experiments.train` on a file of one's own; later arguments win."""
    settings = ("path=" + file, "temperature=500", "train=10", "validation=5")
    own = tuple(f"--config.dataset.{setting}" for setting in settings if not _given(setting, arguments))
    base = f"--config={ROOT}/experiments/configs/molecule.py"
    fixed = ("--workdir=W", base, *own, "--config.training.batch_size=5")
    return Case(name, "train", (*fixed, *arguments), words, make)


def _given(setting: str, arguments: tuple[str, ...]) -> bool:
    start = f"--config.dataset.{setting.partition('=')[0]}="
    return any(argument.startswith(start) for argument in arguments)


def flags(name: str, words: str, *arguments: str) -> Case:
    """A case of `experiments.train` on sound frames."""
    return train(name, words, npz(), *(f"--config.{argument}" for argument in arguments))


def config_file(name: str, content: str, words: str) -> Case:
    """A case of `experiments.train` with a configuration of one's own."""
    return Case(f"config_{name}", "train", ("--workdir=W", "--config=a.py"), words, text("a.py", content))


def other(
    name: str, binary: str, words: str, *arguments: str, make: Callable[[], None] | None = None
) -> Case:
    """A case of another binary, on sound frames where nothing else is made."""
    return Case(name, binary, arguments, words, make or npz())


STABLE = ("--config.objective=stable", "--config.stable.reference=targets.npz")
FORCES = {"forces": np.zeros((3, 3))}

WORDS = "3\nProperties=species:S:1:pos:R:3:forces:R:3 energy=abc\n" + "H 0 0 0 0 0 0\n" * 3
RECORD = json.dumps(
    {"seed": 7, "objective": "mse", "potential": "schnet", "dataset": {}, "training": {}, "evaluation": {}}
)
WRONG_CONFIG = "def get_config():\n    return configuration\n"
A_DICT = "def get_config():\n    return {'seed': 1}\n"

CASES = (
    # Files.
    train("no_file", "data.npz: no such file", lambda: None),
    train("folder", "data.npz: a folder without type.raw", lambda: Path("data.npz").mkdir()),
    train("targets_of_others", "targets.npz: key 'E' is missing", also(npz(), targets("R", "z")), *STABLE),
    train("targets_shape", "target 'distances' has shape (3,)", also(npz(), targets("distances")), *STABLE),
    train("empty_npz", "data.npz: not an npz file", text("data.npz", "")),
    train("text_as_npz", "data.npz: not an npz file", text("data.npz", "1 2 3\n")),
    train("no_energies", "data.npz: key 'E' is missing", npz(E=None)),
    train("misspelt_key", "key 'F' is missing; is it called 'f'", npz(F=None, f=np.zeros((40, 3, 3)))),
    train("foreign_keys", "of no known format", npz(z=None, R=None, E=None, F=None, spam=np.zeros(3))),
    train("plane_positions", "key 'R' has shape (40, 3, 2)", npz(R=lambda x: x[..., :2])),
    train("too_few_energies", "key 'E' has shape (39,), expected (40,)", npz(E=lambda x: x[1:])),
    train("forces_of_others", "key 'F' has shape (40, 2, 3)", npz(F=lambda x: x[:, :2])),
    train("numbers_of_others", "key 'z' has shape (2,)", npz(z=np.array([8, 1]))),
    train("nan_energy", "energies of frame 7 are not finite", npz(E=at(7, np.nan))),
    train("infinite_force", "forces of frame 3 are not finite", npz(F=at((3, 1, 1), np.inf))),
    train("nan_position", "positions of frame 0 are not finite", npz(R=at((0, 0, 0), np.nan))),
    train("atom_zero", "atom 0 has atomic number 0", npz(z=at(0, 0))),
    train("atom_200", "atom 1 has atomic number 200", npz(z=at(1, 200))),
    train("objects", "key 'E' can not be read", npz(E=lambda x: x.astype(object))),
    train("words_for_energies", "key 'E' holds <U", npz(E=lambda x: x.astype(str))),
    train("mixed_molecules", "frame 5 is another molecule", npz(z=lambda z: at((5, 0), 7)([z] * 40))),
    train(
        "one_frame", "holds 1 frames, expected at least 2", npz(**dict.fromkeys("REF", lambda x: x[:1]))
    ),
    train("nanometres", "(wrong length unit?)", npz(R=lambda x: x / 10)),
    train("atoms_on_one_another", "atoms 0 and 1 are", npz(R=lambda x: at((9, 0), x[9, 1])(x))),
    train("its_own_odd_unit", "energy unit 'furlong' is unknown", npz(e_unit=np.array("furlong"))),
    train("no_forces", "frame 0 has no 'forces'", extxyz({"energy": -1.0}), file="data.extxyz"),
    train("no_energy", "frame 1 has no 'energy'", extxyz(LABELS, FORCES), file="data.extxyz"),
    train(
        "two_molecules",
        "frame 1 is another molecule",
        extxyz(LABELS, {"energy": 0.0, "forces": np.zeros((4, 3))}, names=("H2O", "NH3")),
        file="data.extxyz",
    ),
    train("junk", "ASE can not read it", text("data.extxyz", "spam and eggs\n" * 9), file="data.extxyz"),
    train("empty", "data.extxyz: ", text("data.extxyz", ""), file="data.extxyz"),
    train("bytes", "ASE can not read it", text("data.traj", bytes(range(256))), file="data.traj"),
    train("half_hdf5", "no readable HDF5 file", hdf5(lambda f: molecules(f, "a"), cut=700), file="data.h5"),
    train("hdf5_key", "key 'E' is missing", hdf5(lambda f: molecules(f, "a", without="E")), file="data.h5"),
    train("hdf5_which", "expected dataset.group", hdf5(lambda f: molecules(f, "a", "b")), file="data.h5"),
    train(
        "hdf5_group",
        "no group 'c'; 2 there: a, b",
        hdf5(lambda f: molecules(f, "a", "b")),
        "--config.dataset.group=c",
        file="data.h5",
    ),
    train("npz_bit", "data.npz: ", flipped("data.npz", npz()), file="data.npz"),
    train("index_bit", "rows.npz: ", flipped("rows.npz", index()), "--config.dataset.split=rows.npz"),
    train("units_of_npz", "key 'e_unit' has shape (2,), expected one string", npz(e_unit=["eV", "eV"])),
    train("atoms_and_a_half", "expected whole atomic numbers", npz(z=lambda x: x + 0.5)),
    train("complex", "expected numbers", npz(E=lambda x: x + 1j)),
    train("gz_cut", "data.extxyz.gz: ASE can not read it", gz(cut=-40), file="data.extxyz.gz"),
    train("vasprun", "vasprun.xml: ASE can", text("vasprun.xml", "<modeling>"), file="vasprun.xml"),
    train("traj_junk", "a.traj: ASE can not read it", text("a.traj", b"- of Ulm\0" * 40), file="a.traj"),
    train("words", "frame 0: 'energy' is", text("a.extxyz", WORDS), file="a.extxyz"),
    config_file("syntax", "def get(:", "--config: SyntaxError"),
    config_file("name", WRONG_CONFIG, "--config: NameError: name 'configuration' is not defined (a.py:2)"),
    config_file("dict", A_DICT, "--config: get_config() gives dict; expected a ConfigDict"),
    # What is asked of them.
    flags("label_names_npz", "which only files have that ASE reads", "dataset.label_names=a,b"),
    flags("seed_negative", "seed is -1; expected a number within", "seed=-1"),
    flags("seed_large", "seed is 4294967296; expected a number within", "seed=4294967296"),
    flags("group_of_npz", "which only HDF5 files hold", "dataset.group=a"),
    flags("energy_unit", "energy unit 'kcal' is unknown", "dataset.units=kcal"),
    flags("length_unit", "length unit 'nm' is unknown", "dataset.units=,nm"),
    flags("force_unit", "is not energy/length", "dataset.units=eV,angstrom,newton"),
    flags("labels", "labels 'original' are asked for", "dataset.labels=original"),
    flags("too_many_frames", "but it has 40", "dataset.train=400"),
    flags("no_training_frames", "dataset.train is 0", "dataset.train=0"),
    flags("negative_validation", "dataset.validation is -1", "dataset.validation=-1"),
    flags("split", "dataset.split 'randm': no such file", "dataset.split=randm"),
    flags("split_file", "the file holds no split", "dataset.split=file"),
    train("row_twice", "'train' lists row 3 more", index(train=[3] * 9), "--config.dataset.split=rows.npz"),
    train("row_outside", "'test' lists row 40", index(test=[40]), "--config.dataset.split=rows.npz"),
    train("rows_shared", "rows are in both", index(test=[9]), "--config.dataset.split=rows.npz"),
    train("rows_not_whole", "'test' is float64", index(test=[0.5]), "--config.dataset.split=rows.npz"),
    flags("name_and_path", "expected one of dataset.name and dataset.path", "dataset.name=ethanol_gfn2"),
    flags("neither", "expected one of dataset.name and dataset.path, got neither", "dataset.path="),
    flags("dataset", "nearest: 'ethanol_gfn2'", "dataset.name=ethanol_gfn", "dataset.path="),
    # Settings.
    flags("objective", "unknown objective 'crmes'; nearest: 'crmse'", "objective=crmes"),
    flags("potential", "unknown potential 'shnet'", "potential=shnet"),
    flags("negatives", "unknown sampler 'malla'", "objective=crmse", "contrastive.sampler=malla"),
    flags("celsius", "dataset.temperature is -73", "dataset.temperature=-73.0"),
    flags("nan_temperature", "dataset.temperature is nan", "dataset.temperature=nan"),
    flags("unlabelled", "contrastive.reference: no.xyz", "objective=crmse", "contrastive.reference=no.xyz"),
    flags("levels", "contrastive.hotter is (700", "contrastive.hotter=(700.0, 900.0)"),
    flags("cutoff", "shorter than a bond", "schnet.cutoff=0.5"),
    flags("batch", "training.batch_size is 11", "training.batch_size=11"),
    flags("rate", "pre_training.initial is 0.0", "pre_training.initial=0.0"),
    flags("log", "checkpoint_every is 150", "training.checkpoint_every=150"),
    flags("optimiser", "unknown optimiser 'adamm'", "pre_training.optimiser=adamm"),
    flags("parent", "init_from: nowhere holds no checkpoints", "init_from=nowhere"),
    flags("weights", "nowhere.npz: no such weights file", "weights=nowhere.npz"),
    flags("field", "no field", "dataset.trian=10"),
    flags("number", "seed", "seed=many"),
    other("config", "train", "spam.py", "--config=spam.py", "--workdir=W"),
    other("flag", "train", "workdri", "--workdri=W"),
    other("operand", "train", "unexpected argument 'W'", "W"),
    other("no_workdir", "train", "--workdir is not set"),
    # Workdirs and outputs.
    train("workdir_is_a_file", "File exists: 'W'", also(npz(), text("W", "mine"))),
    train("damaged_record", "W/config.json: expected the JSON", run_of('{"seed": ')),
    train("listed_record", "W/config.json: expected the JSON of a configuration, got list", run_of("[1]")),
    train("another_run", "W holds a run of another configuration: ", run_of('{"seed": 7}')),
    other("evaluate_nothing", "evaluate", "W/config.json: no such file", "--workdir=W"),
    other(
        "evaluate_beside",
        "evaluate",
        "W0/eval/metrics.json: no such file",
        *("--workdir=W", "--beside=W0"),
        make=run_of(RECORD),
    ),
    other(
        "evaluate_itself",
        "evaluate",
        "--beside: expected other runs than this one, each once, got W, W",
        *("--workdir=W", "--beside=W"),
        make=run_of(RECORD),
    ),
    other(
        "evaluate_foreign",
        "evaluate",
        "W/config.json: 'seed' is missing",
        "--workdir=W",
        make=run_of('{"model_type": "bert"}'),
    ),
    *(
        other(f"evaluate_section_{name}", "evaluate", f"W/config.json: '{name}' is", "--workdir=W", make=make)
        for name, make in (
            ("dataset", run_of(RECORD.replace('"dataset": {}', '"dataset": null'))),
            ("evaluation", run_of(RECORD.replace('"evaluation": {}', '"evaluation": "steps"'))),
        )
    ),
    other("evaluate_unset", "evaluate", "--workdir is not set"),
    other(
        "evaluate_config",
        "evaluate",
        "no flag --config.evaluation.n_steps; a run's settings change by --set evaluation.n_steps=VALUE",
        "--workdir=W",
        "--config.evaluation.n_steps=5",
    ),
    other("simulate_nothing", "simulate", "W/config.json: no such file", "--workdir=W", "--output=a.traj"),
    other("simulate_length", "simulate", "n_steps", "--workdir=W", "--output=a.traj", "--n_steps=-5"),
    other("export_over", "export", "--output=data.npz exists", "--workdir=W", "--output=data.npz"),
    other("inspect_nothing", "inspect", "expected an argument: FILE"),
    other("inspect_two", "inspect", "unexpected argument 'b'", "a", "b"),
    other("inspect_unit", "inspect", "'kcal' is unknown", "data.npz", "--units=kcal"),
    other("water_over", "water", "data.extxyz exists", "--output=data.extxyz", make=extxyz(LABELS)),
    other("water_chains", "water", "--chains is 2", "--output=new.extxyz", "--chains=2"),
    other("water_frames", "water", "--frames is '7'", "--output=new.extxyz", "--frames=7"),
    other("reference_over", "reference", "data.npz exists", "--output=data.npz"),
    other("reference_engine", "reference", "unknown engine 'gfn3'", "--output=new.npz", "--engine=gfn3"),
    other("reference_cold", "reference", "--temperature is 0.0", "--output=new.npz", "--temperature=0"),
    other("quickstart", "quickstart", "config.seed", "--config.seed=3"),
    other("export_set", "export", "--set is a flag of experiments.", "--set=a.b=1"),
    other("study", "study", "unknown study 'gfn3'", "--study=gfn3", "--workdir=W"),
    other("study_data", "study", "make it by python -m experiments.water", "--study=water", "--workdir=W"),
    # Last, for its --config takes the place of train's.
    other("networks", "networks", "unknown network 'shnet'; nearest: 'schnet'", "--networks=shnet"),
    other("networks_workdir", "networks", "--workdir is not set"),
    other("networks_minutes", "networks", "--minutes is 0", "--minutes=0", "--workdir=W"),
)  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file, and every folder, beneath."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def run(case: Case, folder: Path) -> dict[str, object]:
    """Runs the command in the folder; status, stderr and whether a file is as it was."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    os.chdir(inputs)
    case.make()
    before = contents(inputs)
    module = importlib.import_module(f"experiments.{case.binary}")
    sys.argv = [f"{case.binary}.py", *case.arguments]
    said, status = io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(said):
            binary.run(module.main, operand="FILE" if case.binary == "inspect" else "")
    except SystemExit as error:
        status = error.code
    except Exception:
        said.write(traceback.format_exc())
        status = 1
    forget_flags()
    return {"status": status, "stderr": said.getvalue(), "untouched": contents(inputs) == before}


def forget_flags() -> None:
    """Unparses the command line, for the next one; a configuration's fields are flags since they were met."""
    for name in [name for name in flag_values.FLAGS if name.startswith("config.")]:
        delattr(flag_values.FLAGS, name)
    flag_values.FLAGS.unparse_flags()


def main() -> None:
    """All cases."""
    root = Path(sys.argv[1]).resolve()
    for case in CASES:
        outcome = run(case, root / case.name)
        (root / case.name / "outcome.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
