"""Changes of a running mount's configuration: each takes effect at once and is written to the configuration file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from musicfs.app.current_config import CurrentConfig
from musicfs.config.kinds import find_kind
from musicfs.config.load import LoadedConfig, setting_variables
from musicfs.config.models import Config, OriginConfig
from musicfs.config.secret_variables import collision
from musicfs.config.sources import SECRET_KEYS
from musicfs.errors import ConfigError, UsageError, UserError
from musicfs.model import OriginId

if TYPE_CHECKING:
    from musicfs.config.edit import ConfigFile

_NOTHING: Mapping[str, object] = MappingProxyType({})
_MAX_PRIORITY = 255
# The settings that a mount keeps from its start to its end: the attribute, and the name that users know.
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
    """Where a configuration came from, so that it can be read again.

    Args:
        file: An absolute path; None when there was no file.
        overrides: The settings of the command line, by dotted key.
        read: Makes a configuration of both. Raises ConfigError.
    """

    file: Path | None
    overrides: Mapping[str, object]
    read: Callable[[Path | None, Mapping[str, object]], LoadedConfig] = field(repr=False)

    @property
    def origins_file(self) -> Path | None:
        """The file that has the origins; None when the command line gave them."""
        return None if "origins" in self.overrides else self.file


class LiveConfig:
    """The changes that users can make to the configuration of a running mount, one at a time.

    Every method returns sentences that say what changed. When it raises `UserError`, or `MusicFSError` because an
    origin can't be opened, nothing has changed.

    Args:
        current: The configuration in effect.
        apply: Puts another configuration in effect.
        source: Where the configuration is read again; None when a program made it.
    """

    def __init__(
        self, current: CurrentConfig, apply: Callable[[Config], Awaitable[None]], source: ConfigSource | None
    ) -> None:
        self._current = current
        self._apply = apply
        self._source = source
        self._turn = asyncio.Lock()

    async def reload(self) -> list[str]:
        """Reads the configuration again and applies the differences."""
        async with self._turn:
            source, before = self._source, self._current.value
            if source is None or source.file is None:
                raise UserError("This mount was made without a configuration file, so there is nothing to read again.")
            wanted = (await asyncio.to_thread(_read, source, source.overrides)).config
            if source.origins_file is None:
                wanted = wanted.model_copy(update={"origins": before.origins})
            elif wanted.mount.allow_other != before.mount.allow_other:
                # Which links are followed depends on who can see this mount, not on who will see the next one.
                as_mounted = {**source.overrides, **_who_sees(before)}
                origins = (await asyncio.to_thread(_read, source, as_mounted)).config.origins
                wanted = wanted.model_copy(update={"origins": origins})
            await self._apply(wanted)
            return differences(before, wanted) or ["Nothing has changed."]

    async def add(self, table: Mapping[str, object], *, local: bool = True) -> list[str]:
        """Adds an origin.

        A caller elsewhere may name neither a file or folder of this machine nor a server that is new to the
        configuration: it would see what only this user may see.

        Args:
            table: The settings, as a table of [[origins]]. Without a priority the origin goes after all others.
            local: Whether the caller is this user, on this machine.
        """
        async with self._turn:
            before = self._current.value
            if secret := sorted(SECRET_KEYS & table.keys()):
                raise UserError(f"{secret[0]} can't be set this way: name a file that holds it with {secret[0]}_file.")
            table = {"priority": lowest_priority(before.origins)} | dict(table)
            if any(config.id == table.get("id") for config in before.origins):
                raise UserError(f"An origin {table['id']!r} already exists: choose another id.")
            self._check_variables(before, str(table.get("id")))
            config = await asyncio.to_thread(self._checked, before, table)
            if not local and (reason := not_from_elsewhere(before.origins, config)):
                raise UserError(reason)
            wanted = before.model_copy(update={"origins": (*before.origins, config)})
            written = await self._change(wanted, lambda file: file.add(table))
            done = f"Origin {config.id!r} is added with priority {config.priority}; its music appears as it is scanned."
            return [done, written]

    async def remove(self, id: str) -> list[str]:
        async with self._turn:
            before = self._current.value
            self._known(before, id)
            if len(before.origins) == 1:
                raise UserError(f"Origin {id!r} is the only one: add another first, or unmount.")
            left = tuple(config for config in before.origins if config.id != id)
            written = await self._change(before.model_copy(update={"origins": left}), lambda file: file.remove(id))
            return [f"Origin {id!r} is removed; the files that only it had have left the tree.", written]

    async def enable(self, id: str, enabled: bool) -> list[str]:
        done = "is enabled" if enabled else "is disabled, and the files that only it had have left the tree"
        return await self._set(id, "enabled", enabled, done)

    async def set_priority(self, id: str, priority: object) -> list[str]:
        if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= _MAX_PRIORITY:
            raise UserError(f"A priority is a whole number from 0 to {_MAX_PRIORITY}; lower is preferred.")
        return await self._set(id, "priority", priority, f"now has priority {priority}")

    async def _set(self, id: str, key: str, value: int | bool, done: str) -> list[str]:
        async with self._turn:
            before = self._current.value
            self._known(before, id)
            origins = tuple(c.model_copy(update={key: value}) if c.id == id else c for c in before.origins)
            wanted = before.model_copy(update={"origins": origins})
            return [f"Origin {id!r} {done}.", await self._change(wanted, lambda file: file.set(id, key, value))]

    def _known(self, config: Config, id: str) -> None:
        ids = [origin.id for origin in config.origins]
        if OriginId(id) not in ids:
            raise UserError(f"There is no origin {id!r}; there are: {', '.join(ids)}.")

    def _check_variables(self, config: Config, id: str) -> None:
        taken = [*(origin.id for origin in config.origins), *(webhook.id for webhook in config.webhooks)]
        if problem := collision(id, taken, setting_variables()):
            raise UserError(problem)

    def _checked(self, before: Config, table: Mapping[str, object]) -> OriginConfig:
        if self._source is None:
            raise UserError("A program made this mount, and that program decides which origins there are.")
        overrides = {
            "mount_point": before.mount_point, "cache_dir": before.cache_dir, "origins": [dict(table)],
            **_who_sees(before),
        }  # fmt: skip
        return _read(self._source, {**self._source.overrides, **overrides}).config.origins[0]

    async def _change(self, wanted: Config, edit: Callable[[ConfigFile], None]) -> str:
        """Applies a configuration and writes it to the file; returns a sentence on the file.

        A change that the file can't express is refused before it takes effect.
        """
        path = self._source.origins_file if self._source is not None else None
        if path is None:
            await self._apply(wanted)
            return "The origins of this mount are not from a file, so this change lasts until it is unmounted."
        file = await asyncio.to_thread(_open, path)
        edit(file)
        file.text()
        await self._apply(wanted)
        try:
            await asyncio.to_thread(file.save)
        except UserError as error:
            return f"{error} So this change lasts until the mount ends or is reloaded."
        return f"{path} is updated."


def _open(path: Path) -> ConfigFile:
    # Not at the start of each mount: few change their file, and what edits TOML takes 8 ms to load.
    from musicfs.config.edit import ConfigFile

    return ConfigFile.read(path)


def _read(source: ConfigSource, overrides: Mapping[str, object]) -> LoadedConfig:
    try:
        return source.read(source.file, overrides)
    except ConfigError as error:
        raise UserError(" ".join((*error.problems, "Nothing was changed."))) from error


def _who_sees(config: Config) -> dict[str, object]:
    """The settings that the defaults of origins depend on."""
    return {"mount.allow_other": config.mount.allow_other}


def not_from_elsewhere(known: Sequence[OriginConfig], config: OriginConfig) -> str:
    """Why only this user, on this machine, may add the origin; empty when a caller elsewhere may add it too."""
    remedy = "add it with `musicfs origin add` or the configuration file, on that machine"
    for name, value in config.settings.items():
        if value is not None and (isinstance(value, Path) or name.endswith("_file")):
            return f"{name} names a file or a folder of the mount's machine, which is not accepted over TCP: {remedy}."
    server = find_kind(config.origin_type).server(config.settings)
    if server is None or server not in {_server_of(origin) for origin in known}:
        where = f"the server {server}" if server else f"an origin of the kind {config.origin_type}"
        return f"{where} is new to the configuration, which is not accepted over TCP: {remedy}."
    return ""


def _server_of(config: OriginConfig) -> str | None:
    try:
        return find_kind(config.origin_type).server(config.settings)
    except UsageError:  # of a kind that is not installed
        return None


def lowest_priority(origins: Sequence[OriginConfig]) -> int:
    """The priority of an origin that goes after all of these."""
    return min(max((config.priority for config in origins), default=0) + 1, _MAX_PRIORITY)


def differences(before: Config, after: Config) -> list[str]:
    """What changes when `after` is applied, and what can't change, in sentences."""
    was = {config.id: config for config in before.origins}
    will = {config.id: config for config in after.origins}
    sentences = [f"Origin {id!r} is removed." for id in was if id not in will]
    for id, config in will.items():
        old = was.get(id)
        if old is None:
            sentences.append(f"Origin {id!r} is added{'' if config.enabled else ', but disabled'}.")
            continue
        if not config.same_driver(old):
            sentences.append(f"Origin {id!r} is replaced, because its settings have changed.")
        if config.enabled != old.enabled:
            sentences.append(f"Origin {id!r} is {'enabled' if config.enabled else 'disabled'}.")
        if config.priority != old.priority:
            sentences.append(f"Origin {id!r} now has priority {config.priority}.")
    sentences += [f"The {name} settings have changed." for name in ("health", "retry") if _differ(before, after, name)]
    if fixed := [shown for name, shown in _FIXED.items() if _differ(before, after, name)]:
        sentences.append(
            f"These settings can't change while mounted, so they stay as they are: {', '.join(fixed)}; unmount and"
            " mount again to apply them."
        )
    return sentences


def _differ(before: Config, after: Config, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))
