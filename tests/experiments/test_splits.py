"""Splits into training, validation and test frames: random, by index file, by section."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.datasets import load_splits
from experiments.frame_checks import doubt_neighbours
from tests.experiments.harmonic_frames import (
    assert_same,
    config,
    harmonic,
    index_file,
    md17_arrays,
    package_arrays,
    rmd17_arrays,
    save,
    slow_harmonic,
)


def test_random_split_is_disjoint_and_by_seed(tmp_path):
    path = str(save(tmp_path / "a.npz", md17_arrays(harmonic(40))))
    splits = load_splits(config(path=path), 3)
    sets = [set(part.indices) for part in splits]
    assert [len(s) for s in sets] == [10, 5, 25]
    assert set.union(*sets) == set(range(40))
    assert_same(splits.test, harmonic(40).take(splits.test.indices))
    again = load_splits(config(path=path, test=4, split="random"), 3)
    np.testing.assert_array_equal(again.test.indices, splits.test.indices[:4])
    np.testing.assert_array_equal(again.train.indices, splits.train.indices)
    assert set(load_splits(config(path=path), 4).train.indices) != sets[0]


def test_a_missing_split_file_is_told_from_a_word(tmp_path):
    path = str(save(tmp_path / "a.npz", md17_arrays(harmonic(40))))
    with pytest.raises(
        FileNotFoundError, match=r"dataset\.split 'randm': no such file; expected 'file', 'random'"
    ):
        load_splits(config(path=path, split="randm"), 0)


def test_index_file(tmp_path):
    path = str(save(tmp_path / "a.npz", md17_arrays(harmonic(40))))
    splits = load_splits(config(path=path, split=index_file(tmp_path)), 0)
    np.testing.assert_array_equal(splits.train.indices, np.arange(10))
    np.testing.assert_array_equal(splits.validation.indices, np.arange(20, 25))
    np.testing.assert_array_equal(splits.test.indices, np.arange(39, 29, -1))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"test": np.array([31, 7, 8])}, r"2 rows are in both 'train' and 'test' \(first: 7\)"),
        (
            {"validation": np.array([19, 20, 21, 22, 23])},
            r"1 rows are in both 'train' and 'validation' \(first: 19\)",
        ),
        ({"test": np.array([40])}, r"'test' lists row 40, expected 0 to 39"),
        ({"test": np.array([31, 32, 31])}, r"'test' lists row 31 more than once"),
        ({"test": np.array([1.5])}, r"'test' is float64 \(1,\), expected a list of row numbers"),
        ({"train": np.arange(6)}, r"dataset\.train = 10, but 'train' lists 6 rows"),
    ],
)
def test_faults_of_an_index_file(tmp_path, changes, match):
    path = str(save(tmp_path / "a.npz", md17_arrays(harmonic(40))))
    with pytest.raises(ValueError, match=r"index\.npz: " + match):
        load_splits(config(path=path, split=index_file(tmp_path, **changes)), 0)


def test_index_file_of_other_keys(tmp_path):
    path = str(save(tmp_path / "a.npz", md17_arrays(harmonic(40))))
    index = str(
        save(tmp_path / "i.npz", {"train": np.arange(9), "valid": np.arange(9), "test": np.arange(9)})
    )
    with pytest.raises(ValueError, match=r"i\.npz: key 'validation' is missing; is it called 'valid'\?"):
        load_splits(config(path=path, split=index), 0)


def test_package_file_is_taken_in_even_strides(tmp_path):
    sections = [harmonic(n, seed=n) for n in (100, 21, 30)]
    path = str(save(tmp_path / "p.npz", package_arrays(*sections)))
    splits = load_splits(config(path=path, train=12, validation=6), 0)
    np.testing.assert_array_equal(splits.train.indices, 9 * np.arange(12))
    np.testing.assert_array_equal(splits.validation.indices, 100 + 4 * np.arange(6))
    np.testing.assert_array_equal(splits.test.indices, 121 + np.arange(30))
    assert_same(splits.validation, sections[1].take(4 * np.arange(6)), 1e-5)
    # Nearly all of them: rounding must not take one twice.
    most = load_splits(config(path=path, train=97, validation=20, test=29), 0)
    assert [len(set(part.indices)) for part in most] == [97, 20, 29]
    with pytest.raises(ValueError, match=r"p\.npz: dataset\.validation = 22, but that section has 21 frames"):
        load_splits(config(path=path, validation=22), 0)


def test_blocks_are_stretches_of_the_trajectory(tmp_path):
    frames = harmonic(100)
    path = str(save(tmp_path / "a.npz", md17_arrays(frames)))
    some = load_splits(config(path=path, split="blocks", test=10), 0)
    assert [len(part.indices) for part in some] == [10, 5, 10]
    for part, (low, high) in zip(some, ((0, 40), (40, 60), (60, 100)), strict=True):
        assert part.indices[0] == low and part.indices[-1] == high - 1
        assert (np.diff(part.indices) > 0).all()
    tight = load_splits(config(path=path, split="blocks", train=50, validation=30, test=20), 0)
    np.testing.assert_array_equal(np.concatenate([part.indices for part in tight]), np.arange(100))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, "dataset.split is 'blocks' and dataset.test 0; expected the number of test frames"),
        ({"train": 95, "test": 5}, "95 [+] 5 [+] 5 frames, but it has 100"),
        ({"test_path": "a.npz", "test": 5}, "test_path and dataset.split 'blocks' exclude each other"),
    ],
)
def test_blocks_that_can_not_be(tmp_path, monkeypatch, changes, match):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.npz", md17_arrays(harmonic(100)))
    with pytest.raises(ValueError, match=match):
        load_splits(config(path="a.npz", split="blocks", **changes), 0)


def test_rmd17_blocks_follow_its_old_indices(tmp_path):
    arrays = rmd17_arrays(harmonic(40))
    order = np.random.default_rng(0).permutation(40)
    for name in ("coords", "energies", "forces", "old_indices"):
        arrays[name] = arrays[name][order]
    splits = load_splits(config(path=str(save(tmp_path / "a.npz", arrays)), split="blocks", test=10), 0)
    assert splits.train.indices.max() < splits.validation.indices.min()
    assert splits.validation.indices.max() < splits.test.indices.min()


@pytest.mark.parametrize(
    ("memory", "changes", "warned"),
    [
        (0.98, {"train": 200}, True),
        (0.98, {"train": 200, "split": "blocks", "test": 300}, False),
        (0.98, {"train": 10}, False),  # so few that hardly a test frame is near one
        (0.0, {"train": 200}, False),
    ],
)
def test_frames_that_are_alike_on_both_sides_of_a_split(tmp_path, caplog, memory, changes, warned):
    """A slow trajectory split at random is warned of; its stretches, and independent frames, are not."""
    path = str(save(tmp_path / "a.npz", md17_arrays(slow_harmonic(2000, memory))))
    load_splits(config(**{"path": path, "validation": 50} | changes), 0)
    assert ("of the test frames come so soon" in caplog.text) == warned
    assert not warned or "expected dataset.split=blocks and a dataset.test" in caplog.text


def test_frames_taken_in_turn_are_alike_without_being_neighbours(tmp_path, caplog):
    """Every fourth frame of a slow trajectory to train on, those half-way between to test."""
    path = str(save(tmp_path / "a.npz", md17_arrays(slow_harmonic(800, 0.98))))
    rows = {"train": np.arange(0, 800, 4), "validation": np.arange(1, 20, 4), "test": np.arange(2, 800, 4)}
    index = str(save(tmp_path / "rows.npz", rows))
    load_splits(config(path=path, split=index, train=200), 0)
    assert "of the test frames come so soon" in caplog.text


def test_no_test_frames_are_like_no_others():
    frames = harmonic(20)
    assert doubt_neighbours(frames, frames.take(np.arange(0))) is None
    alone = frames._replace(
        numbers=frames.numbers[:1], positions=frames.positions[:, :1], forces=frames.forces[:, :1]
    )
    assert doubt_neighbours(alone, alone) is None
    assert doubt_neighbours(frames, frames) is not None
