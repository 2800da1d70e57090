"""Command-line options that several commands share, and the configuration that they make."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from musicfs.errors import ConfigError, UserError
from musicfs.system.runtime import absolute

if TYPE_CHECKING:
    from musicfs.app.live_config import ConfigSource
    from musicfs.config.load import LoadedConfig
    from musicfs.config.models import Config

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class CommandContext:
    """What belongs to a run of the program, and to no single command.

    user_umask: for programs of the user's; -1: the one of this process.
    """

    user_umask: int = -1
    debug: bool = False


class _Path(click.ParamType):  # type: ignore[type-arg]
    """A path. click's own type asks the filesystem about every path, which hangs at a hung mount."""

    name = "path"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Path:
        return Path(value)

    def shell_complete(
        self, context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


PATH = _Path()


def complete_origin(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the ids of the running mounts' origins."""
    from musicfs.control.client import running_mounts

    ids: set[str] = set()
    for mount in running_mounts():
        with contextlib.suppress(UserError):
            ids.update(each["id"] for each in mount.get("/origins", timeout_secs=1)["origins"])
    return [CompletionItem(id) for id in sorted(ids) if id.startswith(incomplete)]


def config_option(command: F) -> F:
    text = "Read the settings from this TOML file.  [env: MUSICFS_CONFIG]"
    return click.option("--config", "config_file", type=PATH, metavar="FILE", help=text)(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON; docs/CLI.md describes it.")(command)


def settings_options(command: F) -> F:
    """--origin, --config, --cache-dir and --template."""
    for option in (
        click.option("--template", metavar="TEXT", help="Lay out the tree by this template of tags."),
        click.option("--cache-dir", type=PATH, metavar="DIR", help="Keep the catalogue, the cache and the log here."),
        config_option,
        click.option(
            "--origin", "origins", multiple=True, metavar="PATH",
            help="A folder or URL with music, or ID=PATH. Repeat it for more; name preferred ones first.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _complete_level(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes levels, and after a part and "=" the level of the part."""
    from musicfs.config.log_parts import PARTS

    part, equals, _ = incomplete.rpartition("=")
    levels = [f"{part}{equals}{level}" for level in ("debug", "info", "warning", "error")]
    parts = [] if equals else [f"{name}=" for name in sorted(PARTS)]
    return [CompletionItem(each) for each in (*levels, *parts) if each.startswith(incomplete)]


def log_options(command: F) -> F:
    """--log-level, --log-format and --verbose."""
    for option in (
        click.option("-v", "--verbose", count=True, help="Log more; -vv logs everything."),
        click.option(
            "--log-format", type=click.Choice(["text", "json"]), help="Log sentences, or one JSON object a line.",
        ),
        click.option(
            "--log-level", "log_levels", multiple=True, metavar="[PART=]LEVEL", shell_complete=_complete_level,
            help="Log from this level on: debug, info, warning or error. Repeat it for parts: origins.sftp=debug.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def configured(file: Path | None) -> bool:
    """Whether a configuration file is named, by option or by environment."""
    return file is not None or bool(os.environ.get("MUSICFS_CONFIG"))


def load(
    *,
    mount_point: Path | None = None,
    config_file: Path | None = None,
    origins: Sequence[str] = (),
    cache_dir: Path | None = None,
    template: str | None = None,
    allow_other: bool = False,
) -> LoadedConfig:
    """Loads the configuration from the options, the environment and the file.

    Raises:
        ConfigError: it has problems; the error lists all of them.
    """
    return load_with(
        config_file,
        overrides_of(
            mount_point=mount_point, origins=origins, cache_dir=cache_dir, template=template, allow_other=allow_other
        ),
    )


def overrides_of(
    *,
    mount_point: Path | None = None,
    origins: Sequence[str] = (),
    cache_dir: Path | None = None,
    template: str | None = None,
    allow_other: bool = False,
    log_levels: Sequence[str] = (),
    log_format: str | None = None,
    verbose: int = 0,
) -> dict[str, object]:
    """Returns the settings of the command line by their dotted keys. Paths are absolute."""
    overrides: dict[str, object] = {}
    if mount_point is not None:
        overrides["mount_point"] = real(mount_point)
    if origins:
        overrides["origins"] = origin_tables(origins)
    if cache_dir is not None:
        overrides["cache_dir"] = absolute(cache_dir)
    if template is not None:
        overrides["tree.template"] = template
    if allow_other:
        overrides["mount.allow_other"] = True
    if log_format is not None:
        overrides["log.format"] = log_format
    if verbose:
        overrides["log.level"] = "info" if verbose == 1 else "debug"
    for text in log_levels:
        if "=" not in text:
            overrides["log.level"] = text
    if parts := dict(text.split("=", 1) for text in log_levels if "=" in text):
        overrides["log.levels"] = parts
    return overrides


def source_of(config_file: Path | None, overrides: Mapping[str, object]) -> ConfigSource:
    """Returns where a running mount reads its configuration again, in any working folder."""
    from musicfs.app.live_config import ConfigSource

    return ConfigSource(config_file_of(config_file) if configured(config_file) else None, overrides, load_with)


def config_file_of(named: Path | None) -> Path:
    """Returns the absolute path of the file that the option names, or else the environment."""
    return absolute(named or Path(os.environ["MUSICFS_CONFIG"]))


def load_with(file: Path | None, overrides: Mapping[str, object]) -> LoadedConfig:
    """Loads the configuration, with the command line's settings by their dotted keys.

    Raises:
        ConfigError: it has problems; the error lists all of them.
    """
    from musicfs.config.load import LoadedConfig, load_config

    loaded = load_config(file, overrides=overrides, environ=os.environ)
    config = loaded.config
    if config.mount_point is not None:
        config = config.model_copy(update={"mount_point": real(config.mount_point)})
    if problems := nested(config):
        raise ConfigError(problems)
    return LoadedConfig(config, loaded.warnings)


def origin_tables(arguments: Sequence[str]) -> list[dict[str, object]]:
    """Returns the tables of `[[origins]]` that the --origin options mean, with priorities in their order."""
    from musicfs.config.load import origin_from_argument

    tables: list[dict[str, object]] = []
    for text in arguments:
        tables.append(origin_from_argument(text, [str(table["id"]) for table in tables]))
    return tables


def real(path: Path) -> Path:
    """Returns the path as the mount table spells it, without asking a mount, which might hang."""
    from musicfs.mount import mount_points
    from musicfs.system.runtime import canonical

    return canonical(path, mount_points.ours())


def nested(config: Config) -> list[str]:
    """Returns a sentence for each origin that the mount would hide, or that would contain the mount."""
    if config.mount_point is None:
        return []
    return [
        f"The mount point {config.mount_point} and the folder of origin {origin.id!r} ({value}) overlap: {problem}."
        for origin in config.origins
        if origin.enabled
        for value in origin.settings.values()
        if isinstance(value, Path) and (problem := _overlap(config.mount_point, real(value)))
    ]


def _overlap(mount_point: Path, path: Path) -> str:
    if mount_point == path:
        return "they are the same; mount on another, empty folder"
    if mount_point.is_relative_to(path):
        return "mount on a folder outside it"
    if path.is_relative_to(mount_point):
        return "the mount would hide it; mount on another folder"
    return ""
