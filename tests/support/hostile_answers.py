"""Honest answers of servers, mutated, and what runs in a process with a budget to read them."""

from __future__ import annotations

import contextlib
import random
import struct
import time
from collections.abc import Callable
from typing import Any

from musicfs.model import Stat
from musicfs.origins.nfs import rpc
from musicfs.origins.nfs.replies import Replies
from musicfs.origins.nfs.rpc import NfsCall
from musicfs.origins.nfs.xdr import Malformed
from musicfs.origins.s3.errors import error_code
from musicfs.origins.s3.listing import Folders, is_name, parse_page
from musicfs.origins.sftp import packets
from musicfs.origins.smb import wire
from musicfs.system import confinement
from musicfs.tags.parser import MEMORY
from musicfs_webdav import multistatus
from tests.support.hostile import mutated
from tests.support.servers import fakenfs

_KEY = (
    "<Contents><Key>Music/A%20{0}/0{0}.flac</Key><LastModified>2023-11-14T22:13:2{0}.000Z</LastModified>"
    '<ETag>"d41d8cd98f00b204e9800998ecf8427{0}"</ETag><Size>12345{0}</Size></Contents>'
)
S3_PAGE = (
    '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
    "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    + "".join(map(_KEY.format, range(9)))
    + "</ListBucketResult>"
).encode()
_RESPONSE = (
    "<D:response><D:href>/music/{0}.flac</D:href><D:propstat><D:prop><D:getcontentlength>5{0}</D:getcontentlength>"
    "<D:getlastmodified>Tue, 14 Nov 2023 22:13:2{0} GMT</D:getlastmodified></D:prop>"
    "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
)
DAV_PAGE = ('<D:multistatus xmlns:D="DAV:">' + "".join(map(_RESPONSE.format, range(9))) + "</D:multistatus>").encode()


def _smb_page() -> bytes:
    entries = b""
    for number in range(9):
        name = f"{number}.flac".encode("utf-16-le")
        head = struct.pack("<II8x8xQ8xQ8xIII4x8x", 0, 0, 133 * 10**15, 5, 0x20, len(name), 0)
        entry = head + name
        entry += bytes(-len(entry) % 8)
        entries += struct.pack("<I", len(entry) if number < 8 else 0) + entry[4:]
    return struct.pack("<HHI", 9, 72, len(entries)) + entries


def _s3(data: bytes) -> None:
    folders = Folders()
    error_code(data)
    for stat in parse_page(data).entries:
        if isinstance(stat, Stat) and stat.problem() is None and is_name(stat.path):
            list(folders.add(stat))
    list(folders.rest())


def _nfs(call: NfsCall[Any]) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        replies = Replies()
        record = fakenfs.record(fakenfs.reply(replies.expect(call), data))
        while record:
            space = replies.space()
            size = min(len(space), len(record))
            space[:size], record = record[:size], record[size:]
            replies.received(size)

    return parse


_NFS_PAGE = fakenfs.page(*(fakenfs.entry(f"{number}.flac".encode()) for number in range(9)))
_NAMES = b"\x68" + struct.pack(">II", 1, 9) + b"".join(
    struct.pack(">I", 5) + b"%d.mp3" % number + struct.pack(">I", 0) + struct.pack(">I", 0) for number in range(9)
)  # fmt: skip
ANSWERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "S3 page": (_s3, S3_PAGE),
    "WebDAV page": (lambda data: multistatus.parse(data), DAV_PAGE),
    "SMB page": (lambda data: list(wire.listed(data)), _smb_page()),
    "SMB open": (wire.opened, struct.pack("<4x4x8x8xQQ8xQI4x16sII", 1, 1, 5, 0x20, b"h" * 16, 0, 0)),
    "SMB read": (wire.bytes_read, struct.pack("<HBxI8x", 17, 80, 5) + b"12345"),
    "NFS page": (_nfs(rpc.list_some(fakenfs.A, 1000)), _NFS_PAGE),
    "NFS read": (_nfs(rpc.read(fakenfs.A, 0, 5)), fakenfs.read_result(b"12345")),
    "NFS attributes": (_nfs(rpc.get_attributes(fakenfs.A)), fakenfs.word(0) + fakenfs.attributes()),
    "SFTP packet": (packets._check, _NAMES),
}
"""What reads an answer, and an honest one."""


def fuzz(name: str, seed: int, cases: int) -> None:
    """Each mutated answer is understood or refused, and takes little time and memory."""
    from asyncssh import SFTPBadMessage

    parse, honest = ANSWERS[name]
    parse(honest)
    chance, limit = random.Random(seed), confinement.MemoryLimit.begin(1 << 29)
    for number in range(cases):
        data = mutated(chance, honest)
        limit.allow(MEMORY)
        started = time.process_time()
        with contextlib.suppress(ValueError, struct.error, IndexError, Malformed, SFTPBadMessage):
            parse(data)
        taken = time.process_time() - started
        assert taken < 1, (name, number, taken, data[:200])
