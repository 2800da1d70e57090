"""What of a listing is believed at most, whatever the server is. What exceeds it is left out or ends the listing."""

from __future__ import annotations

MAX_NAMES = 250_000
"""In one folder. A server that lists more, such as the same names over and over, fails the scan."""
MAX_LISTING = 32 << 20
"""Bytes of all names in one folder."""
MAX_FOLDERS = 1_000_000
"""Found and not yet listed, at any time."""
_MAX_NAME = 1020  # bytes: 255 signs, the most that any common filesystem has, of 4 bytes each
_MAX_PATH = 4096  # bytes, as Linux has it
_DEEPEST = 100


def is_usable(name: str) -> bool:
    """Whether a name that a server lists can be that of a file or a folder: no path, and no longer than any can be."""
    return name not in ("", ".", "..") and _NO_NAME.isdisjoint(name) and _bytes(name) <= _MAX_NAME


def is_in_reach(path: str) -> bool:
    """Whether a path below the root is one that music can have. Folders that hold themselves make paths without end."""
    return path.count("/") < _DEEPEST and _bytes(path) <= _MAX_PATH


_NO_NAME = frozenset("/\0")


def _bytes(text: str) -> int:
    """At most: three for each surrogate escape, which stands for one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
