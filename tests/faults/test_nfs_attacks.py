"""An NFS server that lies costs a call its time and never the process, in which libnfs works."""

from __future__ import annotations

import os

import pytest

from musicfs.origins.nfs.replies import Replies
from musicfs.origins.nfs.rpc import MAX
from musicfs.origins.nfs.xdr import Malformed
from tests.support.confined import confined

ATTACKS = (
    "an_honest_server_is_served",
    "bytes_that_were_not_asked_for_are_not_taken",
    "odd_names_cost_themselves_alone",
    "folders_that_hold_themselves_are_listed_to_a_depth",
    "handles_and_listings_of_any_shape_crash_nothing",
    "attributes_of_any_kind_crash_nothing",
    "replies_of_any_shape_crash_nothing",
    "fragments_without_end_take_no_memory",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_server_that_lies_harms_no_one(attack: str) -> None:
    confined("tests.faults.nfs_attacks", attack, megabytes=150, secs=110)


def test_no_listing_without_end_is_taken() -> None:
    confined("tests.faults.nfs_attacks", "no_listing_without_end_is_taken", megabytes=350, secs=110)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_replies_with_random_faults_crash_nothing(seed: str) -> None:
    """The seed of each round is printed, the last one being that of a crash. MUSICFS_FUZZ_SECS: how long it goes on."""
    secs = os.environ.get("MUSICFS_FUZZ_SECS", "4")
    confined(
        "tests.faults.nfs_attacks", "answers_with_random_faults_crash_nothing", seed, secs,
        megabytes=150, secs=float(secs) + 100,
    )  # fmt: skip


def _call(number: bytes, program: int, procedure: int) -> bytes:
    words = (0, 2, program, 3, procedure, 0, 0, 0, 0)
    call = number + b"".join(word.to_bytes(4, "big") for word in words)
    return (0x80000000 | len(call)).to_bytes(4, "big") + call


def _take(replies: Replies, data: bytes) -> list[bytes]:
    replies.space()[: len(data)] = data
    return [bytes(record) for record in replies.received(len(data))]


def test_a_reply_that_comes_in_any_pieces_is_handed_over_as_one() -> None:
    replies = Replies()
    replies.record_calls(_call(b"abcd", 100003, 0)[:9])
    replies.record_calls(_call(b"abcd", 100003, 0)[9:])
    body = b"abcd" + (1).to_bytes(4, "big") + bytes(16)
    sent = b"".join((1).to_bytes(4, "big") + body[n : n + 1] for n in range(len(body) - 1))
    sent += (0x80000001).to_bytes(4, "big") + body[-1:]
    found = [record for at in range(0, len(sent), 3) for record in _take(replies, sent[at : at + 3])]
    assert found == [(0x80000000 | len(body)).to_bytes(4, "big") + body]


@pytest.mark.parametrize("head", [MAX + 1, 0x80000000 | (MAX + 1), 0xFFFFFFFF])
def test_a_record_that_no_call_asks_for_is_refused_by_its_head(head: int) -> None:
    with pytest.raises(Malformed, match="too large"):
        _take(Replies(), head.to_bytes(4, "big"))


def test_a_reply_to_no_question_is_refused() -> None:
    with pytest.raises(Malformed, match="no question"):
        _take(Replies(), (0x80000018).to_bytes(4, "big") + b"abcd" + bytes(20))
