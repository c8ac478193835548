"""Your own molecule: set dataset.path, dataset.temperature and the numbers of frames by flag."""

from ml_collections import ConfigDict

from experiments.configs import base


def get_config() -> ConfigDict:
    """The base configuration as it stands."""
    return base.get_config()
