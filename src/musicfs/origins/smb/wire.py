"""The few SMB2 messages that reading needs, and their answers. Nothing here touches the network.

Answers are taken apart here and not by smbprotocol, whose times are rounded to microseconds (a version has to be exact)
and whose parsing of long listings takes longer than their transfer. Sections are those of Microsoft's [MS-SMB2] and
[MS-FSCC].
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from smbprotocol.create_contexts import CreateContextName, SMB2CreateContextRequest
from smbprotocol.file_info import FileInformationClass, InfoType
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    ShareAccess,
    SMB2CloseRequest,
    SMB2CreateRequest,
    SMB2QueryDirectoryRequest,
    SMB2QueryInfoRequest,
    SMB2ReadRequest,
)
from smbprotocol.structure import Structure

from musicfs.model import stored_ns
from musicfs.problems import Reason

RELATED = b"\xff" * 16
"""The handle that the first request of a compound opens."""

CREDIT = 64 << 10
"""Bytes of a request or its answer that one credit pays for."""

_EPOCH = 116_444_736_000_000_000  # 1970 as a FILETIME: in units of 100 ns, since 1601
_HEADER = 64
_FOLDER = 0x10
_REPARSE = 0x400
_LEADS_ELSEWHERE = 0x20000000
"""The bit of a reparse point's tag that marks links and junctions: clients would have to follow them."""
_DFS = 0x8000000A
_AWAY = 0x1000 | 0x40000 | 0x400000
"""The attributes of a file whose bytes lie in an archive or a cloud: offline, recall on open, recall on access."""
_SHORTENED = re.compile(r"[0-9A-Z_]{6}~[0-9A-Z]")
"""What Samba makes by default of a name that Windows does not allow, if its extension is longer than three letters."""
_NO_NAMES = frozenset('"*/:<>?\\|') | set(map(chr, range(32)))

_CREATED = struct.Struct("<4x 4x 8x 8x Q Q 8x Q I 4x 16s II")  # 2.2.14, up to the contexts
_CONTEXT = struct.Struct("<I HH 2x HI")  # 2.2.14.2
_NETWORK_OPEN = struct.Struct("<16x Q Q 8x Q 8x")  # 2.4.29
_ENTRY = struct.Struct("<I 4x 8x 8x Q 8x Q 8x I I I 4x 8x")  # 2.4.20, up to the name


Identity = tuple[int, int]
"""The numbers of a folder and of its disk, which identify it within the share."""


class Version(NamedTuple):
    """A file's version at one moment. mtime_ns, changed_ns: since the epoch; the latter moves with every change, while
    Samba keeps the former as long as any program has the file open."""

    size: int
    mtime_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class SmbAttributes:
    """A file or folder as it was when it was opened. identity: None if the server does not send it."""

    handle: bytes
    version: Version
    is_folder: bool
    identity: Identity | None


@dataclass(frozen=True, slots=True)
class SmbEntry:
    """One line of a folder's listing. left_out: why it is not shown, with a detail."""

    name: str
    size: int
    mtime_ns: int
    is_folder: bool
    left_out: tuple[Reason, str] | None = None


def nanoseconds(filetime: int) -> int:
    return stored_ns((filetime - _EPOCH) * 100)


# Requests


def open_message(name: str, *, folder: bool | None, only_look: bool = False) -> Structure:
    """Opens what is at `name` below the share for reading. Others may read, write, rename and delete it meanwhile.

    folder: whether it must be a folder; None: it may be either. only_look: opens only its attributes.
    """
    access = FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES | FilePipePrinterAccessMask.SYNCHRONIZE
    if not only_look:
        access |= FilePipePrinterAccessMask.FILE_READ_DATA
    message = SMB2CreateRequest()
    message["impersonation_level"] = ImpersonationLevel.Impersonation
    message["desired_access"] = access
    message["share_access"] = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE
    message["create_disposition"] = CreateDisposition.FILE_OPEN
    if folder is not None:
        wanted = CreateOptions.FILE_DIRECTORY_FILE if folder else CreateOptions.FILE_NON_DIRECTORY_FILE
        message["create_options"] = wanted
    message["buffer_path"] = name.encode("utf-16-le") or b"\0\0"
    context = SMB2CreateContextRequest()
    context["buffer_name"] = CreateContextName.SMB2_CREATE_QUERY_ON_DISK_ID
    message["buffer_contexts"] = SMB2CreateContextRequest.pack_multiple([context])
    return message


def close_message(handle: bytes) -> Structure:
    message = SMB2CloseRequest()
    message["file_id"] = handle
    return message


def read_message(handle: bytes, offset: int, size: int) -> Structure:
    message = SMB2ReadRequest()
    message["file_id"] = handle
    message["offset"] = offset
    message["length"] = size
    message["padding"] = 0x50
    return message


