"""The localized estimator in the observable loss, and the choice of states that it looks at."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from numpy.testing import assert_allclose, assert_array_equal

from objectives.averages import make_observables
from objectives.ensemble import Ensemble, mean_observable, observable_loss
from objectives.neighbourhoods import Neighbourhoods, one_molecule_each, stratified_weights
from potentials import from_atomic_energies, make_system

BETA = 23.2  # 1/eV, 500 K


def waters(n, side):
    """n molecules in a row, elements together as DeePMD-kit has them, so that molecules are scattered."""
    one = molecule("H2O")
    positions = one.positions[None] + side * np.arange(n)[:, None, None] * np.array([1.0, 0, 0]) / n
    numbers = np.tile(one.numbers, (n, 1))
    order = np.argsort(-numbers.ravel(), kind="stable")
    cell = np.diag([side, side, side])
    return make_system(numbers.ravel()[order], positions.reshape(-1, 3)[order], 300.0, cell=cell), (
        positions.reshape(-1, 3)[order]
    )


def test_each_molecule_by_itself():
    system, positions = waters(4, 12.0)
    hoods = one_molecule_each(system)
    assert hoods.atoms.shape == (4, 3)
    for atoms in hoods.atoms:
        assert len(set(system.molecules[atoms])) == 1
        assert sorted(system.numbers[atoms]) == [1, 1, 8]
    # Molecule by molecule its own bonds are stretched, across the boundary of the box too.
    stretched = positions.copy()
    for rank, atoms in enumerate(hoods.atoms):
        oxygen = stretched[atoms[0]].copy()
        stretched[atoms] = oxygen + (1 + 0.1 * rank) * (stretched[atoms] - oxygen)
    stretched += [11.7, 0, 0]
    stretched -= np.floor(stretched / 12.0) * 12.0
    weight, observable = make_observables({"mean_bond_length": 2.0}, system, hoods)["mean_bond_length"]
    assert weight == 2.0
    expected = system.bond_lengths[0] * (1 + 0.1 * np.arange(4))
    assert_allclose(observable(jnp.asarray(stretched, jnp.float32))[:, 0], expected, rtol=1e-5)
    frames = jnp.asarray(np.stack([positions, stretched]), jnp.float32)
    assert_allclose(mean_observable(observable, frames), [system.bond_lengths[0] * 1.075], rtol=1e-5)


def test_radial_distributions_of_each_molecule():
    system, positions = waters(4, 12.0)
    hoods = one_molecule_each(system)
    _, box = make_observables({"radial_distributions": 1.0}, system)["radial_distributions"]
    _, local = make_observables({"radial_distributions": 1.0}, system, hoods)["radial_distributions"]
    moved = positions + np.random.default_rng(0).normal(size=positions.shape) + [11.7, 0, 0]
    moved = jnp.asarray(moved - np.floor(moved / 12.0) * 12.0, jnp.float32)
    each = local(moved)
    assert each.shape == (4, *box(moved).shape)
    assert_allclose(each.mean(axis=0), box(moved), atol=5e-4)
    # A hydrogen next to another molecule's shows in these two molecules and in no other, in the last third,
    # of H-H, below 1.2 Å.
    first, second = hoods.atoms[:2]
    close = (
        jnp.asarray(positions, jnp.float32).at[first[1]].set(positions[second[1]] + np.float32([0, 0, 1.0]))
    )
    near = local(close)[:, -box(moved).size // 3 :][:, :24]
    assert (near[:2].sum(axis=1) > 1).all() and not near[2:].any()


def test_radial_distributions_of_one_molecule_alone():
    system, _ = waters(1, 12.0)
    with pytest.raises(ValueError, match="expected molecules as neighbourhoods, more than one"):
        make_observables({"radial_distributions": 1.0}, system, one_molecule_each(system))
    with pytest.raises(ValueError, match="of periodic boxes; the system has no cell"):
        make_observables({"radial_distributions": 1.0}, system._replace(cell=None), one_molecule_each(system))


def test_neighbourhoods_of_one_size_only():
    numbers, positions = [8, 1, 1, 2], [[0, 0, 0], [0.96, 0, 0], [-0.2, 0.93, 0], [5.0, 5.0, 5.0]]
    system = make_system(numbers, positions, 300.0)
    with pytest.raises(ValueError, match="the system has H2O, He"):
        one_molecule_each(system)
    system, _ = waters(2, 12.0)
    with pytest.raises(ValueError, match="observable of the local estimator 'distances'"):
        make_observables({"distances": 1.0}, system, one_molecule_each(system))


def test_gradient_is_equation_8_state_by_state():
    # Three replicas of two frames, two neighbourhoods each: every state against those of other replicas.
    with jax.enable_x64(True):
        hoods = Neighbourhoods(np.array([[0, 2], [1, 3]]))

        def atomic_energies(params, x):
            return jnp.tanh(x @ params["w"] + jnp.sum(x, axis=0) @ params["v"])

        keys = jax.random.split(jax.random.key(0), 3)
        params = {"w": jax.random.normal(keys[0], (3,)), "v": jax.random.normal(keys[1], (3,))}
        potential = from_atomic_energies(lambda key: params, atomic_energies)
        positions = jax.random.normal(keys[2], (2, 3, 4, 3))
        energies = jax.vmap(jax.vmap(potential.energy, (None, 0)), (None, 0))(params, positions)
        ensemble = Ensemble(positions, energies, jnp.ones((2, 3), bool))
        observables = {"g": (1.0, lambda x: jnp.sum(x[hoods.atoms] ** 2, axis=(1,)))}  # [2, 3]
        target = jnp.array([1.0, 2.0, 3.0])

        def loss(params):
            return observable_loss(
                potential, observables, {"g": target}, BETA, params, ensemble, positions[0, 0],
                cross_fitted=False, neighbourhoods=hoods,
            )[0]  # fmt: skip

        value, ours = jax.value_and_grad(loss)(params)

        states = [
            (replica, np.asarray(positions[frame, replica]), atoms)
            for frame in range(2)
            for replica in range(3)
            for atoms in hoods.atoms
        ]
        g = np.array([np.sum(x[atoms] ** 2, axis=0) for _, x, atoms in states])
        owner = np.array([replica for replica, _, _ in states])
        assert_allclose(value, np.sum((g.mean(axis=0) - target) ** 2), rtol=1e-12)
        for name in params:
            jacobian = np.zeros((3, 3))
            for (replica, x, atoms), own in zip(states, g, strict=True):
                slope = jax.grad(lambda p, x, atoms: jnp.sum(atomic_energies(p, x)[atoms]))(params, x, atoms)
                jacobian -= BETA * np.outer(own - g[owner != replica].mean(axis=0), slope[name]) / len(states)
            assert_allclose(ours[name], 2 * (g.mean(axis=0) - target) @ jacobian, rtol=1e-10)


def test_value_and_gradient_of_the_states_chosen_by_bins():
    # By hand: every state by its chance of being drawn from its bin of |g − target|, held against the same
    # average over the other replicas.
    with jax.enable_x64(True):
        n_bins, per_bin = 4, 2
        hoods = Neighbourhoods(np.array([[0, 2], [1, 3]]), n_bins, per_bin)

        def atomic_energies(params, x):
            return jnp.tanh(x @ params)

        keys = jax.random.split(jax.random.key(5), 2)
        params = jax.random.normal(keys[0], (3,))
        potential = from_atomic_energies(lambda key: params, atomic_energies)
        positions = jax.random.normal(keys[1], (5, 3, 4, 3))  # five frames of three replicas
        energies = jax.vmap(jax.vmap(potential.energy, (None, 0)), (None, 0))(params, positions)
        ensemble = Ensemble(positions, energies, jnp.ones((5, 3), bool))
        target = np.array([1.0, 2.0, 3.0])
        observables = {"g": (1.0, lambda x: jnp.sum(x[hoods.atoms] ** 2, axis=1))}

        def loss(params):
            return observable_loss(
                potential, observables, {"g": target}, BETA, params, ensemble, positions[0, 0],
                cross_fitted=False, neighbourhoods=hoods,
            )[0]  # fmt: skip

        value, gradient = jax.value_and_grad(loss)(params)

        states = [(r, positions[f, r], a) for f in range(5) for r in range(3) for a in hoods.atoms]
        owner = np.array([replica for replica, *_ in states])
        g = np.array([np.sum(np.asarray(x)[atoms] ** 2, axis=0) for _, x, atoms in states])
        far = np.linalg.norm(g - target, axis=1)
        bins = np.minimum((far / far.max() * n_bins).astype(int), n_bins - 1)
        chances = np.array([min(1.0, per_bin / np.sum(bins == own)) for own in bins])
        assert len(np.unique(np.round(chances, 6))) >= 3
        weights = chances / chances.sum()
        mean = weights @ g
        assert_allclose(value, np.sum((mean - target) ** 2), rtol=1e-12)
        assert abs(value - np.sum((g.mean(axis=0) - target) ** 2)) > 0.05 * value
        slope = np.zeros((3, 3))
        of_energy = jax.grad(lambda p, x, atoms: jnp.sum(atomic_energies(p, x)[atoms]))
        for (replica, x, atoms), own, weight in zip(states, g, weights, strict=True):
            others = owner != replica
            known = weights[others] @ g[others] / weights[others].sum()
            slope -= BETA * weight * np.outer(own - known, of_energy(params, x, atoms))
        assert_allclose(gradient, 2 * (mean - target) @ slope, rtol=1e-10)


@pytest.mark.parametrize("local", [False, True])
def test_cross_fitted_halves_are_replicas_of_even_and_of_odd_number(local):
    # (⟨g⟩_A − t)·(⟨g⟩_B − t) and its gradient, state by state, each against other replicas of its half.
    with jax.enable_x64(True):
        hoods = Neighbourhoods(np.array([[0, 2], [1, 3]]))
        atoms_of = hoods.atoms if local else np.arange(4)[None]

        def atomic_energies(params, x):
            return jnp.tanh(x @ params + jnp.sum(x, axis=0) @ params)

        keys = jax.random.split(jax.random.key(1), 2)
        params = jax.random.normal(keys[0], (3,))
        potential = from_atomic_energies(lambda key: params, atomic_energies)
        positions = jax.random.normal(keys[1], (3, 4, 4, 3))  # three frames of four replicas
        energies = jax.vmap(jax.vmap(potential.energy, (None, 0)), (None, 0))(params, positions)
        ensemble = Ensemble(positions, energies, jnp.ones((3, 4), bool))
        target = np.array([1.0, 2.0, 3.0])
        observables = {"g": (2.0, lambda x: jnp.sum(x[atoms_of] ** 2, axis=1).squeeze())}

        def loss(params):
            return observable_loss(
                potential, observables, {"g": target}, BETA, params, ensemble, positions[0, 0],
                neighbourhoods=hoods if local else None,
            )[0]  # fmt: skip

        value, gradient = jax.value_and_grad(loss)(params)

        means, slopes = [], []
        for half in (0, 1):
            states = [
                (replica, np.asarray(positions[frame, replica]), atoms)
                for frame in range(3)
                for replica in (half, half + 2)
                for atoms in atoms_of
            ]
            owner = np.array([replica for replica, _, _ in states])
            g = np.array([np.sum(x[atoms] ** 2, axis=0) for _, x, atoms in states])
            slope = np.zeros((3, 3))
            for (replica, x, atoms), own in zip(states, g, strict=True):
                of_energy = jax.grad(lambda p, x, atoms: jnp.sum(atomic_energies(p, x)[atoms]))
                deviation = own - g[owner != replica].mean(axis=0)
                slope -= BETA * np.outer(deviation, of_energy(params, x, atoms)) / len(states)
            means.append(g.mean(axis=0) - target)
            slopes.append(slope)
        assert_allclose(value, 2 * means[0] @ means[1], rtol=1e-12)
        assert_allclose(gradient, 2 * (means[1] @ slopes[0] + means[0] @ slopes[1]), rtol=1e-10)


def test_independent_neighbourhoods_say_more_than_their_sum():
    # Bonds of mean length r0 that know nothing of one another: d⟨r⟩/dr0 = 1 exactly, by either estimator,
    # but the global one sees each bond through the noise of the 63 others.
    n_bonds, stiffness, n_frames = 64, 10.0, 400
    hoods = Neighbourhoods(np.arange(2 * n_bonds).reshape(n_bonds, 2))
    rng = np.random.default_rng(3)
    lengths = 1.0 + rng.normal(scale=1 / np.sqrt(BETA * stiffness), size=(n_frames, 1, n_bonds))
    positions = np.zeros((n_frames, 1, 2 * n_bonds, 3))
    positions[..., 1::2, 0] = lengths

    def bonds(x):
        return x[1::2, 0] - x[::2, 0]

    def atomic_energies(params, x):
        return jnp.repeat(0.25 * stiffness * (bonds(x) - params) ** 2, 2)

    potential = from_atomic_energies(lambda key: 1.0, atomic_energies)
    positions = jnp.asarray(positions, jnp.float32)
    energies = jax.vmap(jax.vmap(potential.energy, (None, 0)), (None, 0))(1.0, positions)
    local = {"r": (1.0, lambda x: bonds(x)[:, None])}
    whole = {"r": (1.0, lambda x: jnp.mean(bonds(x))[None])}

    def derivative(observables, hoods, part):
        ensemble = Ensemble(positions[part], energies[part], jnp.ones((part.stop - part.start, 1), bool))

        def loss(r0):
            return observable_loss(
                potential, observables, {"r": jnp.array([0.9])}, BETA, r0, ensemble, positions[0, 0],
                cross_fitted=False, neighbourhoods=hoods,
            )[0]  # fmt: skip

        mean = float(jnp.mean(positions[part][..., 1::2, 0]))
        return float(jax.grad(loss)(1.0)) / (2 * (mean - 0.9))

    parts = [slice(start, start + 20) for start in range(0, n_frames, 20)]
    by_local = np.array([derivative(local, hoods, part) for part in parts])
    by_global = np.array([derivative(whole, None, part) for part in parts])
    for estimates in (by_local, by_global):
        assert abs(estimates.mean() - 1) < 3 * estimates.std(ddof=1) / np.sqrt(len(parts))
    assert by_local.std() < by_global.std() / 3


def test_stratified_weights_are_the_chances_of_being_drawn():
    rng = np.random.default_rng(0)
    deviations = np.concatenate([rng.uniform(0, 0.1, 40), rng.uniform(0.1, 0.5, 7), [1.0]])
    n_bins, per_bin = 5, 3
    bins = np.minimum((deviations * n_bins).astype(int), n_bins - 1)
    drawn = np.zeros(len(deviations))
    for _ in range(20_000):
        for b in range(n_bins):
            members = np.flatnonzero(bins == b)
            drawn[rng.permutation(members)[:per_bin]] += 1
    there = np.ones(len(deviations))
    weights = stratified_weights(jnp.asarray(there), jnp.asarray(deviations), n_bins, per_bin)
    chances = np.asarray(weights) * drawn.sum() / 20_000
    errors = np.sqrt(chances * (1 - chances) / 20_000)
    assert np.all(np.abs(drawn / 20_000 - chances) < 4.5 * errors + 1e-6)
    assert_allclose(weights[-1], weights.max())  # alone in its bin: drawn every time

    # States that are not there neither count nor widen the bins.
    there = jnp.asarray(np.append(there, 0.0))
    more = stratified_weights(there, jnp.asarray(np.append(deviations, 50.0)), n_bins, per_bin)
    assert_allclose(more[:-1], weights, rtol=1e-6)
    assert more[-1] == 0
    assert_array_equal(stratified_weights(jnp.zeros(4), jnp.arange(4.0), n_bins, per_bin), np.zeros(4))
