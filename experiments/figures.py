"""Figures that compare evaluated runs with the reference and with each other.

Every function takes labelled runs and returns a matplotlib `Figure`. The reference is black with a
grey band; a run keeps its Okabe-Ito colour (Okabe & Ito 2008) through all figures. Shaded bands are
±1 standard error, except in `chain_energies`, where they hold 5-95 % of the chains, and in `survival`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.chain_figures import chain_energies, negatives, velocity_autocorrelation
from experiments.configuration_figures import spurious_configurations
from experiments.figure_style import (
    REFERENCE,
    Style,
    draw_average,
    draw_histogram,
    handle,
    legend,
    panels_of,
    plain_text,
    styled,
)
from experiments.runs import GROUPS, Array, Run, has_group, named_groups
from experiments.stability_figures import has_broken, has_phases, phases, survival
from experiments.training_figures import logged_quantities, training_curves
from potentials.units import KCAL_PER_MOL

MAX_BYTES = 300_000  # of one PNG: a report with six figures stays small enough to send by mail
_ANGLES = (-180, -120, -60, 0, 60, 120, 180)


def energy_distributions(runs: Sequence[Run]) -> Figure:
    """Potential-energy densities, linear and logarithmic: the latter shows rare spurious minima."""
    chosen = styled(runs, "energy")
    figure, axes = panels_of(2, 2, 3.5)
    first = chosen[0][0].curves
    entries = [(first, "energy_reference", REFERENCE)]
    entries += [(run.curves, "energy_model", style) for run, style in chosen]
    for axis, scale in zip(axes, ("linear", "log"), strict=True):
        for data, key, style in entries:
            draw_histogram(axis, data["energy_edges"], data[key], data[f"{key}_stderr"], style)
        axis.set(xlabel="Energy − reference mean (eV)", ylabel="Probability density (1/eV)", yscale=scale)
        axis.secondary_xaxis("top", functions=(_to_kcal, _to_ev)).set_xlabel("kcal/mol")
    positive = np.concatenate([data[key] for data, key, _ in entries])
    positive = positive[positive > 0]
    axes[0].set_ylim(bottom=0)
    if positive.size:
        axes[1].set_ylim(max(positive.min() / 2, 1e-6 * positive.max()), 3 * positive.max())
    handles = [handle("Reference", REFERENCE)]
    for run, style in chosen:
        outside = 1 - float(np.sum(run.curves["energy_model"] * np.diff(run.curves["energy_edges"])))
        note = f" ({100 * outside:.2g} % off the axis)" if outside > 5e-4 else ""
        handles.append(handle(run.label + note, style))
    legend(figure, handles)
    return figure


def _to_kcal(energy: Array) -> Array:
    return energy / KCAL_PER_MOL


def _to_ev(energy: Array) -> Array:
    return energy * KCAL_PER_MOL


def interatomic_distances(runs: Sequence[Run]) -> Figure:
    """Density h(r) of interatomic distances, and under it each run's difference from the reference."""
    chosen = styled(runs, "hr")
    figure, (top, bottom) = panels_of(2, 1, 2.3, sharex=True)
    first = chosen[0][0].curves
    draw_average(top, first["hr_centers"], first["hr_reference"], first["hr_reference_stderr"], REFERENCE)
    bottom.axhline(0, color="black", linewidth=1.2)
    for run, style in chosen:
        data = run.curves
        draw_average(top, data["hr_centers"], data["hr_model"], data["hr_model_stderr"], style)
        error = np.hypot(data["hr_model_stderr"], data["hr_reference_stderr"])
        draw_average(bottom, data["hr_centers"], data["hr_model"] - data["hr_reference"], error, style)
    top.set(ylabel="h(r) (1/Å)")
    bottom.set(xlabel="Interatomic distance r (Å)", ylabel="Model − reference (1/Å)")
    bottom.set_xlim(*_occupied(chosen))
    legend(figure, [handle("Reference", REFERENCE), *(handle(run.label, style) for run, style in chosen)])
    return figure


def _occupied(chosen: Sequence[tuple[Run, Style]]) -> tuple[float, float]:
    """Where there are distances, Å, with a margin."""
    spans = []
    for run, _ in chosen:
        for name in ("hr_reference", "hr_model"):
            h = run.curves[name]
            spans.extend(run.curves["hr_centers"][h > 1e-4 * h.max()])
    return min(spans, default=0.0) - 0.2, max(spans, default=1.0) + 0.2


