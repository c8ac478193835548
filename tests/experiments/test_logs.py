"""The table of metrics and its TensorBoard events, over a resumed run and on a full disk."""

import csv
import resource
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from experiments.logs import TrainingLog


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
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
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


def test_a_full_disk_is_an_error_and_no_hang(tmp_path):
    log = TrainingLog(tmp_path / "train_log.csv", upto=0)
    log.write({"step": 1, "loss": 1.0})
    before = (tmp_path / "train_log.csv").read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        with pytest.raises(OSError, match="File too large"):
            log.write({"step": 2, "loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "train_log.csv").read_text() == before
