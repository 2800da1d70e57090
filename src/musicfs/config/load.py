"""Loads the settings of MusicFS from a file, the environment and the command line.

docs/CONFIGURATION.md is the user's view of this module; models.py has the models.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from blake3 import blake3
from pydantic import BaseModel, ValidationError

from musicfs.config.kinds import installed_settings, kinds_of_scheme
from musicfs.config.log_parts import hint_about
from musicfs.config.models import (
    COMMON_KEYS,
    ID,
    Config,
    WebhookConfig,
    origin_type_of,
    settle_links,
)
from musicfs.config.secret_variables import collision, variable_of
from musicfs.config.sources import (
    SECRET_KEYS,
    ConfigTable,
    KeyPath,
    Sources,
    hide_secrets,
    model_of,
    read_environment,
    read_toml,
    shown_value,
)
from musicfs.errors import ConfigError, UsageError
from musicfs.model import OriginType
from musicfs.system.hardening import DUMPABLE
from musicfs.tags.templates import Template, TemplateError

__all__ = [
    "LoadedConfig",
    "check_paths",
    "default_cache_dir",
    "load_config",
    "origin_from_argument",
    "setting_variables",
]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration, and sentences about doubtful settings in it."""

    config: Config
    warnings: tuple[str, ...] = ()


SettingsOf = Callable[[OriginType], type[BaseModel]]
"""Finds the model of a kind's own settings. Raises UsageError if unknown."""


def default_cache_dir(mount_point: Path) -> Path:
    """Returns the cache folder of a mount if none is configured: always the same for a mount point."""
    mount_point = _absolute(mount_point)
    digest = blake3(os.fsencode(mount_point)).hexdigest(4)
    return platformdirs.user_cache_path("musicfs") / f"{mount_point.name or 'root'}-{digest}"


