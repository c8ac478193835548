"""Figures of the samples themselves: energies and velocities along the evaluation chains, and negatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.figure_style import (
    REFERENCE,
    draw_average,
    draw_histogram,
    handle,
    legend,
    log_axis,
    panels_of,
    plain_text,
    styled,
)
from experiments.runs import GROUPS, Run, time_label
from experiments.verdicts import metric


def chain_energies(runs: Sequence[Run]) -> Figure:
    """Energies along the evaluation chains, one panel per run with a shared axis: median, 5-95 % band
    over the chains still running, and each chain that falls below the spurious threshold."""
    chosen = styled(runs, "chain")
    thresholds = [threshold for run, _ in chosen for threshold in _threshold(run)]
    low, high = _chain_limits([run for run, _ in chosen], thresholds)
    figure, axes = panels_of(len(chosen), 2, 3.2, sharey=True)
    any_fallen = False
    for axis, (run, style) in zip(axes, chosen, strict=True):
        time, energy = run.curves["chain_time_ps"], run.curves["chain_energy"]
        finite = np.isfinite(energy)
        alive = finite.any(axis=0)
        lowest = np.where(finite, energy, np.inf).min(axis=1)  # [C]
        notes = []
        for threshold in _threshold(run):
            axis.axhline(threshold, color="black", linestyle="--", linewidth=1.2)
            for chain in energy[lowest < threshold]:
                axis.plot(time, chain, color="0.25", linewidth=0.5, alpha=0.6)
            drawn = int(np.sum(lowest < threshold))
            any_fallen |= drawn > 0
            fallen = max(drawn, int(metric(run, "spurious_chains") or 0))  # of all frames, not those drawn
            some = f"\n({drawn} in the frames drawn)" if drawn < fallen else ""
            notes.append(f"{fallen} of {len(energy)} chains below the threshold{some}")
        if alive.any():
            shown = np.where(finite, energy, np.nan)[:, alive]
            low5, median, high95 = np.nanpercentile(shown, [5, 50, 95], axis=0)
            axis.fill_between(time[alive], low5, high95, color=style.band, alpha=0.3, linewidth=0)
            axis.plot(time[alive], median, color=style.colour, linewidth=1.6)
        if below := int(np.sum(lowest < low)):
            notes.append(f"{below} below this axis (lowest {lowest.min():.3g} eV)")
        if failed := int(np.sum(~finite[:, -1])):
            notes.append(f"{failed} failed before the end")
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
        axis.text(0.02, 0.02, "\n".join(notes), transform=axis.transAxes, fontsize=9, va="bottom", bbox=box)
        axis.set(title=plain_text(run.label), xlabel=plain_text(time_label(run)), ylim=(low, high))
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel("Energy − reference mean (eV)")
    handles = [
        Line2D([], [], color="0.3", linewidth=2, label="median of chains"),
        Patch(color="0.3", alpha=0.3, label="5–95 % of chains"),
    ]
    if any_fallen:
        handles.append(Line2D([], [], color="0.3", linewidth=0.7, label="spurious chain"))
    if thresholds:
        handles.append(Line2D([], [], color="black", linestyle="--", label="threshold"))
    legend(figure, handles)
    return figure


def _chain_limits(runs: Sequence[Run], thresholds: Sequence[float]) -> tuple[float, float]:
    """A shared energy range (eV) that a few runaway chains do not blow up, and that shows the thresholds."""
    values = [run.curves["chain_energy"][np.isfinite(run.curves["chain_energy"])] for run in runs]
    values = [v for v in values if v.size] or [np.array([-1.0, 1.0])]
    spread = min(float(np.ptp(np.percentile(v, [5, 95]))) for v in values)
    scale = max(map(abs, thresholds), default=0.0) or 3 * spread
    low = min(max(min(v.min() for v in values), -3 * scale), 1.25 * min(thresholds, default=0))
    high = max(min(max(v.max() for v in values), 3 * scale), 0.0)
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _threshold(run: Run) -> list[float]:
    """The energy (eV) below which a frame is spurious, as a list that is empty where it is unknown."""
    value = run.metrics.get("spurious_threshold_ev")
    return [float(value)] if isinstance(value, (int, float)) and np.isfinite(value) else []


def velocity_autocorrelation(runs: Sequence[Run]) -> Figure:
    """VACF of intact chains, relative to its value at 0, of the runs whose samplers have velocities."""
    chosen = styled(runs, "vacf")
    figure, (axis,) = panels_of(1, 1, 3.2)
    axis.axhline(0, color="black", linewidth=0.8)
    for run, style in chosen:
        lags, values, errors = (run.curves[key] for key in GROUPS["vacf"])
        draw_average(axis, lags, values, errors, style)
    axis.set(xlabel="Lag (fs)", ylabel="Velocity autocorrelation")
    axis.set_xlim(left=0)
    legend(figure, [handle(run.label, style) for run, style in chosen])
    return figure


def negatives(runs: Sequence[Run]) -> Figure:
    """Negative samples: the network's energy against the true one, and RMSD to the nearest training frame."""
    panels: list[Callable[[Axes, Sequence[Run]], None]] = [
        draw
        for group, draw in (("negatives_energy", _negative_energies), ("rmsd", _negative_rmsd))
        if styled(runs, group)
    ]
    figure, axes = panels_of(len(panels), 2, 3.4)
    for axis, draw in zip(axes, panels, strict=True):
        draw(axis, runs)
    shown = {run.label: style for group in ("negatives_energy", "rmsd") for run, style in styled(runs, group)}
    reference = [handle("Reference", REFERENCE)] if styled(runs, "rmsd") else []
    legend(figure, [*reference, *(handle(*item) for item in shown.items())])
    return figure


