"""`musicfs search`: which tracks or albums of the tree a query finds."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from musicfs.cli.options import PATH, config_option, configured, json_option, load
from musicfs.cli.output import Word, say, say_json, spreadsheet_cell, table, warn
from musicfs.errors import UsageError, UserError
from musicfs.system.runtime import absolute
from musicfs.texts import printable

if TYPE_CHECKING:
    from musicfs.catalog.search import Found, FoundAlbum, FoundTrack

_MOST = 100
_ALL = 10_000_000
_COLUMNS = ("path", "title", "artist", "album", "albumartist", "year", "disc", "track", "genre", "format", "length")
_ALBUM_COLUMNS = ("path", "tracks", "album", "albumartist", "year", "genre", "format")
_MISSING = "Searches need three more packages: run `pip install 'musicfs[search]'`, or pipx with the same argument."


@click.command(short_help="Find tracks or albums by their tags.")
@click.argument("query", nargs=-1)
@click.option("--albums", is_flag=True, help="List albums instead of tracks.")
@click.option("--mount", "mount_point", type=PATH, metavar="MOUNT_POINT", help="In this mount, not in the only one.")
@config_option
@click.option("--cache-dir", type=PATH, metavar="DIR", help="Without a mount: search the catalogue in this folder.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many results; on a terminal, 100.")
@click.option("--m3u8", "as_m3u8", is_flag=True, help="Print a playlist.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for spreadsheets.")
@json_option
def search(
    query: tuple[str, ...],
    albums: bool,
    mount_point: Path | None,
    config_file: Path | None,
    cache_dir: Path | None,
    limit: int | None,
    as_m3u8: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Find tracks or albums by a QUERY in beets' syntax. Works without a mount, too.

    Words are looked for in titles, artists and albums, whatever their case and accents are. FIELD:TEXT looks in one
    field, FIELD::REGEX by a regular expression, FIELD:=TEXT for the whole value; numbers, lengths and dates take
    ranges. ^ or - in front of a term negates it, a comma or | between terms means "or", and FIELD+ or FIELD- sorts.

    \b
    Examples:
      musicfs search nina simone
      musicfs search 'artist:nina year:..1969' --albums
      musicfs search 'added:-30d.. ^genre:podcast added-'
      musicfs search 'format:mp3 , format:m4a' --m3u8 > lossy.m3u8
    """
    if as_json + as_csv + as_m3u8 > 1:
        raise UsageError("Use only one of --json, --csv and --m3u8.")
    if as_m3u8 and albums:
        raise UsageError("A playlist has tracks: leave out --albums.")
    found, place = _found(query, albums, mount_point, config_file, cache_dir, limit)
    for asked, used in found.instead:
        warn(f"nothing has {asked!r}; this is what has {used!r}.")
    if as_m3u8:
        _print_m3u8(found.tracks, place)
    elif as_csv:
        _print_csv(found, albums=albums)
    elif as_json:
        say_json(_as_json(found, albums=albums))
    else:
        _print(found, albums=albums)
    if found.pending:
        warn(f"{found.pending:,} tracks are still being taken into the search index; search again for all.")


def _found(
    query: Sequence[str],
    albums: bool,
    mount_point: Path | None,
    config_file: Path | None,
    cache_dir: Path | None,
    limit: int | None,
) -> tuple[Found, Path | None]:
    try:
        from musicfs.catalog.search import open_search
        from musicfs.query.syntax import parse_terms

        parsed = parse_terms(query)
    except ModuleNotFoundError as error:
        raise UserError(_MISSING) from error
    from musicfs.catalog.database import CATALOG
    from musicfs.catalog.search_index import SEARCH

    folder, place = _cache_folder(mount_point, config_file, cache_dir)
    most = limit or (_MOST if sys.stdout.isatty() else _ALL)
    with open_search(folder / CATALOG, folder / SEARCH) as opened:
        return (opened.albums if albums else opened.tracks)(parsed, most), place


def _cache_folder(
    mount_point: Path | None, config_file: Path | None, cache_dir: Path | None
) -> tuple[Path, Path | None]:
    """The folder of the catalogue, and the mount point, if there is one."""
    if cache_dir is not None:
        return absolute(cache_dir), None
    if configured(config_file):
        config = load(mount_point=mount_point, config_file=config_file).config
        return config.cache_dir, config.mount_point
    from musicfs.control.client import find_mount

    status = find_mount(mount_point).get("/status")
    return Path(status["cache_dir"]), Path(status["mount_point"])


def _print(found: Found, *, albums: bool) -> None:
    if not (found.albums if albums else found.tracks):
        say("Nothing was found.")
        return
    if albums:
        rows = [(album.path, f"{album.tracks:,}", str(album.tags.get("year") or "")) for album in found.albums]
        table(("ALBUM", "TRACKS", "YEAR"), rows, right=(1,))
    elif sys.stdout.isatty():
        table(("TRACK", "LENGTH"), [(track.path, _length(track.tags)) for track in found.tracks], right=(1,))
    else:
        for track in found.tracks:
            say(track.path)
    if found.more:
        say(Word("There is more; --limit N shows it.", "yellow"))


def _length(tags: dict[str, Any]) -> str:
    secs = int(tags.get("duration_s") or 0)
    return f"{secs // 60}:{secs % 60:02}" if secs else ""


def _as_json(found: Found, *, albums: bool) -> dict[str, Any]:
    return {
        ("albums" if albums else "tracks"): list(map(_album, found.albums) if albums else map(_track, found.tracks)),
        "more": found.more,
        "instead": [{"asked": asked, "used": used} for asked, used in found.instead],
        "pending": found.pending,
    }


def _track(track: FoundTrack) -> dict[str, Any]:
    return {"path": track.path, "size": track.size, "added": track.added, "tags": track.tags}


def _album(album: FoundAlbum) -> dict[str, Any]:
    return {"path": album.path, "tracks": album.tracks, "tags": album.tags}


def _print_m3u8(tracks: Sequence[FoundTrack], mount_point: Path | None) -> None:
    print("#EXTM3U")
    for track in tracks:
        artist, title = track.tags.get("artist"), track.tags.get("title") or Path(track.path).stem
        duration = track.tags.get("duration_s")
        secs = -1 if duration is None else max(1, round(duration))
        print(f"#EXTINF:{secs},{printable(f'{artist} - {title}' if artist else title)}")
        print(track.path if mount_point is None else mount_point / track.path)


def _print_csv(found: Found, *, albums: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = _ALBUM_COLUMNS if albums else _COLUMNS
    writer.writerow(columns)
    rows = [_album(each) for each in found.albums] if albums else [_track(each) for each in found.tracks]
    for row in rows:
        values = row["tags"] | {name: value for name, value in row.items() if name != "tags"}
        values["length"] = values.pop("duration_s", None)
        cells = ("" if values.get(name) is None else values[name] for name in columns)
        writer.writerow([spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in cells])
