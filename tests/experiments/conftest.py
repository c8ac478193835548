"""Fixtures of the data tests."""

from __future__ import annotations

import pytest
from absl import logging


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that went to the log as warnings."""
    lines: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda form, *args: lines.append(form % args))
    return lines
