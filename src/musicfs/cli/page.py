"""`musicfs page`: the status page in a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musicfs.cli.options import PATH, CommandContext
from musicfs.cli.output import say
from musicfs.errors import UserError
from musicfs.system.processes import WORKING_FOLDER

if TYPE_CHECKING:
    from musicfs.control.page_keys import PageKeys

_POLL_SECS = 0.2


@click.command(short_help="Show the status page in a browser.")
@click.argument("mount_point", type=PATH, required=False)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Listen on this port of 127.0.0.1, instead of any free one."
)
@click.option("--no-browser", is_flag=True, help="Only print the address and the code.")
@click.make_pass_decorator(CommandContext, ensure=True)
def page(context: CommandContext, mount_point: Path | None, port: int | None, no_browser: bool) -> None:
    """Show the status page in a browser: every place, what happened, and how safe your music is.

    The page is there until Ctrl-C, at an address of this machine. It changes nothing. This command starts your browser
    and logs it in; any other browser asks for the code that is printed.

    \b
    Examples, the second from another machine:
      musicfs page
      ssh -L 8384:127.0.0.1:8384 nas musicfs page --port 8384 --no-browser
    """
    import asyncio

    from musicfs.control.client import find_mount

    client = find_mount(mount_point)
    client.get("/status")  # fails now, and with a sentence, when the mount does not answer
    os.chdir(WORKING_FOLDER)  # The browser starts in this folder, too.
    try:
        asyncio.run(_serve(client.socket, port or 0, None if no_browser else context.user_umask))
    except OSError as error:
        place, remedy = f"port {port}", "choose another `--port`"
        if port is None:
            place, remedy = "any port", "end programs that are not needed, or choose a `--port`"
        raise UserError(
            f"The page can't be shown at {place} of 127.0.0.1: {error.strerror or error}; {remedy}."
        ) from error
    except KeyboardInterrupt:
        say("")


async def _serve(socket: Path, port: int, browser_umask: int | None) -> None:
    """browser_umask: None: starts no browser."""
    import asyncio
    import signal
    import sys

    from musicfs.control.page_keys import PageKeys
    from musicfs.control.page_proxy import PageProxy

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    keys = PageKeys()
    async with PageProxy(socket, keys, port).running() as address:
        say(address)
        say(f"Code: {keys.code}")
        say("The page is there until Ctrl-C.")
        sys.stdout.flush()
        starting = None
        if browser_umask is not None:
            starting = asyncio.create_task(_start_browser(socket.parent, address, keys, browser_umask))
        await ended.wait()
        if starting is not None:
            starting.cancel()  # which removes its file
            await asyncio.gather(starting, return_exceptions=True)


async def _start_browser(folder: Path, address: str, keys: PageKeys, umask: int) -> None:
    """Starts the browser with a file, so that a command line shows only its name; removes the file after its use."""
    import asyncio

    from musicfs.control.page_keys import pass_file

    ticket = keys.new_ticket()
    try:
        with pass_file(folder, address, ticket) as path:
            if not await asyncio.to_thread(_open, path, umask):
                say("No browser could be started: open the address in a browser, and enter the code.")
            while keys.is_waiting(ticket):  # noqa: ASYNC110 (until the ticket is used or too old)
                await asyncio.sleep(_POLL_SECS)
    except OSError as error:
        say(f"No browser could be started ({error.strerror or error}): open the address, and enter the code.")


def _open(file: Path, umask: int) -> bool:
    """Opens a file as click.launch does, but what the browser writes gets the modes that the user has set."""
    import subprocess

    try:
        subprocess.Popen(["xdg-open", file], umask=umask)
    except OSError:
        return False
    return True
