"""Networks in periodic boxes: against ASE's neighbour lists, against vacuum, and when the list is full."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ase import Atoms
from ase.build import molecule
from ase.neighborlist import neighbor_list
from numpy.testing import assert_allclose

from potentials import POTENTIALS, energy_and_forces, make_system, schnet
from potentials.edges import Edges, largest_radius
from potentials.gemnet import GemNetT
from potentials.mace import MACE
from potentials.neighbours import SLOTS, box_edges, room_in, with_room
from potentials.nequip import NequIP
from potentials.schnet import SchNet

CUTOFF = 3.0
SMALL = {
    "schnet": {"n_features": 8, "n_filters": 8, "n_interactions": 2, "n_gaussians": 10, "cutoff": CUTOFF},
    "nequip": {"n_features": 2, "n_layers": 1, "n_bessel": 4, "n_hidden": 4, "cutoff": CUTOFF},
    "mace": {"n_features": 2, "n_layers": 2, "l_max": 1, "n_bessel": 4, "n_hidden": 4, "cutoff": CUTOFF},
}
SMALL["gemnet_t"] = {"n_atom": 6, "n_edge": 6, "n_triplet": 5, "n_bilinear": 4, "n_basis": 3, "n_radial": 3}
SMALL["gemnet_t"] |= {"n_spherical": 3, "n_blocks": 1, "n_residual": 1, "cutoff": CUTOFF}
OF_KINDS = {"nequip": NequIP, "mace": MACE, "gemnet_t": GemNetT}
CELLS = {
    "orthorhombic": np.diag([6.5, 7.0, 8.0]),
    "triclinic": np.array([[7.5, 0, 0], [2.0, 7.5, 0], [-1.5, 2.0, 7.0]]),
}


def liquid(cell, seed=0):
    """(numbers, positions) of eight waters near the points of a grid, turned at random, not wrapped."""
    rng = np.random.default_rng(seed)
    waters = []
    for point in np.ndindex(2, 2, 2):
        waters.append(molecule("H2O"))
        waters[-1].euler_rotate(*rng.uniform(0, 360, 3))
        waters[-1].positions += (np.array(point) / 2 + rng.uniform(-0.05, 0.05, 3) - [1, 0, 2]) @ cell
    return np.concatenate([w.numbers for w in waters]), np.concatenate([w.positions for w in waters])


def in_double(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def by_ase(name, system, params, positions):
    """Energy and forces through ASE's list of ordered pairs with their lattice vectors, receiver by receiver
    in as many places each as one of them needs; pairs that are not there are beyond the cutoff."""
    atoms = Atoms(system.numbers, positions, cell=system.cell, pbc=True)
    i, j, shifts = neighbor_list("ijS", atoms, CUTOFF)
    counts = np.bincount(i, minlength=len(positions))
    room = counts.max()
    places = i * room + np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = np.full((len(positions) * room, 3), 10 * CUTOFF)
    offsets[places] = shifts @ system.cell
    senders, receivers = np.zeros(len(offsets), int), np.repeat(np.arange(len(positions)), room)
    senders[places] = j
    kinds, kind = np.unique(system.numbers, return_inverse=True)
    density = len(positions) / abs(np.linalg.det(system.cell))
    if name == "schnet":
        network, species = SchNet(**SMALL[name]), system.numbers
    else:
        n_neighbours = (len(positions) - 1) / len(positions) * density * 4 / 3 * np.pi * CUTOFF**3
        network = OF_KINDS[name](n_elements=len(kinds), n_neighbours=n_neighbours, **SMALL[name])
        species = np.eye(len(kinds))[kind]

    def energy(x):
        vectors = x[senders] + offsets - x[receivers]
        distances = jnp.sqrt(jnp.sum(vectors**2, axis=1))

        def add(filters, features):
            return jnp.zeros((len(x), filters.shape[1])).at[receivers].add(filters * features[senders])

        edges = Edges(distances, add, vectors, senders, receivers)
        return jnp.sum(network.apply({"params": params}, species, edges))

    value, slope = jax.value_and_grad(energy)(jnp.asarray(positions))
    return value, -slope


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("schnet", "orthorhombic"),
        ("schnet", "triclinic"),
        ("nequip", "triclinic"),
        ("mace", "triclinic"),
        ("gemnet_t", "triclinic"),
    ],
)
def test_energy_and_forces_against_ases_neighbour_list(name, shape):
    numbers, positions = liquid(CELLS[shape])
    with jax.enable_x64(True):
        system = make_system(numbers, positions, 300.0, cell=CELLS[shape])
        potential = POTENTIALS[name](system, **SMALL[name])
        params = in_double(potential.init(jax.random.key(0)))
        params = with_room(params, potential.room_for(positions))
        energy, forces = jax.jit(energy_and_forces(potential))(params, jnp.asarray(positions))
        expected, slopes = by_ase(name, system, params, positions)
        assert energy == pytest.approx(float(expected), abs=1e-9)
        assert_allclose(forces, slopes, atol=1e-9)
        assert np.abs(forces).max() > 1e-3
        # Moved by lattice vectors, each atom by its own.
        images = np.random.default_rng(1).integers(-3, 4, positions.shape) @ CELLS[shape]
        again = jax.jit(energy_and_forces(potential))(params, jnp.asarray(positions + images))
        assert again[0] == pytest.approx(float(energy), abs=1e-9)
        assert_allclose(again[1], forces, atol=1e-9)


def test_a_molecule_in_a_wide_box_is_the_molecule_in_vacuum():
    ethanol = molecule("CH3CH2OH")
    vacuum = schnet(make_system(ethanol.numbers, ethanol.positions, 300.0), **SMALL["schnet"])
    cell = np.diag([20.0, 21.0, 22.0])
    box = schnet(make_system(ethanol.numbers, ethanol.positions, 300.0, cell=cell), **SMALL["schnet"])
    params = box.init(jax.random.key(0))
    params = with_room(params, box.room_for(ethanol.positions))
    energy, forces = energy_and_forces(box)(params, jnp.asarray(ethanol.positions, jnp.float32))
    assert len(params[SLOTS]) <= 8
    del params[SLOTS]
    expected = energy_and_forces(vacuum)(params, jnp.asarray(ethanol.positions, jnp.float32))
    assert energy == pytest.approx(float(expected[0]), abs=1e-6)
    assert_allclose(forces, expected[1], atol=1e-6)


def test_the_tabulated_filters_serve_a_box():
    numbers, positions = liquid(CELLS["triclinic"])
    potential = schnet(make_system(numbers, positions, 300.0, cell=CELLS["triclinic"]), **SMALL["schnet"])
    params = with_room(potential.init(jax.random.key(0)), potential.room_for(positions))
    x = jnp.asarray(positions, jnp.float32)
    exact = energy_and_forces(potential)(params, x)
    tabulated = energy_and_forces(potential)(potential.tabulate(params), x)
    assert tabulated[0] == pytest.approx(float(exact[0]), abs=1e-5)
    assert_allclose(tabulated[1], exact[1], atol=1e-4)


def test_a_full_list_gives_nan_and_says_so_and_more_room_mends_it():
    numbers, positions = liquid(CELLS["triclinic"])
    potential = schnet(make_system(numbers, positions, 300.0, cell=CELLS["triclinic"]), **SMALL["schnet"])
    function, overflow = jax.jit(energy_and_forces(potential)), jax.jit(potential.overflow)
    x = jnp.asarray(positions, jnp.float32)
    room = potential.room_for(positions)
    params = potential.init(jax.random.key(0))
    roomy = with_room(params, room)
    exact = function(roomy, x)
    assert not overflow(roomy, x) and np.isfinite(exact[0])
    seen = np.bincount(
        neighbor_list("i", Atoms(numbers, positions, cell=CELLS["triclinic"], pbc=True), CUTOFF)
    )
    assert room == min(int(np.ceil(1.25 * seen.max())), len(numbers) - 1)

    just = {**params, SLOTS: jnp.zeros(seen.max())}
    assert not overflow(just, x)
    assert function(just, x)[0] == pytest.approx(float(exact[0]), abs=1e-5)
    short = {**params, SLOTS: jnp.zeros(seen.max() - 1)}
    energy, forces = function(short, x)
    assert overflow(short, x) and np.isnan(energy) and np.isnan(forces).all()
    # In a batch, a replica that needs more room leaves the others be.
    grid = np.array(list(np.ndindex(3, 3, 3)))[: len(numbers)] / 3
    spread = jnp.asarray(grid @ CELLS["triclinic"], jnp.float32)
    batch = jax.vmap(energy_and_forces(potential), (None, 0))(short, jnp.stack([x, spread]))
    assert not overflow(short, spread)
    assert np.isnan(batch[0][0]) and np.isfinite(batch[0][1]) and np.isfinite(batch[1][1]).all()


@pytest.mark.parametrize("name", SMALL)
def test_training_does_not_see_empty_places(name):
    # The slope of force errors has second derivatives, of which a place without a neighbour could make NaN.
    numbers, positions = liquid(CELLS["triclinic"])
    slopes = []
    with jax.enable_x64(True):
        system = make_system(numbers, positions, 300.0, cell=CELLS["triclinic"])
        potential = POTENTIALS[name](system, **SMALL[name])
        params = in_double(potential.init(jax.random.key(0)))
        atoms = Atoms(numbers, positions, cell=CELLS["triclinic"], pbc=True)
        most = np.bincount(neighbor_list("i", atoms, CUTOFF)).max()

        def error(params):
            energy, forces = energy_and_forces(potential)(params, jnp.asarray(positions))
            return energy**2 + jnp.sum(forces**2)

        for room in (most, len(numbers) - 1):
            slope = jax.jit(jax.grad(error))(with_room(params, int(room)))
            slopes.append({key: value for key, value in slope.items() if key != SLOTS})
    assert most < len(numbers) - 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-8, atol=1e-9), *slopes)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slopes[0])) > 1e-3


def test_room_is_made_in_every_tree_that_holds_params():
    numbers, positions = liquid(CELLS["orthorhombic"])
    potential = schnet(make_system(numbers, positions, 300.0, cell=CELLS["orthorhombic"]), **SMALL["schnet"])
    params = potential.init(jax.random.key(0))
    optimiser = optax.adam(1e-3)
    before = len(params[SLOTS])
    tree = with_room({"params": params, "moments": optimiser.init(params)}, before + 5)
    assert len(tree["params"][SLOTS]) == before + 5
    slope = jax.grad(potential.energy)(tree["params"], jnp.asarray(positions, jnp.float32))
    assert not slope[SLOTS].any()
    updates, _ = optimiser.update(slope, tree["moments"])
    assert not optax.apply_updates(tree["params"], updates)[SLOTS].any()
    assert room_in(tree) == before + 5 and room_in({"a": jnp.zeros(3)}) == 0


def test_an_atom_that_is_nowhere_has_no_energy():
    numbers, positions = liquid(CELLS["orthorhombic"])
    potential = schnet(make_system(numbers, positions, 300.0, cell=CELLS["orthorhombic"]), **SMALL["schnet"])
    params = with_room(potential.init(jax.random.key(0)), potential.room_for(positions))
    x = jnp.asarray(positions, jnp.float32)
    assert np.isfinite(potential.energy(params, x))
    assert np.isnan(potential.energy(params, x.at[3, 1].set(jnp.nan)))


def test_edges_keep_still_beyond_the_cutoff():
    # Forces are the slope of the energy where an atom enters the list.
    cell = 8.0 * np.eye(3)
    with jax.enable_x64(True):
        system = make_system([8, 8], [[0, 0, 0], [3.0, 0, 0]], 300.0, cell=cell)
        potential = schnet(system, **SMALL["schnet"])
        params = in_double(potential.init(jax.random.key(0)))

        def energy(r):
            return potential.energy(params, jnp.asarray([[7.9, 0.0, 0.0], [7.9 + r - 8.0, 0.0, 0.0]]))

        for r in (CUTOFF - 1e-4, CUTOFF, CUTOFF + 1e-4, 2.5):
            numeric = (energy(r + 1e-5) - energy(r - 1e-5)) / 2e-5
            # The envelope's curvature has a step at the cutoff.
            assert jax.grad(energy)(r) == pytest.approx(float(numeric), abs=1e-6)


def test_a_box_smaller_than_twice_the_cutoff_is_refused():
    system = make_system([8], [[0, 0, 0]], 300.0, cell=CELLS["triclinic"])
    limit = largest_radius(CELLS["triclinic"])
    box_edges(system, limit)
    with pytest.raises(ValueError, match=r"cutoff of 5\.0 Å is more than half .* two images"):
        schnet(system, **{**SMALL["schnet"], "cutoff": 5.0})


def test_the_list_is_jax_mds():
    # Its own distance criterion, so the search must not depend on this module's count.
    numbers, positions = liquid(CELLS["triclinic"])
    system = make_system(numbers, positions, 300.0, cell=CELLS["triclinic"])
    box = box_edges(system, CUTOFF)
    atoms = Atoms(numbers, positions, cell=CELLS["triclinic"], pbc=True)
    i, j = neighbor_list("ij", atoms, CUTOFF)
    edges, full = box.edges(jnp.asarray(positions, jnp.float32), 20)
    inside = np.asarray(edges.distances) < CUTOFF
    found = set(zip(np.asarray(edges.receivers)[inside], np.asarray(edges.senders)[inside], strict=True))
    assert found == set(zip(i, j, strict=True)) and not full
    assert int(box.count(jnp.asarray(positions, jnp.float32))) == np.bincount(i).max()
