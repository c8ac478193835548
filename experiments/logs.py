"""What a training run leaves beside its checkpoints: a table of metrics, the same for TensorBoard, and its
negatives."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from objectives import Negatives


class TrainingLog:
    """Rows of a CSV, and the same numbers as TensorBoard's events in the folder `tensorboard` beside it; a
    resumed run drops those after its checkpoint, or has TensorBoard hide them."""

    def __init__(self, path: Path, upto: int):
        """Args: path: the file; upto: the step from which the run goes on."""
        self._path = path
        # Not tensorboardX's SummaryWriter: on a full disk its thread dies and the next event waits for ever.
        folder = path.parent / "tensorboard"
        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / "events"), f".{os.getpid()}.{upto}")
        start = SessionLog(status=SessionLog.START)  # hides what earlier files say of later steps
        self._events.write_event(Event(wall_time=time.time(), step=upto + 1, session_log=start))
        self._rows: list[dict[str, Any]] = []
        if path.exists() and upto:
            with path.open(newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= upto]

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row; the CSV is replaced whole."""
        self._rows.append(row)
        partial = self._path.with_name(f".{self._path.name}.partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self._path)
        for name, value in row.items():
            if name != "step" and np.isfinite(value):
                event = Event(wall_time=time.time(), step=int(row["step"]), summary=scalar(name, value))
                self._events.write_event(event)
        self._events.flush()

    def close(self) -> None:
        """Ends the file of events."""
        self._events.close()


class NegativesLog:
    """Snapshots of an objective's negatives, one a log row, for `evaluate` to look at."""

    def __init__(self, path: Path, upto: int):
        """Args: path: the file; upto: the step from which the run goes on."""
        self._path = path
        self._records: dict[str, list[Any]] = {"steps": [], "positions": [], "energies": []}
        if path.exists() and upto:
            with np.load(path) as file:
                keep = file["steps"] <= upto
                self._records = {name: list(file[name][keep]) for name in self._records}

    def add(self, step: int, samples: Any) -> None:
        """Keeps positions [R, N, 3] and energies [R] of whichever part of the samples are negatives."""
        for part in samples.values() if isinstance(samples, dict) else (samples,):
            if isinstance(part, Negatives):
                self._records["steps"].append(step)
                self._records["positions"].append(np.asarray(part.positions))
                self._records["energies"].append(np.asarray(part.energies))

    def write(self) -> None:
        """Replaces the file whole, where there is anything to write."""
        if self._records["steps"]:
            partial = self._path.with_name(f".{self._path.stem}.partial.npz")
            np.savez(partial, **{name: np.array(values) for name, values in self._records.items()})
            os.replace(partial, self._path)
