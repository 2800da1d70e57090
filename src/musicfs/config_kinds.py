"""The installed kinds of origin, which are found through the entry-point group `musicfs.origins`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from musicfs.errors import UsageError
from musicfs.model import OriginType


def kind_entry_points() -> dict[str, EntryPoint]:
    """The installed kinds of origin by name; `load_kind` makes one an `OriginKind`."""
    return {entry.name: entry for entry in entry_points(group="musicfs.origins")}


def load_kind(entry: EntryPoint) -> Any:
    """Its `OriginKind`, which is declared above this module, in origins/base.py.

    Raises UsageError, which names the package, for one that can't be loaded: a plugin may be broken or too old.
    """
    try:
        return entry.load()
    except Exception as error:
        package = entry.dist.name if entry.dist else entry.value
        reason = f"{type(error).__name__}: {error}"
        remedy = f"`pip install --upgrade {package}` may mend that, `pip uninstall {package}` ends it"
        told = f"the kind {entry.name!r} of the package {package} can't be loaded ({reason})"
        raise UsageError(f"{told}: {remedy}") from error


def kinds_of_scheme(scheme: str) -> Iterator[Any]:
    """The `OriginKind`s that take URLs of this scheme.

    Raises UsageError, after all others, for one that can't be loaded and so can't be asked.
    """
    broken: UsageError | None = None
    for entry in kind_entry_points().values():
        try:
            kind = load_kind(entry)
        except UsageError as error:
            broken = error
            continue
        if scheme.lower() in kind.schemes:
            yield kind
    if broken is not None:
        raise broken


def installed_settings(kind: OriginType) -> type[BaseModel]:
    """The model of an installed kind's own settings. Raises UsageError if it is not known or can't be loaded."""
    installed = kind_entry_points()
    if kind in installed:
        model: type[BaseModel] = load_kind(installed[kind]).settings
        return model
    raise UsageError(f"use one of {', '.join(sorted(installed))}")
