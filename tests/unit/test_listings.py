"""Listings, request by request, as the kernel asks for them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from musicfs.catalog.view import TreeView
from musicfs.content.reader import Reader
from musicfs.mount.filesystem import Filesystem, Row
from musicfs.mount.operations import Operations
from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.protocol import InitFlags
from musicfs.mount.session.session import FuseSession

FOLDER = 7
PARENT = 3


class CountedTree:
    """In the place of a TreeView: one folder, whose rows are counted as they are read."""

    def __init__(self, count: int) -> None:
        self.rows: list[Row] = [
            (100 + position, "é" * (position % 40) + str(position), position % 3 or None, position, position, position)
            for position in range(1, count + 1)
        ]
        self.read = self.queries = 0

    def children(self, folder: int, after: int, limit: int) -> list[Row]:
        assert folder == FOLDER
        found = [row for row in self.rows if row[5] > after][:limit]
        self.read += len(found)
        self.queries += 1
        return found

    def parent(self, folder: int) -> int:
        return PARENT

    def lookup(self, *_: object) -> None:
        return None

    inode = lookup


def operations(tree: CountedTree) -> Operations:
    return Operations(Filesystem(cast(TreeView, tree), cast(Reader, None), lambda _: []))


def entries(answer: bytes, *, plus: bool) -> Iterator[tuple[int, int, int, str]]:
    """The inode number for the kernel (0: none), that for the user, the offset and the name of each record."""
    at, node = 0, 0
    while at < len(answer):
        if plus:
            (node,) = fuse.RELEASE_IN.unpack_from(answer, at)
            at += fuse.ENTRY_OUT.size
        ino, offset, length, _ = fuse.DIRENT.unpack_from(answer, at)
        at += fuse.DIRENT.size
        yield node, ino, offset, answer[at : at + length].decode()
        at += length + -length % 8
    assert at == len(answer)


def framed(opcode: int, body: bytes) -> bytes:
    return fuse.IN_HEADER.pack(fuse.BODY + len(body), opcode, 1, FOLDER, 0, 0, 0, 0, 0) + body


def page(operations: Operations, offset: int, size: int, *, plus: bool) -> list[tuple[int, int, int, str]]:
    request = framed(fuse.FUSE_READDIR, fuse.READ_IN.pack(0, offset, size, 0) + bytes(16))
    answer = (operations.readdirplus if plus else operations.readdir)(FOLDER, request)
    assert len(answer) <= size
    return list(entries(answer, plus=plus))


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("size", [512, 4096, 32768, 1 << 20])
def test_a_listing_has_every_entry_once_and_reads_no_row_twice(size: int, plus: bool) -> None:
    tree = CountedTree(1000)
    asked, offset, found = operations(tree), 0, []
    while part := page(asked, offset, size, plus=plus):
        found += part
        offset = part[-1][2]
    assert [ino for _, ino, *_ in found] == [FOLDER, PARENT, *(row[0] for row in tree.rows)]
    assert [name for *_, name in found] == [".", "..", *(row[1] for row in tree.rows)]
    assert not plus or [node for node, *_ in found] == [0, 0, *(row[0] for row in tree.rows)]
    assert tree.read == 1000


def test_the_end_of_a_listing_that_was_read_whole_takes_no_query() -> None:
    tree = CountedTree(20)
    asked = operations(tree)
    last = page(asked, 0, 32768, plus=True)[-1][2]
    assert (tree.queries, page(asked, last, 32768, plus=True), tree.queries) == (1, [], 1)


def test_a_listing_goes_on_with_what_the_tree_has_after_a_change() -> None:
    tree = CountedTree(5)
    asked = operations(tree)
    last = page(asked, 0, 1024, plus=True)[-1][2]
    assert last < 7
    del tree.rows[-1]
    tree.rows.append((200, "new", 1, 1, 1, 21))
    asked.forget_listings()
    assert [name for *_, name in page(asked, last, 32768, plus=True)] == ["new"]
    assert page(asked, 23, 32768, plus=True) == []
    tree.rows.append((201, "newer", 1, 1, 1, 22))
    asked.forget_listings()
    assert [name for *_, name in page(asked, 23, 32768, plus=True)] == ["newer"]


def test_what_is_kept_of_listings_that_are_not_read_to_their_ends_is_bounded() -> None:
    tree = CountedTree(100)
    asked = operations(tree)
    last = page(asked, 98, 700, plus=True)[-1][2]
    assert last < 102
    for offset in range(81, 1, -1):
        page(asked, offset, 700, plus=True)
    before = tree.queries
    page(asked, last, 700, plus=True)
    assert tree.queries == before + 1


@pytest.mark.parametrize("offered", [InitFlags.FUSE_NO_OPENDIR_SUPPORT, InitFlags(0)])
def test_a_kernel_opens_folders_only_if_it_does_not_cache_them_otherwise(offered: InitFlags) -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    its.setblocking(False)
    session = FuseSession(its.detach(), operations(CountedTree(1)).by_opcode())
    try:
        ours.send(framed(fuse.FUSE_INIT, fuse.INIT_IN.pack(7, 38, 0, offered)))
        session.negotiate()
        ours.recv(100)
        session.take(framed(fuse.FUSE_OPENDIR, fuse.OPEN_IN.pack(0, 0)))
        answer = ours.recv(100)
    finally:
        session.close()
        ours.close()
    _, error, _ = fuse.OUT_HEADER.unpack_from(answer)
    assert error == (-errno.ENOSYS if offered else 0)
    if not offered:
        keeps = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
        assert fuse.OPEN_OUT.unpack_from(answer, fuse.OUT_HEADER.size) == (0, keeps, 0)
