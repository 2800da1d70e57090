"""Decides which replica is right when a block is not the recorded one, and one origin alone is the witness of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from musicfs.model import OriginId, Replica


@dataclass(frozen=True, slots=True)
class Vote:
    """What one replica has returned for a block."""

    replica: Replica
    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class VoteResult:
    """What was decided.

    digest: what is recorded from now on. witness: the one origin that vouches for it; None: it is confirmed. data: the
    bytes, if a replica that can be reached has them. wrong: replicas that are outvoted, or contradict what they
    returned before. disputed: replicas as credible as the ones that serve.
    """

    digest: bytes
    witness: OriginId | None
    data: Vote | None
    wrong: tuple[Replica, ...]
    disputed: tuple[Replica, ...]


def count_votes(recorded: bytes, witness: OriginId | None, votes: Sequence[Vote]) -> VoteResult:
    """Counts the votes: one for each replica, and one for the record where its witness does not repeat it now.

    Where two digests have equally many votes the recorded one wins, and else the one that comes first.

    Args:
        recorded: the digest that is recorded.
        witness: the origin that vouched for `recorded`; None: it no longer takes part, so the record has no vote.
        votes: at least one.
    """
    counts = Counter(each.digest for each in votes)
    repeated = any(each.digest == recorded and each.replica.origin == witness for each in votes)
    if witness is not None and not repeated:
        counts[recorded] += 1
    # max() takes the first of equals, and a Counter keeps the order in which it met them.
    winner = max(counts, key=lambda digest: (counts[digest], digest == recorded))
    serving = next((each for each in votes if each.digest == winner), None)
    wrong: list[Replica] = []
    disputed: list[Replica] = []
    for each in votes:
        if each.digest != winner:
            equal = counts[each.digest] == counts[winner] and each.replica.origin != witness
            (disputed if equal else wrong).append(each.replica)
    # With a single vote: of the one that repeats it, or of the record.
    alone = witness if serving is None else serving.replica.origin
    return VoteResult(winner, None if counts[winner] > 1 else alone, serving, tuple(wrong), tuple(disputed))
