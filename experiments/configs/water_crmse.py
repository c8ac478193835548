"""CRMSE of a box of water, after `water.py`'s training on energies and forces.

python -m experiments.train --config=experiments/configs/water_crmse.py --workdir=W1 --config.init_from=W0 \
    --config.dataset.path=water.extxyz --config.dataset.test_path=water_test.extxyz
"""

from ml_collections import ConfigDict

from experiments.configs import water

# A box's energy spreads by 24 k_B T: the means over frames and over chains want more than a frame each, and
# hotter levels would not exchange. What lifts the potential under the chains heats them, faster than a
# friction of 1/ps cools.
CHANGES = {
    "objective": "crmse",
    "crmse.weight": 0.0005,
    "contrastive.fallen_weight": 0.0,
    "baoab.friction": 20.0,
    "contrastive.sampler": "baoab",
    "contrastive.n_chains": 8,
    "contrastive.n_steps": 10,
    "contrastive.burn_in": 0,
    "contrastive.hotter": (),
    "contrastive.restart_fraction": 0.02,
    "training.batch_size": 8,
    "training.log_every": 10,
    "training.checkpoint_every": 10,
    "post_training.optimiser": "adam",
    "post_training.n_updates": 300,
    "post_training.initial": 1e-4,
    "post_training.final": 1e-5,
    "post_training.warmup": 10,
}


def get_config() -> ConfigDict:
    """8 chains of BAOAB, 10 steps an update, 300 updates by Adam."""
    config = water.get_config()
    config.update_from_flattened_dict(CHANGES)
    return config
