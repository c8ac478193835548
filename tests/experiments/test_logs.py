"""The table of metrics and its TensorBoard events, over a resumed run and on a full disk."""

import csv
import resource
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments.logs import NegativesLog, TrainingLog
from experiments.negatives import read_negatives
from objectives import Negatives


def events_of(path):
    """Events of one file: records of length, checksum, bytes, checksum."""
    content, start = path.read_bytes(), 0
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        yield Event.FromString(content[start + 12 : start + 12 + length])
        start += length + 16


def shown(folder):
    """(tag, step) -> value, as TensorBoard shows them: a start hides earlier events from its step on."""
    values = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        for event in events_of(path):
            if event.session_log.status:
                values = {key: value for key, value in values.items() if key[1] < event.step}
            for value in event.summary.value:
                values[value.tag, event.step] = value.simple_value
    return values


def test_a_resumed_run_has_each_step_once_in_both(tmp_path):
    path = tmp_path / "train_log.csv"
    log = TrainingLog(path, upto=0)
    for step in (10, 20, 30):
        log.write({"step": step, "loss": 1.0 / step, "phase": float("nan")})
    # No close: the process was killed after its checkpoint of update 20.
    log = TrainingLog(path, upto=20)
    for step in (30, 40):
        log.write({"step": step, "loss": 2.0 / step, "phase": 1.0})
    log.close()
    with path.open(newline="") as file:
        rows = {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}
    assert rows == {10: 0.1, 20: 0.05, 30: 2 / 30, 40: 0.05}
    found = shown(tmp_path / "tensorboard")
    assert {step: found["loss", step] for step in rows} == pytest.approx(rows)
    assert {key for key in found if key[0] == "phase"} == {("phase", 30), ("phase", 40)}
    assert all(np.isfinite(value) for value in found.values())


def test_a_run_that_goes_on_with_other_metrics_keeps_both(tmp_path):
    path = tmp_path / "train_log.csv"
    log = TrainingLog(path, upto=0)
    log.write({"step": 10, "loss": 1.0, "old": 3.0})
    log.close()
    log = TrainingLog(path, upto=10)
    log.write({"step": 20, "loss": 0.5, "new": 4.0})
    log.close()
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {"step": "10", "loss": "1.0", "new": "", "old": "3.0"}
    assert second == {"step": "20", "loss": "0.5", "new": "4.0", "old": ""}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_damaged_negatives_begin_anew(tmp_path, content):
    path = tmp_path / "negatives.npz"
    path.write_bytes(content)
    log = NegativesLog(path, upto=10)
    log.add(20, Negatives(*[np.zeros(2)] * len(Negatives._fields)))
    log.write()
    with np.load(path) as file:
        assert file["steps"].tolist() == [20]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"negatives\.npz: no readable npz file"):
        read_negatives(path)


def test_a_run_that_has_nothing_left_to_do_writes_nothing(tmp_path):
    TrainingLog(tmp_path / "train_log.csv", upto=0).close()
    assert not list(tmp_path.iterdir())


def test_the_first_file_of_events_has_the_rows_from_before(tmp_path):
    """Of a run that began when there were no events."""
    path = tmp_path / "train_log.csv"
    path.write_text("step,loss,phase\n10,0.5,\n20,0.0,1.0\n30,9.0,1.0\n")
    log = TrainingLog(path, upto=20)
    log.write({"step": 30, "loss": 0.125, "phase": 2.0})
    log.close()
    assert shown(tmp_path / "tensorboard") == {
        ("loss", 10): 0.5, ("loss", 20): 0.0, ("loss", 30): 0.125, ("phase", 20): 1.0, ("phase", 30): 2.0
    }  # fmt: skip


@pytest.mark.parametrize("room", [100, 400])
def test_a_full_disk_is_an_error_and_no_hang(tmp_path, room):
    """For the table, and, where that still fits, for the events."""
    log = TrainingLog(tmp_path / "train_log.csv", upto=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # the table of 30 rows has 250 bytes
        with pytest.raises(OSError, match="File too large"):
            for step in range(1, 31):
                log.write({"step": step, "loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len((tmp_path / "train_log.csv").read_bytes()) <= room
