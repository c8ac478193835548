"""One self-contained HTML page that compares evaluated runs: verdict, metrics, figures, settings.

No scripts, no network, figures inside the page: it can be mailed, archived or opened from a bucket.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from experiments.figures import figures, png
from experiments.glossary import glossary
from experiments.runs import Run, has_group, unit
from experiments.verdicts import format_value, metric, verdict
from potentials.units import KCAL_PER_MOL

CAPTIONS = {
    "energy_distributions": "Potential energy of the sampled frames against the reference, linear and "
    "logarithmic. Weight far to the left is spurious minima. Bands are ±1 standard error.",
    "interatomic_distances": "Distribution of interatomic distances h(r), and each run's difference from the "
    "reference. Bands are ±1 standard error; in the lower panel, of model and reference combined.",
    "radial_distributions": "Radial distribution functions by elements, between molecules where there is "
    "more than one. Bands are ±1 standard error.",
    "dihedral_free_energies": "Free energy along each dihedral; gaps are angles that no frame visited. "
    "Bands are ±1 standard error.",
    "chain_energies": "Energy along the evaluation chains, one panel per run on the same axis. The line is "
    "the median and the band 5–95 % of the chains still running (a spread, not a standard error); thin lines "
    "are the single chains that fall below the spurious threshold (dashed).",
    "spurious_configurations": "Where the chains fell: of each of the lowest chains the lowest frame, with "
    "the network's energy relative to the reference mean, after a test frame. Discs are atoms (grey: carbon, "
    "white: hydrogen, red: oxygen, blue: nitrogen), lines distances as short as a bond's; all at one scale.",
    "survival": "Share of evaluation chains whose bonds are still within the limit (Kaplan-Meier), with "
    "pointwise 95 % confidence bands (exact binomial ones before the first break and after the last); ticks "
    "are chains that were stable to the end of their simulation.",
    "velocity_autocorrelation": "Velocity autocorrelation of the chains whose bonds stayed within the limit, "
    "relative to its value at lag 0. Bands are ±1 standard error over chains.",
    "phases": "StABlE training, window by window: in simulation phases the share of replicas that "
    "have broken and wait; in learning phases (shaded), where an update follows each window, of those that "
    "broke in it.",
    "training_curves": "Training log, one panel per logged quantity; the loss only where the runs share "
    "their objective. A run that started from another of these goes on where that one's steps end (vertical "
    "line). Bands, where the log has errors, are ±1 standard error.",
    "negatives": "Negative samples.",
}
PANEL_CAPTIONS = {
    "negatives": {
        "negatives_energy": "Energies: the network's against the reference engine's at the same geometry; "
        "below the dashed diagonal the network is too low.",
        "rmsd": "RMSD: distance to the nearest training frame, of the negatives and, as reference, of "
        "held-out frames; bands are ±1 standard error, counting the samples as independent.",
    }
}
"""What follows a figure's caption for each group of curves that the runs have."""
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto;
       padding: 1rem; max-width: 80rem; overflow-wrap: break-word; }
