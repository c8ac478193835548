"""rMD17 ethanol, split 01, with the CRMSE paper's protocol: ULA, η = 4e-4 Å², K = 200."""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config() -> ConfigDict:
    """950 frames to train, 50 to validate, the split's 1,000 test frames."""
    config = base.get_config()
    config.dataset.name = "rmd17_ethanol_01"
    config.contrastive.sampler = "ula"
    config.contrastive.restart_fraction = 0.0
    return config
