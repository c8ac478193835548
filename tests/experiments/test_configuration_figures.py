"""Pictures of configurations: projected without distortion, one scale, all atoms."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import figures as figs
from experiments.configuration_figures import _face_on
from experiments.runs import Run
from tests.experiments.synthetic_runs import make_run


@pytest.fixture(scope="module")
def run() -> Run:
    return make_run("MSE", True)


def test_configurations_are_drawn_without_distortion(run):
    """Distances in the picture are at most the true ones; all atoms, one scale, no mirror image."""
    rng = np.random.default_rng(0)
    numbers = np.array([6, 8, 1, 1, 1])
    positions = 2 * rng.normal(size=(3, 5, 3)).astype(np.float32)
    curves = {
        "spurious_positions": positions,
        "spurious_energy": np.array([-30.0, -2.0, -1.0]),
        "spurious_numbers": numbers,
        "spurious_test_positions": positions[0] @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32),
    }
    figure = figs.figures([run._replace(curves=curves, log={})])["spurious_configurations"]
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "a test frame" and titles[1].startswith("−30 eV")
    assert len({axis.get_xlim() for axis in figure.axes}) == 1
    seen = [np.array([disc.center for disc in axis.patches]) for axis in figure.axes]
    for plane, true in zip(seen[1:], positions, strict=True):
        apart, truly = (np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (plane, true))
        assert (apart <= truly + 1e-5).all()
        extent = np.linalg.svd(true - true.mean(axis=0))[1]
        np.testing.assert_allclose(np.linalg.svd(plane)[1], extent[:2], rtol=1e-4)
        np.testing.assert_allclose(
            _face_on(true) @ _face_on(true).T, _centred(true) @ _centred(true).T, atol=1e-4
        )
        handed = [np.linalg.det(x[1:4] - x[0]) for x in (true, _face_on(true))]
        assert handed[0] == pytest.approx(handed[1], rel=1e-3)
    assert figs.png(figure)


def test_an_atom_that_left_does_not_shrink_the_molecule(run):
    molecule = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    left = molecule.copy()
    left[5] += 200.0
    curves = {
        "spurious_positions": left[None],
        "spurious_energy": np.array([-2.0]),
        "spurious_numbers": np.array([6, 6, 8, 1, 1, 1]),
        "spurious_test_positions": molecule,
    }
    figure = figs.figures([run._replace(curves=curves, log={})])["spurious_configurations"]
    assert figure.axes[1].get_title().endswith("1 atom beyond") and "beyond" not in figure.axes[0].get_title()
    (low, high), centres = figure.axes[1].get_xlim(), [disc.center[0] for disc in figure.axes[1].patches]
    assert high - low < 15 and sum(low < x < high for x in centres) == 5


def _centred(positions):
    return positions - positions.mean(axis=0)
