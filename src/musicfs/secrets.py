"""Kept for plugins: the names of `musicfs.config.secrets`. New code imports from there."""

from musicfs.config.secret_variables import variable_of
from musicfs.config.secrets import find_secret, secret_of

__all__ = [
    "find_secret",
    "secret_of",
    "variable_of",
]
