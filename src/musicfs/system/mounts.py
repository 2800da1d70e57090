"""The mount table of this machine, /proc/self/mountinfo."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mounted:
    """A line of the mount table.

    Attributes:
        id: the mount's number, as a text.
        path: where it is mounted.
        type: of the filesystem, such as "ext4".
        device: major and minor number, such as "0:54".
        owner: the user id of a FUSE mount's user; None: the filesystem does not say.
        source: what is mounted, such as "/dev/sda1" or "nas:/music".
    """

    id: str
    path: Path
    type: str
    device: str
    owner: int | None = None
    source: str = ""


def mounts() -> list[Mounted]:
    """Everything that is mounted, in the order in which it was mounted."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))


def parse_mounts(text: str) -> list[Mounted]:
    """Parses the lines of a mount table, and leaves out those that are malformed. See proc_pid_mountinfo(5)."""
    found = []
    for line in text.split("\n"):
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if dash and len(fields) > 4:
            type_, _, options = after.partition(" ")
            source = _unescape(options.partition(" ")[0])
            path = Path(_unescape(fields[4]))
            found.append(Mounted(fields[0], path, type_, fields[2], _owner(options), source))
    return found


def _owner(options: str) -> int | None:
    found = re.search(r"(?:^|[ ,])user_id=(\d{1,10})(?:,|$)", options)
    return int(found[1]) if found else None


def _unescape(text: str) -> str:
    """Undoes the octal escapes of a path."""
    return os.fsdecode(re.sub(rb"\\([0-3][0-7]{2})", lambda m: bytes([int(m[1], 8)]), os.fsencode(text)))
