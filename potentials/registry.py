"""Names on the command line: look-ups whose error lists what is known."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`, or an error that names the nearest and all known entries.

    Args:
      table: name -> entry.
      name: what the user typed.
      what: kind of thing, for the message, such as "objective".

    Raises:
      ValueError: unknown name; one line.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1, cutoff=0.0)
    hint = f"nearest: '{near[0]}'; " if near else ""
    raise ValueError(f"unknown {what} '{name}'; {hint}known: {', '.join(sorted(table))}")
