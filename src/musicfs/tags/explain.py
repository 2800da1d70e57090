"""Explains what the parser makes of one file: what it read, which tags it found, and which of them each field is from.

Run as a program with an open file's descriptor, its name and perhaps the descriptor of a new file for a bundle, it
confines itself as a parser process does and prints JSON. A bundle has what the parser used of a file, for a bug report:
headers and tags, without the audio and the pictures. A bundle is explained as its file is.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from musicfs.system import confinement, hardening
from musicfs.tags import fields, formats, parser_process
from musicfs.tags.parser import MEMORY
from musicfs.tags.range_file import RangeFile, TagsTooLarge, Unreadable
from musicfs.tags.tags import PARSER_VERSION, read_tags

_MAGIC = b"musicfs bundle 1\n"
_HEAD = struct.Struct("!QIH")
"""The file's size, the number of ranges, and the bytes of its extension, which follows."""
_RANGE = struct.Struct("!QI")
_MAX_RANGES = 10_000
_CPU_SECS = 10.0


class TagBlock(NamedTuple):
    """A tag of the file: what it is, such as "APEv2", and its values by field."""

    name: str
    values: Mapping[str, Sequence[str]]


class _UsedRanges(RangeFile):
    """A file that remembers what was used of it."""

    def __init__(self, size: int, ranges: Mapping[int, bytes], fetch: Any) -> None:
        super().__init__(size, ranges, ahead=0, fetch=fetch)
        self.used: dict[int, bytes] = {}

    def read_at(self, offset: int, size: int) -> bytes:
        data = super().read_at(offset, size)
        if len(data) > len(self.used.get(offset, b"")):
            self.used[offset] = data
        return data


def explain(file: _UsedRanges, name: str) -> dict[str, Any]:
    """Parses the file and describes how. Raises nothing that depends on what is in it."""
    found: list[TagBlock] = []
    tags, problem = None, None
    with fields.heard_by(lambda block, values: found.append(TagBlock(block, values))):
        try:
            tags = read_tags(file, name).to_json()
        except Unreadable as error:
            problem = str(error)
        except TagsTooLarge:
            problem = "its tags are larger than may be read"
        except MemoryError:
            problem = "its tags take more memory than may be used"
    return {
        "size": file.size,
        "parser": PARSER_VERSION,
        "reads": [{"offset": offset, "size": len(data)} for offset, data in sorted(file.used.items())],
        "blocks": [{"name": block.name, "values": {k: list(v) for k, v in block.values.items()}} for block in found],
        "fields": _fields(tags or {}, found),
        "problem": problem,
    }


def _fields(tags: Mapping[str, object], blocks: Sequence[TagBlock]) -> list[dict[str, object]]:
    """Each field of the result with the first block that has it; the stream has those that no block has."""
    said = []
    for name, value in tags.items():
        key = {"year": "date", "artists": "artist", "genres": "genre", "composers": "composer"}.get(name, name)
        source = next((block.name for block in blocks if block.values.get(key)), "the stream")
        said.append({"field": name, "value": value, "from": source})
    return said


def write_bundle(fd: int, file: _UsedRanges, extension: str) -> None:
    """Writes what was used of the file."""
    ranges = sorted(file.used.items())[:_MAX_RANGES]
    kind = extension.encode()[:99]
    parts = [_MAGIC, _HEAD.pack(file.size, len(ranges), len(kind)), kind]
    for offset, data in ranges:
        parts += [_RANGE.pack(offset, len(data)), data]
    with os.fdopen(fd, "wb") as out:
        out.writelines(parts)


def _read_bundle(data: bytes) -> tuple[int, str, dict[int, bytes]]:
    """Returns the size, the extension and the ranges of the file that a bundle is of. Raises struct.error."""
    at = len(_MAGIC)
    size, number, length = _HEAD.unpack_from(data, at)
    at += _HEAD.size
    extension = data[at : at + length].decode("utf-8", "replace")
    at += length
    ranges = {}
    for _ in range(min(number, _MAX_RANGES)):
        offset, length = _RANGE.unpack_from(data, at)
        at += _RANGE.size
        ranges[offset] = data[at : at + length]
        at += length
    return size, extension, ranges


def _opened(fd: int, name: str) -> tuple[_UsedRanges, str]:
    """The file behind the descriptor, or that which it is a bundle of; and its name."""
    if os.pread(fd, len(_MAGIC), 0) == _MAGIC:
        size, extension, ranges = _read_bundle(os.pread(fd, 64 << 20, 0))
        return _UsedRanges(size, ranges, lambda offset, length: bytes(length)), f"bundle.{extension}"
    return _UsedRanges(os.fstat(fd).st_size, {}, lambda offset, length: os.pread(fd, length, offset)), name


def main(argv: Sequence[str] = sys.argv) -> None:
    fd, name, bundle = int(argv[1]), argv[2], int(argv[3])
    hardening.restrict_umask()
    hardening.hide_memory()
    parser_process.load_codecs()
    assert formats  # it is imported now; later it can't be
    memory = confinement.MemoryLimit.begin(4 * MEMORY)
    confinement.forbid_privileges()
    confinement.forbid_files_and_tcp()
    memory.allow(4 * MEMORY)
    confinement.limit_cpu(_CPU_SECS)
    try:
        file, name = _opened(fd, name)
        said = explain(file, name)
    except struct.error:
        said = {"problem": "the bundle is damaged"}
    except OSError as error:
        said = {"problem": f"it can't be read: {error.strerror}"}
    else:
        if bundle >= 0:
            write_bundle(bundle, file, name.rpartition(".")[2])
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
