"""Vorbis comments, which FLAC and Ogg files hold: one pass, which reads only what tags need."""

from __future__ import annotations

from typing import NamedTuple

from musicfs.tags.containers import MAX_STEPS, ByteSource
from musicfs.tags.fields import MAX_VALUES, WANTED
from musicfs.tags.skeletons import MAX_TEXT

_MAX_COMMENT = 256 * 1024 * 1024
"""Bytes: pictures of 100 MB have been seen, and what is larger is garbage."""

_WINDOW = 2048  # bytes; the comments of most files


class Comments(NamedTuple):
    """values: by key in lower case, of the wanted keys only. end: where the last comment ends that was visited."""

    values: dict[str, list[str]]
    end: int


def vorbis_comments(file: ByteSource, at: int) -> Comments:
    """The first thousand comments of the block that starts at `at`.

    It steps over what is longer than any tag, such as a picture, and leaves it unread.

    Raises:
        ValueError: The block ends too early, or a length in it leads out of the file.
    """
    file = _Window(file)
    at += 4 + _length(file, at)  # the name of the program that wrote it
    count = _number(file, at)
    at += 4
    values: dict[str, list[str]] = {}
    for _ in range(min(count, MAX_STEPS)):
        length = _length(file, at)
        if length <= MAX_TEXT:
            _take(file.read_at(at + 4, length), values)
        at += 4 + length
    return Comments(values, at)


class _Window:
    """Reads ahead: a small read costs as much as a large one."""

    def __init__(self, file: ByteSource) -> None:
        self.size = file.size
        self._file = file
        self._start = 0
        self._data = b""

    def read_at(self, offset: int, size: int) -> bytes:
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            self._data, self._start, at = self._file.read_at(offset, max(size, _WINDOW)), offset, 0
        return self._data[at : at + size]


def _take(comment: bytes, values: dict[str, list[str]]) -> None:
    key, equals, value = comment.partition(b"=")
    name = key.decode("ascii", "replace").lower()
    if equals and name in WANTED and len(texts := values.setdefault(name, [])) < MAX_VALUES:
        texts.append(value.decode("utf-8", "replace"))


def _number(file: ByteSource, at: int) -> int:
    data = file.read_at(at, 4)
    if len(data) < 4:
        raise ValueError("the comments are cut short")
    return int.from_bytes(data, "little")


def _length(file: ByteSource, at: int) -> int:
    length = _number(file, at)
    if length > min(file.size, _MAX_COMMENT):
        raise ValueError(f"a comment of {length} bytes makes no sense")
    return length
