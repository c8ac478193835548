"""absl binaries, configurations, data sets, metrics and figures of boltzfit."""

import os as _os
import sys as _sys
from contextlib import suppress as _suppress

import jax as _jax

MAX_CPU_DEVICES = 8
"""More cores than this work together on each replica; a power of two, as numbers of replicas mostly are."""


def _divide_cpu() -> None:
    """JAX devices for a binary's cores, unless the user has said how many: `samplers.simulate` gives each its
    share of the replicas, which makes better use of cores than threads do within a replica's small arrays."""
    if _jax.config.jax_num_cpu_devices > 0 or "platform_device_count" in _os.environ.get("XLA_FLAGS", ""):
        return
    own = len(_os.sched_getaffinity(0)) if hasattr(_os, "sched_getaffinity") else _os.cpu_count() or 1
    with _suppress(RuntimeError):  # JAX has begun already
        _jax.config.update("jax_num_cpu_devices", 1 << (min(own, MAX_CPU_DEVICES).bit_length() - 1))


if _sys.argv[0] == "-m":  # a binary is being found; JAX begins with the import of jax-md
    _divide_cpu()
