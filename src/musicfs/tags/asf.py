"""The header of an ASF (WMA) file: only the objects that describe the audio and the tags, one level deep.

A header extension may hold another one, and so on: a parser that follows them all takes the square of their size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from musicfs.tags.containers import MAX_STEPS, ByteSource, Segment
from musicfs.tags.fields import WANTED
from musicfs.tags.skeletons import MAX_TEXT

_HEADER_SIZE = 30
_EXTENSION_SIZE = 22
_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
_DESCRIPTION = bytes.fromhex("3326b2758e66cf11a6d900aa0062ce6c")
_ATTRIBUTES = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
_METADATA = bytes.fromhex("eacbf8c5af5b77488467aa8c44fa4cca")
_LIBRARY = bytes.fromhex("941c23449894d149a1411d134e457054")
_TAGS = _DESCRIPTION, _ATTRIBUTES, _METADATA, _LIBRARY
_DESCRIPTION_NAMES = "Title", "Author", "Copyright", "Description", "Rating"

Attribute = tuple[str, str]
"""A name and a value."""


@dataclass(slots=True)
class AsfHeader:
    """The tags, those of the oldest kind first, and the stream: seconds, bits per second, hertz."""

    attributes: list[Attribute] = field(default_factory=list)
    length: float | None = None
    bitrate: int | None = None
    sample_rate: int | None = None
    channels: int | None = None


def asf_header(file: ByteSource) -> AsfHeader:
    """Reads the header at the start of the file.

    Raises:
        struct.error: The file ends within an object that counts.
    """
    size = int.from_bytes(file.read_at(16, 8), "little")
    found, tags = AsfHeader(), dict[bytes, list[Attribute]]()
    for name, start, stop in _all_objects(file, min(size, file.size)):
        if name == _FILE:
            duration, _, preroll = struct.unpack("<3Q", file.read_at(start + 40, 24))
            found.length = max(duration / 1e7 - preroll / 1e3, 0.0)
        elif name == _STREAM and file.read_at(start, 16) == _AUDIO:
            found.channels, found.sample_rate, rate = struct.unpack("<HII", file.read_at(start + 56, 10))
            found.bitrate = rate * 8
        elif name in _TAGS and name not in tags:
            tags[name] = list(_attributes(file, name, start, stop))
    found.attributes = list(chain.from_iterable(tags.get(name, ()) for name in _TAGS))
    return found


def _all_objects(file: ByteSource, end: int) -> Iterator[Segment]:
    """The objects of the header, and of an extension in it."""
    for each in _objects(file, _HEADER_SIZE, end):
        if each.name == _EXTENSION:
            yield from _objects(file, each.start + _EXTENSION_SIZE, each.stop)
        else:
            yield each


def _objects(file: ByteSource, at: int, end: int) -> Iterator[Segment]:
    for _ in range(MAX_STEPS):
        head = file.read_at(at, min(24, end - at))
        if len(head) < 24:
            return
        size = int.from_bytes(head[16:], "little")
        if size < 24:
            return
        yield Segment(head[:16], at + 24, min(at + size, end))
        at += size


def _attributes(file: ByteSource, kind: bytes, start: int, stop: int) -> Iterator[Attribute]:
    """The attributes that tags need. Others, such as pictures, are skipped unread."""
    if kind == _DESCRIPTION:
        lengths, at = struct.unpack("<5H", file.read_at(start, 10)), start + 10
        for name, length in zip(_DESCRIPTION_NAMES, lengths, strict=True):
            yield name, _text(file.read_at(at, length))
            at += length
        return
    count, at = int.from_bytes(file.read_at(start, 2), "little"), start + 2
    for _ in range(min(count, MAX_STEPS)):
        if kind == _ATTRIBUTES:
            named = int.from_bytes(file.read_at(at, 2), "little")
            name = _text(file.read_at(at + 2, named))
            at += 2 + named
            type, size = struct.unpack("<HH", file.read_at(at, 4))
            at += 4
        else:
            named, type, size = struct.unpack("<4xHHI", file.read_at(at, 12))
            name = _text(file.read_at(at + 12, named))
            at += 12 + named
        if at + size > stop:
            return
        if name.lower() in WANTED and size <= MAX_TEXT and type != 1:
            yield name, _value(type, file.read_at(at, size))
        at += size


def _text(data: bytes) -> str:
    return data.decode("utf-16-le", "replace").strip("\0")


def _value(type: int, data: bytes) -> str:
    """A text, or a number in decimal digits; a truth value is "True" or "False"."""
    if type == 0:
        return _text(data)
    number = int.from_bytes(data[:8], "little")
    return str(bool(number)) if type == 2 else str(number)