def _negative_energies(axis: Axes, runs: Sequence[Run]) -> None:
    chosen = styled(runs, "negatives_energy")
    seen = [np.zeros(1)]
    for run, style in chosen:
        network, true = run.curves["negatives_energy_network"], run.curves["negatives_energy_true"]
        axis.scatter(true, network, s=10, color=style.colour, alpha=0.5, linewidths=0)
        seen += [a[np.isfinite(network) & np.isfinite(true)] for a in (network, true)]
    values = np.concatenate(seen)
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    # Holes of the network and broken molecules span decades: linear within 1 eV, logarithmic beyond.
    scale = {"value": "symlog", "linthresh": 1.0} if high - low > 20 else {"value": "linear"}
    axis.set_xscale(**scale)
    axis.set_yscale(**scale)
    ends = [low - margin, high + margin]
    axis.plot(ends, ends, color="black", linestyle="--", linewidth=1)
    axis.set_title("Energies of negatives")
    axis.set(xlabel="True energy − reference mean (eV)", ylabel="Network energy − reference mean (eV)")


def _negative_rmsd(axis: Axes, runs: Sequence[Run]) -> None:
    chosen = styled(runs, "rmsd")
    reference = chosen[0][0].curves["reference_rmsd"]
    samples = [(reference, REFERENCE), *((run.curves["negatives_rmsd"], style) for run, style in chosen)]
    finite = [(values[np.isfinite(values)], style) for values, style in samples]
    top = max((float(values.max()) for values, _ in finite if values.size), default=1.0) or 1.0
    farthest = float(finite[0][0].max(initial=0.0))
    top = min(top, 5 * farthest or top)
    edges = np.linspace(0, top, 41)
    clipped = any((values > top).any() for values, _ in finite)
    width, seen = edges[1], []
    for values, style in finite:
        counts, _ = np.histogram(np.minimum(values, top), edges)
        total = max(len(values), 1)
        share = counts / total
        seen.extend(share[share > 0] / width)
        draw_histogram(axis, edges, share / width, np.sqrt(share * (1 - share) / total) / width, style)
    axis.set_title("RMSD" + (" (last bin: all beyond)" if clipped else ""))
    axis.set(xlabel="RMSD to nearest training frame (Å)", ylabel="Probability density (1/Å)", xlim=(0, top))
    if seen:
        axis.set_ylim(min(seen) / 2, 8 * max(seen))  # with room for the note
    log_axis(axis)
    beyond = (
        f"{run.label}: {(values > farthest).sum()} of {len(values)}"
        for (run, _), (values, _) in zip(chosen, finite[1:], strict=True)
    )
    note = plain_text("\n".join(["beyond every reference frame:", *beyond]))
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2}
    axis.text(0.98, 0.97, note, transform=axis.transAxes, fontsize=9, ha="right", va="top", bbox=box)
