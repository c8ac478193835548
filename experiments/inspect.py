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

PNG, SOFTWARE = b"\x89PNG", b"Software\0boltzfit"

FIGURE = flags.DEFINE_string(
    "figure",
    None,
    "Figure to write; by default FILE's name and _inspection.png, in this folder; empty: none.",
)
TEMPERATURE = flags.DEFINE_float(
    "temperature", 0.0, "K, at which the frames were sampled; 0: unknown.", allow_override=True
)
UNITS = flags.DEFINE_string(
    "units", "", "Of energy, length and forces, such as kcal/mol,angstrom; empty: the format's own."
)
LABEL_NAMES = flags.DEFINE_string(
    "label_names", "", "Names of energy and forces, such as REF_energy,REF_forces."
)
GROUP = flags.DEFINE_string("group", "", "Of an HDF5 file's molecules; empty: it has one.")

IGNORE_CELL = flags.DEFINE_bool("ignore_cell", False, "Frames that call themselves periodic are molecules.")


def main(path: str) -> None:
    """The binary."""
    settings = {
        "units": UNITS.value,
        "label_names": LABEL_NAMES.value,
        "group": GROUP.value,
        "ignore_cell": IGNORE_CELL.value,
    }
    with binary.reading_input():
        frames = read_frames(path, **settings)
        found = inspect_frames(frames, path, TEMPERATURE.value or None)
        figure = f"{Path(path).stem}_inspection.png" if FIGURE.value is None else FIGURE.value
        if figure:
            check_figure(Path(figure))
            Path(figure).write_bytes(png(inspection_figure(frames, found.outliers)))
    doubts = [f"doubt: {doubt}" for doubt in found.doubts] or ["no doubts"]
    written = [f"figure: {figure}"] if figure else []
    print("\n".join([*found.lines, *doubts, *written]))


def check_figure(path: Path) -> None:
    """Checks that nothing but an earlier figure of ours would be replaced.

    Raises:
      ValueError: another file is there.
    """
    head = path.read_bytes()[:512] if path.exists() else PNG + SOFTWARE
    if not (head.startswith(PNG) and SOFTWARE in head):
        raise ValueError(f"{path} exists and is no figure of boltzfit's; expected another --figure, or none")


if __name__ == "__main__":
    binary.run(main, operand="FILE")
