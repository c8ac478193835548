"""Settings of StABlE training: replicas, windows, phases, and their ranges."""

from __future__ import annotations

from typing import NamedTuple


class Settings(NamedTuple):
    """Attributes:
    n_replicas: R, started from training frames.
    n_steps: t of a window, a multiple of record_every.
    record_every: S, steps between the frames that are samples.
    f_max: unstable share at which learning begins.
    f_min: unstable share at or below which it ends.
    n_cycles: after so many pairs of phases nothing more is done.
    max_learning_windows: of one learning phase; replicas that still break start again from data.
    cross_fitted: see `ensemble.observable_loss`.
    max_uses: updates from one simulation, by reweighting (DiffTRe, Thaler and Zavadlav, Nature
      Communications 12, 6884); 1 simulates anew before every update, as the paper does.
    min_effective: effective share of the samples below which they are not used again.
    qm_weight: λ_QM of the supervised term.
    plateau_patience: learning windows without a lower unstable share before the rate drops.
    plateau_factor: by which it drops; it is 1 again at the next learning phase.
    max_reductions: a learning phase ends too when the rate drops more often than this; 0: never for it.
    minibatch: samples an estimate; the loss is the mean over such, each with the noise of its own ⟨g⟩.
      0 for one estimate of all. Samples that are left over, the latest, are not used.
    reset_fraction: chance of a stable replica to start again from data after a learning phase.
    gradient_factor: on the gradient of the observable loss, not on its value.
    """

    n_replicas: int = 64
    n_steps: int = 2000
    record_every: int = 50
    f_max: float = 0.75
    f_min: float = 0.0
    n_cycles: int = 4
    max_learning_windows: int = 100
    cross_fitted: bool = True
    max_uses: int = 1
    min_effective: float = 0.5
    qm_weight: float = 10.0
    plateau_patience: int = 10
    plateau_factor: float = 0.2
    max_reductions: int = 0
    minibatch: int = 0
    reset_fraction: float = 0.0
    gradient_factor: float = 1.0


def check_settings(settings: Settings) -> Settings:
    """The settings, after a look at their ranges.

    Raises:
      ValueError: one is out of range; it is named, with what was expected.
    """
    s = settings
    for name in ("n_replicas", "n_steps", "record_every", "n_cycles", "max_learning_windows", "max_uses"):
        if getattr(s, name) < 1:
            raise ValueError(f"stable.{name} is {getattr(s, name)}; expected 1 or more")
    if not 0 <= s.f_min < s.f_max <= 1:
        raise ValueError(f"stable.f_min is {s.f_min} and f_max {s.f_max}; expected 0 <= f_min < f_max <= 1")
    if s.n_steps % s.record_every:
        raise ValueError(
            f"stable.n_steps is {s.n_steps}; expected a multiple of stable.record_every, {s.record_every}"
        )
    if s.cross_fitted and (s.n_replicas < 4 or s.minibatch):
        raise ValueError("stable.cross_fitted needs four or more replicas, and no minibatches")
    if s.minibatch == 1:
        raise ValueError("stable.minibatch is 1; expected 0, or 2 or more samples to compare")
    if s.minibatch > s.n_replicas * (s.n_steps // s.record_every):
        raise ValueError(
            f"stable.minibatch is {s.minibatch}; expected at most the samples of a window, "
            f"{s.n_replicas * (s.n_steps // s.record_every)}"
        )
    return s
