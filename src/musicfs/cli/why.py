"""`musicfs why`: which copy of a file plays, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from musicfs.cli.options import PATH, json_option
from musicfs.cli.output import Word, ms_text, say, say_json, size_text
from musicfs.errors import UserError


@click.command(short_help="Show which copy of a file plays, and why.")
@click.argument("path", type=PATH)
@json_option
def why(path: Path, as_json: bool) -> None:
    """Show which copy of the file at PATH plays, which come next, and why.

    \b
    Example:
      musicfs why ~/Tunes/Artist/Album/01\\ -\\ Song.flac
    """
    from musicfs.cli.options import real
    from musicfs.control.client import NotRunning, find_mount

    try:
        client = find_mount(path)
    except NotRunning as error:
        raise UserError(f"{path} is in no mount; give the path of a file inside one.") from error
    assert client.mount_point is not None
    inside = real(path).relative_to(client.mount_point)
    view = client.get("/why", {"path": "" if inside == Path() else str(inside)})
    if as_json:
        say_json(view)
        return
    say(Word(view["path"], "bold"))
    pinned = ", pinned" if view["pinned"] else ""
    say(f"{size_text(view['size'])}, content {view['content'][:16]}, {view['cached_percent']} % in the cache{pinned}")
    if view["generated"]:
        say("MusicFS made its bytes: the text below, with the names that the tree gives the files in it.")
    if view["unparsed"]:
        say(Word(f"It could not be parsed, so it is listed under its own name: {view['unparsed']}.", "yellow"))
    for variant in view["variants"]:
        _print_variant(variant, len(view["variants"]))


def _print_variant(variant: dict[str, Any], variants: int) -> None:
    if variants > 1:
        shown = "shown now" if variant["shown"] else "the same track in other bytes; serves when the one shown can't"
        say("")
        say(Word(f"{shown}: {size_text(variant['size'])}, content {variant['content'][:16]}", "bold"))
    for replica in variant["replicas"]:
        typical = "" if replica["p50_ms"] is None else f", typically {ms_text(replica['p50_ms'])}"
        say(
            f"  {replica['rank'] or '-'}  {replica['origin']}: ", Word(replica["reason"], _rank_style(replica)), typical
        )
        say(f"     {replica['location']}")


def _rank_style(replica: dict[str, Any]) -> str:
    if replica["quarantined"] or replica["health"] == "unhealthy":
        return "red"
    return "green" if replica["rank"] == 1 else ""
