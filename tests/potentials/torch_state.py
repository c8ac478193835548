"""A small SchNet's state dict as PyTorch Geometric would write it."""

from __future__ import annotations

import numpy as np


def small_state(n_interactions=2, width=4, n_filters=6, n_gaussians=5, n_elements=10, cutoff=3.0):
    """A state dict with PyTorch Geometric's names and random numbers."""
    rng = np.random.default_rng(0)
    shapes = {"embedding.weight": (n_elements, width), "distance_expansion.offset": (n_gaussians,)}
    layers = {"lin1": (width // 2, width), "lin2": (1, width // 2)}
    for block in range(n_interactions):
        name = f"interactions.{block}"
        shapes[f"{name}.conv.lin1.weight"] = (n_filters, width)
        layers |= {f"{name}.mlp.0": (n_filters, n_gaussians), f"{name}.mlp.2": (n_filters, n_filters)}
        layers |= {f"{name}.conv.lin2": (width, n_filters), f"{name}.lin": (width, width)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    state = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    state["distance_expansion.offset"] = np.linspace(0, cutoff, n_gaussians, dtype=np.float32)
    return state