def _absolute(path: Path) -> Path:
    """Makes a path absolute without asking the filesystem, which could hang at a dead mount."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def load_config(
    path: Path | None = None,
    *,
    overrides: Mapping[str, object] = _NOTHING,
    environ: Mapping[str, str] = _NOTHING,
    kind_settings: SettingsOf = installed_settings,
) -> LoadedConfig:
    """Merges the configuration from `overrides`, then `environ`, then the file, then the defaults.

    Paths need not exist: see `check_paths`.

    Args:
        path: the file; None: the one that MUSICFS_CONFIG names, if any.
        overrides: dotted keys and their values, such as {"cache.content_cache_gb": 5}; "origins" is a list of tables
            and replaces the file's.
        environ: the environment.
        kind_settings: finds the model of a kind's own settings.

    Raises:
        ConfigError: with every problem that there is.
    """
    loading = _Loading(kind_settings)
    named = environ.get("MUSICFS_CONFIG")
    file = path or (Path(named).expanduser() if named else None)
    if file is not None:
        loading.add_file(file)
    loading.add_environment(environ)
    for key, value in overrides.items():
        loading.add(tuple(key.split(".")), value, "command line", Path.cwd())
    return loading.finish()


class _Loading:
    """One run of `load_config`: collects the settings, then all their problems."""

    def __init__(self, kind_settings: SettingsOf) -> None:
        self._kind_settings = kind_settings
        self._sources = Sources()
        self._bases: dict[str, Path] = {}
        self._problems: list[str] = []
        self._warnings: list[str] = []
        self._ids: list[str] = []

    def add_file(self, path: Path) -> None:
        base = _absolute(path).parent
        for key, value in read_toml(path).items():
            if isinstance(value, dict):
                self._sources.add((key,), {}, str(path))
                for name, setting in value.items():
                    self.add((key, name), setting, str(path), base)
            else:
                self.add((key,), value, str(path), base)

    def add_environment(self, environ: Mapping[str, str]) -> None:
        settings, warnings = read_environment(environ, setting_variables(), ignored=("MUSICFS_CONFIG", DUMPABLE))
        for name, path, value in settings:
            self.add(path, value, name, Path.cwd())
        self._warnings += warnings

    def add(self, path: KeyPath, value: object, label: str, base: Path) -> None:
        if path in (("mount_point",), ("cache_dir",)) and isinstance(value, (str, Path)):
            value = self._absolute(value, base, f"{label}: {path[0]}")
        if path in (("origins",), ("webhooks",)):
            self._bases[path[0]] = base
        if path[:1] == ("control",) and path[-1] in SECRET_KEYS and not label.startswith("MUSICFS_"):
            where, variable = f"{label}: {'.'.join(path)} is written out", "_".join(("MUSICFS", *path)).upper()
            self._warnings.append(f"{where}: anyone who can read the file has it; prefer {variable}.")
        if path in (("control", "tls_cert"), ("control", "tls_key")) and isinstance(value, (str, Path)):
            value = self._absolute(value, base, f"{label}: {'.'.join(path)}")
        self._sources.add(path, value, label)

    def finish(self) -> LoadedConfig:
        data = dict(self._sources.data)
        if "cache_dir" not in data:
            mount_point = data.get("mount_point")
            data["cache_dir"] = default_cache_dir(mount_point if isinstance(mount_point, Path) else Path("/"))
        config: Config | None = None
        try:
            config = Config.model_validate(data)
        except ValidationError as error:
            self._problems += ConfigTable(Config, self._sources).problems(error)
        settings = self._check_origins(data.get("origins"))
        self._check_webhooks(data.get("webhooks"))
        self._check_variables(data)
        if config is not None:
            self._try_template(config.tree.template)
        if self._problems or config is None:
            raise ConfigError(self._problems)
        origins = (o.model_copy(update={"settings": own}) for o, own in zip(config.origins, settings, strict=True))
        webhooks = tuple(self._with_secret_file(n, each) for n, each in enumerate(config.webhooks))
        update = {"origins": tuple(origins), "webhooks": webhooks}
        self._warn_of_former_parts(config)
        if self._problems:
            raise ConfigError(self._problems)
        config = settle_links(config.model_copy(update=update))
        self._warn_of_files_for_one_user(config)
        return LoadedConfig(config, tuple(self._warnings))

    def _warn_of_files_for_one_user(self, config: Config) -> None:
        said = "file_mode" in config.mount.model_fields_set
        ids = [origin.id for origin in config.origins if origin.enabled and not origin.in_folder]
        if config.mount.allow_other and ids and not said:
            self._warnings.append(
                f"mount.allow_other is set, but only you may read the files of {', '.join(ids)}, whose owners this"
                ' machine does not know: set mount.file_mode to "0444" for all users, or to "0400" if that is right.'
            )

    def _check_origins(self, origins: object) -> list[Mapping[str, Any]]:
        """Returns the validated settings that belong to each origin's kind; the models report what is no table."""
        if origins is None or origins == []:
            self._problems.append("There is no music yet: name at least one origin with --origin PATH or [[origins]].")
        if not isinstance(origins, (list, tuple)):
            return []
        tables = _tables(origins)
        self._check_ids("origins", tables)
        return [self._kind_settings_of(n, table) for n, table in tables]

    def _check_webhooks(self, webhooks: object) -> None:
        tables = _tables(webhooks)
        self._check_ids("webhooks", tables)
        for n, table in tables:
            self._warn_of_secrets("webhooks", n, table)

    def _with_secret_file(self, n: int, webhook: WebhookConfig) -> WebhookConfig:
        if webhook.secret_file is None:
            return webhook
        where = self._sources.where(("webhooks", n, "secret_file"))
        path = self._absolute(webhook.secret_file, self._bases.get("webhooks", Path.cwd()), where)
        return webhook.model_copy(update={"secret_file": path})

    def _check_ids(self, section: str, tables: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        seen: dict[object, int] = {}
        for n, table in tables:
            first = seen.setdefault(str(table.get("id")), n)
            if first != n and "id" in table:
                where = self._sources.where((section, n, "id"))
                its = f"as {section}[{first}].id is: give each {section[:-1]} its own id."
                self._problems.append(f"{where} is {shown_value(table['id'])}, {its}")

    def _check_variables(self, data: Mapping[str, Any]) -> None:
        """Checks that each secret has its own variable, or one origin would get the secret of another."""
        for section in ("origins", "webhooks"):
            own: set[str] = set()
            for n, table in _tables(data.get(section)):
                id = str(table.get("id"))
                if id in own:
                    continue  # reported already
                own.add(id)
                if problem := collision(id, self._ids, setting_variables()):
                    self._problems.append(f"{self._sources.where((section, n, 'id'))}: {problem}")
                self._ids.append(id)

    def _kind_settings_of(self, n: int, table: Mapping[str, Any]) -> Mapping[str, Any]:
        own = hide_secrets({key: value for key, value in table.items() if key not in COMMON_KEYS})
        self._warn_of_secrets("origins", n, table)
        try:
            kind = origin_type_of(table.get("origin_type"))
        except ValueError:
            return own  # reported already
        try:
            model = self._kind_settings(kind)
        except UsageError as error:
            where = self._sources.where(("origins", n, "origin_type"))
            self._problems.append(f"{where} is {shown_value(kind)}: {error}.")
            return own
        place = ConfigTable(model, self._sources, ("origins", n), tuple(COMMON_KEYS))
        try:
            valid = model.model_validate(own)
        except ValidationError as error:
            self._problems += place.problems(error)
            return own
        return {name: self._placed(getattr(valid, name), n, name) for name in model.model_fields}

    def _placed(self, value: object, n: int, name: str) -> object:
        """Makes a path of this machine absolute; everything else stays."""
        if not isinstance(value, Path):
            return value
        return self._absolute(value, self._bases.get("origins", Path.cwd()), self._sources.where(("origins", n, name)))

    def _warn_of_secrets(self, section: str, n: int, table: Mapping[str, Any]) -> None:
        for key in sorted(SECRET_KEYS & table.keys()):
            variable = variable_of(str(table.get("id")), key)
            where = self._sources.where((section, n, key))
            self._warnings.append(f"{where} is written out: anyone who can read the file has it; prefer {variable}.")

    def _warn_of_former_parts(self, config: Config) -> None:
        for part in config.log.levels:
            if hint := hint_about(part):
                where = self._sources.where(("log", "levels"))
                self._warnings.append(f"{where} names {shown_value(part)}: {hint}.")

    def _try_template(self, template: str) -> None:
        try:
            Template.parse(template)
        except TemplateError as error:
            where = self._sources.where(("tree", "template"))
            self._problems.append(f"{where} is {shown_value(template)}: {str(error).rstrip('.')}.")

    def _absolute(self, value: str | Path, base: Path, where: str) -> Path:
        try:
            return _absolute(base / Path(value).expanduser())
        except RuntimeError:
            self._problems.append(f"{where} is {shown_value(value)}: there is no such user; write the folder out.")
            return Path(value)


def _tables(value: object) -> list[tuple[int, Mapping[str, Any]]]:
    """Returns the tables of a list, with their places; the models report what is no table."""
    tables = value if isinstance(value, (list, tuple)) else ()
    return [(n, table) for n, table in enumerate(tables) if isinstance(table, Mapping)]


def setting_variables() -> dict[str, KeyPath]:
    """Returns the variable of each setting: MUSICFS_CACHE_DIR, MUSICFS_HEALTH_TIMEOUT_MS, ..."""
    variables: dict[str, KeyPath] = {}
    for name, field in Config.model_fields.items():
        section = model_of(field)
        if section is None:
            variables[f"MUSICFS_{name}".upper()] = (name,)
        elif name not in ("origins", "webhooks"):
            variables |= {f"MUSICFS_{name}_{key}".upper(): (name, key) for key in section.model_fields}
    return variables


def check_paths(config: Config) -> list[str]:
    """Returns sentences about missing folders of enabled origins: a wrong path, or an unmounted disk.

    A kind's setting called `path` is a folder, every other one that is a path of this machine is a file.
    """
    return [
        f"origin {origin.id!r}: {name} is {value}, {problem}."
        for origin in config.origins
        if origin.enabled
        for name, value in origin.settings.items()
        if isinstance(value, Path) and (problem := _path_problem(value, name == "path"))
    ]


def _path_problem(path: Path, folder: bool) -> str:
    remedy = "mount it, or correct the path" if folder else "correct the path"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"which does not exist: {remedy}"
    except OSError as error:
        return f"which can't be reached ({error.strerror}): {remedy}"
    wanted = stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)
    return "" if wanted else f"which is not a {'folder' if folder else 'file'}: {remedy}"


