"""What a training run leaves beside its checkpoints: a table of metrics, and its negatives."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from objectives import Negatives


class TrainingLog:
    """Rows of a CSV; a resumed run drops those after its checkpoint."""

    def __init__(self, path: Path, upto: int):
        """Args: path: the file; upto: the step from which the run goes on."""
        self._path = path
        self._rows: list[dict[str, Any]] = []
        if path.exists() and upto:
            with path.open(newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= upto]

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row; the file is replaced whole."""
        self._rows.append(row)
        partial = self._path.with_name(f".{self._path.name}.partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self._path)


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
