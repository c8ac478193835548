"""Figures from synthetic runs: a safe one and one whose chains fall into a spurious minimum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from experiments import figures as figs
from experiments.figure_style import COLOURS
from experiments.runs import Run
from potentials.units import KCAL_PER_MOL
from tests.experiments.synthetic_runs import make_run

NAMES = (
    "energy_distributions",
    "interatomic_distances",
    "dihedral_free_energies",
    "chain_energies",
    "training_curves",
    "negatives",
)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [make_run("MSE", True), make_run("CRMSE", False)]


@pytest.fixture(scope="module")
def drawn(runs: list[Run]) -> dict[str, Figure]:
    return figs.figures(runs)


def _lines(axis) -> list:
    """Data lines of a panel, without rules that span it."""
    return [line for line in axis.get_lines() if len(line.get_xdata()) > 2]


def test_every_figure_is_drawn_with_labels_and_legible_text(drawn):
    assert tuple(drawn) == NAMES
    for name, figure in drawn.items():
        figure.canvas.draw()
        assert figure.legends, name
        for axis in figure.axes:
            shared_y = axis.get_shared_y_axes().get_siblings(axis)
            assert any(other.get_ylabel() for other in shared_y), name
            assert any(other.get_xlabel() for other in axis.get_shared_x_axes().get_siblings(axis)), name
        texts = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
        assert min(t.get_fontsize() for t in texts) >= 9, name


@pytest.mark.parametrize(
    ("name", "panels", "averages"),
    [
        ("energy_distributions", 2, 3),
        ("interatomic_distances", 1, 3),
        ("dihedral_free_energies", 2, 3),
        ("negatives", 0, 0),
    ],
)
def test_each_average_has_a_band(drawn, name, panels, averages):
    for axis in drawn[name].axes[:panels]:
        assert len(_lines(axis)) == averages
        assert len(axis.collections) == averages
    if name == "interatomic_distances":
        assert len(drawn[name].axes[1].collections) == 2  # model minus reference
    if name == "negatives":
        rmsd = drawn[name].axes[1]
        assert len(rmsd.get_lines()) == len(rmsd.collections) == 3


def test_band_is_one_standard_error(runs, drawn):
    data = runs[0].curves
    band = drawn["interatomic_distances"].axes[0].collections[1].get_paths()[0].vertices
    for i in (10, 60, 100):
        heights = band[np.isclose(band[:, 0], data["hr_centers"][i]), 1]
        expected = data["hr_model"][i] + np.array([-1, 1]) * data["hr_model_stderr"][i]
        np.testing.assert_allclose([heights.min(), heights.max()], expected, rtol=1e-6)


def test_difference_is_model_minus_reference_with_both_errors(runs, drawn):
    axis = drawn["interatomic_distances"].axes[1]
    data = runs[1].curves
    line, band = _lines(axis)[1], axis.collections[1].get_paths()[0].vertices
    np.testing.assert_allclose(line.get_ydata(), data["hr_model"] - data["hr_reference"])
    heights = band[np.isclose(band[:, 0], data["hr_centers"][60]), 1]
    both = np.sqrt(data["hr_model_stderr"][60] ** 2 + data["hr_reference_stderr"][60] ** 2)
    assert np.ptp(heights) == pytest.approx(2 * both)


def test_dihedrals_are_in_degrees_and_kcal_per_mol(runs, drawn):
    axis = drawn["dihedral_free_energies"].axes[1]
    model = _lines(axis)[1]
    np.testing.assert_allclose(model.get_xdata(), np.arange(-175, 180, 10))
    np.testing.assert_allclose(model.get_ydata(), runs[0].curves["dihedral_1_model"] * 23.060547830619026)
    assert np.isnan(model.get_ydata()[7:9]).all()
    assert axis.get_title() == "O-C-C-H"
    assert "kcal/mol" in axis.get_ylabel() and "degrees" in axis.get_xlabel()


def test_dihedrals_are_matched_by_name_not_by_place(runs):
    swapped = dict(runs[1].curves)
    swapped["dihedral_names"] = swapped["dihedral_names"][::-1]
    figure = figs.dihedral_free_energies([runs[0], runs[1]._replace(curves=swapped)])
    first = next(axis for axis in figure.axes if axis.get_title() == "H-O-C-C")
    expected = swapped["dihedral_1_model"] / KCAL_PER_MOL
    np.testing.assert_allclose(_lines(first)[2].get_ydata(), expected)


def test_runs_keep_their_colours_where_an_earlier_run_lacks_the_group(runs):
    bare = {k: v for k, v in runs[0].curves.items() if not k.startswith(("hr", "energy"))}
    drawn = figs.figures([runs[0]._replace(curves=bare), runs[1]])
    for name in ("energy_distributions", "interatomic_distances"):
        colours = {to_rgb(line.get_color()) for line in _lines(drawn[name].axes[0])}
        assert colours == {to_rgb("black"), to_rgb(COLOURS[1])}
        assert [t.get_text() for t in drawn[name].legends[0].get_texts()] == ["Reference", "CRMSE"]


def test_weight_off_the_energy_axis_is_stated(drawn):
    texts = [t.get_text() for t in drawn["energy_distributions"].legends[0].get_texts()]
    assert texts == ["Reference", "MSE (8 % off the axis)", "CRMSE"]


def test_chain_energies_side_by_side(runs, drawn):
    broken, safe = drawn["chain_energies"].axes
    assert broken.get_ylim() == safe.get_ylim()
    low, high = broken.get_ylim()
    assert -4 < low < -0.9 and 0.3 < high < 3  # not the -31 eV of the worst chain
    median = np.nanmedian(runs[0].curves["chain_energy"], axis=0)
    np.testing.assert_allclose(broken.get_lines()[-1].get_ydata(), median)
    # The threshold, eight falling chains, the median.
    assert len(broken.get_lines()) == 1 + 8 + 1 and len(safe.get_lines()) == 1 + 1
    assert set(broken.get_lines()[0].get_ydata()) == {-0.9}
    lowest = np.nanmin(runs[0].curves["chain_energy"])
    note = broken.texts[0].get_text()
    assert "8 of 64 chains below the threshold" in note and "2 failed" in note
    assert f"3 below this axis (lowest {lowest:.3g} eV)" in note
    assert safe.texts[0].get_text() == "0 of 64 chains below the threshold"
    # Chains that touch the threshold between the frames drawn count all the same.
    more = runs[0]._replace(metrics=runs[0].metrics | {"spurious_chains": 11})
    note = figs.chain_energies([more]).axes[0].texts[0].get_text()
    assert "11 of 64 chains below the threshold\n(8 in the frames drawn)" in note


def test_the_legend_of_chain_energies_names_what_is_drawn(runs, drawn):
    def names(figure: Figure) -> list[str]:
        return [text.get_text() for text in figure.legends[0].get_texts()][2:]

    assert names(drawn["chain_energies"]) == ["spurious chain", "threshold"]
    assert names(figs.chain_energies([runs[1]])) == ["threshold"]
    assert names(figs.chain_energies([runs[1]._replace(metrics={})])) == []


def test_chains_without_a_clock_are_drawn_over_steps(runs):
    steps = runs[1].curves | {
        "chain_time_ps": np.arange(0, 50_000, 100.0),
        "chain_time_label": np.array("steps (ULA)"),
    }
    clock, no_clock = figs.chain_energies([runs[0], runs[1]._replace(curves=steps)]).axes
    assert clock.get_xlabel() == "Time (ps)" and clock.get_xlim()[1] < 110
    assert no_clock.get_xlabel() == "steps (ULA)" and no_clock.get_xlim()[1] > 49_000


def test_chain_energies_survive_chains_that_all_fail(runs):
    data = {"chain_time_ps": np.arange(5.0), "chain_energy": np.full((3, 5), np.nan)}
    alone = Run("dead", {}, data, {})
    figure = figs.chain_energies([alone])
    assert "3 failed" in figure.axes[0].texts[0].get_text()
    assert figs.png(figs.chain_energies([runs[0], alone]))


def test_training_panels_skip_empty_cells_and_name_units(drawn):
    panels = {axis.get_ylabel(): axis for axis in drawn["training_curves"].axes}
    assert list(panels) == ["loss", "force MAE (meV/Å)", "energy MAE (meV)", "contrastive", "acceptance"]
    energy = panels["energy MAE (meV)"]
    assert [len(line.get_xdata()) for line in energy.get_lines()] == [40, 40]
    assert energy.get_yscale() == "log" and panels["contrastive"].get_yscale() == "linear"


def test_post_training_is_drawn_after_what_it_started_from():
    """Down a line of three runs, whatever their order; a run whose parent is not shown starts at 0."""
    folders = [Path(f"/runs/W{i}") for i in range(3)]
    log = {"step": np.array([10.0, 20.0, 30.0]), "ks": np.array([3.0, 2.0, 1.0])}
    family = [
        Run(folder.name, {}, {}, log, folder, parent)
        for folder, parent in zip(folders, (None, *folders), strict=False)
    ]
    (axis,) = figs.training_curves(family[::-1]).axes
    assert [line.get_xdata()[0] for line in _lines(axis)] == [70, 40, 10]
    rules = [line.get_xdata()[0] for line in axis.get_lines() if len(line.get_xdata()) == 2]
    assert rules == [60, 30]
    (axis,) = figs.training_curves([family[0], family[2]]).axes
    assert [line.get_xdata()[0] for line in axis.get_lines()] == [10, 10]


def test_only_comparable_training_quantities_are_drawn(runs):
    both = [
        run._replace(
            metrics=run.metrics | {"objective": objective},
            log=run.log | {"seconds": run.log["loss"], "chain_alive_fraction": run.log["loss"]},
        )
        for run, objective in zip(runs, ("mse", "crmse"), strict=True)
    ]
    panels = {axis.get_ylabel(): axis for axis in figs.training_curves(both).axes}
    assert not {"loss", "seconds"} & panels.keys()
    assert panels["acceptance"].get_yscale() == panels["chain alive\nfraction"].get_yscale() == "linear"
    alone = figs.training_curves(both[1:])
    assert "loss" in [axis.get_ylabel() for axis in alone.axes]
    only = runs[0]._replace(log={"step": np.arange(3.0), "seconds": np.ones(3)})
    assert "training_curves" not in figs.figures([only])


def test_many_training_panels_stand_in_three_columns(runs):
    for count, columns in ((6, 2), (7, 3)):
        log = {"step": np.arange(3.0)} | {f"q{i}": np.ones(3) for i in range(count)}
        figure = figs.training_curves([runs[0]._replace(log=log)])
        assert figure.axes[0].get_gridspec().ncols == columns


def test_training_log_errors_become_a_band():
    log = {"step": np.arange(4.0), "ks": np.full(4, 0.3), "ks_stderr": np.full(4, 0.1)}
    (axis,) = figs.training_curves([Run("a", {}, {}, log)]).axes
    heights = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.2, 0.4))


def test_negative_energies_have_the_diagonal_and_all_samples(drawn):
    axis = drawn["negatives"].axes[0]
    (diagonal,) = axis.get_lines()
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert [len(points.get_offsets()) for points in axis.collections] == [400, 400]
    assert axis.get_xscale() == axis.get_yscale() == "symlog"


def test_rmsd_histogram_is_a_density(drawn):
    for line in drawn["negatives"].axes[1].get_lines():
        edges, values = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert np.sum(np.diff(edges) * values[:-1]) == pytest.approx(1)


def test_the_few_negatives_far_from_the_data_are_seen_and_counted(runs):
    reference = np.linspace(0.05, 0.15, 100)
    far = np.append(np.full(997, 0.1), [0.16, 0.3, 5.0])
    curves = {"negatives_rmsd": far, "reference_rmsd": reference}
    near = {"negatives_rmsd": reference, "reference_rmsd": reference}
    (axis,) = figs.negatives([Run("far", {}, curves, {}), Run("near", {}, near, {})]).axes
    assert axis.texts[0].get_text().splitlines()[1:] == ["far: 3 of 1000", "near: 0 of 100"]
    line = axis.get_lines()[1].get_ydata()
    assert axis.get_yscale() == "log" and 0 < axis.get_ylim()[0] < line[line > 0].min()
    assert axis.get_ylim()[1] > line.max()


@pytest.mark.parametrize(
    ("prefix", "figure"),
    [
        ("energy_", "energy_distributions"),
        ("hr_", "interatomic_distances"),
        ("dihedral_", "dihedral_free_energies"),
        ("chain_", "chain_energies"),
    ],
)
def test_an_absent_group_leaves_only_its_figure_out(runs, prefix, figure):
    curves = {key: values for key, values in runs[0].curves.items() if not key.startswith(prefix)}
    assert set(NAMES) - set(figs.figures([runs[0]._replace(curves=curves)])) == {figure}


def test_negatives_without_true_energies(runs):
    curves = {k: v for k, v in runs[0].curves.items() if not k.startswith("negatives_energy")}
    (axis,) = figs.negatives([runs[0]._replace(curves=curves)]).axes
    assert "RMSD" in axis.get_xlabel()
    bare = {k: v for k, v in curves.items() if "rmsd" not in k}
    assert list(figs.figures([runs[0]._replace(curves=bare, log={})])) == list(NAMES[:4])


def test_awkward_labels_are_plain_text(runs):
    label = "_a$b^{c$ & <d>"
    drawn = figs.figures([runs[0]._replace(label=label)])
    for figure in drawn.values():
        assert figs.png(figure)
    texts = [t.get_text() for t in drawn["interatomic_distances"].legends[0].get_texts()]
    assert len(texts) == 2 and texts[1].endswith(r"_a\$b^{c\$ & <d>")


def test_many_runs_stay_distinguishable(runs):
    drawn = figs.interatomic_distances([runs[1]._replace(label=f"seed {i}") for i in range(8)])
    styles = {(line.get_color(), line.get_linestyle()) for line in _lines(drawn.axes[0])}
    assert len(styles) == 9


def test_saved_figures_are_small_pngs(drawn, tmp_path):
    paths = figs.save(drawn, tmp_path / "figures")
    assert [path.stem for path in paths] == list(NAMES)
    for path in paths:
        assert path.stat().st_size < figs.MAX_BYTES
        assert imread(path).shape[1] > 900  # pixels: 7.2 in at 150 dpi, less where that was too large


def test_png_lowers_its_resolution_rather_than_exceed_the_limit(drawn, monkeypatch):
    full = figs.png(drawn["chain_energies"])
    monkeypatch.setattr(figs, "MAX_BYTES", len(full))
    assert len(figs.png(drawn["chain_energies"])) < len(full)


def test_runs_need_labels_of_their_own(runs):
    with pytest.raises(ValueError, match="label"):
        figs.figures([runs[0], runs[0]])
    with pytest.raises(ValueError, match="at least one"):
        figs.figures([])
