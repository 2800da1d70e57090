"""The command `musicfs`: the group of all commands, and how failures are printed.

Start-up is light: commands import what they need when they run.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Sequence

import click

import musicfs
from musicfs.cli.cache import cache
from musicfs.cli.completion import completion
from musicfs.cli.config import config
from musicfs.cli.events import events
from musicfs.cli.mount import mount, reload, shutdown, unmount
from musicfs.cli.options import CommandContext
from musicfs.cli.origins import origin
from musicfs.cli.output import warn
from musicfs.cli.page import page
from musicfs.cli.pin import pin, pins, unpin
from musicfs.cli.problems import problems
from musicfs.cli.quarantine import quarantine
from musicfs.cli.redundancy import redundancy
from musicfs.cli.scan import scan
from musicfs.cli.search import search
from musicfs.cli.status import status
from musicfs.cli.verify import verify
from musicfs.cli.why import why
from musicfs.errors import ConfigError, UserError, first_of
from musicfs.system import hardening
from musicfs.system.processes import leave_working_folder
from musicfs.texts import printable

_INTERRUPTED = 130


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(CommandContext).debug = True


_DEBUG = click.Option(
    ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show the details of an internal error."
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.",
)
@click.version_option(musicfs.__version__, prog_name="musicfs", message="%(prog)s %(version)s")
def cli() -> None:
    """One read-only music folder, organised by tags, over music in several places.

    \b
    Mount two folders as one. MusicFS prefers the first; the second serves while the first is away:
      musicfs mount ~/Tunes --origin ~/Music --origin /mnt/nas/music
    \b
    Is my music fine? Which copy of this track plays, and why?
      musicfs status
      musicfs why ~/Tunes/Artist/Album/01\\ -\\ Song.flac
    \b
    With a configuration file:
      musicfs config check ~/.config/musicfs.toml
      musicfs mount --config ~/.config/musicfs.toml
    \b
    When you are done:
      musicfs unmount ~/Tunes
    """


for _command in (
    mount, unmount, shutdown, reload, status, problems, page, events, scan, origin, why, pin, unpin, pins, cache,
    search, redundancy, verify, quarantine, config, completion,
):  # fmt: skip
    cli.add_command(_command)


def _accept_debug_everywhere(command: click.Command) -> None:
    """Adds `--debug` to each command: people append it to the line that failed."""
    command.params.append(_DEBUG)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _accept_debug_everywhere(inner)


_accept_debug_everywhere(cli)


def _explain_mount_points(command: click.Command) -> None:
    """Adds to the help of each command that asks a running mount what MOUNT_POINT means."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _explain_mount_points(inner)
        return
    takes_one = any(isinstance(each, click.Argument) and each.name == "mount_point" for each in command.params)
    if takes_one and command is not mount and not command.epilog:
        command.epilog = "MOUNT_POINT may be any path inside the mount. Leave it out if there is only one mount."


_explain_mount_points(cli)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Prints failures as sentences, never as tracebacks."""
    leave_working_folder()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    umask = hardening.restrict_umask()
    # The commands print their failures themselves; the process of a mount sets up its own log.
    logging.getLogger("musicfs").addHandler(logging.NullHandler())
    logging.getLogger("musicfs.system.runtime").addHandler(_Warnings(logging.WARNING))
    session = CommandContext(umask)
    try:
        code = cli.main(args=argv, prog_name="musicfs", standalone_mode=False, obj=session)
        sys.stdout.flush()
        gc.freeze()  # The interpreter would search all modules for garbage before it ends, which takes 40 ms.
    except click.exceptions.Abort:
        warn("interrupted.")
        return _INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a command: the message is its help
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return _print_usage(error)
    except UserError as error:
        for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
            warn(problem)
        return error.exit_code
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        if session.debug:
            raise
        first = first_of(error)
        what = printable(f"{type(first).__name__}: {first}".rstrip(".: "))
        warn(f"MusicFS hit an internal error: {what}; run again with --debug for the details.")
        return 1
    return code if isinstance(code, int) else 0


class _Warnings(logging.Handler):
    """Prints warnings that are logged where no command can print them."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(f"warning: {record.getMessage()}")


def _print_usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "musicfs"
    hint = f" `{path} --help` shows how." if isinstance(error, click.UsageError) else ""
    message = error.format_message()
    warn(message + ("" if message.endswith((".", "?", ")")) else ".") + hint)
    return error.exit_code


def _drop_output() -> None:
    """Drops buffered output: its reader is gone, and flushing it at exit must not fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
