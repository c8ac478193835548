"""Published weights: a PyTorch Geometric SchNet state dict as Flax params."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from potentials.base import Params


def read_state_dict(path: str | Path) -> dict[str, NDArray]:
    """A state dict from `.npz`, `.safetensors`, or `.pt`/`.pth` (where torch is installed).

    Raises:
      ValueError: unknown ending, or a damaged file. FileNotFoundError: no such file. ImportError: the
        reader for the ending is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such weights file")
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: unknown ending '{path.suffix}'; expected .npz, .safetensors or .pt")
    try:
        return _READERS[path.suffix](path)
    except ImportError as error:
        raise ImportError(f"{path}: reading it needs torch") from error
    except Exception as error:  # the three readers have no common error for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: no readable weights ({reason})") from error


def _read_npz(path: Path) -> dict[str, NDArray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_torch(path: Path) -> dict[str, NDArray]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    return {name: tensor.numpy() for name, tensor in state.items()}


_READERS = {".npz": _read_npz, ".safetensors": load_file, ".pt": _read_torch, ".pth": _read_torch}


def schnet_settings(state: Mapping[str, NDArray]) -> dict[str, int | float]:
    """The attributes of `potentials.schnet.SchNet` that fit a state dict.

    Raises:
      ValueError: a key is missing; it is named.
    """
    offsets = _take(state, "distance_expansion.offset")
    return {
        "n_features": _take(state, "embedding.weight").shape[1],
        "n_filters": _take(state, "interactions.0.conv.lin1.weight").shape[0],
        "n_interactions": 1 + max(int(k.split(".")[1]) for k in state if k.startswith("interactions.")),
        "n_gaussians": len(offsets),
        "cutoff": float(offsets[-1]),
        "n_elements": _take(state, "embedding.weight").shape[0],
    }


def schnet_params(state: Mapping[str, NDArray]) -> Params:
    """Flax params of `potentials.schnet.SchNet` from a PyTorch Geometric state dict.

    Args:
      state: names as `torch_geometric.nn.models.SchNet` writes them; torch's [out, in] weights
        become Flax's [in, out] kernels.

    Raises:
      ValueError: a key is missing; it is named.
    """

    def dense(name: str) -> dict[str, jnp.ndarray]:
        layer = {"kernel": jnp.asarray(_take(state, f"{name}.weight").T)}
        if f"{name}.bias" in state:
            layer["bias"] = jnp.asarray(state[f"{name}.bias"])
        return layer

    params = {"embedding": {"embedding": jnp.asarray(_take(state, "embedding.weight"))}}
    for block in range(schnet_settings(state)["n_interactions"]):
        ours, theirs = f"interaction_{block}", f"interactions.{block}"
        params[f"{ours}_filter_0"] = dense(f"{theirs}.mlp.0")
        params[f"{ours}_filter_1"] = dense(f"{theirs}.mlp.2")
        params[f"{ours}_in"] = dense(f"{theirs}.conv.lin1")
        params[f"{ours}_message"] = dense(f"{theirs}.conv.lin2")
        params[f"{ours}_out"] = dense(f"{theirs}.lin")
    params["readout_0"] = dense("lin1")
    params["readout_1"] = dense("lin2")
    return params


def _take(state: Mapping[str, NDArray], key: str) -> NDArray:
    if key not in state:
        raise ValueError(f"state dict has no '{key}'; expected PyTorch Geometric's SchNet names")
    return state[key]
