"""Data sets from settings: contradictions, test files, warnings, names; and the published rMD17."""

from __future__ import annotations

import os

import numpy as np
import pytest

from experiments import known_datasets
from experiments.datasets import load_splits
from tests.experiments.harmonic_frames import (
    KCAL,
    assert_same,
    config,
    harmonic,
    index_file,
    md17_arrays,
    package_arrays,
    rmd17_arrays,
    save,
)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"train": 30, "validation": 5, "test": 6}, r"a\.npz: .*30 \+ 5 \+ 6 frames, but it has 40"),
        ({"train": 35}, r"35 \+ 5 \+ 0 frames and one or more for test, but it has 40"),
        ({"split": "file"}, r"a\.npz: dataset\.split is 'file', but the file holds no split"),
        ({"train": 0}, r"dataset\.train is 0, expected 1 or more"),
        ({"validation": -1}, r"dataset\.validation is -1, expected 0"),
        (
            {"name": "md17_ethanol"},
            r"one of dataset\.name and dataset\.path, got name 'md17_ethanol' and path",
        ),
        ({"path": ""}, r"one of dataset\.name and dataset\.path, got neither"),
        (
            {"path": "", "name": "md17_ethanol", "test_path": "t"},
            r"dataset\.test_path goes with dataset\.path",
        ),
        (
            {"path": "", "name": "rmd17_etanol"},
            r"unknown dataset 'rmd17_etanol'; nearest: 'rmd17_ethanol'; known: ",
        ),
    ],
)
def test_contradicting_settings(tmp_path, changes, match):
    path = str(save(tmp_path / "a.npz", md17_arrays(harmonic(40))))
    with pytest.raises(ValueError, match=match):
        load_splits(config(**({"path": path} | changes)), 0)


def test_separate_test_file(tmp_path):
    path = str(save(tmp_path / "a.npz", rmd17_arrays(harmonic(20))))
    test_path = str(save(tmp_path / "t.npz", rmd17_arrays(harmonic(9, seed=1))))
    splits = load_splits(config(path=path, test_path=test_path), 0)
    np.testing.assert_array_equal(splits.train.indices, 7 * np.arange(10) + 3)
    np.testing.assert_array_equal(splits.validation.indices, 7 * np.arange(15, 20) + 3)
    assert_same(splits.test, harmonic(9, seed=1))
    mixed = load_splits(config(path=path, test_path=test_path, split="random", test=4), 0)
    assert set(mixed.train.indices).isdisjoint(mixed.validation.indices)
    assert not np.array_equal(mixed.train.indices, splits.train.indices)
    assert len(mixed.test.energies) == 4
    with pytest.raises(ValueError, match=r"a\.npz: .* = 16 \+ 5 exceed its 20 frames"):
        load_splits(config(path=path, test_path=test_path, train=16), 0)
    with pytest.raises(ValueError, match=r"t\.npz: dataset\.test = 10, but it has 9 test frames"):
        load_splits(config(path=path, test_path=test_path, test=10), 0)
    with pytest.raises(ValueError, match=r"test_path and the index file"):
        load_splits(config(path=path, test_path=test_path, split=index_file(tmp_path)), 0)
    arrays = rmd17_arrays(harmonic(9)) | {"nuclear_charges": np.array([16, 1, 1])}
    with pytest.raises(ValueError, match=r"s\.npz: atomic numbers \[16, 1, 1\] are not those"):
        load_splits(config(path=path, test_path=str(save(tmp_path / "s.npz", arrays))), 0)


def test_warnings_reach_the_log(tmp_path, warnings):
    frames = harmonic(20)
    path = str(save(tmp_path / "a.npz", md17_arrays(frames)))
    leak = str(save(tmp_path / "t.npz", md17_arrays(frames.take(np.array([3, 18, 19])))))
    load_splits(config(path=path, test_path=leak, units=",,hartree/angstrom"), 0)
    assert "a.npz: forces have an RMS of" in warnings[0]
    assert any("t.npz: forces have an RMS of" in line for line in warnings)
    assert "a.npz: 1 test frames are training frames too" in warnings[-1]


def test_packaged_name(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(known_datasets.importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ethanol_gfn2_500K\.npz: missing from this installation"):
        load_splits(config(name="ethanol_gfn2"), 0)
    sections = [harmonic(20, seed=n) for n in range(3)]
    save(tmp_path / "data" / "ethanol_gfn2_500K.npz", package_arrays(*sections))
    splits = load_splits(config(name="ethanol_gfn2"), 0)
    assert [len(part.energies) for part in splits] == [10, 5, 20]


@pytest.mark.skipif("BOLTZFIT_DATA" not in os.environ, reason="needs the rMD17 files")
def test_rmd17_ethanol(warnings):
    splits = load_splits(config(name="rmd17_ethanol", train=950, validation=50), 0)
    assert [len(part.energies) for part in splits] == [950, 50, 1000]
    np.testing.assert_array_equal(splits.train.numbers, [6, 6, 8, 1, 1, 1, 1, 1, 1])
    assert np.std(splits.test.energies) * KCAL == pytest.approx(4.3, abs=0.3)
    # Ethanol's total energy is -154.7 hartree; its atoms' forces have an RMS of 1 to 1.5 eV/Å at 500 K.
    assert np.mean(splits.test.energies) / 27.2114 == pytest.approx(-154.7, abs=0.3)
    assert 1.0 < np.sqrt(np.mean(splits.test.forces**2)) < 1.5
    # No net force on a molecule.
    assert np.abs(splits.test.forces.sum(axis=1)).max() < 0.01
    assert set(splits.train.indices).isdisjoint(splits.test.indices)
    other = load_splits(config(name="rmd17_ethanol_02", train=950, validation=50), 0)
    assert set(other.train.indices) != set(splits.train.indices)
    assert warnings == []
