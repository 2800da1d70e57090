"""What a reader of tags works on, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from musicfs.tags.fields import Values
from musicfs.tags.range_file import RangeFile


@dataclass(slots=True)
class TagValues:
    """What a reader found: tag values as they are written, by the field names of `Tags`, and the stream.

    Durations are in seconds, bit rates in bits per second, sample rates in hertz.
    """

    format: str
    codec: str
    values: Values = field(default_factory=dict)
    duration_s: float | None = None
    bitrate: float | None = None
    sample_rate: int | None = None
    bit_depth: int | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class TagSource:
    """What a reader works on.

    start: where the ID3v2 tags, and an APEv2 tag, before the audio end. id3: the skeletons of those ID3v2 tags. ape:
    the values of that APEv2 tag.
    """

    file: RangeFile
    start: int
    id3: tuple[bytes, ...]
    ape: Values
    extension: str


Reader = Callable[[TagSource], TagValues]


def describe(found: TagValues, info: Any) -> None:
    """Copies what mutagen knows of the stream, under the names that its classes share."""
    found.duration_s = getattr(info, "length", None)
    found.bitrate = getattr(info, "bitrate", None)
    found.sample_rate = getattr(info, "sample_rate", None)
    found.channels = getattr(info, "channels", None)


def average(size: int, duration_s: float | None) -> int | None:
    return int(size * 8 / duration_s) if duration_s else None
