"""Pictures of the configurations into which chains fell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from experiments.figure_style import panels_of, plain_text, styled
from experiments.runs import Run
from potentials.units import KCAL_PER_MOL

COLUMNS = 4
_RADIUS = 0.5  # of the discs, in covalent radii
_MARGIN = 1.5  # of every picture, in extents of the test frame
_FAR = 3.0  # from the middle of the molecule, in median distances
_BOND = 1.25  # the longest distance with a line, in sums of covalent radii


def spurious_configurations(runs: Sequence[Run]) -> Figure:
    """The lowest frame of each of a run's lowest chains among those that fell below the spurious threshold,
    after a test frame to compare with; discs are atoms, lines distances as short
    as a bond's, seen along the axis of least extent, all at one scale; atoms beyond the
    picture are counted."""
    chosen = styled(runs, "spurious")
    first = chosen[0][0].curves
    pictures = [("a test frame", first["spurious_numbers"], first["spurious_test_positions"])]
    for run, _ in chosen:
        label = f"{run.label}: " if len(chosen) > 1 else ""
        for positions, energy in zip(
            run.curves["spurious_positions"], run.curves["spurious_energy"], strict=True
        ):
            numbers = f"{energy:.3g} eV\n({energy / KCAL_PER_MOL:.3g} kcal/mol)".replace("-", "−")
            pictures.append((label + numbers, run.curves["spurious_numbers"], positions))
    figure, axes = panels_of(len(pictures), COLUMNS, 1.6)
    turned = [_face_on(positions) for _, _, positions in pictures]
    half = _MARGIN * np.abs(turned[0][:, :2]).max(axis=0) + 1.0
    for axis, (title, numbers, _), positions in zip(axes, pictures, turned, strict=True):
        _draw(axis, numbers, positions)
        beyond = int(np.any(np.abs(positions[:, :2]) > half, axis=1).sum())
        note = f"\n{beyond} atom{'s' * (beyond > 1)} beyond" if beyond else ""
        axis.set_title(plain_text(title + note), fontsize=9)
        axis.set(xlim=(-half[0], half[0]), ylim=(-half[1], half[1]), aspect="equal")
        axis.set_axis_off()
    return figure


def _draw(axis: Axes, numbers: NDArray[np.integer], positions: NDArray[np.floating]) -> None:
    radii = covalent_radii[numbers]
    for first, second in zip(*np.triu_indices(len(numbers), 1), strict=True):
        ends = positions[[first, second]]
        if np.linalg.norm(ends[0] - ends[1]) < _BOND * (radii[first] + radii[second]):
            axis.plot(*ends[:, :2].T, color="0.3", linewidth=2, zorder=10 + ends[:, 2].mean())
    for number, radius, centre in zip(numbers, radii, positions, strict=True):
        look = {"facecolor": jmol_colors[number], "edgecolor": "0.2", "linewidth": 0.8}
        axis.add_patch(Circle(centre[:2], _RADIUS * radius, zorder=10 + centre[2], **look))


def _face_on(positions: NDArray[np.floating]) -> NDArray[np.floating]:
    """Turned so that the longest axis lies across and the shortest along the view; no mirror image. Atoms
    far off count for neither the middle nor the axes."""
    centred = positions - np.median(positions, axis=0)
    distances = np.linalg.norm(centred, axis=1)
    near = distances <= _FAR * np.median(distances)
    centred = centred - centred[near].mean(axis=0)
    axes = np.linalg.svd(centred[near])[2]
    return centred @ (axes * np.array([1.0, 1.0, np.linalg.det(axes)])[:, None]).T
