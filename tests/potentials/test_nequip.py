"""NequIP against a plain sum over edges and paths; the couplings of that against their symmetry."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_md._nn.nequip import NequIPConvolution
from scipy.spatial.transform import Rotation

from potentials.edges import dense_edges
from potentials.nequip import NequIP
from tests.potentials.plain_comparison import (
    KINDS,
    SURROUNDINGS,
    check_against_plain,
    geometries,
    random_weights,
)
from tests.potentials.plain_nequip import plain_features, plain_nequip
from tests.potentials.plain_tensors import LETTERS, coupling, harmonics, turned

SIZES = {"n_features": 3, "n_bessel": 4, "n_hidden": 5}


# With four blocks, energies depend on features of the parity that harmonics do not have: the second block
# makes them, the third makes vectors of them, the fourth scalars of those.
@pytest.mark.parametrize(
    "settings",
    [{"l_max": 1, "parity": False, "n_layers": 2}, {"l_max": 2, "parity": True, "n_layers": 4}],
    ids=["l1", "l2_parity"],
)
def test_the_network_is_its_equations_written_out(settings):
    check_against_plain("nequip", plain_nequip, SIZES, settings)


def test_features_after_every_block_are_those_written_out():
    # Odd scalars among them, which no energy of fewer than six blocks depends on.
    settings = {"l_max": 1, "parity": True, "n_layers": 3, **SURROUNDINGS}
    network, species = NequIP(n_elements=3, **SIZES, **settings), np.eye(3)[KINDS]

    def blocks(weights, positions):
        _, seen = network.apply(
            {"params": weights},
            species,
            dense_edges(5)(positions),
            capture_intermediates=lambda module, _: isinstance(module, NequIPConvolution),
            mutable=["intermediates"],
        )
        return [seen["intermediates"][f"NequIPConvolution_{k}"]["__call__"][0] for k in range(3)]

    x = geometries()[1]
    with jax.enable_x64(True):
        edges = dense_edges(5)(jnp.asarray(x))
        shapes = jax.eval_shape(lambda key: network.init(key, species, edges), jax.random.key(0))
        weights = random_weights(shapes["params"])
        found = jax.jit(blocks)(weights, jnp.asarray(x))
    for ours, theirs in zip(found, plain_features(weights, KINDS, x, **settings), strict=True):
        names = [f"3x{order}{LETTERS[p]}" for order, p in theirs[0]]
        assert [str(each) for each in ours.irreps] == names
        expected = [np.concatenate([np.ravel(part) for part in features.values()]) for features in theirs]
        np.testing.assert_allclose(ours.array, expected, rtol=1e-9, atol=1e-9)
    assert "3x0o" in names


def test_couplings_stay_as_they_are_where_all_three_factors_turn():
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    direction = np.array([0.48, -0.6, 0.64])
    turn = {order: turned(order, rotation) for order in range(3)}
    for order, matrix in turn.items():
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(2 * order + 1), atol=1e-12)
        np.testing.assert_allclose(
            matrix @ harmonics(direction)[order], harmonics(rotation @ direction)[order], atol=1e-12
        )
    for one, two, three in itertools.product(range(3), repeat=3):
        if abs(one - two) <= three <= one + two:
            c = coupling(one, two, three)
            found = np.einsum("ia,jb,kc,abc->ijk", turn[one], turn[two], turn[three], c)
            np.testing.assert_allclose(found, c, atol=1e-12)
            assert np.sum(c**2) == pytest.approx(1.0)
