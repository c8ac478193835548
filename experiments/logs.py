"""What a training run leaves beside its checkpoints: a table of metrics, the same for TensorBoard, and its
negatives."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from experiments.binary import LOG
from experiments.npz_files import open_npz
from objectives import Negatives


class TrainingLog:
    """Rows of a CSV, and the same numbers as TensorBoard's events in the folder `tensorboard` beside it; a
    resumed run drops those after its checkpoint, or has TensorBoard hide them."""

    def __init__(self, path: Path, upto: int):
        """Args: path: the file; upto: the step from which the run goes on."""
        self._path = path
        self._upto = upto
        self._rows: list[dict[str, Any]] = []
        self._events: EventsWriter | None = None
        if path.exists() and upto:
            with path.open(newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= upto]

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row; the CSV is replaced whole."""
        self._rows.append(row)
        partial = self._path.with_name(f".{self._path.name}.partial")
        with partial.open("w", newline="") as file:
            names = dict.fromkeys([*row, *(name for old in self._rows for name in old)])
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self._path)
        if self._events is None:
            self._events = self._open()
        self._add(self._events, row)
        self._events.flush()

    def _open(self) -> EventsWriter:
        """A file of events, which hides what earlier ones say of steps after `upto`; the first has the rows
        that there were before."""
        # Not tensorboardX's SummaryWriter: on a full disk its thread dies and the next event waits for ever.
        folder = self._path.parent / "tensorboard"
        begun = folder.exists()
        folder.mkdir(exist_ok=True)
        events = EventsWriter(str(folder / "events"), f".{os.getpid()}.{self._upto}")
        if begun:
            start = SessionLog(status=SessionLog.START)
            events.write_event(Event(wall_time=time.time(), step=self._upto + 1, session_log=start))
        else:
            for row in self._rows[:-1]:
                self._add(events, row)
        return events

    @staticmethod
    def _add(events: EventsWriter, row: Mapping[str, Any]) -> None:
        for name, text in row.items():
            value = float(text or "nan") if isinstance(text, str) else text
            if name != "step" and np.isfinite(value):
                summary = scalar(name, value)
                events.write_event(Event(wall_time=time.time(), step=int(row["step"]), summary=summary))

    def column(self, name: str) -> list[float]:
        """A metric of all rows that have it, those of before a resumption too."""
        return [float(row[name]) for row in self._rows if row.get(name)]

    def close(self) -> None:
        """Ends the file of events, where one was begun."""
        if self._events is not None:
            self._events.close()


class NegativesLog:
    """Snapshots of an objective's negatives, one a log row, for `evaluate` to look at."""

    def __init__(self, path: Path, upto: int):
        """Args: path: the file; upto: the step from which the run goes on."""
        self._path = path
        self._records: dict[str, list[Any]] = {"steps": [], "positions": [], "energies": []}
        if path.exists() and upto:
            try:
                with open_npz(path) as file:
                    keep = file["steps"] <= upto
                    self._records = {name: list(file[name][keep]) for name in self._records}
            except ValueError as error:
                LOG.warning("%s; snapshots of the negatives begin anew", error)

    def add(self, step: int, samples: Any) -> None:
        """Keeps positions [R, N, 3] and energies [R] of whichever part of the samples are negatives."""
        for part in jax.tree.leaves(samples, is_leaf=lambda part: isinstance(part, Negatives)):
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
