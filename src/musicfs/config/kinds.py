"""The installed kinds of origin, which are found through the entry-point group `musicfs.origins`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import SplitResult

from pydantic import BaseModel

from musicfs.config.models import Config, OriginConfig
from musicfs.errors import UsageError, UserError
from musicfs.model import OriginType
from musicfs.origin import Origin


class OpenOrigin(Protocol):
    """Makes a driver for one configured origin. Cheap: it opens nothing yet.

    populated: the catalogue knows files of this origin, so an empty root is a failure and not an empty library.
    """

    def __call__(self, config: OriginConfig, *, populated: bool) -> Origin: ...


@dataclass(frozen=True, slots=True)
class OriginKind:
    """How a kind of origin joins: the object that an entry point of the group `musicfs.origins` names.

    settings: the kind's own configuration keys, as a pydantic model with extra keys forbidden.
    remote: reached over a network, so that several failures, not one, make it unhealthy.
    schemes: of the URLs that `--origin` takes for this kind; from_url: the settings that such a URL stands for.
    It raises ValueError, with what is wrong and the remedy, for a URL that it can't use; one that holds a password
    is among them.
    missing: a sentence that names the library that the origin needs and that is not installed, with the remedy.
    server: the server, as "host" or "host:port", that an origin with these settings speaks to; None: none that can be
    named. An origin at a server that the configuration does not have yet can't be added from another machine; without
    this function none of the kind can.
    """

    name: OriginType
    settings: type[BaseModel]
    open: OpenOrigin
    remote: bool
    schemes: tuple[str, ...] = ()
    from_url: Callable[[SplitResult], dict[str, object]] | None = None
    missing: Callable[[OriginConfig], str | None] = lambda config: None
    server: Callable[[Mapping[str, Any]], str | None] = lambda settings: None


def kind_entry_points() -> dict[str, EntryPoint]:
    """The installed kinds of origin by name; `load_kind` makes one an `OriginKind`."""
    return {entry.name: entry for entry in entry_points(group="musicfs.origins")}


def load_kind(entry: EntryPoint) -> Any:
    """Its `OriginKind`.

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


def find_kind(name: str) -> OriginKind:
    """The kind called `name`. Raises UsageError when it is not installed, with what is, or can't be loaded."""
    installed = kind_entry_points()
    if name in installed:
        kind: OriginKind = load_kind(installed[name])
        return kind
    raise UsageError(f"The origin kind {name!r} is not installed: use one of {', '.join(sorted(installed))}.")


def open_origin(config: OriginConfig, *, populated: bool) -> Origin:
    """A driver for one configured origin (see OpenOrigin).

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


def missing_extra(config: OriginConfig, module: str, extra: str) -> str | None:
    """What OriginKind.missing gives for a Python library that one of our extras installs."""
    if find_spec(module) is not None:
        return None
    return f"Origin {config.id!r} needs the library {module}: `pip install 'musicfs[{extra}]'` installs it."
