"""How the tree is laid out: a template such as `$albumartist/$album ($year)/$track - $title.$format`.

- `$name` or `${name}` is a field, `$$` a dollar sign, `/` separates folders.
- A pair of brackets whose fields are all empty vanishes, with the space before it.
- Any other empty field vanishes with the separator that joins it to its neighbour.
- A folder whose fields are all empty is called `Unknown Genre`, or after whatever its first field is.
- `$path` is the file's whole path at its origin, `$folder` its folders: only these two fields may add folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from musicfs.tags.discs import album_folder, disc_from_folder
from musicfs.tags.names import safe_component, safe_filename, split_extension
from musicfs.tags.numbers import padded_label
from musicfs.tags.tags import Tags
from musicfs.texts import alike

FIELDS = (
    *("albumartist", "artist", "album", "title", "track", "tracktotal", "disc", "disctotal", "disctitle"),
    *("year", "date", "genre", "composer", "format", "format_upper", "codec", "codec_upper"),
    *("bitrate", "sample_rate", "bit_depth", "path", "folder", "filename"),
)
_TELLING = ("track", "title", "filename", "path")
_OF_DISC = frozenset(("disc", "disctotal", "disctitle"))
_EXTENSIONS = ("format", "format_upper", "codec", "codec_upper")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_MAX = 4096  # characters
_DEEPEST = 20  # brackets
_SEPARATOR = re.compile(r"[\s\-_.,;:~+&|·•–—]+")
_TOKEN = re.compile(r"\$\$|\$\{[^}/]*\}|\$[A-Za-z_]\w*|[\[\](){}/$]|[^$\[\](){}/]+")
_PART = re.compile(r"\d+([A-Za-z])")
_LEADING_NUMBER = re.compile(r"[\[(]?(?:\d{1,2}[-.])?0*(\d{1,4})[\])]?(?:\s*[-._:)]+\s*|\s+)(?=\S)")


class TemplateError(Exception):
    """The template can't be used. The message is one sentence: what is wrong, where, and the remedy."""


@dataclass(frozen=True, slots=True)
class _Literal:
    text: str


@dataclass(frozen=True, slots=True)
class _Field:
    name: str


@dataclass(frozen=True, slots=True)
class _Group:
    opening: str
    items: tuple[_Item, ...]
    closing: str


_Item = _Literal | _Field | _Group
_Values = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template. text: as the user wrote it."""

    text: str
    components: tuple[tuple[_Item, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises `TemplateError`."""
        components = _Parser(text).components()
        for number, items in enumerate(components, 1):
            _check(items, number, last=number == len(components))
        return cls(text, components)

    def uses(self, field: str) -> bool:
        """Whether the template names the field."""
        return any(field in _fields(items) for items in self.components)

    @property
    def constant_folders(self) -> int:
        """How many folders at the top of the tree are the same for all files."""
        fields = [any(True for _ in _fields(items)) for items in self.components[:-1]]
        return fields.index(True) if True in fields else len(fields)

    @property
    def album_folders(self) -> int | None:
        """How many folders the discs of an album have in common; None: all."""
        of_disc = (number for number, items in enumerate(self.components[:-1]) if set(_fields(items)) & _OF_DISC)
        return None if self.uses("folder") else next(of_disc, None)

    def folded(self, dir: str) -> str:
        """What all spellings of a folder of the tree have in common, as a path of as many parts.

        Folders of the origin's own, which `$folder` and `$path` make, have one spelling; so have those in them.
        """
        parts = dir.split("/")
        own = next(
            (n for n, items in enumerate(self.components) if {"folder", "path"} & set(_fields(items))), len(parts)
        )
        return "/".join((*(alike(part).replace("/", "-") for part in parts[:own]), *parts[own:]))

    def render(self, fields: Mapping[str, str | None]) -> tuple[str, ...]:
        """The path components of a file, each a safe name. fields: None or empty where a value is not known."""
        *folders, name = self.components
        parts = [part for items in folders for part in _folder(items, fields)]
        if _is_only(name, "path"):
            *inner, last = (fields.get("path") or "").strip("/").split("/")
            return (*parts, *_components("/".join(inner)), _safe_name(last, "", fields))
        return (*parts, _name(name, fields))


@dataclass(frozen=True, slots=True)
class Album:
    """What an album's tracks agree on, as most of them write it; None: what this track's tags say.

    track_width, disc_width, label_width: digits of the greatest numbers. discs: how many numbered discs there are.
    """

    title: str | None = None
    artist: str | None = None
    year: int | None = None
    track_width: int = 2
    disc_width: int = 1
    label_width: int = 1
    discs: int = 0


