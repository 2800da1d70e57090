"""Messages between the library worker and a parser process: JSON after its length, then raw bytes.

A request names files, each with its bytes behind the JSON or with a descriptor that comes with the message. There is
one answer for each file, in order, and one before the first request, when the parser is ready. An attacker may have
taken over a parser, so nothing that it answers is believed before `read_answer` has checked it.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from musicfs.model import Fingerprint
from musicfs.tags.parser import MAX_TEXT, TOO_LONG, Examined, FileOnDisk, MissingBytes, dump_tags
from musicfs.tags.range_file import MAX_IN_ALL
from musicfs.tags.tags import MAX_CHARACTERS, MAX_VALUES, Tags

HEADER = struct.Struct("!II")
"""The lengths of the JSON and of the raw bytes, which follow it."""
PROGRESS = struct.Struct("=Q")
"""How many files a parser has done, at the start of the memory that it shares with the worker."""
MAX_ANSWER = MAX_TEXT + 1024
"""Bytes of JSON."""
MAX_FILES = 32
"""So many files are in one request at most, and so many descriptors come with it."""
READY = b'"ready"'
RETIRED = 75
"""The exit code of a parser that has become too large for another request."""

_MAX_PROBLEM = 500
_HEX_DIGITS = 64
_FORMAT = re.compile(r"[a-z0-9]{1,16}")


class FileToParse(NamedTuple):
    """A file whose bytes the worker has. ranges: offset -> bytes. cpu_secs: what it may take of a processor now."""

    name: str
    role: str
    size: int
    ranges: Mapping[int, bytes]
    cpu_secs: float


class InvalidAnswer(Exception):
    """A parser answered what no parser of ours does."""


def request(files: Sequence[FileOnDisk | FileToParse]) -> list[bytes]:
    """The pieces of a request. The descriptors of the files on a disk go with the first of them, in order."""
    described, raw = list[Sequence[object]](), list[bytes]()
    for file in files:
        if isinstance(file, FileOnDisk):
            described.append(file)
        else:
            lengths = [(offset, len(data)) for offset, data in file.ranges.items()]
            described.append([file.name, file.role, file.size, lengths, file.cpu_secs])
            raw.extend(file.ranges.values())
    text = json.dumps([["disk" if isinstance(file, FileOnDisk) else "bytes" for file in files], described]).encode()
    return [HEADER.pack(len(text), sum(map(len, raw))) + text, *raw]


def read_request(text: bytes, raw: bytes) -> list[FileOnDisk | FileToParse]:
    """The inverse of `request`, for the parser."""
    files, at = list[FileOnDisk | FileToParse](), 0
    for kind, described in zip(*json.loads(text), strict=True):
        if kind == "disk":
            files.append(FileOnDisk(*described))
            continue
        name, role, size, lengths, cpu_secs = described
        ranges = {}
        for offset, length in lengths:
            ranges[offset] = raw[at : at + length]
            at += length
        files.append(FileToParse(name, role, size, ranges, cpu_secs))
    return files


def answer(found: Examined | MissingBytes | None) -> bytes:
    """What a parser sends of one file. None: the worker must read it through its origin."""
    if isinstance(found, MissingBytes):
        return frame(json.dumps([found.offset, found.size, found.cpu_secs]).encode())
    if found is None:
        return frame(b"null")
    text = _examined(found)
    return frame(text if len(text) <= MAX_ANSWER else _examined(Examined(found.fingerprint, None, TOO_LONG)))


def _examined(found: Examined) -> bytes:
    tags = "null" if found.tags is None else found.tags
    problem = found.problem and found.problem.encode("utf-8", "replace").decode()[:_MAX_PROBLEM]
    return f'["{found.fingerprint.hex()}",{tags},{json.dumps(problem)}]'.encode()


def frame(text: bytes) -> bytes:
    """The message whose JSON is `text`, without raw bytes."""
    return HEADER.pack(len(text), 0) + text


def read_answer(text: bytes) -> Examined | MissingBytes | None:
    """Checks an answer and returns what it says.

    Raises:
        InvalidAnswer: No parser of ours answers that.
    """
    try:
        match json.loads(text):
            case None:
                return None
            case [str(digits), tags, problem]:
                return Examined(_fingerprint(digits), _tags(tags), _problem(problem))
            case [int(offset), int(size), float(cpu_secs)] if _is_range(offset, size) and 0 <= cpu_secs < math.inf:
                return MissingBytes(offset, size, cpu_secs)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer(type(error).__name__) from error
    raise InvalidAnswer("neither a file nor a range")


def _is_range(offset: int, size: int) -> bool:
    return 0 <= offset < 2**63 and 0 < size <= MAX_IN_ALL and type(offset) is int and type(size) is int


def _fingerprint(digits: str) -> Fingerprint:
    if len(digits) != _HEX_DIGITS:
        raise InvalidAnswer("no fingerprint")
    return Fingerprint(bytes.fromhex(digits))


def _problem(problem: object) -> str | None:
    if problem is None or (isinstance(problem, str) and len(problem) <= _MAX_PROBLEM and _is_text(problem)):
        return problem
    raise InvalidAnswer("no problem")


def _is_text(text: str) -> bool:
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def _tags(tags: object) -> str | None:
    """Checks each value, and writes the JSON for the catalogue again: what was checked is what is kept."""
    if tags is None:
        return None
    if not isinstance(tags, dict) or not tags.keys() >= {"format", "codec"}:
        raise InvalidAnswer("no tags")
    for name, value in tags.items():
        if not _is_valid(name, value):
            raise InvalidAnswer(f"no value of {name:.50}")
    return dump_tags(tags)


def _is_value(text: str) -> bool:
    return 0 < len(text) <= MAX_CHARACTERS and _is_text(text)


def _is_valid(name: str, value: Any) -> bool:
    match _KINDS.get(name), value:
        case "str", str():
            return _FORMAT.fullmatch(value) is not None if name == "format" else _is_value(value)
        case "tuple[str, ...]", list():
            return 0 < len(value) <= MAX_VALUES and all(isinstance(each, str) and _is_value(each) for each in value)
        case "bool", bool():
            return True
        case "int", int():
            return type(value) is int and 0 <= value < 2**31
        case "float", int() | float():
            return type(value) is not bool and math.isfinite(value) and 0 <= value < 1e9
    return False


_KINDS = {each.name: str(each.type).removesuffix(" | None") for each in fields(Tags)}
assert {"str", "bool", "int", "float", "tuple[str, ...]"} >= set(_KINDS.values()), "a kind of value that is not checked"
