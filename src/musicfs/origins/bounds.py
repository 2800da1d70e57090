"""Limits of what MusicFS accepts in a listing of any server. What exceeds them is left out or ends the listing."""

from __future__ import annotations

MAX_NAMES = 250_000
"""Names in one folder. A server that lists more, such as the same names over and over, fails the scan."""
MAX_LISTING = 32 << 20
"""Bytes of all names in one folder."""
MAX_FOLDERS = 1_000_000
"""Folders that are found and not yet listed, at any time."""
_MAX_NAME = 1020  # bytes: 255 characters, the most that any common filesystem allows, of 4 bytes each
_MAX_PATH = 4096  # bytes, the limit of Linux
_DEEPEST = 100


def is_usable(name: str) -> bool:
    """Whether a name in a listing can be that of a file or a folder: it is no path, and not too long."""
    return name not in ("", ".", "..") and _NO_NAME.isdisjoint(name) and _bytes(name) <= _MAX_NAME


def is_in_reach(path: str) -> bool:
    """Whether a path below the root is not too long or deep. Folders that contain themselves make endless paths."""
    return path.count("/") < _DEEPEST and _bytes(path) <= _MAX_PATH


_NO_NAME = frozenset("/\0")


def _bytes(text: str) -> int:
    """Returns an upper bound: a surrogate escape counts as three bytes, and stands for one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
