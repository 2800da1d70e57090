"""Changing the configuration of a running mount: what is asked for takes effect at once, and is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from musicfs.config.edit import ConfigFile
from musicfs.config.kinds import find_kind
from musicfs.config.load import LoadedConfig, setting_variables
from musicfs.config.models import Config, OriginConfig
from musicfs.config.secret_variables import collision
from musicfs.config.sources import SECRET_KEYS
from musicfs.errors import ConfigError, UsageError, UserError
from musicfs.model import OriginId

_NOTHING: Mapping[str, object] = MappingProxyType({})
_MAX_PRIORITY = 255
# What a mount keeps from its start to its end, by attribute, and how the user knows it.
_FIXED = {
    "mount_point": "mount_point",
    "cache_dir": "cache_dir",
    "cache": "[cache]",
    "tree": "tree.template",
    "mount": "[mount]",
    "control": "[control]",
    "log": "[log]",
    "webhooks": "[[webhooks]]",
}


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where a configuration came from, and so where it is read again.

    file: absolute; None: there was none. overrides: what the command line said, by dotted keys. read: makes a
    configuration of both; raises ConfigError.
    """

    file: Path | None
    overrides: Mapping[str, object]
    read: Callable[[Path | None, Mapping[str, object]], LoadedConfig] = field(repr=False)

    @property
    def origins_file(self) -> Path | None:
        """The file that the origins are from; None: they were given on the command line."""
        return None if "origins" in self.overrides else self.file


class Reconfiguring:
    """What may be asked of a running mount's configuration. One change is made at a time.

    Every method returns sentences that say what was done, and raises `UserError`, or `MusicFSError` of a driver that
    can't be made, when nothing was. source: None: the configuration was made by a program and can't be read again.
    """

    def __init__(
        self, current: Callable[[], Config], apply: Callable[[Config], Awaitable[None]], source: ConfigSource | None
    ) -> None:
        self._current = current
        self._apply = apply
        self._source = source
        self._turn = asyncio.Lock()

    async def reload(self) -> list[str]:
        """Reads the configuration again and applies what is different."""
        async with self._turn:
            source, before = self._source, self._current()
            if source is None or source.file is None:
                raise UserError("This mount was made without a configuration file, so there is nothing to read again.")
            wanted = (await asyncio.to_thread(_read, source, source.overrides)).config
            if source.origins_file is None:
                wanted = wanted.model_copy(update={"origins": before.origins})
            elif wanted.mount.allow_other != before.mount.allow_other:
                # Which links are followed depends on who sees the mount as it is, not on who is to see the next one.
                as_mounted = {**source.overrides, **_who_sees(before)}
                origins = (await asyncio.to_thread(_read, source, as_mounted)).config.origins
                wanted = wanted.model_copy(update={"origins": origins})
            await self._apply(wanted)
            return differences(before, wanted) or ["Nothing has changed."]

    async def add(self, table: Mapping[str, object], *, local: bool = True) -> list[str]:
        """table: as one of [[origins]]. Without a priority it goes after all others.

        local: whether this user asks, on this machine. A caller elsewhere may name neither a file or a folder of this
        machine, nor a server that the configuration does not have yet: it would be shown what only this user may see.
        """
        async with self._turn:
            before = self._current()
            if secret := sorted(SECRET_KEYS & table.keys()):
                raise UserError(f"{secret[0]} is not taken this way: name a file that holds it with {secret[0]}_file.")
            table = {"priority": lowest_priority(before.origins)} | dict(table)
            if any(config.id == table.get("id") for config in before.origins):
                raise UserError(f"There is an origin {table['id']!r} already: choose another id.")
            self._has_variables_of_its_own(before, str(table.get("id")))
            config = await asyncio.to_thread(self._checked, before, table)
            if not local and (reason := not_from_elsewhere(before.origins, config)):
                raise UserError(reason)
            wanted = before.model_copy(update={"origins": (*before.origins, config)})
            written = await self._change(wanted, lambda file: file.add(table))
            done = f"Origin {config.id!r} is added with priority {config.priority}; its music appears as it is scanned."
            return [done, written]

    async def remove(self, id: str) -> list[str]:
        async with self._turn:
            before = self._current()
            self._known(before, id)
            if len(before.origins) == 1:
                raise UserError(f"Origin {id!r} is the only one: add another first, or unmount.")
            left = tuple(config for config in before.origins if config.id != id)
            written = await self._change(before.model_copy(update={"origins": left}), lambda file: file.remove(id))
            return [f"Origin {id!r} is removed; what only it had has gone from the tree.", written]

    async def enable(self, id: str, enabled: bool) -> list[str]:
        done = "takes part again" if enabled else "takes no part any more, and what only it had has gone from the tree"
        return await self._set(id, "enabled", enabled, done)

    async def set_priority(self, id: str, priority: object) -> list[str]:
        if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= _MAX_PRIORITY:
            raise UserError(f"A priority is a whole number from 0 to {_MAX_PRIORITY}; lower is preferred.")
        return await self._set(id, "priority", priority, f"has priority {priority} now")

    async def _set(self, id: str, key: str, value: int | bool, done: str) -> list[str]:
        async with self._turn:
            before = self._current()
            self._known(before, id)
            origins = tuple(c.model_copy(update={key: value}) if c.id == id else c for c in before.origins)
            wanted = before.model_copy(update={"origins": origins})
            return [f"Origin {id!r} {done}.", await self._change(wanted, lambda file: file.set(id, key, value))]

    def _known(self, config: Config, id: str) -> None:
        ids = [origin.id for origin in config.origins]
        if OriginId(id) not in ids:
            raise UserError(f"There is no origin {id!r}; there are: {', '.join(ids)}.")

    def _has_variables_of_its_own(self, config: Config, id: str) -> None:
        taken = [*(origin.id for origin in config.origins), *(webhook.id for webhook in config.webhooks)]
        if problem := collision(id, taken, setting_variables()):
            raise UserError(problem)

    def _checked(self, before: Config, table: Mapping[str, object]) -> OriginConfig:
        if self._source is None:
            raise UserError("This mount was made by a program that says itself which origins there are.")
        overrides = {
            "mount_point": before.mount_point, "cache_dir": before.cache_dir, "origins": [dict(table)],
            **_who_sees(before),
        }  # fmt: skip
        return _read(self._source, {**self._source.overrides, **overrides}).config.origins[0]

    async def _change(self, wanted: Config, edit: Callable[[ConfigFile], None]) -> str:
        """Applies it, and writes it down; how that went. What can't be written for sure is refused before."""
        path = self._source.origins_file if self._source is not None else None
        if path is None:
            await self._apply(wanted)
            return "The origins of this mount were not read from a file, so this lasts until it is unmounted."
        file = await asyncio.to_thread(ConfigFile.read, path)
        edit(file)
        file.text()
        await self._apply(wanted)
        try:
            await asyncio.to_thread(file.save)
        except UserError as error:
            return f"{error} So this lasts until the mount ends, or is reloaded."
        return f"{path} says so too."


