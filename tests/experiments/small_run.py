"""A run of the package's ethanol that takes seconds."""

import sys

from experiments import binary
from experiments.configs import ethanol
from experiments.train import prepare, train


def small(**changes):
    """The package's ethanol, shrunk to seconds."""
    config = ethanol.get_config()
    config.dataset.train, config.dataset.validation, config.dataset.test = 60, 20, 20
    config.schnet.n_features = config.schnet.n_filters = 16
    config.schnet.n_interactions = 1
    config.training.batch_size = 20
    config.training.log_every = config.training.checkpoint_every = 10
    config.pre_training.n_updates = 60
    config.post_training.n_updates = 60
    config.post_training.warmup = 10
    config.contrastive.n_chains, config.contrastive.n_steps, config.contrastive.burn_in = 6, 5, 20
    # Bonds that leave a range they can not keep to: learning begins at once and goes on.
    config.stable.n_replicas, config.stable.n_steps, config.stable.record_every = 6, 20, 10
    config.stable.bond_deviation, config.stable.max_learning_windows = 0.03, 1000
    config.update_from_flattened_dict(changes)
    return config


def run(config, workdir):
    problem, objective = prepare(config)
    return train(config, problem, objective, binary.claim_workdir(str(workdir), config))


def flags_of(config):
    base = ethanol.get_config()
    pairs = {}

    def walk(new, old, prefix):
        for key in new:
            if hasattr(new[key], "keys"):
                walk(new[key], old[key], f"{prefix}{key}.")
            elif new[key] != old[key]:
                pairs[f"{prefix}{key}"] = new[key]

    walk(config, base, "")
    return [f"--config.{key}={value}" for key, value in pairs.items()]


def command(config, workdir):
    return [sys.executable, "-m", "experiments.train", f"--workdir={workdir}", *flags_of(config)]
