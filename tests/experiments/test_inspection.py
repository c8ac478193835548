"""Inspection of a file: what it says about frames whose statistics are known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from experiments.inspection import inspect_frames, inspection_figure
from tests.experiments.harmonic_frames import REST, STIFFNESS, harmonic, rmd17_arrays


def line(found, start):
    (one,) = (line for line in found.lines if line.startswith(start))
    return one


def test_good_frames():
    frames = harmonic(400)
    found = inspect_frames(frames, "water.npz", 500.0)
    assert found.lines[0] == "water.npz: 400 frames of H2O, 3 atoms"
    assert found.doubts == [] and not found.outliers.any()
    assert "as different as distant ones" in line(found, "order")
    rms = np.sqrt(STIFFNESS * 8.617333e-5 * 500)
    assert float(line(found, "forces").split()[5]) == pytest.approx(rms, rel=0.05)
    assert [text.split(":")[0] for text in found.lines if text.startswith("  ")] == ["  O0-H1", "  O0-H2"]
    assert "mean 0.96" in line(found, "  O0-H1")
    assert [text.endswith(": none") for text in found.lines if text.startswith("outliers")] == [True] * 3
    value, error = (float(line(found, "virial").split()[i]) for i in (2, 4))
    assert value == pytest.approx(500, abs=4 * error) and error < 200


def test_what_stands_out():
    frames = harmonic(300)
    frames.energies[7] += 50.0
    frames.forces[11, 1] = [90.0, 0.0, 0.0]
    frames.positions[13, 2] = REST[2] * 1.9
    found = inspect_frames(frames, "file")
    assert np.flatnonzero(found.outliers).tolist() == [7, 11, 13]
    assert line(found, "outliers, energy").endswith("1 (frames 7)")
    assert line(found, "outliers, force").endswith("1 (frames 11)")
    assert line(found, "outliers, bond").endswith("1 (frames 13)")
    assert "largest on an atom 90 (frame 11)" in line(found, "forces")
    figure = inspection_figure(frames, found.outliers)
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "3 outliers"


def test_a_trajectory_is_told_from_frames_in_no_order():
    walk = harmonic(300, step=0.002)
    assert "a trajectory, to be split in blocks" in line(inspect_frames(walk, "file"), "order")


def test_frames_that_are_no_sample_of_their_labels():
    """Forces that do twice the work that equipartition at 500 K allows."""
    frames = harmonic(2000)
    frames.forces[:] += STIFFNESS * 0.1 * (frames.positions - frames.positions.mean(axis=1, keepdims=True))
    found = inspect_frames(frames, "file", 500.0)
    assert any("the virial temperature is not 500 K" in doubt for doubt in found.doubts)
    assert not any("virial" in doubt for doubt in inspect_frames(harmonic(2000), "file", 500.0).doubts)


@pytest.mark.parametrize(
    ("stated", "doubted"), [(500.0, False), (430.0, False), (330.0, True), (1500.0, True)]
)
def test_energies_that_spread_otherwise_than_at_the_stated_temperature(stated, doubted):
    found = inspect_frames(harmonic(2000, 500.0), "file", stated)
    assert any(f"a harmonic molecule at {stated:g} K" in doubt for doubt in found.doubts) == doubted
    assert f"a harmonic molecule at {stated:g} K" in line(found, "energies spread")


def test_a_virial_temperature_of_few_frames_is_called_uncertain():
    few, many = (line(inspect_frames(harmonic(n), "file", 500.0), "virial") for n in (40, 2000))
    assert few.endswith("too uncertain to tell") and many.endswith("their own labels")


def test_the_binary(tmp_path):
    frames = harmonic(100)
    np.savez(tmp_path / "kcal.npz", **rmd17_arrays(frames))
    np.savez(tmp_path / "wrong.npz", **(rmd17_arrays(frames) | {"coords": np.zeros((100, 3, 3))}))

    def run(*arguments):
        command = [sys.executable, "-m", "experiments.inspect", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    good = run(tmp_path / "kcal.npz", "--temperature=500", f"--figure={tmp_path / 'f.png'}")
    assert (
        good.returncode == 0 and "no doubts" in good.stdout and (tmp_path / "f.png").stat().st_size > 10_000
    )
    assert {path.name for path in tmp_path.iterdir()} == {"kcal.npz", "wrong.npz", "f.png"}
    assert "figure: kcal_inspection.png" in run("kcal.npz").stdout
    assert (tmp_path / "kcal_inspection.png").exists()
    (tmp_path / "theirs.png").write_bytes(b"a picture")
    (tmp_path / "README.md").write_bytes(b"# boltzfit")
    for theirs in ("kcal.npz", "theirs.png", "README.md"):
        result = run("kcal.npz", f"--figure={theirs}")
        assert result.returncode == 2 and f"{theirs} exists and is no figure" in result.stderr
    assert (tmp_path / "theirs.png").read_bytes() == b"a picture"
    assert run("kcal.npz").returncode == 0  # its own is replaced
    doubtful = run(tmp_path / "kcal.npz", "--temperature=500", "--figure=", "--units=eV")
    assert (
        doubtful.returncode == 0 and "doubt: " in doubtful.stdout and "kcal/mol read as eV" in doubtful.stdout
    )
    for arguments, words in (
        ((), "expected an argument: FILE"),
        (("a", "b"), "unexpected argument 'b'"),
        ((tmp_path / "none.npz",), "none.npz: no such file"),
        ((tmp_path / "wrong.npz",), "0 Å apart"),
    ):
        bad = run(*arguments)
        assert bad.returncode == 2 and words in bad.stderr and "Traceback" not in bad.stderr
