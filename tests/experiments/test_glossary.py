"""Every metric of the package's records is explained, or explains itself."""

import json
from pathlib import Path

from experiments.glossary import MEANINGS, glossary, meaning

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
PLAIN = {"sampler", "chain_length_steps", "chain_length_ps", "temperature_k", "evaluation_seed", "objective"}
PLAIN |= {"dataset", "seed"}


def test_every_metric_of_the_records_is_explained():
    names = set()
    for path in RESULTS.glob("*/*.json"):
        names |= set(json.loads(path.read_text()).get("metrics", {}))
    names = {name for name in names if not name.endswith("_stderr") and not name.startswith("run_")}
    assert len(names) > 50
    assert {name for name in names if not meaning(name)} == PLAIN


def test_patterns():
    found = glossary(["spurious_fraction", "dihedral_free_energy_rmse_mev_H-O-C-C", "rdf_mae_O-O", "seed"])
    assert list(found) == ["spurious_fraction", "dihedral_free_energy_rmse_mev*", "rdf_mae_*"]
    assert meaning("stable_time_ps_median") != meaning("stable_time_steps_mean") != ""
    assert meaning("xspurious_fraction") == meaning("") == ""
    assert all(text == meaning(name) for name, text in MEANINGS.items())  # none hides another
