"""Every default of every experiment, with its unit. The other configurations change a few."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """The base configuration: SchNet, MSE, no data set yet."""
    config = ConfigDict()
    config.seed = 0  # of initial weights, batches, chains and evaluation
    config.objective = "mse"  # mse | crmse | contrastive | stable | stable_compat | crmse_stable
    config.potential = "schnet"  # schnet | nequip | mace | gemnet_t
    config.init_from = ""  # workdir whose params and optimiser moments post-training starts from
    # File of a published PyTorch Geometric SchNet to start pre-training from, which may then be of 0 updates.
    config.weights = ""

    # Data: a known name or the user's own file, never both.
    config.dataset = ConfigDict()
    config.dataset.name = ""
    config.dataset.path = ""  # .npz (rMD17, MD17), HDF5 (SPICE), DeePMD-kit's folder or anything ASE reads
    config.dataset.group = ""  # of an HDF5 file's molecules; empty: it has one
    config.dataset.test_path = ""  # a separate file with the test frames
    config.dataset.train = 950  # frames
    config.dataset.validation = 50
    config.dataset.test = 0  # 0: all that are left
    # file | random | blocks (stretches of the trajectory) | an .npz with train, validation, test indices;
    # empty: the set's own, else random
    config.dataset.split = ""
    # Of energy (eV | kcal/mol | kJ/mol | hartree), length (angstrom | bohr) and, where they are not the ratio
    # of these, forces: kcal/mol,angstrom,eV/angstrom. Empty parts, and those left out: the format's own.
    config.dataset.units = ""
    # Names of energy and forces in what ASE reads, such as REF_energy,REF_forces; empty: energy,forces.
    config.dataset.label_names = ""
    config.dataset.labels = ""  # original: MD17's, of rMD17's files; empty: the file's own
    config.dataset.ignore_cell = False  # frames that call themselves periodic are molecules in vacuum
    config.dataset.temperature = placeholder(float)  # K, at which the frames were sampled; must be set

    # Potentials.
    config.schnet = ConfigDict()
    config.schnet.n_features = 64
    config.schnet.n_filters = 64
    config.schnet.n_interactions = 3
    config.schnet.n_gaussians = 25
    config.schnet.cutoff = 5.0  # Å
    config.nequip = ConfigDict()
    config.nequip.n_features = 32  # channels of each l, and of each parity
    config.nequip.l_max = 1
    config.nequip.parity = True
    config.nequip.n_layers = 4
    config.nequip.n_bessel = 8
    config.nequip.n_hidden = 64  # width of the network that weights messages by distance
    config.nequip.cutoff = 5.0  # Å
    config.mace = ConfigDict()
    config.mace.n_features = 32  # channels
    config.mace.l_max = 2  # of an atom's features before the products
    config.mace.hidden_l_max = 1  # of those that pass from layer to layer
    config.mace.correlation = 3  # factors in a product; messages are of body order one higher
    config.mace.n_layers = 2
    config.mace.n_bessel = 8
    config.mace.n_hidden = 64  # as above
    config.mace.n_readout = 16
    config.mace.cutoff = 5.0  # Å
    config.gemnet_t = ConfigDict()  # the paper's sizes
    config.gemnet_t.n_atom = 128  # features of an atom
    config.gemnet_t.n_edge = 128  # of an edge
    config.gemnet_t.n_triplet = 64
    config.gemnet_t.n_bilinear = 64
    config.gemnet_t.n_basis = 16
    config.gemnet_t.n_radial = 6  # Bessel functions
    config.gemnet_t.n_spherical = 7  # Legendre polynomials of the angle
    config.gemnet_t.n_blocks = 4
    config.gemnet_t.n_residual = 2
    config.gemnet_t.cutoff = 5.0  # Å
    config.zbl = ConfigDict()
    config.zbl.enabled = False  # a short-range repulsive prior under the network
    config.zbl.reach = 0.8  # of bonded pairs, in sums of covalent radii; below any sampled bond
    config.zbl.nonbonded_reach = 0.6  # of all other pairs, in sums of van der Waals radii

    # Objectives.
    config.mse = ConfigDict()
    config.mse.energy_weight = 0.05  # 1/eV², per molecule
    config.mse.force_weight = 0.95  # Å²/eV²
    config.crmse = ConfigDict()
    # λ on β(⟨U⟩_ref − ⟨U⟩_chains), beside the weights above with energies in eV. The paper's 0.015 is of
    # the order of 0.0056 here, at which the noise of both means costs accuracy, the more the better the
    # fit; the holes need no more than `fallen_weight` gives them.
    config.crmse.weight = 0.0005
    config.contrastive = ConfigDict()
    config.contrastive.sampler = "mala"  # what makes the negatives: mala | baoab | ula
    config.contrastive.n_chains = 32  # at each temperature
    # Levels that exchange with the chains, rising, in units of the data set's temperature; empty: none.
    config.contrastive.hotter = (1.4, 2.0)
    config.contrastive.n_steps = 50  # K, between two updates
    config.contrastive.restart_fraction = 0.0125  # of the chains, from data, at each update
    # Of the mean over chains more than 2 k_B T (in a box also 0.6 of their spread) below the frames that they
    # start from, on top of their share in the mean over all.
    config.contrastive.fallen_weight = 4.0
    config.contrastive.burn_in = 500  # steps before the first update; MALA tunes in them
    # Frames of the distribution where there are more of them than labels: a file like that of the data set
    # (without labels where ASE reads it), or a known set: the training frames of its split, or all where it
    # has none. Test frames among them are left out. Empty: the frames trained on, whose distribution is
    # learnt with its noise where they are few.
    config.contrastive.reference = ""

    config.crmse_stable = ConfigDict()
    config.crmse_stable.weight = (
        0.01  # of StABlE's loss, its energy and force errors among it, beside CRMSE's
    )

    config.stable = ConfigDict()
    # K, of the replicas; 0: the data set's. At another, targets are values for it, or means over the
    # reference or training frames, sampled at the data set's, with their energies' Boltzmann weights (A.9).
    config.stable.temperature = 0.0
    config.stable.sampler = "nose_hoover"  # nose_hoover | baoab
    config.stable.n_replicas = 64
    config.stable.n_steps = 2000  # t, of a window
    config.stable.record_every = 50  # steps between samples; divides n_steps
    config.stable.f_max = 0.75  # unstable share at which learning begins
    config.stable.f_min = 0.0  # and at which it ends
    config.stable.n_cycles = 4
    config.stable.max_learning_windows = 100  # a cycle; then what still breaks starts again from data
    config.stable.bond_deviation = 0.25  # Å, of any bond from its mean length; 0: not looked at
    config.stable.minimum_distance = 0.0  # Å, between atoms without a bond; 0: not looked at
    # Weights w_k in Σ w_k ‖⟨g_k⟩ − g_ref,k‖²; 0: not an observable.
    config.stable.observables = ConfigDict(
        {
            "distances": 1.0,
            "bond_lengths": 0.0,
            "mean_bond_length": 0.0,
            "angles": 0.0,
            "radial_distributions": 0.0,  # by elements, of a box
            "contacts": 0.0,  # of atoms without a bond that come too close
        }
    )
    config.stable.estimator = "global"  # global | local: each molecule is a sample, with its atoms' energies
    # Of the local estimator: bins of the deviation from the target, from each of which so many molecules
    # are drawn (the paper: 100 and 5), so that the few that break are not lost among the sound; 0: all. Not
    # with cross_fitted.
    config.stable.deviation_bins = 0
    config.stable.per_bin = 5
    # Targets by observable in an .npz, or frames whose means they are, named like contrastive.reference.
    # Empty: means over the frames trained on, whose noise is learnt with them where they are few.
    config.stable.reference = ""
    config.stable.cross_fitted = True  # two halves of the replicas; without, the noise of the means biases
    config.stable.max_uses = 1  # updates from one simulation, by reweighting
    config.stable.min_effective = 0.5  # effective share of the samples that this needs
    # λ_QM, on the energy and force errors above. Adam takes over moments of these errors with a weight of 1:
    # with 10 or more its steps are some 3 to 6 times too long over the first hundred windows, where the same
    # loss with λ_QM = 1 and observables' weights as much smaller has steps of the rate's length.
    config.stable.qm_weight = 10.0
    config.stable.plateau_patience = 10  # learning windows
    config.stable.plateau_factor = 0.2

    # `stable` with the choices of the code published with the paper, each of which can be undone; the
    # sampler is a single Nosé–Hoover thermostat, and the estimator is not cross-fitted.
    config.stable_compat = ConfigDict()
    config.stable_compat.drop_temperature = True  # no 1/(k_B T) in the estimator, whose energies are in eV
    config.stable_compat.minibatch = 40  # samples an estimate; 0: all in one
    config.stable_compat.target_shift = 0.01  # Å, of the target's h(r) at r = 0; as much back at its end
    config.stable_compat.relaxation = 10.0  # fs, 20 steps
    config.stable_compat.maxwell_speeds = True  # initial velocity components from Maxwell's speeds
    config.stable_compat.all_degrees_of_freedom = True  # the thermostat counts 3N instead of 3N − 3
    config.stable_compat.reset_fraction = 0.05  # of the stable replicas, before a simulation phase
    config.stable_compat.max_reductions = 2  # of the rate; learning ends at the next; 0: never for it

    # Samplers, by name; at the data set's temperature unless the objective or the evaluation says another.
    config.ula = ConfigDict({"step_size": 4e-4})  # Å²
    config.mala = ConfigDict({"step_size": 3e-4})  # Å², before tuning
    config.baoab = ConfigDict({"timestep": 0.5, "friction": 1.0})  # fs, 1/ps
    config.nose_hoover = ConfigDict({"timestep": 0.5, "relaxation": 50.0, "chain_length": 3})  # fs

    # Optimisation: learning rate from `initial` to `final` along a cosine.
    config.training = ConfigDict()
    config.training.batch_size = 50
    config.training.log_every = 100  # updates a row of the log; where nothing is sampled, a jitted call
    config.training.checkpoint_every = 500  # updates; a multiple of log_every
    # Without init_from:
    config.pre_training = ConfigDict()
    config.pre_training.optimiser = "adam"  # adam | sgd
    config.pre_training.n_updates = 9500
    config.pre_training.initial = 2e-3
    config.pre_training.final = 1e-5
    config.pre_training.clip_norm = 10.0  # of the gradient's global norm
    config.pre_training.average_decay = 0.0  # of the exponential moving average of the weights; 0: none
    # With init_from. These are CRMSE's: `train` takes `stable_post_training` below, and a row of the log for
    # each window, where --config.objective=stable comes with none of them changed.
    config.post_training = ConfigDict()
    config.post_training.optimiser = "adam"
    config.post_training.n_updates = 1500
    config.post_training.initial = 5e-4
    config.post_training.final = 1e-5
    # A few times the norm at the end of pre-training: a chain that falls into a deep hole must neither
    # throw the fit over nor fill Adam's second moments for a thousand updates.
    config.post_training.clip_norm = 0.1
    config.post_training.average_decay = 0.995
    # Moments from the end of pre-training are those of small gradients: without a rise of the rate the
    # first contrastive ones would make steps some ten times too long.
    config.post_training.warmup = 150  # updates
    # Share by which the validation frames' force MAE may rise before training ends; 0: any.
    config.post_training.max_force_rise = 0.0

    # Evaluation by simulation.
    config.evaluation = ConfigDict()
    config.evaluation.sampler = "baoab"
    config.evaluation.temperature = 0.0  # K; 0: the data set's
    # File of statistics made by experiments.reference; empty: the package's at that temperature, or else
    # the data set's frames. Without any at that temperature stability alone is judged.
    config.evaluation.reference = ""
    config.evaluation.n_chains = 64  # from held-out frames
    config.evaluation.n_steps = 200_000  # 100 ps at 0.5 fs
    config.evaluation.record_every = 100  # steps
    config.evaluation.discard = 0.1  # share of each chain left out of distributions
    config.evaluation.seed = 1  # of the fresh chains
    config.evaluation.vacf_lags = 0  # steps, of the velocity autocorrelation; 0: none
    config.evaluation.bond_deviation = 0.5  # Å, of any bond from its mean length: a broken replica
    # Å, ∫|g − g_ref| dr over 1 ps for any two elements of a box: a liquid whose structure broke down
    config.evaluation.rdf_deviation = 3.0
    config.evaluation.spurious_margin = 2.0  # kcal/mol below the lowest reference energy
    # Dihedrals as 0-based quadruples such as "3-2-0-1"; empty: found from the bonds.
    config.evaluation.dihedrals = ()
    # The molecule equals its mirror image up to rotation: φ and −φ are pooled.
    config.evaluation.achiral = False
    # True energies of the negatives, by the engine that labelled the data; empty: none.
    config.evaluation.engine = ""
    return config


def stable_post_training(optimiser: str, rate: float) -> dict[str, Any]:
    """Post-training by StABlE: an update a window, of simulation or of learning, at one rate until a plateau
    of the unstable share lowers it, clipped as in the paper (A.5)."""
    return {
        "optimiser": optimiser,
        "n_updates": 400,
        "initial": rate,
        "final": rate,
        "clip_norm": 1.0,
        "average_decay": 0.0,
        "warmup": 0,
    }
