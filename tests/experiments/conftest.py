"""Fixtures that several tests of the binaries share."""

from __future__ import annotations

from pathlib import Path

import pytest
from absl import logging

from experiments.training import TrainState
from tests.experiments.small_run import run, small


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that went to the log as warnings."""
    lines: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda form, *args: lines.append(form % args))
    return lines


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    """The workdir and the end of an energy and force training, not to be written to."""
    workdir = tmp_path_factory.mktemp("runs") / "mse"
    return workdir, run(small(), workdir)
