"""The tags of a music file, in one shape for every format, and which files are music at all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from musicfs.tags.names import split_extension
from musicfs.tags.range_file import RangeFile
from musicfs.tags.range_file import Unreadable as Unreadable
from musicfs.texts import normalised, without_hidden

if TYPE_CHECKING:
    from musicfs.tags.sources import TagValues

# fmt: off
AUDIO_EXTENSIONS = frozenset((
    "flac", "mp3", "mp2", "ogg", "opus", "oga", "m4a", "m4b", "mp4", "aac", "wav", "aif", "aiff", "aifc", "wv",
    "ape", "mpc", "mp+", "tta", "wma", "asf", "dsf", "dff", "spx", "mka", "weba", "ac3", "eac3", "dts", "w64", "rf64",
    "caf", "au", "tak", "ofr", "ofs", "shn", "ra", "amr", "alac", "mid", "midi", "mod", "xm", "it", "s3m",
))
SIDECAR_EXTENSIONS = frozenset((
    "jpg", "jpeg", "jfif", "png", "gif", "webp", "bmp", "tif", "tiff", "avif", "heic", "jxl", "pdf", "cue", "log",
    "lrc", "elrc", "ttml", "srt", "txt", "nfo", "m3u", "m3u8", "pls", "xspf", "md5", "sha1", "sha256", "sfv", "ffp",
    "accurip", "toc", "html", "htm", "rtf", "url", "wvc",
))
# fmt: on
PARSER_VERSION: int = 3
"""It is raised when the same bytes give other tags than before. Files that were parsed before it existed have 1."""
MAX_CHARACTERS = 2000
"""A longer value is cut: no name is so long, and the catalogue holds millions of values."""

_NOT_MUSIC = frozenset(("thumbs.db", "desktop.ini", "ehthumbs.db", "folder.ini"))
_UNFINISHED = ("~syncthing~", "incomplete~", "~$")
# Downloads that are under way, and what systems and editors leave behind: no one misses them in a library.
_NO_KIND = frozenset((
    "part", "partial", "filepart", "download", "crdownload", "opdownload", "!qb", "!ut", "!sync", "bts", "bc!", "aria2",
    "ytdl", "tmp", "temp", "swp", "bak", "old", "lnk", "webloc", "db", "ini",
))  # fmt: skip
_NUMBER = re.compile(
    r"\s*(?:(?:track|dis[ck]|cd|no|nr)\b[.\s]*|(?:track|dis[ck]|cd)(?=\d)|#\s*)?"
    r"(\d{1,5})(?!\d)(?:\s*(?:/|of)\s*(\d{1,5})(?!\d))?",
    re.IGNORECASE,
)
_DISC_AND_TRACK = re.compile(r"\s*(\d{1,2})\s*[-.]\s*(\d{1,3})(?:\s*(?:/|of)\s*(\d{1,5}))?\s*", re.IGNORECASE)
_TOTAL = re.compile(r"\s*(?:/|of\b)\s*(\d{1,5})\s*$", re.IGNORECASE)
_LABEL_END = re.compile(r"[\s.]*$")
_MAX_LABEL = 16  # characters
_YEAR = re.compile(r"(?<!\d)([12]\d{3})(?=\d{4}(?!\d)|(?!\d))")
_LIMIT = 2**31 - 1
_MAX_EXTENSION = 12  # characters
MAX_VALUES = 100
"""At most so many values of one field count."""
_MANY_BLANKS = re.compile(r"\s{9,}")


class Role(Enum):
    """What a file is to the library: music, or something that lies beside music."""

    AUDIO = "audio"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one audio file. Text is stripped, NFC, never empty; None: not known.

    format: the extension that fits the content, whatever the name is. codec: lower case, e.g. "alac".
    artists, albumartists, genres, composers: all values, the main one first, where the file has several; else empty.
    date: as written, e.g. "1999-03-01"; originaldate: of the first release. track_label: what stands in place of a
    track number where it isn't one, e.g. "A1" on a vinyl record, at most 16 characters. bpm: beats per minute.
    Durations are in seconds, bit rates in bits per second, sample rates in hertz; bit_depth is None for lossy codecs.
    """

    format: str
    codec: str
    title: str | None = None
    artist: str | None = None
    artists: tuple[str, ...] = ()
    albumartist: str | None = None
    albumartists: tuple[str, ...] = ()
    album: str | None = None
    year: int | None = None
    date: str | None = None
    originaldate: str | None = None
    track: int | None = None
    track_label: str | None = None
    tracktotal: int | None = None
    disc: int | None = None
    disctotal: int | None = None
    disctitle: str | None = None
    genre: str | None = None
    genres: tuple[str, ...] = ()
    composer: str | None = None
    composers: tuple[str, ...] = ()
    label: str | None = None
    catalognum: str | None = None
    isrc: str | None = None
    media: str | None = None
    language: str | None = None
    bpm: int | None = None
    compilation: bool = False
    musicbrainz_albumid: str | None = None
    musicbrainz_trackid: str | None = None
    musicbrainz_releasetrackid: str | None = None
    duration_s: float | None = None
    bitrate: int | None = None
    sample_rate: int | None = None
    bit_depth: int | None = None
    channels: int | None = None

    @classmethod
    def unknown(cls, path: str) -> Tags:
        """The tags of a file whose tags can't be read: only the format, from its name."""
        extension = split_extension(path)[1].lower()
        return cls(extension, extension)

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`, without fields that are not known."""
        items = ((name, getattr(self, name)) for name in _FIELDS)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in items
            if value is not None and value is not False and value != ()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tags:
        """The inverse of `to_json`. It ignores keys of a later version.

        Raises:
            TypeError: The format or the codec is missing.
        """
        values = {name: data[name] for name in _FIELDS if name in data}
        return cls(**values | {name: tuple(values[name]) for name in _LISTS if name in values})


_FIELDS = tuple(field.name for field in fields(Tags))
_LISTS = ("artists", "albumartists", "genres", "composers")


def role_of(path: str) -> Role | None:
    """What the file at `path` is, by its name alone; None: an unknown kind, an unfinished download, or litter."""
    name = path.rpartition("/")[2].lower()
    if _is_litter(name):
        return None
    _, dot, extension = name.rpartition(".")
    if not dot:
        return None
    if extension in AUDIO_EXTENSIONS:
        return Role.AUDIO
    return Role.SIDECAR if extension in SIDECAR_EXTENSIONS else None


def unknown_kind(path: str) -> str | None:
    """The extension, such as ".dff", of a file without a role; None: there is none, or one that is no music."""
    name = path.rpartition("/")[2].lower()
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem or len(extension) > _MAX_EXTENSION or extension in _NO_KIND or extension.endswith("~"):
        return None
    return None if _is_litter(name) else f".{extension}"


def _is_litter(name: str) -> bool:
    return name in _NOT_MUSIC or name.startswith(_UNFINISHED)


def read_tags(file: RangeFile, name: str) -> Tags:
    """Reads the tags of `file`. Its content decides its kind; `name` decides only what the content leaves open.

    CPU-bound: it belongs in a parse process. It raises nothing else, whatever the file holds.

    Raises:
        Unreadable: The file can't be parsed.
        NeedRange: Bytes that it needs are not here.
        TagsTooLarge: It would need more bytes than may be read.
        MemoryError: The process has no more memory.
    """
    from musicfs.tags import formats  # the parsers are slow to import, and a mount from its catalogue needs none

    try:
        return _tags(formats.read(file, split_extension(name)[1].lower()))
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unreadable(f"the file is damaged: {detail}") from error


def _tags(found: TagValues) -> Tags:
    values = {field: texts for field, raw in found.values.items() if (texts := _clean(raw))}
    track = _track(values)
    disc, disctotal = _number_of(values, "disc")
    date = _date(values, "date", "originaldate")
    year = _YEAR.search(date) if date else None
    return Tags(
        format=found.format,
        codec=found.codec,
        title=_first(values, "title"),
        artist=_people(values, "artist"),
        artists=_several(values, "artists", "artist"),
        albumartist=_people(values, "albumartist"),
        albumartists=_several(values, "albumartists", "albumartist"),
        album=_first(values, "album"),
        year=int(year[1]) if year else None,
        date=date,
        originaldate=_date(values, "originaldate"),
        track=track.number,
        track_label=track.label,
        tracktotal=track.total,
        disc=disc if disc is not None else track.disc,
        disctotal=disctotal,
        disctitle=_first(values, "disctitle"),
        genre=_first(values, "genre"),
        genres=_several(values, "genre"),
        composer=_people(values, "composer"),
        composers=_several(values, "composer"),
        label=_first(values, "label"),
        catalognum=_first(values, "catalognum"),
        isrc=_first(values, "isrc"),
        media=_first(values, "media"),
        language=_first(values, "language"),
        bpm=_number_of(values, "bpm")[0] or None,
        compilation=(_first(values, "compilation") or "").lower() in ("1", "true", "yes"),
        musicbrainz_albumid=_first(values, "musicbrainz_albumid"),
        musicbrainz_trackid=_first(values, "musicbrainz_trackid"),
        musicbrainz_releasetrackid=_first(values, "musicbrainz_releasetrackid"),
        duration_s=_plausible(found.duration_s),
        bitrate=_positive(found.bitrate),
        sample_rate=_positive(found.sample_rate),
        bit_depth=_positive(found.bit_depth),
        channels=_positive(found.channels),
    )


def _clean(raw: Iterable[str]) -> list[str]:
    """The distinct values that are not blank, split where a NUL joins several."""
    texts: dict[str, None] = {}
    for joined in raw:
        for text in joined[: MAX_CHARACTERS * 8].split("\0", MAX_VALUES):
            whole = text.encode("utf-8", "replace").decode() if not text.isascii() else text
            few = _MANY_BLANKS.sub(" ", whole[: MAX_CHARACTERS * 2])
            stripped = normalised(few).strip().strip("\ufeff")[:MAX_CHARACTERS].strip()
            if stripped and (stripped.isascii() or without_hidden(stripped).strip()):
                texts[stripped] = None
        if len(texts) >= MAX_VALUES:
            break
    return list(texts)[:MAX_VALUES]


def _first(values: Mapping[str, list[str]], field: str) -> str | None:
    texts = values.get(field)
    return texts[0] if texts else None


def _people(values: Mapping[str, list[str]], field: str) -> str | None:
    return "; ".join(values[field])[:MAX_CHARACTERS] if field in values else None


def _several(values: Mapping[str, list[str]], *names: str) -> tuple[str, ...]:
    """The values of the first of the fields that has several."""
    for name in names:
        texts = values.get(name, ())
        if len(texts) > 1:
            return tuple(texts)
    return ()


def _date(values: Mapping[str, list[str]], *names: str) -> str | None:
    """The first date with a year, of the fields in this order."""
    return next((date for name in names for date in values.get(name, ()) if _YEAR.search(date)), None)


class _Track(NamedTuple):
    """disc: only where the track's number says it, as in "1-02"."""

    number: int | None
    total: int | None
    label: str | None
    disc: int | None


def _track(values: Mapping[str, list[str]]) -> _Track:
    text = _first(values, "track") or ""
    number, total = _number_of(values, "track")
    if both := _DISC_AND_TRACK.fullmatch(text):
        total = total or (int(both[3]) if both[3] else None)
        return _Track(int(both[2]), _positive(total), None, _positive(int(both[1])))
    if of := _TOTAL.search(text):
        text, total = text[: of.start()], total or _positive(int(of[1]))
    label = _LABEL_END.sub("", text)
    is_label = 0 < len(label) <= _MAX_LABEL and not label.isdecimal()
    return _Track(number, total, label if is_label else None, None)


def _number_of(values: Mapping[str, list[str]], field: str) -> tuple[int | None, int | None]:
    """(number, total) from "3", "03/12" or "3 of 12"; a total in a field of its own wins."""
    match = _NUMBER.match(_first(values, field) or "")
    number, total = (match[1], match[2]) if match else (None, None)
    own = _NUMBER.match(_first(values, f"{field}total") or "")
    total = own[1] if own else total
    return int(number) if number is not None else None, _positive(int(total)) if total else None


def _positive(number: float | None) -> int | None:
    return int(number) if number is not None and 1 <= number <= _LIMIT else None


def _plausible(seconds: float | None) -> float | None:
    if seconds is None or not math.isfinite(seconds) or not 0 < seconds < 1e7:
        return None
    return round(seconds, 3)
