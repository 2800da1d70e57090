"""The quarantine: replicas whose bytes are wrong or disputed. They no longer serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from musicfs.events import CopiesDiffer, EventBus, ReplicaQuarantined, ReplicasDisagree
from musicfs.model import OriginId, Replica

OTHER_BYTES = -1
"""Stands for the block where a replica showed another witness: which one it is stays secret."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A replica in quarantine: one version of one file.

    block: where its bytes are wrong; OTHER_BYTES: it is another content with the same fingerprint. against: the origin
    that it disagrees with, where either of the two may be right; None where its bytes are known to be wrong.
    """

    replica: Replica
    block: int
    against: OriginId | None = None


class Quarantine:
    """Holds the replicas in quarantine; `held` maps each to what is known of it. Belongs to the event loop's thread.

    A replica is one version of a file, so another version of the file is free. on_change: is called after every change.
    generation: grows with every change.
    """

    def __init__(self, bus: EventBus) -> None:
        self.held: dict[Replica, SetAside] = {}
        self.generation = 0
        self.on_change: Callable[[], None] = lambda: None
        self._bus = bus

    def restore(self, known: Iterable[SetAside]) -> None:
        """Adds what was in quarantine before a restart. Publishes nothing."""
        self.held.update((each.replica, each) for each in known)
        self.generation += 1

    def add(self, replica: Replica, block: int) -> None:
        """Adds a replica whose bytes at `block` are wrong."""
        before = self.held.get(replica)
        if before is None or before.against is not None:
            self._hold(SetAside(replica, block))
            self._bus.publish(ReplicaQuarantined(replica.origin, replica.path, block))

    def dispute(self, replica: Replica, block: int, other: Replica) -> None:
        """Adds a replica whose bytes at `block` differ from `other`, which still serves; either may be right."""
        if replica not in self.held:
            self._hold(SetAside(replica, block, other.origin))
            self._bus.publish(ReplicasDisagree(other.origin, other.path, replica.origin, replica.path, block))

    def separate(self, replica: Replica, other: Replica) -> None:
        """Adds a replica that is another content than `other`, although their fingerprints are the same."""
        before = self.held.get(replica)
        if before is None or before.block != OTHER_BYTES:
            self._hold(SetAside(replica, OTHER_BYTES, other.origin))
            self._bus.publish(CopiesDiffer(other.origin, other.path, replica.origin, replica.path))

    def release(self, replicas: Iterable[Replica]) -> int:
        """Frees these replicas because the user says so. Returns how many there were."""
        several = [self.held[replica] for replica in replicas if replica in self.held]
        self._lift(several)
        return len(several)

    def is_wrong(self, replica: Replica) -> bool:
        """Whether its bytes are known to be wrong, and not only disputed."""
        held = self.held.get(replica)
        return held is not None and held.against is None

    def free(self, origin: OriginId) -> None:
        """Frees the replicas of an origin that leaves, and those that it disputes. If it returns, reads judge again."""
        self._lift([each for each in self.held.values() if origin in (each.replica.origin, each.against)])

    def reopen(self, replicas: Sequence[Replica]) -> None:
        """Frees the disputed ones among these replicas: the caller is about to ask all of them again."""
        held = [self.held[replica] for replica in replicas if replica in self.held]
        self._lift([each for each in held if each.against is not None and each.block != OTHER_BYTES])

    def review(self, replicas: Sequence[Replica]) -> None:
        """Frees the replicas of one content that are disputed by an origin which can no longer serve it."""
        serving = {replica.origin for replica in replicas if replica not in self.held}
        held = [self.held[replica] for replica in replicas if replica in self.held]
        self._lift([each for each in held if each.against is not None and each.against not in serving])

    def _hold(self, each: SetAside) -> None:
        its = (each.replica.origin, each.replica.path)
        for replica in [old for old in self.held if (old.origin, old.path) == its]:
            del self.held[replica]
        self.held[each.replica] = each
        self.generation += 1
        self.on_change()

    def _lift(self, several: Sequence[SetAside]) -> None:
        for each in several:
            del self.held[each.replica]
        if several:
            self.generation += 1
            self.on_change()
