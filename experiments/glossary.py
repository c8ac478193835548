"""What each metric is, in a sentence, for the report."""

from __future__ import annotations

import re
from collections.abc import Iterable

MEANINGS = {
    "n_test_frames": "held-out frames, for the errors of energy and force",
    "energy_mae_mev": "mean absolute error of the energy of held-out frames, a molecule or box",
    "force_mae_mev_per_angstrom": "mean absolute error of the force components of held-out frames",
    "sampler_*": "settings of the sampler that made the chains (fs, Å², 1/ps)",
    "n_chains": "independent chains, from held-out frames",
    "spurious_threshold_ev": "the energy evaluation.spurious_margin below the lowest reference frame, "
    "relative to the reference mean, as all energies of the chains here",
    "spurious_fraction": "share of the chains' frames below spurious_threshold_ev, or not finite",
    "spurious_frames": "number of frames below spurious_threshold_ev, or not finite",
    "spurious_frames_expected": "number of frames below spurious_threshold_ev in a harmonic molecule with "
    "the minimum relaxed_energy_ev",
    "spurious_chains": "chains that have a spurious frame",
    "relaxed_energy_ev": "energy to which test frames relax, median of a few; a threshold above it is "
    "crossed by heat alone",
    "broken_fraction": "share of the chains' frames with a bond longer or shorter than its mean by "
    "evaluation.bond_deviation",
    "broken_chains": "chains that have a frame with a broken bond",
    "failed_fraction": "chains whose energy or positions went non-finite",
    "energy_minimum_ev": "lowest energy of any chain",
    "reference_energy_minimum_ev": "lowest energy of a reference frame",
    "unstable_chains": "chains of which a bond left the limit at any step, or that failed",
    "stable_time_*_median": "until a bond leaves the limit or the chain fails, median over chains (Kaplan- "
    "Meier; error by bootstrap); a dash where half of the chains have not broken",
    "stable_time_*_median_*er": "95 % confidence interval of that median; its upper end a dash where too "
    "many chains have not broken",
    "stable_time_*_mean": "until a bond leaves the limit or the chain fails, mean up to the chains' length: "
    "a lower bound where some have not",
    "rdf_stable_time_ps_*": "until g(r) over about 1 ps is off by more than evaluation.rdf_deviation",
    "rdf_unstable_chains": "chains whose g(r) was off by more than evaluation.rdf_deviation",
    "reference_virial_temperature_k": "temperature at which the reference would be a Boltzmann sample of "
    "its labels",
    "reference_kinetic_temperature_k": "of the reference's own simulation, where its velocities are known",
    "harmonic_energy_sd_ev": "spread of the energy of a harmonic molecule of as many atoms at this "
    "temperature",
    "kinetic_temperature_k": "of the chains, over the sampler's own degrees of freedom",
    "energy_drift_mev": "last quarter's mean energy less the second's; the first is left to equilibration",
    "training_frames_*": "deviation from the reference of the frames trained on, in place of the chains: "
    "what a potential that reproduced their noise too would show; too small where they are much of the "
    "reference",
    "n_chains_compared": "chains that lived to the end, on which the comparisons below rest",
    "ks_energy": "Kolmogorov-Smirnov statistic of the energies against the reference; that of a perfect "
    "sampler is one to three of its standard errors",
    "wasserstein_energy_mev": "Wasserstein-1 distance of the energies from the reference's",
    "js_energy_nats": "Jensen-Shannon divergence of the two energy histograms",
    "energy_mean_ev": "mean energy of the chains",
    "energy_sd_ev": "spread of the chains' energies; compare reference_energy_sd_ev",
    "reference_energy_sd_ev": "spread of the reference's energies",
    "energy_autocorrelation_steps": "integrated autocorrelation time of the energy",
    "dihedral_free_energy_rmse_mev*": "free energy along the dihedral against the reference, root mean "
    "square over the reference's populated bins",
    "dihedral_within_two_stderr_*": "share of the populated bins whose free energy is the reference's "
    "within two standard errors of their difference",
    "hr_mae": "mean absolute deviation of the distribution of interatomic distances h(r) from the "
    "reference's",
    "rdf_mae_*": "mean absolute deviation of g(r), of each chain for as long as it lived, from the "
    "reference's",
    "reference_diffusivity_*": "of the molecules in the reference's own simulation, of a box of this size",
    "diffusivity_*": "of the molecules, from their mean squared displacement; not corrected for the box's "
    "size",
    "n_negatives": "negative samples that training recorded",
    "negatives_wasserstein_mev": "Wasserstein-1 distance of the negatives' energies, as drawn, from the "
    "reference's",
    "negatives_rmsd_*": "aligned distance of a negative to the nearest training frame",
    "reference_rmsd_*": "aligned distance of a held-out frame to the nearest training frame",
    "negatives_far": "negatives farther from the training frames than any test frame",
    "negatives_relaxed": "how many of these, the farthest, were relaxed",
    "negatives_in_holes": "negatives that are spurious and 2 k_B T below negatives_test_minimum_ev, or that "
    "relax to so little: holes that post-training's chains found and that this potential has",
    "negatives_test_minimum_ev": "what the lowest tenth of some test frames relax to",
    "negatives_minimum_ev": "lowest energy of the negatives, or of what the far ones relax to",
    "negatives_energy_mean_ev": "mean energy of the negatives, as drawn",
    "negatives_outside_fraction": "negatives outside the range of the reference's energies",
    "negatives_spurious_fraction": "negatives below the spurious threshold when they were drawn",
    "negatives_still_spurious_fraction": "negatives below the spurious threshold in the final potential: "
    "holes that were not filled",
    "negatives_error_*": "network less true energy of the negatives: when drawn, and in the final potential",
    "spurious_negatives_error_*": "network less true energy of the negatives that were spurious when drawn",
    "n_*labelled": "negatives with a true energy by the reference engine",
    "negatives_unlabelled": "negatives for which the reference engine did not converge",
}
"""Metric, or a pattern of metrics with `*` for any characters -> what it is. The first that fits holds."""


def meaning(name: str) -> str:
    """What a metric is; empty where its name says all."""
    return next((text for pattern, text in MEANINGS.items() if _fits(pattern, name)), "")


def glossary(names: Iterable[str]) -> dict[str, str]:
    """Names, or patterns of several of them -> what they are, in the order of the names."""
    found = {}
    for name in names:
        found |= {p: text for p, text in MEANINGS.items() if _fits(p, name) and meaning(name) == text}
    return found


def _fits(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