h1 { line-height: 1.2; } h2 { margin-top: 2rem; border-bottom: 1px solid #ccc; }
ul.verdict { list-style: none; padding: 0; }
ul.verdict li { padding: .5rem .8rem; margin: .4rem 0; border-left: .4rem solid; background: #f4f4f4; }
ul.verdict li.good { border-color: #009e73; } ul.verdict li.bad { border-color: #d55e00; }
ul.verdict li.caution { border-color: #e69f00; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
td.number { text-align: right; } thead th { border-bottom: 2px solid #888; }
.figures { display: grid; gap: 1.5rem;
           grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; min-width: 0; } img { max-width: 100%; height: auto; display: block; }
dl { font-size: .9rem; } dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; color: #444; }
figcaption { font-size: .9rem; color: #444; }
pre { overflow-x: auto; background: #f4f4f4; padding: .8rem; font-size: .85rem; }
@media (max-width: 40rem) {
  th, td { padding: .25rem .4rem; font-size: .8rem; } tbody th { white-space: normal; }
}
"""


def _kcal_scale(name: str) -> float | None:
    """Factor from a metric's own unit to kcal/mol (kcal/mol/Å, ...), None where it is not an energy."""
    own = unit(name)
    return {"meV": 1e-3 / KCAL_PER_MOL, "eV": 1 / KCAL_PER_MOL}.get(own.partition("/")[0])


def _cell(run: Run, name: str, scale: float = 1.0) -> str:
    text = format_value(run.metrics.get(name), metric(run, f"{name}_stderr"), scale)
    return f'<td class="number">{escape(text)}</td>'


def _metrics_table(runs: Sequence[Run]) -> str:
    """Runs side by side in the metrics' own units, then once more in kcal/mol for those that are energies;
    without the provenance, `run_*`, which has a section of its own."""
    seen = dict.fromkeys(name for run in runs for name in run.metrics if not name.startswith("run_"))
    names = [name for name in seen if not (name.endswith("_stderr") and name.removesuffix("_stderr") in seen)]
    energies = any(_kcal_scale(name) for name in names)
    labels = "".join(f"<th>{escape(run.label)}</th>" for run in runs)
    head = "<tr><th rowspan=2>Metric</th><th rowspan=2>Unit</th>"
    head += f"<th colspan={len(runs)}>Value ± standard error</th>"
    head += f"<th colspan={len(runs)}>in kcal/mol (forces: kcal/mol/Å)</th>" if energies else ""
    head += f"</tr><tr>{labels}{labels if energies else ''}</tr>"
    rows = []
    for name in names:
        scale = _kcal_scale(name)
        cells = "".join(_cell(run, name) for run in runs)
        if energies:
            cells += "".join(_cell(run, name, scale) for run in runs) if scale else "<td></td>" * len(runs)
        shown = escape(name).replace("_", "_<wbr>")  # long names may break there on a phone
        rows.append(f"<tr><th>{shown}</th><td>{escape(unit(name))}</td>{cells}</tr>")
    return f'<div class="table"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _glossary(runs: Sequence[Run]) -> str:
    found = glossary(dict.fromkeys(name for run in runs for name in run.metrics))
    items = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in found.items())
    return f"<dl>{''.join(items)}</dl>" if found else ""


def _summary(runs: Sequence[Run], lines: Sequence[str]) -> str:
    items = []
    for run in runs:
        kind, text = verdict(run)
        items.append(f'<li class="{kind}"><strong>{escape(run.label)}</strong>: {escape(text)}</li>')
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<ul class="verdict">{"".join(items)}</ul>{paragraphs}'


def _caption(name: str, runs: Sequence[Run]) -> str:
    panels = PANEL_CAPTIONS.get(name, {}).items()
    present = (text for group, text in panels if any(has_group(run, group) for run in runs))
    return " ".join([CAPTIONS[name], *present])


def _figures(runs: Sequence[Run]) -> str:
    parts = []
    for name, figure in figures(runs).items():
        data = base64.b64encode(png(figure)).decode("ascii")
        parts.append(
            f'<figure><img alt="{escape(name.replace("_", " "))}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(_caption(name, runs))}</figcaption></figure>"
        )
    return f'<div class="figures">{"".join(parts)}</div>' if parts else "<p>The runs hold no curves.</p>"


def _versions(versions: Mapping[str, object]) -> str:
    items = ((escape(name), escape(str(value))) for name, value in versions.items())
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in items)
    return f'<div class="table"><table><tbody>{rows}</tbody></table></div>'


def write_report(
    runs: Sequence[Run],
    path: str | Path,
    *,
    title: str,
    config: str,
    versions: Mapping[str, object],
    notes: Sequence[str],
    summary: Sequence[str],
) -> Path:
    """Writes the page, whole or not at all, and returns its path.

    Args:
      runs: what to compare, in the order of the columns.
      path: the HTML file; its folder is made where it is missing.
      title: heading of the page.
      config: the configuration as text.
      versions: commit, device, package versions and the like, by name.
      notes: one paragraph each, after the figures.
      summary: one paragraph each, after the automatic verdicts.

    Raises:
      ValueError: no run, two with one label, or an incomplete group of curves.
    """
    sections = {
        "Summary": _summary(runs, summary),
        "Figures": _figures(runs),
        "Metrics": _metrics_table(runs),
        "What the metrics are": _glossary(runs),
        "Notes": "".join(f"<p>{escape(note)}</p>" for note in notes),
        "Configuration": f"<pre>{escape(config)}</pre>",
        "Versions and environment": _versions(versions),
    }
    body = "".join(f"<section><h2>{name}</h2>{html}</section>\n" for name, html in sections.items() if html)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><h1>{escape(title)}</h1>
{body}</body></html>
"""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(temporary, 0o644)  # mkstemp makes it readable by its owner only
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
