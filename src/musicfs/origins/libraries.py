"""Libraries that only some kinds need: optional, imported when a driver is used, and told of when they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from musicfs.config import OriginConfig


def missing_extra(config: OriginConfig, module: str, extra: str) -> str | None:
    """What OriginKind.missing gives for a Python library that one of our extras installs."""
    if find_spec(module) is not None:
        return None
    return f"Origin {config.id!r} needs the library {module}: `pip install 'musicfs[{extra}]'` installs it."