def track_fields(tags: Tags, path: str, album: Album, *, disc_prefix: bool) -> dict[str, str | None]:
    """The fields of the file at `path`, with substitutes for missing tags.

    Args:
        tags: The file's tags.
        path: At its origin.
        album: What the album's tracks agree on.
        disc_prefix: The track number starts with the disc's ("1-03").

    Returns:
        The values by field name; bitrate is in kilobits per second, sample_rate in hertz.
    """
    own = _last(path)
    stem, _ = split_extension(own)
    disc = tags.disc if tags.disc is not None else disc_from_folder(path)
    year = album.year if album.year is not None else tags.year
    return {
        "albumartist": album.artist or tags.albumartist or tags.artist or "Unknown Artist",
        "artist": tags.artist or tags.albumartist or album.artist or "Unknown Artist",
        "album": album.title or tags.album or _last(album_folder(path)) or "Unknown Album",
        "title": tags.title if tags.title and _shows(tags.title) else _without_number(stem, tags.track),
        "track": _track(tags, album, disc if disc_prefix else None),
        "tracktotal": _text(tags.tracktotal),
        "disc": None if disc is None else f"{disc:0{album.disc_width}}",
        "disctotal": _text(tags.disctotal),
        "disctitle": tags.disctitle,
        "year": _text(year),
        "date": tags.date or _text(year),
        "genre": tags.genre,
        "composer": tags.composer,
        "format": tags.format,
        "format_upper": tags.format.upper(),
        "codec": tags.codec,
        "codec_upper": tags.codec.upper(),
        "bitrate": _text(tags.bitrate and max(round(tags.bitrate / 1000), 1)),
        "sample_rate": _text(tags.sample_rate),
        "bit_depth": _text(tags.bit_depth),
        "path": path,
        "folder": _parent(path),
        "filename": own,
    }


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _track(tags: Tags, album: Album, disc: int | None) -> str | None:
    """The track's number, as wide as the album's greatest: names sort by their bytes as the album plays."""
    label = None if tags.track_label is None else padded_label(tags.track_label, album.label_width)
    if label is None and tags.track is None:
        return None
    width = max(album.track_width, len(str(tags.tracktotal or 0)))
    number = label if label is not None and tags.track is None else f"{tags.track:0{width}}{_part(tags.track_label)}"
    return number if disc is None else f"{disc:0{album.disc_width}}-{number}"


def _part(label: str | None) -> str:
    """The letter of a track in several parts, as of "3b"."""
    match = _PART.fullmatch(label) if label else None
    return match[1] if match else ""


def _shows(title: str) -> bool:
    """Whether a name made of the title shows any of it: names never end with dots."""
    return any(safe_component(f"{title}x").removesuffix("x").strip("._ "))


def _without_number(stem: str, track: int | None) -> str:
    """The file name's stem without the track number that the tags already have."""
    match = _LEADING_NUMBER.match(stem)
    return stem[match.end() :] if match and int(match[1]) == track else stem


