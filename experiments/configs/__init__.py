"""Configurations: `get_config()` in each module."""
