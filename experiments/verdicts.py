"""Verdicts: whether a run's sampler can be trusted, in words, and metrics written for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from scipy.stats import poisson

from experiments.runs import Run
from potentials.units import KCAL_PER_MOL

SPREAD_TOLERANCE = 0.2  # anharmonicity moves the energy spread of a bound molecule by less
RESOLUTION = 0.1  # a virial temperature less certain than this share of the stated one decides nothing


class Verdict(NamedTuple):
    """`kind` is good, caution (no chain fell, but there are known holes, or g(r) was off), bad, or unknown
    where the metrics do not say; `text` is plain text, not HTML."""

    kind: str
    text: str


def format_value(value: float | str | None, stderr: float | None = None, scale: float = 1.0) -> str:
    """A metric for people: `12.3 ± 1.0`, the error to two digits; without an error four digits.

    Whole numbers without an error stay whole; NaN and None become a dash.
    """
    if isinstance(value, (bool, str)):
        return str(value)
    if value is None or math.isnan(value):
        return "-"
    if isinstance(value, int) and scale == 1 and stderr is None:
        return str(value)
    value = value * scale
    if stderr is None or not (math.isfinite(stderr) and math.isfinite(value)):
        return f"{value:.4g}"
    error = abs(stderr * scale)
    if error == 0:
        return f"{value:.4g} ± 0"
    # The exponent after rounding to two digits: 0.0996 is 0.10 and needs two decimals, not three.
    decimals = 1 - int(f"{error:.1e}".partition("e")[2])
    if decimals > 6:
        exponent = int(f"{max(abs(value), error):.1e}".partition("e")[2])
        digits = decimals + exponent
        return f"({value / 10.0**exponent:.{digits}f} ± {error / 10.0**exponent:.{digits}f})e{exponent}"
    shown = max(decimals, 0)
    return f"{round(value, decimals):.{shown}f} ± {round(error, decimals):.{shown}f}"


def metric(run: Run, name: str) -> float | None:
    """A metric of a run where it is a number, else None."""
    value = run.metrics.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def _energy(value: float) -> str:
    return f"{value:.3g} eV ({value / KCAL_PER_MOL:.3g} kcal/mol)"


def _chain_length(run: Run) -> str | None:
    """Length of a chain with its unit: in ps, in steps for samplers without a clock."""
    length, steps = metric(run, "chain_length_ps"), metric(run, "chain_length_steps")
    if length:
        return f"{length:.4g} ps"
    return f"{steps:.0f} steps" if steps else None


def thermal(run: Run) -> bool:
    """Whether frames below the threshold are no more than a sound potential has: so few that the number
    expected in the thermal tail explains them (Poisson, 1 %), and none below the minimum that the
    reference frames relax to."""
    names = ("spurious_frames", "spurious_frames_expected", "energy_minimum_ev", "relaxed_energy_ev")
    frames, expected, lowest, relaxed = (metric(run, name) for name in names)
    if None in (frames, expected, lowest, relaxed):
        return False
    return lowest >= relaxed and float(poisson.sf(frames - 1, expected)) > 0.01


def _holes(run: Run) -> list[str]:
    """What negatives say of holes that the chains did not reach; nothing where there are none."""
    count, total = metric(run, "negatives_in_holes"), metric(run, "n_negatives")
    if not count or not total:
        return []
    far, relaxed = metric(run, "negatives_far"), metric(run, "negatives_relaxed")
    least = "at least " if far and relaxed and relaxed < far else ""
    text = f"but {least}{count:.0f} of {total:.0f} negatives that post-training recorded lie in holes of "
    text += "this potential"
    lowest, minimum = metric(run, "negatives_minimum_ev"), metric(run, "negatives_test_minimum_ev")
    if lowest is not None and minimum is not None:
        text += f", down to {_energy(lowest)}, where test frames relax to {_energy(minimum)}"
    return [f"{text}: longer chains, or others, may fall"]


def _structure(run: Run) -> list[str]:
    """What g(r) of a box says; nothing where no chain was off."""
    if not (chains := metric(run, "rdf_unstable_chains")):
        return []
    return [
        f"g(r) of {chains:.0f} chains was off by more than evaluation.rdf_deviation: the liquid was lost, or "
        "a pair of elements is too rare to tell"
    ]


def verdict(run: Run) -> Verdict:
    """Whether a run's sampler stayed in the physical basin, from its metrics alone.

    Reads `spurious_fraction` (and its `_stderr`), `failed_fraction`, `broken_fraction`, `energy_minimum_ev`,
    `spurious_threshold_ev`, `n_chains` and `chain_length_ps`, or `chain_length_steps` where that is absent;
    of a box `rdf_unstable_chains`; what `thermal` reads; and, of negatives, `negatives_in_holes`. Where no
    chain of n fell, the 95 % upper bound on a chain's probability of falling is 1 − 0.05^(1/n) (zero
    successes, binomial).
    """
    fraction = metric(run, "spurious_fraction")
    if fraction is None:
        return Verdict("unknown", "no verdict: the metrics have no spurious_fraction.")
    failed = metric(run, "failed_fraction")
    chains, length = metric(run, "n_chains"), _chain_length(run)
    lowest, threshold = metric(run, "energy_minimum_ev"), metric(run, "spurious_threshold_ev")
    fell = lowest is not None and threshold is not None and lowest < threshold
    extent = f"{chains:.0f} × {length}" if chains and length else "the evaluation chains"
    energy = ""
    if lowest is not None and math.isfinite(lowest):
        energy = f"lowest energy {_energy(lowest)} relative to the reference mean"
        energy += f", threshold {_energy(threshold)}" if threshold is not None else ""
    broken = metric(run, "broken_fraction")
    whole = "" if broken is None else " and no broken bond"
    if not failed and not broken and ((fraction == 0 and not fell) or thermal(run)):
        parts = [f"no spurious frame{whole} in {extent}", *([energy] if energy else [])]
        if fell:
            parts[0] = (
                f"{format_value(100 * fraction)} % of frames in {extent} are below the threshold{whole}, no "
                "more than the thermal tail of a harmonic molecule with the minimum that the reference "
                f"frames relax to, {_energy(metric(run, 'relaxed_energy_ev') or 0.0)}"
            )
        if chains and length:
            bound = 100 * (1 - 0.05 ** (1 / chains))
            chance = f"the chance that a chain falls within {length} is below {bound:.2g} %"
            parts.append(f"{chance} (95 % confidence)")
        holes = [*_holes(run), *_structure(run)]
        return Verdict("caution" if holes else "good", "; ".join(parts + holes) + ".")
    parts = []
    if math.isnan(fraction):
        parts.append("the share of spurious frames is not a number")
    else:
        text = format_value(fraction, metric(run, "spurious_fraction_stderr"), scale=100)
        parts.append(f"{text.replace(' ±', ' % ±')} % of frames in {extent} are spurious")
    if energy:
        parts.append(energy)
    if failed:
        parts.append(f"{100 * failed:.3g} % of chains failed (non-finite)")
    if broken:
        parts.append(f"{100 * broken:.3g} % of frames have a broken bond")
    return Verdict("bad", "NOT safe to sample: " + "; ".join(parts + _structure(run)) + ".")


def consistency_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """One plain sentence on whether the reference is a Boltzmann sample of its own labels; none where
    there was no reference to compare with."""
    if "reference_virial_temperature_k" not in metrics:
        return []
    value, stderr, stated, spread, harmonic = (
        float(metrics[name])
        for name in (
            "reference_virial_temperature_k",
            "reference_virial_temperature_k_stderr",
            "temperature_k",
            "reference_energy_sd_ev",
            "harmonic_energy_sd_ev",
        )
    )
    found = (
        f"The reference frames' virial temperature is {value:.0f} ± {stderr:.0f} K (stated: {stated:.0f} K), "
        f"their energy spread {spread:.3f} eV (harmonic estimate at {stated:.0f} K: {harmonic:.3f} eV)"
    )
    if abs(value - stated) > 3 * stderr or abs(spread / harmonic - 1) > SPREAD_TOLERANCE:
        return [
            f"{found}: these frames are not a Boltzmann sample of their own labels, so even a perfect "
            "potential sampled without bias misses their energy distribution, and the KS statistic "
            "of energies says little here; spurious share, energy spread, h(r) and dihedral free "
            "energies decide."
        ]
    if stderr > RESOLUTION * stated:
        return [f"{found}: the error is too large to tell whether the frames sample their own labels."]
    return [f"{found}: they agree, and the energy distribution is a fair test."]
