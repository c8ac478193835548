"""Checks of frames: hard faults, wrong units, forces that do not fit energies."""

from __future__ import annotations

import numpy as np
import pytest
from ase.units import Hartree, kB

from experiments.frame_checks import check_frames
from experiments.frames import Frames
from tests.experiments.harmonic_frames import (
    KCAL,
    harmonic,
)


def spoil(field: str, row: int | tuple[int, ...], value: float) -> Frames:
    frames = harmonic(8)
    array = getattr(frames, field).copy()
    array[row] = value
    return frames._replace(**{field: array})


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        (spoil("energies", 3, np.nan), r"f: energies of frame 3 are not finite"),
        (spoil("forces", (5, 1, 2), np.inf), r"f: forces of frame 5 are not finite"),
        (spoil("positions", (2, 0, 0), np.nan), r"f: positions of frame 2 are not finite"),
        (spoil("numbers", 1, 0), r"f: numbers: atom 1 has atomic number 0, expected 1 to 118"),
        (spoil("numbers", 2, 119), r"f: numbers: atom 2 has atomic number 119"),
        (
            spoil("positions", (6, 1), harmonic(8).positions[6, 2] + 0.1),
            r"positions of frame 6: atoms 1 and 2 are 0\.173",
        ),
        (harmonic(1), r"f: holds 1 frames, expected at least 2"),
        (
            harmonic(8)._replace(forces=harmonic(7).forces),
            r"f: forces have shape \(7, 3, 3\), expected \(8, 3, 3\)",
        ),
    ],
)
def test_hard_faults(frames, match):
    with pytest.raises(ValueError, match=match):
        check_frames(frames, "f")


def test_sound_frames_raise_no_doubt():
    assert check_frames(harmonic(500), "f", temperature=500.0) == []
    assert check_frames(harmonic(500, step=0.003), "f") == []


def test_spread_of_a_harmonic_molecule_sets_the_scale():
    # Nine harmonic coordinates: sd(U) = kT sqrt(9/2), 1.73 times that of 3N - 6 = 3 modes.
    frames = harmonic(20000)
    expected = kB * 500.0 * np.sqrt(9 / 2)
    # The variance of a gamma variable's sample variance gives 0.8 % here.
    assert np.std(frames.energies) == pytest.approx(expected, rel=0.04)
    factor = 5.0 / np.sqrt(3.0)
    for scale, doubtful in ((factor * 1.1, True), (factor * 0.9, False)):
        scaled = frames._replace(energies=frames.energies * scale)
        doubts = check_frames(scaled, "f", temperature=500.0)
        assert any("energies spread by" in doubt for doubt in doubts) is doubtful


@pytest.mark.parametrize(
    ("factor", "hint"),
    [
        (KCAL, "kcal/mol read as eV"),
        (1 / Hartree, "hartree read as eV"),
        (KCAL * Hartree, "kcal/mol read as hartree"),
    ],
)
def test_wrong_energy_unit_is_named(factor, hint):
    frames = harmonic(500, temperature=200.0)
    wrong = frames._replace(energies=frames.energies * factor)
    spread, gradient = check_frames(wrong, "f", temperature=500.0)
    assert spread.startswith("f: energies spread by")
    assert hint in spread
    # These frames are near enough to each other for the second relation, too.
    assert gradient.startswith("f: energies change by")
    assert hint in gradient


@pytest.mark.parametrize(
    ("factor", "words"),
    [(KCAL, "kcal/mol read as eV"), (-1.0, "wrong sign"), (1 / 627.5, "hartree read as kcal/mol")],
)
def test_trajectory_betrays_energies_that_do_not_fit_forces(factor, words):
    frames = harmonic(300, step=0.003)
    [doubt] = check_frames(frames._replace(energies=frames.energies * factor), "f")
    assert words in doubt


def test_order_in_time_comes_from_the_indices():
    frames = harmonic(300, step=0.003)
    wrong = frames._replace(energies=frames.energies * KCAL)
    shuffled = wrong.take(np.random.default_rng(1).permutation(300))
    assert check_frames(shuffled, "f") == check_frames(wrong, "f") != []


def test_small_forces_and_duplicates():
    frames = harmonic(50, temperature=500.0)
    doubts = check_frames(frames._replace(forces=frames.forces / 100), "f")
    assert "f: forces have an RMS of 0.01" in doubts[0]
    doubled = frames.take(np.r_[0:50, 4, 9])
    [doubt] = check_frames(doubled, "f")
    assert doubt == "f: 2 duplicate frames (first: frame 50 has the positions of frame 4)"
