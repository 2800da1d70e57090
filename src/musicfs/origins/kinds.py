"""Finding a kind of origin by its name, among the installed ones."""

from __future__ import annotations

from musicfs.config import OriginConfig, kind_entry_points
from musicfs.errors import UsageError
from musicfs.origins.base import Origin, OriginKind


def find_kind(name: str) -> OriginKind:
    """The kind called `name`. Raises UsageError when it is not installed, with what is."""
    installed = kind_entry_points()
    if name in installed:
        kind: OriginKind = installed[name].load()
        return kind
    raise UsageError(f"The origin kind {name!r} is not installed: use one of {', '.join(sorted(installed))}.")


def open_origin(config: OriginConfig, *, populated: bool) -> Origin:
    """A driver for one configured origin (see base.OpenOrigin). Raises UsageError as `find_kind` does."""
    return find_kind(config.origin_type).open(config, populated=populated)
