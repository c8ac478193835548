"""Looks at a file of labelled frames before anything is trained on it: python -m experiments.inspect FILE

Prints what is in it and what is doubtful, and writes a figure.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from experiments import binary
from experiments.figures import png
from experiments.frame_files import read_frames
from experiments.inspection import inspect_frames, inspection_figure

FIGURE = flags.DEFINE_string("figure", "inspection.png", "Figure to write; empty: none.")
TEMPERATURE = flags.DEFINE_float(
    "temperature", 0.0, "K, at which the frames were sampled; 0: unknown.", allow_override=True
)
ENERGY_UNIT = flags.DEFINE_string(
    "energy_unit", "", "eV, kcal/mol, kJ/mol or hartree; empty: the format's own."
)
LENGTH_UNIT = flags.DEFINE_string("length_unit", "", "angstrom or bohr; empty: the format's own.")
FORCE_UNIT = flags.DEFINE_string("force_unit", "", "Such as kcal/mol/angstrom; empty: of the two above.")
GROUP = flags.DEFINE_string("group", "", "Of an HDF5 file's molecules; empty: it has one.")

IGNORE_CELL = flags.DEFINE_bool("ignore_cell", False, "Frames that call themselves periodic are molecules.")


def main(path: str) -> None:
    """The binary."""
    settings = {
        "energy_unit": ENERGY_UNIT.value,
        "length_unit": LENGTH_UNIT.value,
        "force_unit": FORCE_UNIT.value,
        "group": GROUP.value,
        "ignore_cell": IGNORE_CELL.value,
    }
    with binary.reading_input():
        frames = read_frames(path, **settings)
        found = inspect_frames(frames, path, TEMPERATURE.value or None)
        if FIGURE.value:
            Path(FIGURE.value).write_bytes(png(inspection_figure(frames, found.outliers)))
    doubts = [f"doubt: {doubt}" for doubt in found.doubts] or ["no doubts"]
    figure = [f"figure: {FIGURE.value}"] if FIGURE.value else []
    print("\n".join([*found.lines, *doubts, *figure]))


if __name__ == "__main__":
    binary.run(main, operand="FILE")
