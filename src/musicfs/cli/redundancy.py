"""`musicfs redundancy`: what lives in one place only, which copies differ, and what the loss of a place would cost."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import click

from musicfs.cli.options import PATH, complete_origin, json_option
from musicfs.cli.output import Word, counted, say, say_json, size_text, spreadsheet_cell, table, warn
from musicfs.errors import UsageError

_MAX_ALBUMS = 100_000
_COUNTING_SECS = 120.0
_PLACES = ("nowhere now", "in one place", "in two places", "in three places")
_COLUMNS = ("what", "path", "origin", "tracks", "bytes", "block", "against")


@click.command(short_help="Show what lives in one place only, and which copies differ.")
@click.argument("mount_point", type=PATH, required=False)
@click.option(
    "--if-lost", "origin", metavar="ID", shell_complete=complete_origin,
    help="List the albums that would lose tracks with this origin.",
)  # fmt: skip
@click.option("--csv", "as_csv", is_flag=True, help="Print one table for spreadsheets; docs/CLI.md describes it.")
@json_option
def redundancy(mount_point: Path | None, origin: str | None, as_csv: bool, as_json: bool) -> None:
    """Show in how many places your music lives, which albums live in one place only, and what you would lose with each
    origin.

    It also lists damaged copies, which count for no place; `musicfs verify` finds them. What is cached or pinned on
    this disk counts for no place either.

    \b
    Examples:
      musicfs redundancy
      musicfs redundancy --if-lost nas
      musicfs redundancy --csv > albums.csv
    """
    from musicfs.control.client import find_mount

    if as_csv and as_json:
        raise UsageError("Use either --csv or --json.")
    query = {"most": str(_MAX_ALBUMS)} | ({} if origin is None else {"origin": origin})
    view = find_mount(mount_point).get("/redundancy", query, timeout_secs=_COUNTING_SECS)
    more = view["albums_in_one"] - len(view["albums"])
    if as_json:
        say_json(view)
        return
    if as_csv:
        _print_csv(view, origin)
    else:
        _print(view, origin)
    if more > 0:
        warn(f"{counted(more, 'more album')} not listed.")


def _print(view: dict[str, Any], origin: str | None) -> None:
    if not view["places"]:
        say("MusicFS knows no music yet; `musicfs scan` finds it.")
        return
    for each in view["places"]:
        places = each["places"]
        where = _PLACES[places] if places < len(_PLACES) else f"in {places} places"
        say(Word(f"{counted(each['tracks'], 'track')} {where}", _style(places)), f", {size_text(each['bytes'])}")
    _print_losses(view, origin)
    for id, other in view["same_places"].items():
        say(Word(f"{id} is wholly or partly the same place as {other}: the two count as one.", "yellow"))
    albums = view["albums"]
    if albums:
        say("")
        header = ("ALBUM", "TRACKS", "IN ONE PLACE", "SIZE", "WHERE")
        rows = [
            (a["path"], f"{a['tracks']:,}", f"{a['in_one']:,}", size_text(a["bytes"]), ", ".join(a["origins"]))
            for a in albums
        ]
        table(header, rows, right=(1, 2, 3))
    elif origin is None:
        say(Word("Every album lives in two places or more.", "green"))
    else:
        say(Word(f"Nothing lives at {origin} alone.", "green"))
    print_differing(view["differing"])


def _print_losses(view: dict[str, Any], origin: str | None) -> None:
    losses = [each for each in view["if_lost"] if origin in (None, each["origin"])]
    say("")
    header = ("IF LOST", "TRACKS GONE", "SIZE", "WHOLE ALBUMS", "PARTS OF ALBUMS")
    rows = [
        (
            each["origin"], Word(f"{each['tracks']:,}", "yellow" if each["tracks"] else "green"),
            size_text(each["bytes"]), f"{each['whole_albums']:,}", f"{each['albums'] - each['whole_albums']:,}",
        )
        for each in losses
    ]  # fmt: skip
    table(header, rows, right=(1, 2, 3, 4))


def print_differing(differing: list[dict[str, Any]]) -> None:
    """Prints the copies that are damaged, or differ from another copy."""
    if not differing:
        return
    say("")
    rows = [
        (
            each["file"] or "", each["origin"], each["path"], f"{each['block']:,}" if each["block"] >= 0 else "",
            Word("damaged", "red") if each["against"] is None else Word(f"not as at {each['against']}", "yellow"),
        )
        for each in differing
    ]  # fmt: skip
    table(("FILE", "ORIGIN", "COPY THERE", "BLOCK", "WHAT"), rows, right=(3,))


def _style(places: int) -> str:
    return "red" if places == 0 else "yellow" if places == 1 else "green"


def _print_csv(view: dict[str, Any], origin: str | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    rows: list[tuple[str | int, ...]] = [
        ("album", album["path"], " ".join(album["origins"]), album["in_one"], album["bytes"], "", "")
        for album in view["albums"]
    ]
    rows += [
        ("if lost", "", loss["origin"], loss["tracks"], loss["bytes"], "", "")
        for loss in view["if_lost"]
        if origin in (None, loss["origin"])
    ]
    rows += [
        ("differs", each["path"], each["origin"], "", "", each["block"], each["against"] or "")
        for each in view["differing"]
    ]
    for row in rows:
        writer.writerow([spreadsheet_cell(value) if isinstance(value, str) else value for value in row])
