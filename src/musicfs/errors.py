"""The exceptions of MusicFS.

`UserError` is for the user: one sentence, no traceback. `OriginFailed` is the failure of an origin and lowers its
health; `ReplicaFailed` is the failure of one file there and does not change the origin's health.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from musicfs.model import OriginId
from musicfs.texts import said

_DETAIL_MOST = 500
"""Characters: our own advice is not longer. `said` shortens what a server says to 200."""


class MusicFSError(Exception):
    """The base class of everything that MusicFS raises on purpose."""


def first_of(error: BaseException) -> BaseException:
    """Returns the error itself, or the first one of a group: a message names one, in a sentence."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class UserError(MusicFSError):
    """A problem that the user can solve: one sentence that names the thing and the next step."""

    exit_code = 1


class UsageError(UserError):
    """Wrong usage or configuration."""

    exit_code = 2


class ConfigError(UsageError):
    """Every problem of a configuration at once, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class OriginFault(Enum):
    """Why an origin as a whole did not answer."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timed out"
    REFUSED = "refused"
    DENIED = "denied"
    IO = "input/output error"

    @property
    def permanent(self) -> bool:
        """Whether trying again within the same read is pointless."""
        return self is OriginFault.DENIED


class ReplicaFault(Enum):
    """Why one file at a living origin can't be used."""

    MISSING = "missing"
    CHANGED = "changed since it was scanned"
    CORRUPT = "corrupt"
    DENIED = "not readable"
    IO = "damaged where it is stored"
    ARCHIVED = "archived"

    @property
    def permanent(self) -> bool:
        return True


class OriginFailed(MusicFSError):
    """The origin did not answer as a working one would; its health goes down.

    busy_secs: how long it wants to be left alone, in seconds, if it said that it has too much to do; 0: some time.
    interrupted: the machine has slept meanwhile, which says nothing about the origin: the call can be made again.
    """

    def __init__(
        self,
        origin: OriginId,
        fault: OriginFault,
        detail: str = "",
        *,
        busy_secs: float | None = None,
        interrupted: bool = False,
    ) -> None:
        super().__init__(f"origin {origin!r} {fault.value}" + (f": {said(detail, _DETAIL_MOST)}" if detail else ""))
        self.origin = origin
        self.fault = fault
        self.detail = said(detail, _DETAIL_MOST)
        self.busy_secs = busy_secs
        self.interrupted = interrupted


class ReplicaFailed(MusicFSError):
    """This file at this origin is not the bytes that were asked for; the origin itself is fine."""

    def __init__(self, origin: OriginId, path: str, fault: ReplicaFault, detail: str = "") -> None:
        what = f"{path[:_DETAIL_MOST]!r} at origin {origin!r} is {fault.value}"
        super().__init__(what + (f": {said(detail, _DETAIL_MOST)}" if detail else ""))
        self.origin = origin
        self.path = path
        self.fault = fault
        self.detail = said(detail, _DETAIL_MOST)


class NoReplicaAvailable(MusicFSError):
    """Every candidate failed, or the deadline passed; `causes` has the last failure of each."""

    def __init__(self, causes: Sequence[MusicFSError], timed_out: bool = False) -> None:
        what = "no replica answered within the deadline" if timed_out else "no replica could be read"
        super().__init__(what + (": " + "; ".join(map(str, causes)) if causes else ""))
        self.causes = tuple(causes)
        self.timed_out = timed_out
