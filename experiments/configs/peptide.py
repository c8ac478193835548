"""Ac-Ala3-NHMe, 42 atoms: NequIP and StABlE training with the paper's settings (A.5, A.6).

python -m experiments.train --config=experiments/configs/peptide.py --workdir=W0      # MD22, downloaded
python -m experiments.train --config=experiments/configs/peptide.py --workdir=W1 \
    --config.objective=stable --config.init_from=W0 \
    --config.training.log_every=1 --config.training.checkpoint_every=10

or on a reference of one's own, from which everything but the data set's name is the same:

python -m experiments.reference --molecule=ac-ala3-nhme --engine=gfn2 --output=peptide.npz
python -m experiments.train --config=experiments/configs/peptide.py --workdir=W0 \
    --config.dataset.name= --config.dataset.path=peptide.npz
"""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config() -> ConfigDict:
    """500 K, 0.5 fs, Nosé–Hoover; NequIP of 3 layers, l = 1 and 32 features within 5 Å; SGD with 0.001,
    windows of 2,000 steps, 48 replicas, h(r)."""
    config = base.get_config()
    config.potential = "nequip"
    config.dataset.name = "md22_Ac-Ala3-NHMe"
    config.dataset.temperature = 500.0
    config.nequip.n_layers = 3
    config.training.batch_size = 10
    config.training.log_every = 20
    config.training.checkpoint_every = 100
    config.stable.n_replicas = 48
    config.stable.record_every = 100
    config.stable.observables.distances = 3.2  # for theirs of 1, see objectives/stable_compat.py
    config.post_training.update(base.stable_post_training("sgd", 1e-3))
    config.evaluation.sampler = "nose_hoover"
    config.evaluation.n_chains = 48
    config.evaluation.n_steps = 600_000  # 300 ps
    return config