def version_message(handle: bytes) -> Structure:
    message = SMB2QueryInfoRequest()
    message["info_type"] = InfoType.SMB2_0_INFO_FILE
    message["file_info_class"] = FileInformationClass.FILE_NETWORK_OPEN_INFORMATION
    message["output_buffer_length"] = 56
    message["file_id"] = handle
    return message


def list_message(handle: bytes, size: int) -> Structure:
    """Requests the next page of a folder's listing, of at most `size` bytes."""
    message = SMB2QueryDirectoryRequest()
    message["file_information_class"] = FileInformationClass.FILE_ID_FULL_DIRECTORY_INFORMATION
    message["file_id"] = handle
    message["output_buffer_length"] = size
    message["buffer"] = "*".encode("utf-16-le")
    return message


def credits_of(message: Structure) -> int:
    """Returns the most credits that the message costs."""
    size = 1
    if isinstance(message, SMB2ReadRequest):
        size = message["length"].get_value()
    elif isinstance(message, SMB2QueryDirectoryRequest):
        size = message["output_buffer_length"].get_value()
    return max(1, -(-size // CREDIT))


def leaves_open(messages: Sequence[Structure]) -> bool:
    """Whether the messages open something that they do not close."""
    return isinstance(messages[0], SMB2CreateRequest) and not isinstance(messages[-1], SMB2CloseRequest)


# Answers


def opened(data: bytes) -> SmbAttributes:
    written, changed, size, attributes, handle, start, length = _CREATED.unpack_from(data)
    contexts = _within(data, start - _HEADER, length) if start else b""
    version = Version(size, nanoseconds(written), nanoseconds(changed))
    return SmbAttributes(handle, version, bool(attributes & _FOLDER), _identity(contexts))


def bytes_read(data: bytes) -> bytes:
    return _within(data, data[2] - _HEADER, int.from_bytes(data[4:8], "little"))


def version(data: bytes) -> Version:
    written, changed, size = _NETWORK_OPEN.unpack(_output(data)[: _NETWORK_OPEN.size])
    return Version(size, nanoseconds(written), nanoseconds(changed))


def listed(data: bytes) -> Iterator[SmbEntry]:
    """The entries of a page, the folder itself (".") and the one above it among them."""
    page, at, step = _output(data), 0, 1
    while step:
        step, written, size, attributes, length, tag = _ENTRY.unpack_from(page, at)
        name = _within(page, at + _ENTRY.size, length).decode("utf-16-le", "replace")
        left_out = _left_out(name, attributes, tag)
        yield SmbEntry(name, size, nanoseconds(written), bool(attributes & _FOLDER), left_out)
        at += _step(step, _ENTRY.size + length)


def _left_out(name: str, attributes: int, tag: int) -> tuple[Reason, str] | None:
    if not is_name(name):
        return Reason.BAD_NAME, "no file of a share can be asked for by this name"
    if attributes & _REPARSE and (tag & _LEADS_ELSEWHERE or tag == _DFS):
        return Reason.LINK_OUTSIDE, "it is on another server" if tag == _DFS else "the server does not follow its links"
    if attributes & _FOLDER:
        return None
    if attributes & _AWAY:
        return Reason.ARCHIVED, "it is offline; reading it would bring it back"
    if _SHORTENED.fullmatch(name):
        return Reason.BAD_NAME, "the server shortens its name; set `mangled names = no` in its smb.conf"
    return None


def is_name(name: str) -> bool:
    """Whether a file can have this name in SMB: a colon, for example, would ask for another stream of it."""
    return bool(name) and "\ufffd" not in name and _NO_NAMES.isdisjoint(name)


def _output(data: bytes) -> bytes:
    start, length = int.from_bytes(data[2:4], "little") - _HEADER, int.from_bytes(data[4:8], "little")
    return _within(data, start, length)


def _within(data: bytes, start: int, length: int) -> bytes:
    """Returns a part of an answer. Raises ValueError when the part would lie outside of it."""
    if length and not 0 <= start <= start + length <= len(data):
        raise ValueError(f"the server's answer leads out of itself, to {length} bytes at {start}")
    return data[start : start + length] if length else b""


def _step(step: int, least: int) -> int:
    """Returns the distance from one part of a chain to the next, 0 at its end. Raises ValueError when parts overlap."""
    if 0 < step < least:
        raise ValueError("the parts of the server's answer overlap")
    return step


def _identity(contexts: bytes) -> Identity | None:
    """2.2.14.2.9"""
    at, step = 0, len(contexts)
    while step:
        step, name_at, name_length, data_at, length = _CONTEXT.unpack_from(contexts, at)
        if _within(contexts, at + name_at, name_length) == CreateContextName.SMB2_CREATE_QUERY_ON_DISK_ID:
            about = _within(contexts, at + data_at, length)
            number, disk = struct.unpack_from("<QQ", about) if length >= 16 else (0, 0)
            return (number, disk) if number else None
        at += _step(step, _CONTEXT.size)
    return None
