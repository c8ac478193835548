"""rMD17 aspirin, split 01, with the CRMSE paper's sampling."""

from ml_collections import ConfigDict

from experiments.configs import rmd17_ethanol


def get_config() -> ConfigDict:
    """As for ethanol."""
    config = rmd17_ethanol.get_config()
    config.dataset.name = "rmd17_aspirin_01"
    return config
