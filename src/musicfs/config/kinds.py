"""Finds the installed kinds of origin through the entry-point group `musicfs.origins`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import SplitResult

from pydantic import BaseModel

from musicfs.config.models import Config, OriginConfig
from musicfs.errors import UsageError, UserError
from musicfs.model import OriginType
from musicfs.origin import INTERFACE_VERSION, Origin


class OpenOrigin(Protocol):
    """Makes a driver for one configured origin. It is cheap and opens nothing.

    populated: the catalogue has files of this origin, so an empty root is a failure and not an empty library.
    """

    def __call__(self, config: OriginConfig, *, populated: bool) -> Origin: ...


@dataclass(frozen=True, slots=True)
class OriginKind:
    """A kind of origin: the object that an entry point of the group `musicfs.origins` names.

    Attributes:
        name: what `origin_type` says in a configuration.
        settings: the kind's own configuration keys, as a pydantic model that forbids extra keys.
        open: makes a driver.
        remote: the origin is reached over a network, so several failures, not one, make it unhealthy.
        schemes: of the URLs that `--origin` takes for this kind.
        from_url: the settings that such a URL stands for. Raises ValueError, with what is wrong and the remedy, for a
            URL that it can't use, and for one that holds a password.
        missing: a sentence that names the library that the origin needs and that is not installed, with the remedy;
            None when everything is there.
        server: the server that an origin with these settings connects to, as "host" or "host:port"; None when there is
            none to name. An origin at a server that the configuration does not have yet can't be added from another
            machine; a kind without this function can't be added from there at all.
        interface: the version of the plugin interface (origin.INTERFACE_VERSION) that the kind is written for.
    """

    name: OriginType
    settings: type[BaseModel]
    open: OpenOrigin
    remote: bool
    schemes: tuple[str, ...] = ()
    from_url: Callable[[SplitResult], dict[str, object]] | None = None
    missing: Callable[[OriginConfig], str | None] = lambda config: None
    server: Callable[[Mapping[str, Any]], str | None] = lambda settings: None
    interface: int = 1


@cache
def kind_entry_points() -> Mapping[str, EntryPoint]:
    """Returns the kinds of origin by name, as they were installed at the first call; `load_kind` imports one.

    It reads a file of each installed package.
    """
    return {entry.name: entry for entry in entry_points(group="musicfs.origins")}


def load_kind(entry: EntryPoint) -> OriginKind:
    """Imports a kind.

    Raises:
        UsageError: it can't be imported, is no OriginKind, or is written for a newer interface. The message names the
            package and the remedy.
    """
    package = entry.dist.name if entry.dist else entry.value
    what = f"the kind {entry.name!r} of the package {package}"
    upgrade, remove = f"`pip install --upgrade {package}`", f"`pip uninstall {package}`"
    try:
        kind = entry.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{what} can't be loaded ({reason}): {upgrade} may repair it, {remove} removes it") from error
    if not isinstance(kind, OriginKind):
        found = f"its entry point names a {type(kind).__name__}, not an OriginKind"
        raise UsageError(f"{what} can't be used: {found}; {upgrade} may repair it, {remove} removes it")
    if kind.interface > INTERFACE_VERSION:
        needs = f"it needs version {kind.interface} of the plugin interface, and this MusicFS has {INTERFACE_VERSION}"
        raise UsageError(f"{what} can't be used: {needs}; `pip install --upgrade musicfs` may repair it")
    return kind


def kinds_of_scheme(scheme: str) -> Iterator[OriginKind]:
    """Yields the kinds that take URLs of this scheme.

    Raises UsageError, after all others, for one that can't be loaded, so its schemes are not known.
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
    """Returns the model of an installed kind's own settings. Raises UsageError if it is not installed or can't be
    loaded."""
    installed = kind_entry_points()
    if kind in installed:
        return load_kind(installed[kind]).settings
    raise UsageError(f"use one of {', '.join(sorted(installed))}")


def find_kind(name: str) -> OriginKind:
    """Returns the kind called `name`. Raises UsageError when it is not installed, with those that are, or can't be
    loaded."""
    installed = kind_entry_points()
    if name in installed:
        return load_kind(installed[name])
    raise UsageError(f"The origin kind {name!r} is not installed: use one of {', '.join(sorted(installed))}.")


def open_origin(config: OriginConfig, *, populated: bool) -> Origin:
    """Returns a driver for one configured origin (see OpenOrigin).

    Raises UsageError as `find_kind` does, and UserError when a library is missing.
    """
    kind = find_kind(config.origin_type)
    if missing := kind.missing(config):
        raise UserError(missing)
    return kind.open(config, populated=populated)


def missing_libraries(config: Config) -> list[str]:
    """Returns a sentence for each enabled origin whose library is not installed."""
    found = (find_kind(origin.origin_type).missing(origin) for origin in config.origins if origin.enabled)
    return [sentence for sentence in found if sentence]


def missing_extra(config: OriginConfig, module: str, extra: str) -> str | None:
    """Returns the sentence of OriginKind.missing for a Python library that one of our extras installs."""
    if find_spec(module) is not None:
        return None
    return f"Origin {config.id!r} needs the library {module}: `pip install 'musicfs[{extra}]'` installs it."