def dihedral_free_energies(runs: Sequence[Run]) -> Figure:
    """Free-energy profiles F(φ) = −k_B T ln p(φ), one panel per dihedral, in kcal/mol over degrees."""
    figure, axes = _named_profiles(runs, "dihedral", float(np.degrees(1.0)), 1 / KCAL_PER_MOL)
    for axis in axes:
        axis.set(xlabel="Dihedral φ (degrees)", ylabel="F(φ) (kcal/mol)", xlim=(-180, 180))
        axis.set_xticks(_ANGLES)
    return figure


def radial_distributions(runs: Sequence[Run]) -> Figure:
    """g(r) of a box, one panel per pair of elements."""
    figure, axes = _named_profiles(runs, "rdf", 1.0, 1.0)
    for axis in axes:
        axis.set(xlabel="Distance r (Å)", ylabel="g(r)")
    return figure


def _named_profiles(
    runs: Sequence[Run], kind: str, x_scale: float, y_scale: float
) -> tuple[Figure, Sequence[Axes]]:
    """One panel per name of the groups of a kind, with the reference and each run that has it."""
    panels: dict[str, list[tuple[str, Run, Style]]] = {}
    for run, style in styled(runs):
        for group, name in named_groups(run, kind).items():
            if has_group(run, group):
                panels.setdefault(name, []).append((group, run, style))
    figure, axes = panels_of(len(panels), 2, 2.9)
    shown: dict[str, Style] = {}
    for axis, (name, entries) in zip(axes, panels.items(), strict=True):
        profiles = [(*entries[0][:2], "reference", REFERENCE)]
        profiles += [(group, run, "model", style) for group, run, style in entries]
        for group, run, which, style in profiles:
            keys = (f"{group}_centers", f"{group}_{which}", f"{group}_{which}_stderr")
            centers, profile, stderr = (run.curves[key] for key in keys)
            draw_average(axis, x_scale * centers, y_scale * profile, y_scale * stderr, style)
        shown.update({run.label: style for _, run, style in entries})
        axis.set_title(plain_text(name))
    legend(figure, [handle("Reference", REFERENCE), *(handle(*item) for item in shown.items())])
    return figure, axes


def figures(runs: Sequence[Run]) -> dict[str, Figure]:
    """All figures that the runs have data for, by name.

    Raises:
      ValueError: no run, two with one label, or an incomplete group of curves.
    """
    labels = [run.label for run in runs]
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"runs: expected at least one, each with a label of its own, got {labels}")
    present = {group for group in GROUPS if styled(runs, group)}
    dihedral, rdf = (
        any(has_group(run, group) for run in runs for group in named_groups(run, kind))
        for kind in ("dihedral", "rdf")
    )
    available = (
        "energy" in present,
        "hr" in present,
        rdf,
        dihedral,
        "chain" in present,
        "spurious" in present,
        "stable" in present and any(has_broken(run) for run in runs),
        "vacf" in present,
        any(has_phases(run) for run in runs),
        bool(logged_quantities(runs)),
        not present.isdisjoint({"negatives_energy", "rmsd"}),
    )
    return {draw.__name__: draw(runs) for draw, wanted in zip(_FIGURES, available, strict=True) if wanted}


_FIGURES: tuple[Callable[[Sequence[Run]], Figure], ...] = (
    energy_distributions,
    interatomic_distances,
    radial_distributions,
    dihedral_free_energies,
    chain_energies,
    spurious_configurations,
    survival,
    velocity_autocorrelation,
    phases,
    training_curves,
    negatives,
)


def png(figure: Figure) -> bytes:
    """The figure as PNG at 150 dpi, or at the next lower resolution that keeps it within `MAX_BYTES`."""
    for dpi in (150, 120, 100, 75):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": "boltzfit"})
        if buffer.tell() < MAX_BYTES:
            break
    return buffer.getvalue()


def save(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Writes `<name>.png` for each figure and returns the paths; those of an earlier time that the runs no
    longer have data for go."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for draw in _FIGURES:
        if draw.__name__ not in figures:
            (folder / f"{draw.__name__}.png").unlink(missing_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        path.write_bytes(png(figure))
    return paths
