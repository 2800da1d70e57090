"""What each tag format calls the fields of `Tags`, and how it writes their values."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mutagen.id3 import ID3, ParseID3v1

Values = dict[str, list[str]]
"""Tag values as they are written, by the field names of `Tags` (and `originaldate`)."""
MAX_VALUES = 100
"""At most so many values of one key count: no album has more artists."""


def parse(parser: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Calls a class of mutagen, which has no type annotations."""
    return parser(*args, **options)


def id3_values(data: bytes) -> Values:
    """The values of an ID3v2 tag; none of b""."""
    return _frame_values(parse(ID3, fileobj=io.BytesIO(data)), "ID3v2") if data else {}


def id3v1_values(data: bytes) -> Values:
    """The values of an ID3v1 tag."""
    return _frame_values(parse(ParseID3v1, data) or {}, "ID3v1")


def _frame_values(frames: Mapping[str, Any], block: str) -> Values:
    raw: dict[str, list[str]] = {}
    for key, frame in frames.items():
        if key == "UFID:http://musicbrainz.org":
            raw["ufid"] = [frame.data.decode("ascii", "replace")]
        elif hasattr(frame, "text") and isinstance(frame.text, list) and key.lower() in WANTED:
            del frame.text[MAX_VALUES:]  # before mutagen splits the genres, which takes the square of their number
            raw[key.lower()] = list(frame.genres) if key == "TCON" else list(map(str, frame.text))
    return named(raw, block)


def mp4_values(tags: Mapping[str, Any]) -> Values:
    raw: dict[str, list[str]] = {}
    for key, value in tags.items():
        if (name := key.lower().removeprefix("----:com.apple.itunes:")) not in WANTED:
            continue
        texts = raw.setdefault(name, [])
        for item in value[:MAX_VALUES] if isinstance(value, list) else [value]:
            if isinstance(item, tuple):  # (number, total), where 0 is unknown
                texts.append("/".join(str(part) for part in item if part) if item[0] else "")
            else:
                texts.append(item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item))
    for key in ("trkn", "disk"):
        if tags.get(key) and not tags[key][0][0]:
            raw[f"{key}total"] = [str(tags[key][0][1])]
    return named(raw, "MP4 metadata")


def asf_values(tags: Iterable[tuple[str, Any]]) -> Values:
    raw: dict[str, list[str]] = {}
    for key, value in tags:
        if (name := key.lower()) in WANTED and len(texts := raw.setdefault(name, [])) < MAX_VALUES:
            texts.append(str(value))
    return named(raw, "ASF attributes")


_hear: Callable[[str, Values], object] | None = None


@contextmanager
def heard_by(hear: Callable[[str, Values], object]) -> Iterator[None]:
    """Calls `hear` with each tag that is parsed in the meantime: its name and its values. For explanations."""
    global _hear  # a parameter would go through every reader, and cost each file
    _hear = hear
    try:
        yield
    finally:
        _hear = None


def named(raw: Mapping[str, list[str]], block: str) -> Values:
    """The raw values under the names of `Tags`; of several keys for one field the first one with a value counts.

    block: what has them, such as "APEv2".
    """
    values: Values = {}
    ranks: dict[str, int] = {}
    for key, texts in raw.items():
        for name, rank in _PLACES.get(key, ()):
            if rank < ranks.get(name, _LAST) and _says_anything(texts):
                values[name], ranks[name] = texts, rank
    if _hear is not None:
        _hear(block, values)
    return values


def _says_anything(texts: list[str]) -> bool:
    return bool(texts) and (bool(texts[0].strip(" \0")) or any(text.strip(" \0") for text in texts))


def merged(*tags: Values) -> Values:
    """Field by field the value of the first tag that has it."""
    found = dict(tags[0]) if tags else {}
    for other in tags[1:]:
        for name, values in other.items():
            found.setdefault(name, values)
    return found


