"""What a training run says of itself in words: a line of progress, and what is doubtful at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

from experiments.validation import FORCE_ERROR

LATE_RISE = 1.25
"""Of the validation force MAE over its lowest in a post-training, at whose end more is worth a word."""
OFF_TEMPERATURE = 0.1
"""Share by which the negatives' kinetic temperature may be off before that is worth one."""
BY_CHANCE = 0.05
"""Share of the chains that a sound liquid may have below the frames that its energies are held against."""


def progress_line(row: Mapping[str, float], n_updates: int) -> str:
    """One row of the training log: step, loss, validation force MAE, seconds an update, what is left."""
    step, seconds = int(row["step"]), row["seconds"]
    left = timedelta(seconds=round(seconds * (n_updates - step)))
    parts = [
        f"update {step}/{n_updates}",
        f"loss {row['loss']:.4g}",
        f"force MAE {row.get(FORCE_ERROR, math.nan):.4g} meV/Å",
        f"{seconds:.3g} s each, {left} left",
    ]
    if (share := row.get("chain_fallen_fraction")) is not None:
        parts.insert(-1, f"{100 * share:.2g} % of chains in holes")
    if (temperature := row.get("chain_temperature_k")) is not None:
        parts.insert(-1, f"chains at {temperature:.3g} K")
    return "  ".join(parts)


def closing_remarks(
    row: Mapping[str, float], lowest: float, log_every: int, temperature: float, *, box: bool = False
) -> list[str]:
    """What a user should know of the last row of a training log.

    Args:
      row: the last one.
      lowest: validation force MAE of a post-training, before it and in all of its rows, meV/Å; infinity where
        there is nothing to compare with.
      log_every: updates a row.
      temperature: at which the chains of negatives ought to be, K.
      box: a liquid or a crystal, whose energies spread so wide that few chains in holes may be none.
    """
    remarks = []
    if (last := row.get(FORCE_ERROR, 0.0)) > LATE_RISE * lowest:
        remarks.append(
            f"the validation force MAE ended at {last:.4g} meV/Å and was {lowest:.4g} meV/Å before: the fit "
            "was disturbed, by holes that chains met where the rate was low already, or by too large a "
            "weight; expected more updates (post_training.n_updates), or the run before this"
        )
    if (share := row.get("chain_fallen_fraction", 0.0)) > (BY_CHANCE if box else 0.0):
        remarks.append(
            f"{100 * share:.2g} % of the chains lay in holes during the last {log_every} updates, the lowest "
            f"at {row['chain_energy_min_ev']:.3g} eV from the training mean: some are not filled yet; post-"
            "train again, with this run as init_from, and compare the reports"
        )
    hot = row.get("chain_temperature_k", temperature)
    if abs(hot - temperature) > OFF_TEMPERATURE * temperature:
        cause = (
            "the potential may change under them faster than friction takes the heat away, or the step is "
            "too long; expected a lower rate, a smaller weight, a shorter baoab.timestep, or more "
            "baoab.friction, which is that of judging chains too"
            if hot > temperature
            else "the step may be too long for the stiffest bonds; expected a shorter baoab.timestep"
        )
        remarks.append(
            f"the chains of negatives were at {hot:.4g} K during the last {log_every} updates, not at "
            f"{temperature:g} K: {cause}"
        )
    return remarks
