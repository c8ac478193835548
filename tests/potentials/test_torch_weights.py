"""Published PyTorch weights: the numbers PyTorch itself gave, and the errors."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from potentials import energy_and_forces, make_system, schnet
from potentials.torch_weights import read_state_dict, schnet_params, schnet_settings
from tests.potentials.torch_state import small_state


@pytest.fixture(scope="module")
def published(data):
    folder = data / "schnet_md17_aspirin"
    if not (folder / "state_dict.npz").exists() or not (folder / "golden.npz").exists():
        pytest.skip(f"{folder} has no state_dict.npz and golden.npz")
    with np.load(folder / "golden.npz") as golden:
        return read_state_dict(folder / "state_dict.npz"), dict(golden)


def predict(state, golden):
    system = make_system(golden["numbers"], golden["positions"][0], 500.0)
    function = energy_and_forces(schnet(system, **schnet_settings(state)))
    return jax.jit(jax.vmap(function, (None, 0)))(schnet_params(state), golden["positions"])


def test_settings_of_the_published_network(published):
    assert schnet_settings(published[0]) == {
        "n_features": 64,
        "n_filters": 64,
        "n_interactions": 6,
        "n_gaussians": 25,
        "cutoff": 5.0,
        "n_elements": 100,
    }


def test_golden_energies_and_forces(published):
    state, golden = published
    energies, forces = predict(state, golden)
    assert np.std(golden["energy"]) > 0.1
    np.testing.assert_allclose(energies, golden["energy"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(forces, golden["forces"], rtol=0, atol=1e-3)


def test_params_have_the_shape_of_the_network():
    state = small_state()
    system = make_system([6, 8], [[0, 0, 0], [1.2, 0, 0]], 300.0)
    potential = schnet(system, **schnet_settings(state))
    wanted = jax.eval_shape(potential.init, jax.random.key(0))
    loaded = schnet_params(state)
    assert jax.tree.structure(loaded) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), loaded, wanted)
    assert np.isfinite(jax.jit(potential.energy)(loaded, np.eye(2, 3)))


@pytest.mark.parametrize("key", ["interactions.1.mlp.2.weight", "embedding.weight", "lin2.weight"])
def test_a_missing_key_is_named(key):
    state = small_state()
    del state[key]
    with pytest.raises(ValueError, match=f"no '{key}'"):
        schnet_params(state)


def test_npz_round_trip(tmp_path):
    state = small_state()
    np.savez(tmp_path / "weights.npz", **state)
    read = read_state_dict(tmp_path / "weights.npz")
    assert read.keys() == state.keys()
    np.testing.assert_array_equal(read["lin1.weight"], state["lin1.weight"])


def test_safetensors(tmp_path):
    state = small_state()
    save_file(state, tmp_path / "weights.safetensors")
    read = read_state_dict(tmp_path / "weights.safetensors")
    assert read.keys() == state.keys()
    for name in state:
        np.testing.assert_array_equal(read[name], state[name])


def test_torch_file(tmp_path):
    torch = pytest.importorskip("torch")
    state = small_state()
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    torch.save({"state_dict": tensors}, tmp_path / "weights.pt")
    read = read_state_dict(tmp_path / "weights.pt")
    np.testing.assert_array_equal(read["lin1.weight"], state["lin1.weight"])


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz: no such weights file"):
        read_state_dict(tmp_path / "nowhere.npz")
    odd = tmp_path / "weights.h5"
    odd.touch()
    with pytest.raises(ValueError, match=r"weights\.h5: unknown ending '\.h5'; expected \.npz"):
        read_state_dict(odd)
