"""`musicfs page`: the status page in a browser."""

from __future__ import annotations

import os
from pathlib import Path

import click

from musicfs.cli.output import say
from musicfs.cli.settings import PATH
from musicfs.errors import UserError
from musicfs.processes import WORKING_FOLDER


@click.command(short_help="Show the status page in a browser.")
@click.argument("mount_point", type=PATH, required=False)
@click.option("--port", type=click.IntRange(1, 65535), help="Listen on this port of 127.0.0.1, not on any free one.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def page(mount_point: Path | None, port: int | None, no_browser: bool) -> None:
    """Show the status page in a browser: every place, what happened, and how safe your music is.

    The page is there until Ctrl-C, at an address of this machine that needs the token in it. It changes nothing.

    \b
    Example, and from another machine:
      musicfs page
      ssh -L 8384:127.0.0.1:8384 nas musicfs page --port 8384 --no-browser
    """
    import asyncio

    from musicfs.control.client import find_mount

    client = find_mount(mount_point)
    client.get("/status")  # whoever does not answer is told of now
    os.chdir(WORKING_FOLDER)  # The browser starts there, too.
    try:
        asyncio.run(_serve(client.socket, port or 0, no_browser))
    except OSError as error:
        raise UserError(f"The page can't be had at port {port} of 127.0.0.1: {error.strerror or error}.") from error
    except KeyboardInterrupt:
        say("")


async def _serve(socket: Path, port: int, no_browser: bool) -> None:
    import asyncio
    import sys

    from musicfs.control.pagelistener import PageListener

    listener = PageListener(socket, port)
    async with listener.running() as address:
        say(address)
        say("The page is there until Ctrl-C.")
        sys.stdout.flush()
        if not no_browser:
            await asyncio.to_thread(click.launch, listener.address_for_once())
        await asyncio.Event().wait()
