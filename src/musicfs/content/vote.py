"""Who is right when a replica's block is not the recorded one, and one origin alone has vouched for that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from musicfs.model import OriginId, Replica


@dataclass(frozen=True, slots=True)
class Vote:
    """What one replica shows of the block now."""

    replica: Replica
    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class VoteResult:
    """digest: what is recorded from now on. recorder: who alone vouches for it; None: it is confirmed. data: the bytes,
    if a replica that can be reached has them. wrong: replicas that are outvoted, or contradict what they said before.
    disputed: replicas as credible as the ones that serve."""

    digest: bytes
    witness: OriginId | None
    data: Vote | None
    wrong: tuple[Replica, ...]
    disputed: tuple[Replica, ...]


def count_votes(recorded: bytes, witness: OriginId | None, said: Sequence[Vote]) -> VoteResult:
    """Each replica has a vote; so has the record, on behalf of an origin that does not repeat it now. Of two that
    have as many votes the recorded one wins, and else the one named first.

    recorder: who vouched for `recorded`; None: an origin that has no part any more, so that the record has no vote.
    said: at least one.
    """
    votes = Counter(each.digest for each in said)
    repeated = any(each.digest == recorded and each.replica.origin == witness for each in said)
    if witness is not None and not repeated:
        votes[recorded] += 1
    # max() takes the first of equals, and a Counter keeps the order in which it met them.
    winner = max(votes, key=lambda digest: (votes[digest], digest == recorded))
    serving = next((each for each in said if each.digest == winner), None)
    wrong: list[Replica] = []
    disputed: list[Replica] = []
    for each in said:
        if each.digest != winner:
            equal = votes[each.digest] == votes[winner] and each.replica.origin != witness
            (disputed if equal else wrong).append(each.replica)
    # With a single vote: of the one that repeats it, or of the record.
    alone = witness if serving is None else serving.replica.origin
    return VoteResult(winner, None if votes[winner] > 1 else alone, serving, tuple(wrong), tuple(disputed))
