"""The HTML report: verdicts, table, escaping, and that nothing is fetched from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments import report
from experiments.runs import Run

BROKEN = {
    "energy_mae_mev": 10.62,
    "energy_mae_mev_stderr": 0.21,
    "force_mae_mev_per_angstrom": 33.4,
    "spurious_fraction": 0.123,
    "spurious_fraction_stderr": 0.0101,
    "failed_fraction": 2 / 64,
    "energy_minimum_ev": -34.4,
    "spurious_threshold_ev": -0.9,
    "n_chains": 64,
    "chain_length_ps": 100.0,
    "integrator": "baoab",
}
SAFE = BROKEN | {
    "spurious_fraction": 0.0,
    "spurious_fraction_stderr": 0.0,
    "failed_fraction": 0.0,
    "energy_minimum_ev": -0.62,
    "ks_energy": 0.055,
}


def _run(label: str, metrics: dict, seed: int = 0) -> Run:
    rng = np.random.default_rng(seed)
    curves = {"chain_time_ps": np.linspace(0, 100, 50), "chain_energy": 0.14 * rng.standard_normal((8, 50))}
    curves |= {"hr_centers": np.linspace(0.8, 5, 40)}
    for key in ("reference", "model"):
        curves |= {f"hr_{key}": rng.random(40), f"hr_{key}_stderr": np.full(40, 0.05)}
    return Run(label, dict(metrics), curves, {})


class _Page(HTMLParser):
    """Elements with their attributes, text by section, table rows; fails on badly nested elements."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == name)


def _write(path: Path, runs: list[Run], **options) -> _Page:
    given = {"title": "Ethanol", "config": "seed: 0", "versions": {}, "notes": [], "summary": []} | options
    assert report.write_report(runs, path, **given) == path
    return _Page(path)


@pytest.fixture
def runs() -> list[Run]:
    return [_run("MSE", BROKEN), _run("CRMSE", SAFE, seed=1)]


def test_page_holds_everything_in_order(runs, tmp_path):
    page = _write(
        tmp_path / "new" / "report.html",
        runs,
        title="Ethanol at 500 K",
        summary=["What was asked."],
        notes=["A note on the reference."],
        config="objective: crmse\nsteps: 600",
        versions={"commit": "abc123", "device": "cpu", "jax": "0.10.2"},
    )
    expected = (
        "Ethanol at 500 K", "Summary", "NOT safe to sample", "no spurious frame", "What was asked.",
        "Figures", "Distribution of interatomic distances", "Energy along the evaluation",
        "Metrics", "energy_mae_mev", "What the metrics are", "share of the chains' frames below",
        "Notes", "A note on the reference.", "Configuration",
        "objective: crmse\nsteps: 600", "Versions", "abc123",
    )  # fmt: skip
    body = page.text[page.text.index("Ethanol at 500 K", page.text.index("figcaption")) :]
    places = [body.index(text) for text in expected]
    assert places == sorted(places)
    assert page.row("jax") == ["jax", "0.10.2"]


def test_page_is_self_contained_and_has_no_scripts(runs, tmp_path):
    page = _write(tmp_path / "report.html", runs, notes=["see http://example.org"])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources = [a[key] for _, a in page.elements for key in ("src", "href", "srcset", "action") if key in a]
    assert len(sources) == 2 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "base"}
    assert not re.search(r"url\(|@import|\son\w+=", text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_page_fits_phones(runs, tmp_path):
    page = _write(tmp_path / "report.html", runs, versions={"jax": "0"})
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.elements
    style = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"img \{ max-width: 100%", style) and re.search(r"\.table \{ overflow-x: auto", style)
    tags = [(tag, attributes.get("class")) for tag, attributes in page.elements]
    tables = [i for i, (tag, _) in enumerate(tags) if tag == "table"]
    assert len(tables) == 2 and all(tags[i - 1] == ("div", "table") for i in tables)


