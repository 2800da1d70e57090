"""Finding a kind of origin by its name, among the installed ones."""

from __future__ import annotations

from musicfs.config import Config, OriginConfig
from musicfs.config_kinds import kind_entry_points, load_kind
from musicfs.errors import UsageError, UserError
from musicfs.origins.base import Origin, OriginKind


def find_kind(name: str) -> OriginKind:
    """The kind called `name`. Raises UsageError when it is not installed, with what is, or can't be loaded."""
    installed = kind_entry_points()
    if name in installed:
        kind: OriginKind = load_kind(installed[name])
        return kind
    raise UsageError(f"The origin kind {name!r} is not installed: use one of {', '.join(sorted(installed))}.")


def open_origin(config: OriginConfig, *, populated: bool) -> Origin:
    """A driver for one configured origin (see base.OpenOrigin).

    Raises UsageError as `find_kind` does, and UserError when a library is missing.
    """
    kind = find_kind(config.origin_type)
    if missing := kind.missing(config):
        raise UserError(missing)
    return kind.open(config, populated=populated)


def missing_libraries(config: Config) -> list[str]:
    """A sentence for each enabled origin whose library is not installed."""
    found = (find_kind(origin.origin_type).missing(origin) for origin in config.origins if origin.enabled)
    return [sentence for sentence in found if sentence]
