"""`musicfs config check`: checks a configuration without mounting anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musicfs.cli.options import PATH, json_option, load_with
from musicfs.cli.output import Word, counted, say, say_json
from musicfs.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from musicfs.config.models import Config


@click.group()
def config() -> None:
    """Check a configuration file."""


@config.command(short_help="Check FILE, and print every problem at once.")
@click.argument("file", type=PATH)
@json_option
@click.pass_context
def check(context: click.Context, file: Path, as_json: bool) -> None:
    """Check FILE, and print every problem at once. The exit code is 2 if it has a problem.

    \b
    Example:
      musicfs config check ~/.config/musicfs.toml
    """
    from musicfs.config.kinds import missing_libraries
    from musicfs.config.load import check_paths

    problems: list[str] = []
    warnings: list[str] = []
    origins: list[dict[str, Any]] = []
    try:
        loaded = load_with(file, {})
        warnings = [*loaded.warnings, *same_places(loaded.config)]
        problems = [
            f"{file}: {problem}" for problem in (*check_paths(loaded.config), *missing_libraries(loaded.config))
        ]
        origins = [{"id": o.id, "kind": str(o.origin_type), "priority": o.priority, "enabled": o.enabled}
                   for o in loaded.config.origins]  # fmt: skip
    except ConfigError as error:
        problems = list(error.problems)
    if as_json:
        say_json({
            "file": str(file), "ok": not problems, "problems": problems, "warnings": warnings, "origins": origins,
        })  # fmt: skip
    else:
        _print_check(file, problems, warnings, origins)
    if problems:
        context.exit(UsageError.exit_code)


def same_places(config: Config) -> list[str]:
    """Returns a sentence for each origin that is the same place as another one. Blocks."""
    from musicfs.federation.places import configured_overlaps

    return [
        f"origin {id!r} is wholly or partly the same place as {other!r}: what lies at both has one copy, not two."
        for id, other in configured_overlaps(config.origins).items()
    ]


def _print_check(file: Path, problems: list[str], warnings: list[str], origins: list[dict[str, Any]]) -> None:
    for problem in problems:
        say(Word(problem, "red"))
    for warning in warnings:
        say(Word(f"warning: {warning}", "yellow"))
    if problems:
        say(f"{counted(len(problems), 'problem')} in {file}.")
    else:
        names = ", ".join(o["id"] for o in sorted(origins, key=lambda o: int(o["priority"])) if o["enabled"])
        say(Word(f"{file} is fine", "green"), f": origins {names}, preferred ones first.")
