"""Ac-Ala3-NHMe with a NequIP that two cores can train and simulate, on frames of one's own.

python -m experiments.reference --molecule=ac-ala3-nhme --engine=gfn2 --output=runs/peptide.npz \
    --chains=8 --picoseconds=3 --equilibration=1 --frames=950,50,400
python -m experiments.study --study=peptide --frames=950 --seeds=0 --workdir=runs --output=results
"""

from ml_collections import ConfigDict

from experiments.configs import peptide


def get_config() -> ConfigDict:
    """Two layers of 16 features, 27,000 parameters; 8 chains of 5 ps judge."""
    config = peptide.get_config()
    config.nequip.n_layers = 2
    config.nequip.n_features = 16
    config.pre_training.n_updates = 9000
    config.training.batch_size = 4
    config.stable.n_replicas = 8
    config.stable.n_steps = 500
    config.stable.record_every = 25
    config.post_training.n_updates = 80  # windows
    config.evaluation.n_chains = 8
    config.evaluation.n_steps = 10_000  # 5 ps
    config.evaluation.record_every = 20
    return config
