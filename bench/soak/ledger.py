"""What must hold of the mount, given what was done to its origins and when; and what readers found.

A reader's find is judged a moment after it happened, leniently: an origin counts as sound only when nothing befell it
from a while before the call until the find is judged.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

_GRACE_SECS = 6.0
"""After its return, until reads of an origin may be expected to succeed."""
_MAX_EXAMPLES = 20


@dataclass
class Ledger:
    """deadline: seconds that any one call may take.

    holders: the origins that have a file, by its path. optional: files that come and go, whose presence is not judged.
    """

    deadline: float
    holders: dict[str, list[str]] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    rotten: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    slowest: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    avoidable: list[str] = field(default_factory=list)
    _well: dict[str, float] = field(default_factory=dict)
    _in: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def set_well(self, origin: str, well: bool) -> None:
        """Before a fault begins, and after it has ended."""
        with self._lock:
            self._well[origin] = time.monotonic() if well else inf

    def set_in(self, origin: str, takes_part: bool) -> None:
        """Before an origin is taken out, and after it is in again."""
        with self._lock:
            self._in[origin] = time.monotonic() if takes_part else inf

    def takes_part(self, origin: str) -> bool:
        return self._in[origin] < inf

    def record(self, found: Mapping[str, Any]) -> None:
        """One line of a reader's."""
        with self._lock:
            did = found["did"]
            self.done[did] += 1
            self.slowest[did] = max(self.slowest.get(did, 0.0), found["longest"])
            if found["longest"] > self.deadline:
                self._breach(2, f"a call took {found['longest']:.1f} s: {found}")
            {"read": self._read, "list": self._list, "write": self._write}[did](found)

    def breach(self, promise: int, what: str) -> None:
        with self._lock:
            self._breach(promise, what)

    def _breach(self, promise: int, what: str) -> None:
        self.done[f"breach of promise {promise}"] += 1
        _keep(self.broken, f"promise {promise}: {what}")

    def _read(self, found: Mapping[str, Any]) -> None:
        self.bytes += found["bytes"]
        path, error, since = found["path"], found["error"], found["started"]
        if found["wrong"] >= 0:
            self._breach(1, f"wrong bytes: {found}")
        if not error:
            return
        self.errors[errno.errorcode.get(error, str(error))] += 1
        if path in self.optional:
            return
        if error == errno.ENOENT:
            if self._shown(path, since):
                self._breach(3, f"{path} was gone although an origin of the mount holds it")
        elif error != errno.EIO:
            self._breach(1, f"{path}: {os.strerror(error)}")
        elif path not in self.rotten and (sound := self._among(path, since, self._well, self._in)):
            self.done["avoidable errors"] += 1
            _keep(self.avoidable, f"{path} failed, though {', '.join(sound)} could have served it: {found}")

    def _list(self, found: Mapping[str, Any]) -> None:
        if found["error"]:
            self._breach(2, f"listing failed: {os.strerror(found['error'])}: {found}")
        lost = [path for path in found["missing"] if path not in self.optional and self._shown(path, found["started"])]
        if lost:
            self._breach(3, f"missing in a listing: {lost[:5]}, {len(lost)} in all")
        if surplus := [path for path in found["surplus"] if path not in self.optional]:
            self._breach(3, f"surplus in a listing: {surplus[:5]}")
        if found["resized"]:
            self._breach(1, f"of another size: {found['resized'][:5]}")

    def _write(self, found: Mapping[str, Any]) -> None:
        if found["allowed"]:
            self._breach(4, f"not refused: {found['allowed']} of {found['path']}")

    def _shown(self, path: str, since: float) -> list[str]:
        """The holders that have taken part since a while before `since`; being ill does not matter."""
        return self._among(path, since, self._in)

    def _among(self, path: str, since: float, *conditions: Mapping[str, float]) -> list[str]:
        """The holders of which every condition has held since a while before `since`."""
        holders: Iterable[str] = self.holders[path]
        return [each for each in holders if all(times[each] + _GRACE_SECS < since for times in conditions)]


def _keep(examples: list[str], what: str) -> None:
    if len(examples) < _MAX_EXAMPLES:
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
        examples.append(what)
