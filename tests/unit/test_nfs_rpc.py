"""The calls that are encoded here, byte by byte, and what their replies mean."""

from __future__ import annotations

import errno
import stat
from typing import Any

import pytest

from musicfs.origins.nfs import rpc
from musicfs.origins.nfs.replies import Replies
from musicfs.origins.nfs.rpc import NfsCall, Piece
from musicfs.origins.nfs.xdr import Malformed, NfsAttributes
from tests.support.servers.fakenfs import (
    A,
    attributes,
    entry,
    long,
    maybe,
    opaque,
    page,
    read_result,
    record,
    reply,
    word,
)

ABOUT = NfsAttributes(stat.S_IFREG, 10, 1_700_000_000 * 10**9)


def answer(call: NfsCall[Any], result: bytes) -> Any:
    """What the call's answer is when a server gives the result."""
    replies = Replies()
    number = replies.expect(call)
    data = record(reply(number, result))
    replies.space()[: len(data)] = data
    assert replies.received(len(data)) == [], "libnfs knows nothing of this call"
    assert not replies.awaited()
    return replies.answers[number]


def test_a_read_is_encoded_as_the_standards_say() -> None:
    who = rpc.unix_credentials(b"musicfs", 1, 2, [3, 4])
    body = word(0) + opaque(b"musicfs") + word(1, 2, 2, 3, 4)
    expected = b"abcd" + word(0, 2, 100003, 3, 6, 1) + opaque(body) + word(0, 0) + opaque(b"file") + long(7) + word(9)
    assert rpc.encode(b"abcd", who, rpc.read(b"file", 7, 9)) == record(expected)


def test_a_read_brings_its_bytes_and_what_the_file_was_then() -> None:
    assert answer(rpc.read(A, 0, 5), read_result(b"12345")) == Piece(b"12345", ABOUT)
    bare = word(0) + maybe(None) + word(5, 1) + opaque(b"12345")
    assert answer(rpc.read(A, 0, 5), bare) == Piece(b"12345", None)


def test_a_read_of_a_record_in_fragments_is_put_together() -> None:
    replies = Replies()
    number = replies.expect(rpc.read(A, 0, 500_000))
    data = bytes(range(250)) * 2000
    whole = reply(number, read_result(data))
    sent = word(300_000) + whole[:300_000] + record(whole[300_000:])
    while sent:
        space = replies.space()
        size = min(len(space), 100_000, len(sent))
        space[:size], sent = sent[:size], sent[size:]
        assert replies.received(size) == []
    assert replies.answers[number].data == data


def test_a_look_up_brings_the_handle_and_what_it_is() -> None:
    result = word(0) + opaque(b"handle") + maybe(attributes()) + maybe(None)
    assert answer(rpc.look_up(A, "x"), result) == (b"handle", ABOUT)


def test_a_listing_brings_the_usable_names_that_have_handles() -> None:
    shown = page(entry(b"a"), entry(b"no handle", None), entry(b".."), entry(b"b", b"other", b""))
    assert answer(rpc.list_some(A, 1000), shown) == {"a": (A, ABOUT), "b": (b"other", None)}


def test_attributes_are_read() -> None:
    assert answer(rpc.get_attributes(A), word(0) + attributes()) == ABOUT


@pytest.mark.parametrize(
    ("status", "number"), [(2, errno.ENOENT), (63, errno.ENAMETOOLONG), (10001, errno.ESTALE), (10004, errno.EIO)]
)
def test_a_refusal_is_the_error_that_linux_calls_it(status: int, number: int) -> None:
    for call in (rpc.read(A, 0, 5), rpc.look_up(A, "x"), rpc.list_some(A, 1000), rpc.get_attributes(A)):
        assert answer(call, word(status) + maybe(None)).errno == number


def test_a_server_that_rejects_the_caller_denies_access() -> None:
    replies = Replies()
    number = replies.expect(rpc.get_attributes(A))
    data = record(number + word(1, 1, 1, 5))
    replies.space()[: len(data)] = data
    replies.received(len(data))
    assert replies.answers[number].errno == errno.EACCES


@pytest.mark.parametrize(
    "result", [b"", word(0), read_result(b"12345", length=6_000), read_result(b"12345", length=2**32 - 1)]
)
def test_a_result_that_leads_out_of_its_record_is_malformed(result: bytes) -> None:
    with pytest.raises(Malformed):
        answer(rpc.read(A, 0, 5), result)
