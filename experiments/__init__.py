"""absl binaries, configurations, data sets, metrics and figures of boltzfit."""