def _read(source: ConfigSource, overrides: Mapping[str, object]) -> LoadedConfig:
    try:
        return source.read(source.file, overrides)
    except ConfigError as error:
        raise UserError(" ".join((*error.problems, "Nothing was changed."))) from error


def _who_sees(config: Config) -> dict[str, object]:
    """The settings that the defaults of origins depend on."""
    return {"mount.allow_other": config.mount.allow_other}


def not_from_elsewhere(known: Sequence[OriginConfig], config: OriginConfig) -> str:
    """Why only this user, on this machine, may add the origin; empty when a caller elsewhere may, too."""
    remedy = "add it with `musicfs origin add` or the configuration file, on that machine"
    for name, value in config.settings.items():
        if value is not None and (isinstance(value, Path) or name.endswith("_file")):
            return f"{name} names a file or a folder of the mount's machine, which is not taken over TCP: {remedy}."
    server = find_kind(config.origin_type).server(config.settings)
    if server is None or server not in {_server_of(origin) for origin in known}:
        where = f"the server {server}" if server else f"an origin of the kind {config.origin_type}"
        return f"{where} is new to the configuration, which is not taken over TCP: {remedy}."
    return ""


def _server_of(config: OriginConfig) -> str | None:
    try:
        return find_kind(config.origin_type).server(config.settings)
    except UsageError:  # of a kind that is not installed
        return None


def lowest_priority(origins: Sequence[OriginConfig]) -> int:
    """The one for an origin that goes after all of these."""
    return min(max((config.priority for config in origins), default=0) + 1, _MAX_PRIORITY)


def differences(before: Config, after: Config) -> list[str]:
    """What applying `after` changes, and what it can't, in sentences."""
    was = {config.id: config for config in before.origins}
    will = {config.id: config for config in after.origins}
    told = [f"Origin {id!r} is removed." for id in was if id not in will]
    for id, config in will.items():
        old = was.get(id)
        if old is None:
            told.append(f"Origin {id!r} is added{'' if config.enabled else ', but disabled'}.")
            continue
        if not config.same_driver(old):
            told.append(f"Origin {id!r} is replaced, since its settings are others.")
        if config.enabled != old.enabled:
            told.append(f"Origin {id!r} {'takes part again' if config.enabled else 'takes no part any more'}.")
        if config.priority != old.priority:
            told.append(f"Origin {id!r} has priority {config.priority} now.")
    told += [f"The {name} settings are others now." for name in ("health", "retry") if _differ(before, after, name)]
    if fixed := [shown for name, shown in _FIXED.items() if _differ(before, after, name)]:
        told.append(f"What can't change while mounted stays as it is: {', '.join(fixed)}; for that, mount anew.")
    return told


def _differ(before: Config, after: Config, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))