def origin_from_argument(text: str, taken: Sequence[str]) -> dict[str, object]:
    """Returns the table of the origin that `--origin TEXT` names: a path or a URL, or ID=PATH or ID=URL.

    taken: the ids before it; their number gives its priority, and its own id differs from all of them. Raises
    UsageError for kinds that are not installed and for what is neither a path nor a URL.
    """
    named = re.fullmatch(rf"({ID.pattern})=(.+)", text, re.DOTALL)
    where = named[2] if named else text
    if not where.strip():
        raise UsageError("--origin needs the path of a folder, or a URL.")
    if named and named[1] in taken:
        raise UsageError(f"--origin {shown_url(text)}: the id {named[1]!r} is taken; give each origin its own.")
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", where)
    parts, settings = _from_url(where) if is_url else _from_path(where)
    return {
        "id": named[1] if named else _unused_id(parts, taken),
        "priority": min(len(taken) + 1, 255),
        **settings,
    }


def _from_path(where: str) -> tuple[Sequence[str], dict[str, object]]:
    try:
        path = _absolute(Path(where).expanduser())
    except RuntimeError:
        raise UsageError(f"--origin {where}: there is no such user; write the folder out.") from None
    return path.parts, {"origin_type": "local", "path": path}


def shown_url(text: str) -> str:
    """Hides a password or another secret in a URL."""
    first, at, rest = text.rpartition("@")
    text = re.sub(r"(://[^/@:]*):[^@]*@", r"\1:***@", first + at) + rest
    return re.sub(rf"([?&](?:{'|'.join(sorted(SECRET_KEYS))})=)[^&#]*", r"\1***", text)


def _from_url(where: str) -> tuple[Sequence[str], dict[str, object]]:
    shown = shown_url(where)
    try:
        url = urlsplit(where)
    except ValueError as error:
        raise UsageError(f"--origin {shown}: this is not a valid URL ({error}).") from None
    try:
        for kind in kinds_of_scheme(url.scheme):
            if kind.from_url is not None:
                return [url.hostname or "", *url.path.split("/")], {"origin_type": kind.name, **kind.from_url(url)}
    except (ValueError, UsageError) as error:
        raise UsageError(f"--origin {shown}: {error}") from None
    raise UsageError(f"--origin {shown}: this is no kind of origin; give the path of a folder.")


def _unused_id(place: Sequence[str], taken: Sequence[str]) -> str:
    """Returns `music`, else `nas-music` and so on up the path, else `music-2`."""
    parts = [clean for part in place if (clean := re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-."))]
    names = ["-".join(parts[-n:])[-64:].lstrip("-.") for n in range(1, len(parts) + 1)] or ["origin"]
    numbered = (f"{names[0][:58]}-{n}" for n in count(2))
    variables = setting_variables()
    return next(name for name in chain(names, numbered) if name not in taken and not collision(name, taken, variables))
