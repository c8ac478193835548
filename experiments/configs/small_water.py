"""The box of water with a GemNet-T that two cores can train and simulate.

python -m experiments.water --output=runs/water.extxyz
python -m experiments.study --study=water --frames=950 --seeds=0 --workdir=runs --output=results
"""

from ml_collections import ConfigDict

from experiments.configs import water


def get_config() -> ConfigDict:
    """One block of 32 features within 3.5 Å, 38,000 parameters; 4 chains of 10 ps judge, too short for a
    diffusion coefficient to quote: its fit ends at 2.25 ps."""
    config = water.get_config()
    config.gemnet_t.n_atom = 32
    config.gemnet_t.n_edge = 32
    config.gemnet_t.n_triplet = 16
    config.gemnet_t.n_bilinear = 16
    config.gemnet_t.n_blocks = 1
    config.gemnet_t.cutoff = 3.5
    config.pre_training.n_updates = 6000
    config.pre_training.initial = 1e-3
    config.training.batch_size = 1
    config.stable.n_replicas = 4
    config.stable.n_steps = 500
    config.stable.record_every = 25
    config.evaluation.n_chains = 4
    config.evaluation.n_steps = 10_000  # 10 ps
    config.evaluation.record_every = 10
    return config