class _Parser:
    """Turns the text into components. Columns in messages count from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [(match.start() + 1, match[0]) for match in _TOKEN.finditer(text[:_MAX])]
        self._next = 0
        self._depth = 0

    def components(self) -> tuple[tuple[_Item, ...], ...]:
        if len(self._text) > _MAX:
            raise TemplateError(f"the template has {len(self._text)} characters; write it with at most {_MAX}")
        if not self._text.strip():
            raise TemplateError("the template is empty; name at least one field, as in '$artist/$title.$format'")
        if self._text.startswith("/"):
            raise TemplateError("the template begins with '/' at column 1; remove it, for the tree begins at the mount")
        found = [self._items(None, 0)]
        while self._next < len(self._tokens):
            self._next += 1  # the slash
            found.append(self._items(None, 0))
        return tuple(found)

    def _items(self, closing: str | None, opened: int) -> tuple[_Item, ...]:
        """The items up to the closing bracket, or else up to the slash or the end, which it does not consume."""
        items: list[_Item] = []
        while self._next < len(self._tokens):
            column, token = self._tokens[self._next]
            if token == "/":
                break
            self._next += 1
            if token == closing:
                return tuple(items)
            items.append(self._item(column, token, closing))
        if closing is not None:
            self._unclosed(closing, opened)
        return tuple(items)

    def _item(self, column: int, token: str, closing: str | None) -> _Item:
        if token == "$$":
            return _Literal("$")
        if token[0] == "$":
            return _Field(_field_name(token, column))
        if token in _BRACKETS:
            return self._group(column, token)
        if token in _BRACKETS.values():
            remedy = f"close with {closing!r} first" if closing else "remove it"
            raise TemplateError(f"the bracket {token!r} at column {column} closes nothing; {remedy}")
        return _Literal(token)

    def _group(self, column: int, token: str) -> _Group:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise TemplateError(f"the bracket {token!r} at column {column} is inside {_DEEPEST} others; remove it")
        made = _Group(token, self._items(_BRACKETS[token], column), _BRACKETS[token])
        self._depth -= 1
        return made

    def _unclosed(self, closing: str, opened: int) -> None:
        end = "before the next '/'" if self._next < len(self._tokens) else "before the end"
        raise TemplateError(
            f"the bracket {self._text[opened - 1]!r} at column {opened} is never closed; add {closing!r} {end}"
        )


def _field_name(token: str, column: int) -> str:
    if token == "$":
        raise TemplateError(f"the '$' at column {column} names no field; write '$$' for a dollar sign")
    name = token[2:-1] if token.startswith("${") else token[1:]
    if name in FIELDS:
        return name
    beginning = max((field for field in FIELDS if name.startswith(f"{field}_")), key=len, default="")
    close = next(iter(get_close_matches(name.lower(), FIELDS, 1)), beginning)
    if beginning and close == beginning:
        remedy = f"write '${{{beginning}}}{name[len(beginning) :]}' to end its name earlier"
    else:
        remedy = f"did you mean '${close}'?" if close else "known are " + ", ".join(FIELDS)
    raise TemplateError(f"the field {token!r} at column {column} is unknown; {remedy}")


def _check(items: Sequence[_Item], number: int, *, last: bool) -> None:
    """Raises `TemplateError` for a component that can't name a folder, or the file."""
    used = list(_fields(items))
    literal = _text_of(items, {}).strip()
    if not used and literal in ("", ".", ".."):
        what = f"is {literal!r}, which leads elsewhere" if literal else "is empty"
        raise TemplateError(f"part {number} of the template {what}; put a name or a field between the slashes")
    for field in ("path", "folder"):
        if field in used and not _is_only(items, field):
            raise TemplateError(f"'${field}' shares part {number} of the template; put it between slashes of its own")
    if "path" in used and not last:
        raise TemplateError("'$path' is followed by more; it names the file, so make it the last part")
    if last and not set(used) & set(_TELLING):
        raise TemplateError(
            "the last part of the template can't tell an album's files apart; add $title, $track, $filename or $path"
        )


def _fields(items: Sequence[_Item]) -> Iterator[str]:
    for item in items:
        if isinstance(item, _Field):
            yield item.name
        elif isinstance(item, _Group):
            yield from _fields(item.items)


def _is_only(items: Sequence[_Item], field: str) -> bool:
    return len(items) == 1 and items[0] == _Field(field)


def _folder(items: Sequence[_Item], fields: _Values) -> list[str]:
    if _is_only(items, "folder"):
        return _components(fields.get("folder") or "")
    text = _text_of(items, fields)
    if not text.strip():
        text = "Unknown " + next(_fields(items)).replace("_", " ").title()
    return [safe_component(text)]


def _components(path: str) -> list[str]:
    return [safe_component(part) for part in path.split("/") if part]


def _name(items: Sequence[_Item], fields: _Values) -> str:
    """The file's name, which keeps its extension whatever happens to the rest."""
    *rest, dot, last = (_Literal(""), _Literal(""), *items)
    if isinstance(last, _Field) and last.name in _EXTENSIONS and isinstance(dot, _Literal) and dot.text.endswith("."):
        stem = _text_of((*rest, _Literal(dot.text[:-1])), fields)
        return _safe_name(stem, fields.get(last.name) or "", fields)
    return _safe_name(_text_of(items, fields), "", fields)


def _safe_name(stem: str, ext: str, fields: _Values) -> str:
    if not ext:
        stem, ext = split_extension(stem)
    return safe_filename(stem if stem.strip() else split_extension(fields.get("filename") or "")[0], ext)


def _text_of(items: Sequence[_Item], fields: _Values) -> str:
    """The text of the items; "" if there are fields among them and all are empty."""
    if any(True for _ in _fields(items)) and not any(fields.get(name) for name in _fields(items)):
        return ""
    pieces: list[str] = []
    after_separator = gone = False
    for item in items:
        text = _value_of(item, fields)
        separates = isinstance(item, _Literal) and _SEPARATOR.fullmatch(text) is not None
        if not text:
            gone = True
        elif separates and gone and after_separator:  # two that met: punctuation says more than space
            pieces[-1] = text if text.strip() or not pieces[-1].strip() else pieces[-1]
        elif not (separates and gone and not pieces):
            pieces.append(text)
            after_separator, gone = separates, gone and separates
    return "".join(pieces[:-1] if gone and after_separator else pieces)


def _value_of(item: _Item, fields: _Values) -> str:
    if isinstance(item, _Literal):
        return item.text
    if isinstance(item, _Field):
        return fields.get(item.name) or ""
    text = _text_of(item.items, fields).strip()
    return f"{item.opening}{text}{item.closing}" if text else ""
