"""Physical constants; every public boundary uses eV, Å, eV/Å, fs, amu and K."""

KB = 8.617333262e-5
"""Boltzmann's constant, eV/K (CODATA 2018)."""

KCAL_PER_MOL = 1 / 23.060547830619026
"""One kcal/mol in eV."""

FEMTOSECOND = 0.09822694788464063
"""One fs in jax-md's internal time unit, Å·sqrt(amu/eV); equals `ase.units.fs` (tested)."""