_RELEASE_TRACK_ID = (
    *("musicbrainz_releasetrackid", "musicbrainz release track id", "txxx:musicbrainz release track id"),
    "musicbrainz/release track id",
)
_KEYS: Mapping[str, tuple[str, ...]] = {
    # Vorbis comments and APEv2, then ID3, MP4, ASF, RIFF INFO; all in lower case
    "title": ("title", "tit2", "\xa9nam", "inam"),
    "artist": ("artist", "tpe1", "\xa9art", "author", "iart"),
    "artists": ("artists", "txxx:artists", "wm/artists"),
    "albumartist": (
        *("albumartist", "album artist", "album_artist"),
        *("tpe2", "txxx:albumartist", "txxx:album artist", "aart", "wm/albumartist"),
    ),
    "albumartists": (
        *("albumartists", "album artists", "album_artists", "txxx:albumartists", "txxx:album artists"),
        *("txxx:album_artists", "wm/albumartists"),
    ),
    "album": ("album", "talb", "\xa9alb", "wm/albumtitle", "iprd"),
    "date": ("date", "releasedate", "year", "tdrc", "tdrl", "\xa9day", "wm/year", "icrd"),
    "originaldate": (
        *("originaldate", "originalyear", "original date", "original year", "tdor"),
        *("txxx:originaldate", "txxx:originalyear", "wm/originalreleasetime", "wm/originalreleaseyear"),
    ),
    "track": ("tracknumber", "track", "trck", "trkn", "wm/tracknumber", "itrk", "iprt"),
    "tracktotal": ("tracktotal", "totaltracks", "txxx:tracktotal", "txxx:totaltracks", "trkntotal"),
    "disc": ("discnumber", "disc", "tpos", "disk", "wm/partofset"),
    "disctotal": ("disctotal", "totaldiscs", "txxx:disctotal", "txxx:totaldiscs", "disktotal"),
    "disctitle": ("discsubtitle", "setsubtitle", "tsst", "txxx:discsubtitle", "wm/setsubtitle"),
    "genre": ("genre", "tcon", "\xa9gen", "wm/genre", "ignr"),
    "composer": ("composer", "tcom", "\xa9wrt", "wm/composer", "imus"),
    "label": ("label", "organization", "publisher", "tpub", "txxx:label", "wm/publisher"),
    "catalognum": (
        *("catalognumber", "catalog number", "catalognum", "txxx:catalognumber", "txxx:catalog number"),
        "wm/catalogno",
    ),
    "isrc": ("isrc", "tsrc", "wm/isrc"),
    "media": ("media", "tmed", "txxx:media", "wm/media"),
    "language": ("language", "tlan", "wm/language", "ilng"),
    "bpm": ("bpm", "tempo", "tbpm", "tmpo", "wm/beatsperminute", "ibpm"),
    "compilation": ("compilation", "itunescompilation", "tcmp", "cpil", "wm/iscompilation"),
    "musicbrainz_albumid": (
        "musicbrainz_albumid",
        "musicbrainz album id",
        "txxx:musicbrainz album id",
        "musicbrainz/album id",
    ),
    "musicbrainz_trackid": (
        *("musicbrainz_trackid", "musicbrainz track id", "ufid", "txxx:musicbrainz track id", "musicbrainz/track id"),
        *_RELEASE_TRACK_ID,
    ),
    "musicbrainz_releasetrackid": _RELEASE_TRACK_ID,
}

_LAST = 1000


def _places() -> dict[str, list[tuple[str, int]]]:
    """Which fields a key fills, and its rank among the keys that do."""
    places: dict[str, list[tuple[str, int]]] = {}
    for name, keys in _KEYS.items():
        for rank, key in enumerate(keys):
            places.setdefault(key, []).append((name, rank))
    return places


_PLACES = _places()
WANTED = frozenset(_PLACES)
"""Every key that `named` looks for, in lower case; a file may hold any number of others."""