def test_everything_is_escaped(tmp_path):
    bad = "<script>alert('x')</script>&\""
    metrics = SAFE | {bad: 1.0, "integrator": bad}
    _write(
        tmp_path / "report.html",
        [_run(bad, metrics)],
        title=bad,
        config=bad,
        versions={bad: bad},
        notes=[bad],
        summary=[bad],
    )
    page = _Page(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "alert('x')" not in text
    assert page.text.count(bad) == 2 + 3 + 2 + 3 + 2  # title, lines, versions, labels, metrics


def test_table_puts_runs_side_by_side_with_units_and_kcal(runs, tmp_path):
    page = _write(tmp_path / "report.html", runs)
    assert page.row("MSE") == ["MSE", "CRMSE", "MSE", "CRMSE"]
    # 10.62 meV * 23.0605 cal/mol/meV = 0.2449 kcal/mol, the error 0.21 meV = 0.0048 kcal/mol.
    energy = ["energy_mae_mev", "meV", *["10.62 ± 0.21"] * 2, *["0.2449 ± 0.0048"] * 2]
    assert page.row("energy_mae_mev") == energy
    assert page.row("force_mae_mev_per_angstrom")[1:] == ["meV/Å", "33.4", "33.4", "0.7702", "0.7702"]
    assert page.row("energy_minimum_ev")[4:] == ["-793.3", "-14.3"]
    assert page.row("ks_energy") == ["ks_energy", "", "-", "0.055", "", ""]
    assert page.row("n_chains")[2:4] == ["64", "64"]
    assert page.row("integrator")[2:4] == ["baoab", "baoab"]
    assert not any(row and row[0].endswith("_stderr") for row in page.rows)


def test_the_table_leaves_provenance_to_its_own_section(tmp_path):
    run = _run("a", {"ks_energy": 0.1, "run_jax": "0.10.2"})
    page = _write(tmp_path / "report.html", [run], versions={"jax": "0.10.2"})
    assert page.text.count("0.10.2") == 1 and "run_jax" not in page.text


def test_table_without_energies_has_no_kcal_columns(tmp_path):
    page = _write(tmp_path / "report.html", [_run("a", {"ks_energy": 0.1})])
    assert page.row("ks_energy") == ["ks_energy", "", "0.1"]
    assert "kcal" not in page.text


def test_a_missing_group_leaves_its_figure_out(runs, tmp_path):
    bare = [run._replace(curves={k: v for k, v in run.curves.items() if k[:2] != "hr"}) for run in runs]
    page = _write(tmp_path / "report.html", bare)
    assert [a["alt"] for tag, a in page.elements if tag == "img"] == ["chain energies"]
    page = _write(tmp_path / "report.html", [runs[0]._replace(curves={})])
    assert not [tag for tag, _ in page.elements if tag == "img"] and "no curves" in page.text


def test_every_figure_has_a_caption(runs):
    from experiments import figures

    for name in report.CAPTIONS:
        assert callable(getattr(figures, name))
    assert report.PANEL_CAPTIONS.keys() <= report.CAPTIONS.keys()


def test_the_caption_speaks_of_the_panels_that_are_there(tmp_path):
    rmsd = {"negatives_rmsd": np.full(5, 0.1), "reference_rmsd": np.full(5, 0.1)}
    energy = {"negatives_energy_network": np.zeros(5), "negatives_energy_true": np.zeros(5)}
    for curves, energies, distances in ((rmsd, 0, 1), (energy, 1, 0), (rmsd | energy, 1, 1)):
        page = _write(tmp_path / "report.html", [Run("a", {}, curves, {})])
        assert page.text.count("diagonal") == energies
        assert page.text.count("nearest training frame") == distances


def test_a_failed_write_leaves_the_old_report(runs, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        _write(path, runs)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_no_runs_or_one_label_twice_is_an_error(runs, tmp_path):
    for wrong in ([], [runs[0], runs[0]]):
        with pytest.raises(ValueError, match="label"):
            _write(tmp_path / "report.html", wrong)
    assert not list(tmp_path.iterdir())


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = (375, 1280)  # a phone, a desktop


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_in_a_browser_nothing_overflows_and_every_figure_is_seen(tmp_path):
    """At each width the page needs no sideways scrolling, and its figures are loaded and not cut."""
    runs = [_run("MSE " + "long " * 20, BROKEN), _run("CRMSE", SAFE, 1)]
    path = report.write_report(
        runs,
        tmp_path / "r.html",
        title="A title",
        config="x: " + "y" * 300,
        versions={},
        notes=["n"],
        summary=[],
    )
    page = escape(path.read_text(encoding="utf-8"))
    frames = (
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe>' for width in WIDTHS
    )
    (tmp_path / "frames.html").write_text(
        f"""<!doctype html><meta charset="utf-8">{"".join(frames)}<pre id="found"></pre><script>
        addEventListener("load", () => {{
          const frames = [...document.querySelectorAll("iframe")];
          document.getElementById("found").textContent = JSON.stringify(frames.map(
            (frame) => {{
              const page = frame.contentDocument;
              return {{ width: frame.clientWidth, needed: page.documentElement.scrollWidth,
                headings: [...page.querySelectorAll("h2")].map((h) => h.textContent),
                images: [...page.images].map((i) => [i.naturalWidth, i.clientWidth]) }};
            }}))
        }})</script>""",
        encoding="utf-8",
    )
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --user-data-dir={tmp_path / 'profile'} "
        "--virtual-time-budget=10000 --dump-dom"
    )
    done = subprocess.run(
        [CHROMIUM, *flags.split(), f"file://{tmp_path / 'frames.html'}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = json.loads(unescape(re.search(r'id="found">([^<]+)<', done.stdout)[1]))
    assert [frame["width"] for frame in found] == list(WIDTHS)
    for frame in found:
        assert frame["needed"] <= frame["width"]
        assert frame["headings"][:3] == ["Summary", "Figures", "Metrics"]
        assert len(frame["images"]) == 2
        assert all(0 < shown <= frame["width"] and natural > 0 for natural, shown in frame["images"])
