"""The fields that queries can name, and of what kind their values are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FieldKind(Enum):
    """What a field holds, and so which conditions it takes."""

    TEXT = "text"
    NUMBER = "number"
    DURATION = "duration"
    DATE = "date"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class QueryField:
    """One field. tag: the name in `Tags` of what files say; None: only the catalogue knows it."""

    name: str
    kind: FieldKind
    tag: str | None = None
    aliases: tuple[str, ...] = ()


def _texts(*names: str) -> tuple[QueryField, ...]:
    return tuple(QueryField(name, FieldKind.TEXT, name) for name in names)


def _numbers(*names: str) -> tuple[QueryField, ...]:
    return tuple(QueryField(name, FieldKind.NUMBER, name) for name in names)


FIELDS: tuple[QueryField, ...] = (
    *_texts("title", "artist", "albumartist", "album", "genre", "composer"),
    *_texts("label", "catalognum", "isrc", "media", "language", "disctitle", "format", "codec", "date", "originaldate"),
    QueryField("mb_albumid", FieldKind.TEXT, "musicbrainz_albumid", ("musicbrainz_albumid",)),
    QueryField("mb_trackid", FieldKind.TEXT, "musicbrainz_trackid", ("musicbrainz_trackid",)),
    QueryField("mb_releasetrackid", FieldKind.TEXT, "musicbrainz_releasetrackid", ("musicbrainz_releasetrackid",)),
    *_numbers("year", "track", "tracktotal", "disc", "disctotal", "bpm", "bitrate", "channels"),
    QueryField("original_year", FieldKind.NUMBER, "originaldate", ("originalyear",)),
    QueryField("samplerate", FieldKind.NUMBER, "sample_rate", ("sample_rate",)),
    QueryField("bitdepth", FieldKind.NUMBER, "bit_depth", ("bit_depth",)),
    QueryField("length", FieldKind.DURATION, "duration_s", ("duration",)),
    QueryField("comp", FieldKind.FLAG, "compilation", ("compilation",)),
    QueryField("added", FieldKind.DATE),
    QueryField("size", FieldKind.NUMBER),
    QueryField("copies", FieldKind.NUMBER),
    QueryField("origin", FieldKind.TEXT),
    QueryField("path", FieldKind.TEXT),
    QueryField("problem", FieldKind.TEXT),
)
FREE_TEXT: tuple[str, ...] = ("title", "artist", "albumartist", "album")
"""The fields that a term without a field is looked for in."""

_BY_NAME = {name: field for field in FIELDS for name in (field.name, *field.aliases)}


def field_named(name: str) -> QueryField | None:
    """Returns the field of that name or alias, in any case of letters, or None."""
    return _BY_NAME.get(name.lower())
